"""Hands broken and hostile films to the commands that read them: each must end in a result or in words.

    python dev/attack/films.py [--films 1000] [--seed 1] [--seconds 25]

A film is changed in its bytes, boxes, text or settings, or is no film at all (lists of other files and addresses, odd
names); `open --settings` and by turns `export`, `plan` or `drift` read it. Every command runs in a process of its own.
Prints what was tried and how it ended, by kind; a traceback, a crash, a hang, a connection or a file read or written
elsewhere is a fault, is named with its seed, and makes the status 1.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tries import Tally, asked, damaged, run

from gf_core.config import VideoSpec
from gf_core.video import FilmWriter, place_film, read_metadata

OLD = Path(__file__).parents[2] / "tests" / "fixtures" / "made_before"
STRANGE: list[Any] = [
    None, 0, -1, 1, 99, 10**30, 1e308, "", "x", "../x", "int8", [], [None], {}, True, [[]], {"a": 1},
]  # fmt: skip
"""Values that are put in place of others."""
READ = ("model", "machine", "memory", "sample", "video", "film", "segments")
"""What of a film's settings is read again."""
LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {place}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{place}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=control:{place}\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{place}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "asx": '<asx version="3.0"><entry><ref href="{place}"/></entry></asx>',
    "pls": "[playlist]\nFile1={place}\nNumberOfEntries=1\n",
    "m3u": "{place}\n",
}
"""Texts under the name of a film that name other files, or addresses."""
NAMES = (
    "http:", "file:", "cache:", "async:", "concat:", "pipe:0", "data:", "subfile,,start,0,end,99,,:", "%03d", "-",
)  # fmt: skip
"""Beginnings of a film's name that could be taken for something else."""


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The way to every value in nested lists and dicts."""
    yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def changed_value(value: Any, dice: random.Random) -> Any:
    """`value` with something strange in one place, or one place gone."""
    *way, last = dice.choice([at for at in places(value) if at])
    inner = value
    for key in way:
        inner = inner[key]
    if dice.random() < 0.15:
        del inner[last]
    else:
        inner[last] = dice.choice(STRANGE)
    return value


def box(kind: bytes, data: bytes = b"") -> bytes:
    """An mp4 box."""
    return (8 + len(data)).to_bytes(4, "big") + kind + data


def changed_boxes(data: bytes, dice: random.Random) -> bytes:
    """A growing film with boxes behind it, or in it, that no writer makes."""
    deep = b""
    for _ in range(dice.choice([3, 300, 3000])):
        deep = box(b"traf", deep)
    evil = dice.choice([
        box(b"moof", deep) + box(b"mdat"), box(b"moof", box(b"traf", box(b"trun", b"\0"))) + box(b"mdat"),
        b"\0\0\0\1moof", b"\0\0\0\1moof" + b"\xff" * 8, b"\0\0\0\0moof", (box(b"moof") + box(b"mdat")) * 50_000,
        box(b"moov", deep), box(b"moof", box(b"traf", box(b"trun", b"\0\0\0\0\xff\xff\xff\xff"))) + box(b"mdat"),
    ])  # fmt: skip
    at = dice.choice([len(data), data.find(b"moof") - 4, dice.randrange(len(data))])
    return data[:at] + evil + data[at:]


class Films:
    """Films of every kind, made in a folder that holds nothing else."""

    def __init__(self, folder: Path, dice: random.Random, address: str) -> None:
        self.folder, self.dice, self.address = folder, dice, address
        self.film = OLD / "builtin.mp4"
        self.growing = (OLD / "film.take" / "run-0001" / "film.mp4").read_bytes()
        self.texts = read_metadata(self.film)
        self.kinds: dict[str, Callable[[], Path]] = {
            "bytes": lambda: self.write(damaged(self.film.read_bytes(), dice)),
            "boxes": lambda: self.write(changed_boxes(self.growing, dice)),
            "settings": self.settings,
            "storyboard": self.storyboard,
            "matroska": self.matroska,
            "list": self.listing,
            "name": self.name,
            "shape": self.shape,
        }

    def write(self, data: bytes, name: str = "film.mp4") -> Path:
        """A film of these bytes."""
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def placed(self, suffix: str = ".mp4", **texts: Any) -> Path:
        """The film with other text in it."""
        return place_film(self.film, self.folder / f"film{suffix}", metadata=texts)

    def settings(self) -> Path:
        """Wrong values in what it says about its making."""
        whole = json.loads(self.texts["grounded"])
        key = self.dice.choice(READ)
        whole["settings"][key] = changed_value({key: whole["settings"][key]}, self.dice).get(key)
        if self.dice.random() < 0.05:
            return self.placed(grounded='{"a":' * 5000 + "1" + "}" * 5000)
        return self.placed(grounded=json.dumps(whole))

    def storyboard(self) -> Path:
        """Damaged, huge, or in another encoding."""
        text = damaged(self.texts["timeline"].encode(), self.dice).decode("latin-1")
        if self.dice.random() < 0.1:
            text = "cut: a fox | 1s\n" * self.dice.choice([10_000, 60_000, 170_000])
        path = self.placed(timeline=text)
        if self.dice.random() < 0.3:
            path.write_bytes(path.read_bytes().replace(b"walks", b"w\xe9\xff\x80s"))
        return path

    def matroska(self) -> Path:
        """The film in another container, its bytes changed."""
        path = self.placed(self.dice.choice([".mkv", ".mov"]))
        path.write_bytes(damaged(path.read_bytes(), self.dice))
        return path

    def listing(self) -> Path:
        """A text that names the neighbour, a file elsewhere, or an address."""
        shutil.copy(self.film, self.folder / "neighbour.mp4")
        place = self.dice.choice(
            ["neighbour.mp4", str(self.film), f"http://{self.address}/a.mp4", f"tcp://{self.address}"]
        )
        text = LISTS[self.dice.choice(list(LISTS))].format(place=place)
        return self.write(text.encode(), self.dice.choice(["film.mp4", "film.mkv", "film.mov"]))

    def name(self) -> Path:
        """A file whose name begins like something else; the film that it could mean lies beside it."""
        shutil.copy(self.film, self.folder / "neighbour.mp4")
        name = self.dice.choice(NAMES) + self.dice.choice(["neighbour.mp4", f"{self.address}.mp4"])
        if self.dice.random() < 0.5:
            return Path(name)
        return self.write(damaged(self.film.read_bytes(), self.dice), name)

    def shape(self) -> Path:
        """A film of another program, of any size and speed."""
        width, height = self.dice.choice([(4096, 16), (16, 2048), (2, 2), (17, 5), (640, 360)])
        video = VideoSpec(width, height, self.dice.choice([1, 7, 16, 23.976, 120]))
        with FilmWriter(self.folder / "film.mp4", video) as film:
            frames = self.dice.choice([1, 2, 17, 40])
            film.write(bytes_as_frames(self.dice, frames, height, width))
        return self.folder / "film.mp4"


def bytes_as_frames(dice: random.Random, count: int, height: int, width: int) -> Any:
    """Random pictures uint8 [count H W 3]."""
    import numpy as np

    return np.random.default_rng(dice.randrange(2**32)).integers(0, 256, (count, height, width, 3), np.uint8)


def load() -> None:
    """Import what the commands import when they are called, so that no process has to by itself."""
    import opentimelineio  # noqa: F401

    import gf_core.evaluation.charts.drift  # noqa: F401
    from gf_core.cli import opening, plan, small  # noqa: F401
    from gf_core.engine import making  # noqa: F401


def attack(count: int, seed: int, seconds: int) -> Iterator[tuple[str, str, str]]:
    """(kind, command, how it ended) of every command on every film."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    address = "{}:{}".format(*listener.getsockname())
    for number in range(count):
        dice = random.Random(seed * 1_000_003 + number)
        with tempfile.TemporaryDirectory() as top:
            folder = Path(top) / "films"
            folder.mkdir()
            films = Films(folder, dice, address)
            kind = list(films.kinds)[number % len(films.kinds)]
            film = films.kinds[kind]().name
            before = set(folder.iterdir())
            turns = [["export", film, "cut.otio"], ["plan", film], ["drift", film]]
            for words in (["open", film, "--settings"], turns[number // len(films.kinds) % 3]):
                end = run(words if film[0] != "-" else [words[0], *words[2:], "--", film], folder, seconds)
                if end == "ok" and (kind == "list" or not (folder / film).exists()):
                    end = "elsewhere: it read another file"
                made = {path.name for path in set(folder.iterdir()) - before}
                if made - {"cut.otio", f"{Path(film).stem}_drift.png"} or len(list(Path(top).iterdir())) > 2:
                    end = f"elsewhere: it wrote {made}"
                try:
                    listener.accept()[0].close()
                    end = "network: a connection"
                except BlockingIOError:
                    pass
                yield kind, f"{words[0]} ({number})", end


def main() -> int:
    """Attack, print the table; 1 where something went wrong."""
    args = asked(__doc__, films=1000, seed=1, seconds=25)
    load()
    tally = Tally()
    for kind, command, end in attack(args.films, args.seed, args.seconds):
        tally.count(f"{kind}: {end.partition(':')[0]}", "" if end in ("ok", "words") else f"{command}: {end}")
    return tally.told()


if __name__ == "__main__":
    sys.exit(main())
