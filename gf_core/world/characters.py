"""Drawing of the six characters with scarf, hat and patch, about 30-36 px tall, in soft flat colours.

Local coordinates: origin between the feet on the ground, u towards where the character faces, v downwards.
"""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Colour, Number
from .motion import Pose
from .script import Character
from .vocabulary import HATS, PATCHES, SUBJECTS

BODY: tuple[Colour, ...] = (
    (228, 52, 48),
    (252, 204, 44),
    (66, 182, 72),
    (52, 108, 238),
    (154, 76, 212),
    (242, 242, 246),
)
SCARF: tuple[Colour, ...] = (
    (255, 136, 20),
    (60, 226, 236),
    (255, 132, 194),
    (30, 32, 84),
    (172, 240, 62),
    (128, 74, 36),
)
DARK: Colour = (34, 28, 44)
EYE: Colour = (255, 255, 250)
CREAM: Colour = (255, 238, 206)


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


class Painter:
    """Draws one character in all poses of an action on a canvas."""

    def __init__(self, canvas: Canvas, who: Character, pose: Pose) -> None:
        self.c = canvas
        self.who = who
        self.p = pose
        self.body = BODY[who.colour]
        self.dark = _mix(self.body, DARK, 0.34)
        self.pale = _mix(self.body, (255, 255, 255), 0.45)
        self.scarf = SCARF[who.scarf]
        white = who.colour == 5
        self.patch_belly = (150, 162, 196) if white else CREAM
        self.patch_spots = (104, 112, 150) if white else _mix(self.body, (20, 10, 40), 0.62)

    def draw(self) -> None:
        """Paint the whole character."""
        getattr(self, f"_{SUBJECTS[self.who.subject]}")()

    # -- parts ---------------------------------------------------------------------------------------------

    def _feet(self, apart: float, rx: float, ry: float, colour: Colour) -> None:
        p = self.p
        reach = apart * 0.9 * p.stride
        for side in (-1.0, 1.0):
            u = side * apart * (1 - 0.55 * p.stride) + side * reach * np.sin(p.step)
            v = -ry + 0.4 - 2.4 * p.stride * np.maximum(side * np.cos(p.step), 0)
            self.c.ellipse(u, v, rx, ry, colour, rim=0.3)

    def _eyes(self, cu: float, cv: float, apart: float, r: float, pupil: float) -> None:
        p = self.p
        for side in (-1.0, 1.0):
            u = cu + side * apart
            if p.asleep:
                self.c.ellipse(u, cv + 0.5, r, 1.8, DARK)
                continue
            self.c.ellipse(u, cv, r, r * 1.1, EYE, rim=0.1)
            self.c.ellipse(u + 0.9 * p.turn, cv + 0.3, pupil, pupil * 1.15, DARK)

    def _neck(self, cu: Number, cv: float, half: float) -> None:
        self.c.box(cu, cv, half, 2.5, self.scarf, radius=2.2, rim=0.28)
        tu = cu - half * 0.55 if self.p.turn else cu + half * 0.45
        swing = 1.2 * self.p.stride * np.sin(self.p.step)
        self.c.line(tu, cv + 1, tu - 1.5 * self.p.turn + swing, cv + 1 + 4.5, 2.1, self.scarf, rim=0.28)

    def _patch(self, cu: float, cv: float, r: float) -> None:
        kind = PATCHES[self.who.patch]
        if kind == "belly":
            self.c.ellipse(cu, cv, r, r, self.patch_belly, rim=0.08)
        elif kind == "spots":
            for du, dv in ((-0.95, -0.35), (0.15, 0.75), (1.0, -0.55)):
                self.c.ellipse(cu + du * r, cv + dv * r, r * 0.46, r * 0.46, self.patch_spots, soft=1.3)

    def _hat(self, cu: float, cv: float, k: float = 1.0) -> None:
        """A hat whose brim centre is (cu, cv)."""
        kind = HATS[self.who.hat]
        c = self.c
        if kind == "party":
            tip = cu + 0.5
            c.polygon(
                ((tip, cv - 10 * k), (cu + 5 * k, cv), (cu - 5 * k, cv)), (238, 62, 150), rim=0.2, grow=0.6
            )
            c.polygon(
                (
                    (tip - 2, cv - 5.6 * k),
                    (tip + 2, cv - 5.6 * k),
                    (cu + 3.4 * k, cv - 2.8 * k),
                    (cu - 3.4 * k, cv - 2.8 * k),
                ),
                (255, 226, 92),
            )
            c.ellipse(tip, cv - 10.2 * k, 2.4, 2.4, (255, 246, 200), rim=0.1)
        elif kind == "top":
            c.box(cu, cv - 4.4 * k, 4.6 * k, 5 * k, (44, 38, 60), radius=1.4, rim=0.2)
            c.box(cu, cv - 2.2 * k, 4.6 * k, 1.5, (206, 54, 70), radius=0.5)
            c.box(cu, cv, 7.6 * k, 1.5, (44, 38, 60), radius=1.4)
        elif kind == "crown":
            gold: Colour = (255, 196, 40)
            for du in (-4.6, 0.0, 4.6):
                c.polygon(
                    (
                        (cu + du * k, cv - 8.5 * k),
                        (cu + (du + 3.0) * k, cv - 2),
                        (cu + (du - 3.0) * k, cv - 2),
                    ),
                    gold,
                    grow=0.5,
                )
            c.box(cu, cv - 1.8, 6.4 * k, 2.6, gold, radius=1.0, rim=0.22)
            c.ellipse(cu, cv - 1.8, 1.6, 1.6, (230, 50, 90))

    # -- characters ----------------------------------------------------------------------------------------

    def _fox(self) -> None:
        c, p, t = self.c, self.p, self.p.turn
        wag = 1.5 * np.sin(p.step)
        c.line(-7, -6, -14.5, -12 + wag, 5.2, self.body, rim=0.45)
        c.ellipse(-15, -16 + wag, 5.6, 7.4, self.body, rim=0.4, light=0.1)
        c.ellipse(-15.2, -20.5 + wag, 3.9, 4.2, CREAM, rim=0.15)
        self._feet(4.8, 4.2, 3.0, self.dark)
        c.ellipse(-0.5 * t, -10, 8.8, 8.6, self.body, rim=0.42, light=0.12)
        self._patch(1.5 * t, -7.3, 4.6)
        for side in (-1.0, 1.0):
            u = 1.5 * t + side * 7.2
            c.polygon(
                ((u + side * 1.2, -35.5), (u + 4.2, -25), (u - 4.2, -25)), self.body, rim=0.42, grow=0.8
            )
            c.polygon(((u + side * 0.8, -32), (u + 2, -26), (u - 2, -26)), CREAM, grow=0.2)
        c.ellipse(1.5 * t, -21, 10.8, 8.4, self.body, rim=0.42, light=0.14)
        if t:
            c.polygon(((6, -22.5), (16.5, -18.2), (6, -14.2)), self.body, rim=0.3, grow=0.8)
            c.ellipse(9, -16.2, 5.0, 2.8, CREAM)
            c.ellipse(16, -18.4, 2.1, 2.1, DARK)
        else:
            c.ellipse(0, -17, 5.6, 4.0, CREAM, rim=0.06)
            c.ellipse(0, -18.6, 2.2, 1.8, DARK)
        self._eyes(3.4 * t, -22.6, 4.6 - 0.6 * t, 2.8, 1.8)
        self._neck(0.5 * t, -12.6, 8.2)
        self._hat(1.0 * t, -28.4)

    def _robot(self) -> None:
        c, p, t = self.c, self.p, self.p.turn
        c.line(-6.5, -28, -8.5, -34, 1.5, (120, 124, 140))
        c.ellipse(-8.6, -34.6, 2.7, 2.7, (255, 214, 60), rim=0.15)
        for side in (-1.0, 1.0):
            u = side * (4.6 - 2.0 * p.stride) + side * 3.6 * p.stride * np.sin(p.step)
            v = -2.6 - 2.4 * p.stride * np.maximum(side * np.cos(p.step), 0)
            c.box(u, v, 3.4, 2.9, (92, 96, 116), radius=1.2, rim=0.25)
        for side in (-1.0, 1.0):
            if t and side < 0:
                continue
            u = side * (10.8 - 9.5 * t)
            if not t:
                c.line(u, -13.5, u + side * 2.5, -7 - 11 * p.lift, 2.5, self.dark, rim=0.25)
        c.box(0, -10.2, 9.2 - 0.7 * t, 7.0, self.body, radius=2.0, rim=0.38, light=0.12)
        self._patch(2.0 * t, -8.0, 4.2)
        if t:
            c.line(-2.0, -13, -2.0 + 4.5 * np.sin(p.step), -6.5, 2.5, self.dark, rim=0.25)
        c.box(1.0 * t, -23.4, 11.0, 6.8, self.body, radius=2.2, rim=0.38, light=0.14)
        c.box(1.0 * t + 2.6 * t, -23.4, 8.0 - 0.6 * t, 4.3, (36, 40, 66), radius=2.0)
        for side in (-1.0, 1.0):
            u = 4.6 * t + side * (4.0 - 0.6 * t)
            if p.asleep:
                c.box(u, -22.8, 2.6, 1.3, (120, 240, 226), radius=1.0)
            else:
                c.ellipse(u, -23.4, 2.5, 2.8, (150, 255, 240))
        self._neck(0, -15.6, 8.4)
        self._hat(2.0, -29.6)

    def _ghost(self) -> None:
        c, p, t = self.c, self.p, self.p.turn
        lean = -1.6 * t

        def sheet(u: np.ndarray, v: np.ndarray) -> np.ndarray:
            low = np.clip((v + 16) / 14, 0, 1)
            w = u - lean * low * 1.5
            half = 11.0 + 1.6 * low
            qy = np.minimum(v + 20.5, 0)
            side = np.where(v < -20.5, np.sqrt(w * w + (qy * 0.88) ** 2) - half, np.abs(w) - half)
            hem = v + 3.2 - 2.2 * np.sin((w + 4) * (2 * np.pi / 9.2) + p.step)
            return np.maximum(side, hem * 0.8)

        for side in (-1.0, 1.0):
            if t and side < 0:
                continue
            u = side * (12.0 - 1.0 * t)
            c.line(u - side * 3, -13, u + side * 1.5, -11.5 - 7 * p.lift, 3.2, self.body, rim=0.3)
        c.paint((-15, -34, 14, 0), sheet, self.body, rim=0.4, light=0.12)
        self._patch(0.5 * t, -7.6, 4.2)
        for side in (-1.0, 1.0):
            u = 3.8 * t + side * (4.3 - 0.5 * t)
            if p.asleep:
                c.ellipse(u, -22, 3.0, 1.8, DARK)
            else:
                c.ellipse(u, -23, 2.5, 3.7, DARK)
                c.ellipse(u + 0.8, -24.4, 1.2, 1.3, EYE)
        c.ellipse(3.8 * t, -17.6, 2.2, 1.5 if p.asleep else 1.9, _mix(DARK, (200, 60, 90), 0.35))
        self._neck(0, -13.4, 11.4)
        self._hat(-0.5 * t, -31.4)

    def _owl(self) -> None:
        c, p, t = self.c, self.p, self.p.turn
        self._feet(4.8, 3.8, 2.4, (244, 150, 40))
        for side in (-1.0, 1.0):
            u = 1.0 * t + side * 8.4
            c.polygon(((u + side * 2.6, -34.5), (u + 4.0, -23), (u - 4.0, -23)), self.body, rim=0.4, grow=0.8)
        if not t:
            for side in (-1.0, 1.0):
                c.ellipse(side * (12.2 + 2.5 * p.lift), -13 - 5.5 * p.lift, 4.4, 8.2, self.dark, rim=0.3)
        c.ellipse(0, -16, 12.6, 14.2, self.body, rim=0.42, light=0.13)
        self._patch(1.5 * t, -6.6, 4.6)
        if t:
            flap = 0.8 * np.sin(2 * p.step)
            c.ellipse(-7.4, -11.5 + flap, 5.0, 7.6, self.dark, rim=0.3)
        for side in (-1.0, 1.0):
            u = 3.0 * t + side * (5.3 - 0.3 * t)
            c.ellipse(u, -22.2, 5.5, 5.4, self.pale if self.who.colour != 5 else (206, 212, 230), rim=0.12)
        self._eyes(3.0 * t, -22.2, 5.0, 3.8, 2.3)
        if t:
            c.polygon(((8.6, -21), (16, -17), (8.6, -14.6)), (255, 160, 30), rim=0.15, grow=0.6)
        else:
            c.polygon(((-3, -19.2), (3, -19.2), (0, -13.6)), (255, 160, 30), rim=0.15, grow=0.6)
        self._neck(0, -11.8, 11.6)
        self._hat(0.5 * t, -29.0)

    def _snail(self) -> None:
        c, p, t = self.c, self.p, self.p.turn
        stretch = 1.6 * p.stride * np.sin(p.step)
        hu = 11.5 + 2.0 * t + stretch
        hv = -15.0
        pale = self.pale if self.who.colour != 5 else (214, 218, 232)
        c.line(-16 - stretch, -3.4, 12 + stretch, -3.9, 3.9, pale, rim=0.4)
        c.line(hu - 1.5, -5, hu + 0.5, hv + 1, 4.6, pale, rim=0.35)
        c.ellipse(-4, -17.0, 13.0, 12.4, self.body, rim=0.42, light=0.14)
        c.ellipse(-4, -16.6, 8.6, 8.2, self.dark)
        c.ellipse(-4.3, -16.4, 6.6, 6.3, self.body, light=0.1)
        kind = PATCHES[self.who.patch]
        if kind == "belly":
            c.ellipse(-4.3, -16.4, 5.0, 5.0, self.patch_belly, rim=0.08)
        elif kind == "spots":
            for du, dv in ((-8.6, -3.0), (-0.5, -9.2), (7.4, 3.6), (-4.0, 7.6)):
                c.ellipse(-4 + du, -16.6 + dv, 2.4, 2.4, self.patch_spots, soft=1.3)
        c.ellipse(hu + 0.8, hv, 5.6, 5.2, pale, rim=0.35)
        for side in (-1.0, 1.0):
            eu = hu + 0.8 + side * 3.6
            droop = 3.0 if p.asleep else 0.0
            c.line(hu + 0.8 + side * 2, hv - 3, eu, hv - 9 + droop, 1.5, pale, rim=0.2)
            if p.asleep:
                c.ellipse(eu, hv - 10 + droop, 3.0, 2.8, pale, rim=0.25)
                c.ellipse(eu, hv - 9.4 + droop, 2.6, 1.6, DARK)
            else:
                c.ellipse(eu, hv - 10.4, 3.1, 3.2, EYE, rim=0.1)
                c.ellipse(eu + 0.6 * t, hv - 10.2, 1.8, 2.0, DARK)
        c.ellipse(hu + 2.6 + 0.8 * t, hv + 1.6, 1.8, 1.2, DARK)
        c.line(hu - 4.6, -8.4, hu + 5.0, -7.8, 2.9, self.scarf, rim=0.28)
        c.line(hu - 3.2, -7, hu - 4.0, -2.6, 2.3, self.scarf, rim=0.28)
        self._hat(-4.5, -27.8)

    def _frog(self) -> None:
        c, p, t = self.c, self.p, self.p.turn
        self._feet(10.2, 5.6, 2.9, self.dark)
        c.ellipse(0, -9, 13.0, 8.6, self.body, rim=0.4, light=0.1)
        self._patch(1.0 * t, -5.6, 4.4)
        for side in (-1.0, 1.0):
            u = 1.5 * t + side * 8.2
            c.ellipse(u, -26, 5.7, 5.8, self.body, rim=0.36)
        c.ellipse(1.2 * t, -18, 14.6, 8.6, self.body, rim=0.4, light=0.14)
        mouth = _mix(self.body, (90, 14, 40), 0.72)
        mu = 1.2 * t + 2.6 * t
        if p.asleep:
            c.line(mu - 6, -15.4, mu + 6, -15.4, 1.3, mouth)
        else:
            c.ellipse(mu, -15.6, 9.2 - 1.0 * t, 2.7, mouth)
            c.ellipse(mu, -17.8, 10.0, 2.3, self.body)
        for side in (-1.0, 1.0):
            u = 1.5 * t + 1.6 * t + side * (8.2 - 0.4 * t)
            if p.asleep:
                c.ellipse(u, -25.4, 3.6, 1.8, DARK)
            else:
                c.ellipse(u, -26.4, 3.9, 4.1, EYE, rim=0.1)
                c.ellipse(u + 1.0 * t, -26.2, 2.2, 2.5, DARK)
        self._neck(0, -9.6, 11.6)
        self._hat(0.8 * t, -25.4, 0.95)
