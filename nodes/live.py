"""The live view: what a Stream Sampler shows while it runs, on routes of our own.

    node's thread:  Channel.show(frames) -> JPEGs in one helper thread -> server's loop -> each viewer's short queue
    viewer:         multipart JPEG at the film's speed; who is slow or late loses pictures, never memory

The host's own preview pictures are not used: it encodes them on the loop that also answers the browser.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

log = logging.getLogger("grounded")

NODE = re.compile(r"[0-9]{1,12}(?::[0-9]{1,12}){0,7}")
"""A node's execution id; inside subgraphs it looks like 5:2."""
CHANNELS = 16
"""Nodes whose pictures are kept; the one longest unused goes first."""
THUMBS = 2000
"""Pictures of segments kept for one node."""
WAITING = 48
"""JPEGs that may wait for one viewer: four chunks."""
QUALITY = 80


def jpeg(frame: np.ndarray) -> bytes:
    """uint8 [H W 3] -> a small JPEG file."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()


class Viewer:
    """One open page: its queue, used on the server's loop only."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()

    def offer(self, pictures: list[bytes]) -> None:
        """Add pictures; the oldest make room."""
        for picture in pictures:
            if self._waiting.qsize() >= WAITING:
                self._waiting.get_nowait()
            self._waiting.put_nowait(picture)

    def end(self) -> None:
        """Nothing comes any more; what waits is still shown."""
        self._waiting.put_nowait(None)

    async def next(self) -> bytes | None:
        """The next picture, None at the end."""
        return await self._waiting.get()


class Channel:
    """The live view of one node. Methods may be called from any thread unless they say otherwise."""

    def __init__(self, fps: float, stop: Callable[[], None]) -> None:
        self.fps = fps
        """Pictures per second of film."""
        self.thumbs: dict[int, bytes] = {}
        """JPEG of each finished segment, by its place in the storyboard."""
        self._stop: Callable[[], None] | None = stop
        self._viewers: set[Viewer] = set()
        self._last: list[bytes] = []
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def show(self, frames: np.ndarray) -> None:
        """Queue uint8 [t H W 3] for every viewer; returns at once."""
        _encoder.submit(_logged, self._encode, frames)

    def later(self, work: Callable[[], None]) -> None:
        """Do `work` in the helper thread, after the pictures queued so far."""
        _encoder.submit(_logged, work)

    def keep_thumb(self, index: int, frame: np.ndarray) -> None:
        """Remember the picture uint8 [H W 3] of segment `index`."""
        if len(self.thumbs) < THUMBS or index in self.thumbs:
            self.thumbs[index] = jpeg(frame)

    def stop(self) -> bool:
        """Ask the render to end early and keep what is there; False when nothing is running."""
        stop = self._stop
        if stop is None:
            return False
        stop()
        return True

    def close(self) -> None:
        """The render is over: viewers are let go, thumbs stay."""
        self._stop = None
        _encoder.submit(_logged, self._on_loop, self._end)

    def _encode(self, frames: np.ndarray) -> None:
        pictures = [jpeg(frame) for frame in (frames if self._viewers else frames[-1:])]
        self._on_loop(lambda: self._spread(pictures))

    def _on_loop(self, work: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(work)
        else:
            work()

    def _spread(self, pictures: list[bytes]) -> None:
        self._last = pictures[-1:]
        for viewer in self._viewers:
            viewer.offer(pictures)

    def _end(self) -> None:
        self._closed = True
        for viewer in self._viewers:
            viewer.end()

    def join(self) -> Viewer:
        """A new viewer; on the server's loop only."""
        self._loop = asyncio.get_running_loop()
        viewer = Viewer()
        viewer.offer(self._last)
        if self._closed:
            viewer.end()
        else:
            self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer; on the server's loop only."""
        self._viewers.discard(viewer)


_channels: OrderedDict[str, Channel] = OrderedDict()
_lock = threading.Lock()
_encoder = ThreadPoolExecutor(1, "grounded-live")
"""The one helper thread, which begins with the first picture."""


def _logged(work: Callable[..., None], *inputs: Any) -> None:
    """Nobody waits for the helper's results, so that its errors would be lost; the render does not depend on them."""
    try:
        work(*inputs)
    except Exception:
        log.exception("the live view could not show a picture")


def open_channel(node: str, fps: float, stop: Callable[[], None]) -> Channel:
    """A fresh channel for `node`, in place of the one before; `stop` ends its render early."""
    channel = Channel(fps, stop)
    with _lock:
        before = _channels.pop(node, None)
        _channels[node] = channel
        while len(_channels) > CHANNELS:
            _channels.popitem(last=False)
    if before is not None:
        before.close()
    return channel


def find_channel(node: str) -> Channel | None:
    """The channel of `node`; None for an id that is none, or is not known."""
    if not NODE.fullmatch(node):
        return None
    with _lock:
        return _channels.get(node)


async def paced(viewer: Viewer, fps: float, write: Callable[[bytes], object]) -> None:
    """Give `write` (a coroutine function) each picture of `viewer` at the film's speed, until the end."""
    due = 0.0
    while (picture := await viewer.next()) is not None:
        wait = due - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        due = max(due, time.monotonic()) + 1 / fps
        await write(picture)  # type: ignore[misc]
