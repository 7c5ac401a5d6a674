"""A bidirectional teacher: flow matching of a window of a clip, alone or behind frames of what came before it.

Behind such frames it is a context teacher (Context Forcing, arXiv 2602.06028), which judges what a long film goes on
with. Its own errors are kept and put back into what it is shown, as a student's past is never quite right (error
recycling, Stable Video Infinity, 2510.09212).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...errors import GroundedError
from ...sampling.schedule import TABLE, add_noise
from ...words import counted
from ..films import ClipsGiven, Draws
from ..rollout import RolloutSpec, Watch, Window, nobody, with_past
from . import Loss
from .scores import Matching, Nets, flow_of, noised, sigma_at, weight_at


@dataclass(frozen=True)
class Recycling:
    """How often errors come back, as shares; the defaults are those of Context Forcing's code."""

    grids: int = 50
    """Bands of noise levels, each with errors of its own."""
    entries: int = 500
    """Errors that a band holds."""
    clean: float = 0.5
    """Of steps without any error."""
    noise: float = 0.01
    """Of the others: with an error on the noise,"""
    latent: float = 0.9
    """with one on the window, of the same band,"""
    context: float = 0.9
    """and with one on the fast frames, of any band."""
    learn_clean: float = 0.1
    """Of the steps without an error: whose own errors are kept."""


class Errors:
    """The errors of a network so far [n f c h w], by what they are of and band of noise levels."""

    def __init__(self, settings: Recycling) -> None:
        self.settings = settings
        self._held: dict[str, Tensor] = {}

    def band(self, timestep: Tensor) -> int:
        """The band of a timestep 0..1000."""
        return min(self.settings.grids - 1, int(timestep.item() * self.settings.grids / TABLE))

    def take(self, kind: str, draws: Draws, band: int | None = None) -> Tensor | None:
        """One error [f c h w] of a kind and band, of any band without one; None where there is none yet."""
        wanted = f"{kind}." + ("" if band is None else f"{band}.")
        # A dot behind both: band 4 is not band 40.
        names = [name for name in self._held if f"{name}.".startswith(wanted)]
        counts = [len(self._held[name]) for name in names]
        # One draw over all that there are: a fuller band is met more often.
        place = draws.whole(f"error.{kind}.{band}", 0, sum(counts)) if names else 0
        for name, count in zip(names, counts):
            if place < count:
                return self._held[name][place]
            place -= count
        return None

    def keep(self, kind: str, band: int, error: Tensor) -> None:
        """Take an error in; in a full band it stands for the one that is most like it."""
        name, new = f"{kind}.{band}", error.detach()[None].clone()
        held = self._held.get(name)
        if held is None or held.shape[1:] != new.shape[1:]:
            # Errors of pictures of another size are of no use: the band begins anew.
            self._held[name] = new
        elif len(held) < self.settings.entries:
            self._held[name] = torch.cat([held, new])
        else:
            held[(held - new).square().flatten(1).sum(1).argmin()] = new[0]

    def state_dict(self) -> dict[str, Any]:
        """All of them."""
        return dict(self._held)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self._held = dict(state)


def chosen(batch: ClipsGiven, film: RolloutSpec) -> tuple[Window, Tensor]:
    """A window of clips that lies in one segment, behind its past, and that segment's prompt [b rows c].

    Raises GroundedError: every segment is shorter than the window.
    """
    chunks, size = batch.latents.shape[1] // film.chunk, film.window // film.chunk
    edges = [0, *sorted(batch.cues), chunks]
    # In chunks: where a window may end that lies in one segment.
    ends = [end for first, stop in pairwise(edges) for end in range(first + size, stop + 1)]
    if not ends:
        raise GroundedError(
            f"no segment of a clip of {counted(chunks, 'chunk')} has the {size} of a window",
            f"give clips with longer segments, or a smaller window (--frames, a multiple of {film.chunk})",
        )
    end = ends[batch.draws.whole("window", 0, len(ends))]
    told = max((chunk for chunk in batch.cues if chunk <= end - size), default=None)
    window = with_past(batch.latents[:, : end * film.chunk], film)
    return window, batch.prompt if told is None else batch.cues[told].prompt


def teacher(
    nets: Nets,
    batch: ClipsGiven,
    film: RolloutSpec,
    match: Matching,
    errors: Errors | None = None,
    watch: Watch = nobody,
) -> Loss:
    """Flow matching of `nets.generator`, which sees all frames at once; only the window behind its past counts.

    What the past's frames are told of themselves, which are clean, says `Matching.clean_context`. The flow leads to the
    clean window whatever error was put in.
    """
    window, prompt = chosen(batch, film)
    watch("window", window.latents)
    seen = noised(window, batch.draws, match)
    clean, past = seen.behind(window.latents), seen.latents[:, : seen.context]
    sigma = sigma_at(seen.timestep, match.shift)
    start, noise, recycled = clean, seen.noise, False
    if errors is not None:
        recycled = not _chance(batch.draws, "clean", errors.settings.clean)
        if recycled:
            # Sink and slow frames stay clean.
            fast = 0 if film.past is None else film.past.fast
            start, noise, past = _with_errors(errors, batch.draws, seen.timestep, start, noise, past, fast)
    noisy = add_noise(start, noise, sigma)
    flow = seen.behind(flow_of(nets.generator, torch.cat([past, noisy], 1), seen.told(match), prompt))
    # The noise as it was put on, error and all, less the clip without any.
    total = ((flow - (noise - clean)).square() * weight_at(seen.timestep, match.shift)).mean()
    if errors is not None and (recycled or _chance(batch.draws, "learn_clean", errors.settings.learn_clean)):
        with torch.no_grad():
            for row, timestep in enumerate(seen.timestep):
                band = errors.band(timestep)
                # What the flow makes of clip and noise, less what these are.
                errors.keep("latent", band, (noisy - sigma * flow - clean)[row])
                errors.keep("noise", band, (noisy + (1 - sigma) * flow - noise)[row])
    watch("loss", total)
    return Loss(total, {"teacher": total.detach()})


def _chance(draws: Draws, name: str, share: float) -> bool:
    # In thousandths, as whole numbers are what ranks draw alike.
    return draws.whole(name, 0, 1000) < 1000 * share


def _with_errors(
    errors: Errors, draws: Draws, timestep: Tensor, start: Tensor, noise: Tensor, past: Tensor, fast: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Window, noise and past [b f c h w] with the errors that were drawn on them."""
    settings, past = errors.settings, past.clone()
    start, noise = start.clone(), noise.clone()
    # A batch shares its errors, and so the band of its first sample.
    band = errors.band(timestep[0])
    for name, share, target in (("noise", settings.noise, noise), ("latent", settings.latent, start)):
        if _chance(draws, name, share) and (error := errors.take(name, draws, band)) is not None:
            target += error
    if _chance(draws, "context", settings.context) and (error := errors.take("latent", draws)) is not None:
        count = min(fast, past.shape[1], len(error))
        first = draws.whole("slice", 0, len(error) - count + 1)
        past[:, past.shape[1] - count :] += error[first : first + count]
    return start, noise, past
