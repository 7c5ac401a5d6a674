"""Clips to train on: shards that worker processes make, and a store of them on the device that batches are drawn from.

A shard is some clips of one kind as equal-shaped tensors by name, in a file `<kind>-<maker>-<number>.safetensors` that
appears whole. What a shard needs for `Clips`: latents, share, labels, prompt, named, ids, lengths and the tables that
`store_table` adds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import GroundedError, ResourceError
from ..files.listing import inside
from ..files.pieces import read_tensors, write_tensors
from .batch import ClipBatch, RecacheTable, ScheduleTable, forgotten
from .ranks import Ranks
from .state import replacing

Shard = dict[str, Tensor]
VARIANTS = 2
"""Memories planned for each clip, one of which is drawn with it."""
RECACHE = ("frames", "source", "alphas", "anchors", "positions", "prompt")
PATIENCE = 120.0
"""Seconds to wait for a shard before giving up."""


def write_shard(
    folder: Path, kind: str, maker: int, number: int, shard: Shard, codec: str | None = None
) -> None:
    """Write one shard under its name. codec: the fingerprint of the one that encoded it."""
    with replacing(shard_path(folder, kind, maker, number)) as part:
        write_tensors(part, shard, {} if codec is None else {"codec": codec})


def read_shard(path: Path) -> tuple[str, Shard]:
    """Kind and tensors of a shard."""
    return path.stem.rsplit("-", 2)[0], read_tensors(path)[0]


def of_others(folder: Path, codec: str) -> list[Path]:
    """Shards in `folder` that another codec than the one with this fingerprint encoded."""
    found = []
    for path in shards_in(folder):
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("codec", codec) != codec:
                found.append(path)
    return found


def shards_in(folder: Path) -> list[Path]:
    """Shards in `folder`, by name. Raises GroundedError: it cannot be listed."""
    return [path for path in inside(folder) if path.match("*-*-*.safetensors")]


def shard_path(folder: Path, kind: str, maker: int, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{kind}-{maker}-{number}.safetensors"


def store_table(shard: Shard, variant: int, table: ScheduleTable) -> None:
    """Add the memories of all clips to a shard, as one of VARIANTS."""
    shard |= {f"{variant}.{name}": getattr(table, name) for name in ("slots", "positions", "own")}
    if table.recache:
        shard |= {f"{variant}.recache.{name}": getattr(table.recache, name) for name in RECACHE}


class Workers:
    """Processes that fill a folder with shards as long as the `with` block runs.

    make(number, made): kind and shard number `made` of worker `number` (1, 2, ...); a function that processes can be
    given. backlog: shards that may lie waiting.
    """

    def __init__(
        self, make: Callable[[int, int], tuple[str, Shard]], count: int, folder: Path, backlog: int = 160
    ) -> None:
        context = multiprocessing.get_context("spawn")
        folder.mkdir(parents=True, exist_ok=True)
        self.processes = [
            context.Process(target=_work, args=(make, number + 1, folder, backlog), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Workers:
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def _work(make: Callable[[int, int], tuple[str, Shard]], number: int, folder: Path, backlog: int) -> None:
    if hasattr(os, "nice"):  # not on Windows
        os.nice(5)
    made, parent = 0, os.getppid()
    while os.getppid() == parent:
        if len(shards_in(folder)) > backlog:
            time.sleep(0.3)
            continue
        kind, shard = make(number, made)
        write_shard(folder, kind, number, made, shard)
        made += 1


class Feed:
    """Shards of a folder as they come, brought to the device by a thread. Ranks share them out.

    consume: delete what was read. `there` is the number of shards that lay there at the beginning.
    """

    def __init__(
        self, folder: Path, device: torch.device, *, consume: bool, ranks: Ranks | None = None
    ) -> None:
        self.folder, self.device, self.consume = folder, device, consume
        self.ranks = ranks or Ranks()
        self._queue: queue.Queue[tuple[str, Shard] | GroundedError] = queue.Queue(3)
        self._seen: set[str] = set()
        self.there = len(self._mine())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._load, daemon=True)
        self._thread.start()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):  # room for what the thread holds
                self._queue.get_nowait()
            self._thread.join(0.05)

    def poll(self, wait: bool = False) -> tuple[str, Shard] | None:
        """The next shard if there is one; with `wait` it is waited for.

        Raises ResourceError: none comes. GroundedError: the folder cannot be listed.
        """
        try:
            found = self._queue.get(wait, PATIENCE)
        except queue.Empty:
            if not wait:
                return None
            raise ResourceError(
                f"no clips came into {self.folder} for {PATIENCE:.0f} s",
                "Give --workers, or run the stage that makes clips: --stage clips.",
            ) from None
        if isinstance(found, GroundedError):
            raise found
        kind, shard = found
        return kind, {name: value.to(self.device, non_blocking=True) for name, value in shard.items()}

    def _mine(self) -> list[Path]:
        found = []
        for path in shards_in(self.folder):
            maker, number = path.stem.split("-")[-2:]
            mine = (int(maker) + int(number)) % self.ranks.count == self.ranks.rank
            if mine and path.name not in self._seen:
                found.append(path)
        return sorted(found, key=lambda path: path.stat().st_mtime)

    def _load(self) -> None:
        while not self._ended.is_set():
            try:
                paths = self._mine()
            except GroundedError as error:
                self._queue.put(error)
                return
            if not paths:
                time.sleep(0.1)
            for path in paths:
                if self._ended.is_set():
                    return
                kind, shard = read_shard(path)
                if self.device.type == "cuda":
                    shard = {name: value.pin_memory() for name, value in shard.items()}
                if self.consume:
                    path.unlink()
                else:
                    self._seen.add(path.name)
                self._queue.put((kind, shard))


class Clips:
    """Clips on the device, by kind; batches are of one kind, so that their tensors are of one shape.

    mixture: share of each kind in batches.
    """

    def __init__(self, mixture: Mapping[str, float], device: torch.device) -> None:
        self.mixture, self.device = mixture, device
        self.count = 0
        self._groups: dict[str, Shard] = {}
        self._pending: dict[str, list[Shard]] = {}
        self._waiting = 0
        self.reseed(0)

    def reseed(self, seed: int) -> None:
        """Begin anew what `draw` draws with."""
        self.rng = random.Random(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def add(self, kind: str, shard: Shard) -> None:
        """Take a shard in; it is drawn from once enough have gathered for a copy of everything to be worth it."""
        self._pending.setdefault(kind, []).append(shard)
        self.count += len(shard["latents"])
        self._waiting += len(shard["latents"])
        if kind not in self._groups or 8 * self._waiting >= self.count:
            for name, parts in self._pending.items():
                every = [self._groups[name], *parts] if name in self._groups else parts
                self._groups[name] = {key: torch.cat([part[key] for part in every]) for key in every[0]}
            self._pending, self._waiting = {}, 0

    def draw(self, clips: int, forget: float) -> ClipBatch:
        """A random batch of `clips` clips.

        forget: share of chunks, among those whose caption names the character, that are made from text alone; otherwise
        one chunk in seven would teach what a film's first chunk, and each scene's, has to do.
        """
        kinds = [kind for kind in self.mixture if kind in self._groups]
        kind = self.rng.choices(kinds, [self.mixture[kind] for kind in kinds])[0]
        group, variant = self._groups[kind], self.rng.randrange(VARIANTS)
        rows = torch.randint(len(group["latents"]), (clips,), generator=self.generator, device=self.device)

        def take(name: str) -> Tensor:
            return group[name][rows]

        recache = None
        if f"{variant}.recache.frames" in group:
            recache = RecacheTable(**{name: take(f"{variant}.recache.{name}") for name in RECACHE})
        slots, positions, own = (take(f"{variant}.{name}") for name in ("slots", "positions", "own"))
        named = take("named")
        chance = torch.rand(named.shape, generator=self.generator, device=self.device)
        return ClipBatch(
            latents=take("latents").float(),
            weight=take("share").float() / 255,
            labels=take("labels"),
            ids=take("ids"),
            lengths=take("lengths"),
            prompt=take("prompt"),
            schedule=forgotten(ScheduleTable(slots, positions, own, recache), named & (chance < forget)),
        )
