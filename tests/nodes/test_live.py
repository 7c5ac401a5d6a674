"""The live view: bounded, paced, and gone when the render is over."""

from __future__ import annotations

import asyncio
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

PICTURES = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 12, 3), 20, np.uint8)


def settle(live) -> None:
    """Wait until the helper thread has done what was queued."""
    live._encoder.submit(lambda: None).result(10)


def test_pictures_are_small_jpegs(live):
    with Image.open(io.BytesIO(live.jpeg(PICTURES[3]))) as image:
        assert image.format == "JPEG" and image.size == (12, 8)
        assert abs(np.asarray(image).astype(int).mean() - 60) < 3


def test_a_viewer_gets_every_picture_until_the_end(live):
    async def watch():
        channel = live.open_channel("1", 1000.0, lambda: None)
        viewer = channel.join()
        channel.show(PICTURES)
        channel.close()
        seen = []

        async def write(picture):
            seen.append(picture)

        await asyncio.wait_for(live.paced(viewer, channel.fps, write), 10)
        return seen

    seen = asyncio.run(watch())
    assert len(seen) == len(PICTURES) and all(picture[:2] == b"\xff\xd8" for picture in seen)


def test_pictures_come_at_the_films_speed(live):
    async def watch():
        channel = live.open_channel("1", 20.0, lambda: None)
        viewer = channel.join()
        viewer.offer([b"x"] * 6)
        viewer.end()
        start = time.monotonic()

        async def write(_):
            return None

        await live.paced(viewer, channel.fps, write)
        return time.monotonic() - start

    assert 0.24 <= asyncio.run(watch()) < 2


def test_a_slow_viewer_loses_the_oldest_pictures(live):
    async def fill():
        viewer = live.Viewer()
        for number in range(10 * live.WAITING):
            viewer.offer([b"%d" % number])
        viewer.end()
        seen = []
        while (picture := await viewer.next()) is not None:
            seen.append(int(picture))
        return seen

    assert asyncio.run(fill()) == list(range(9 * live.WAITING, 10 * live.WAITING))


def test_who_comes_late_sees_the_last_picture(live):
    async def watch():
        channel = live.open_channel("1", 16.0, lambda: None)
        channel.show(PICTURES)
        await asyncio.to_thread(settle, live)
        channel.close()
        await asyncio.to_thread(settle, live)
        viewer = channel.join()
        return [await asyncio.wait_for(viewer.next(), 10) for _ in range(2)]

    last, end = asyncio.run(watch())
    assert last == live.jpeg(PICTURES[-1]) and end is None


def test_stop_reaches_the_render_while_it_runs(live):
    stopped = threading.Event()
    channel = live.open_channel("5:2", 16.0, stopped.set)
    assert live.find_channel("5:2") is channel
    assert channel.stop() and stopped.is_set()
    channel.close()
    assert not channel.stop()


def test_a_new_render_takes_the_place_of_the_old(live):
    old = live.open_channel("7", 16.0, lambda: None)
    new = live.open_channel("7", 16.0, lambda: None)
    assert live.find_channel("7") is new and not old.stop() and new.stop()


@pytest.mark.parametrize("node", ["", "../1", "1/2", "a", "1:", "1" * 40, "1\n", "１"])
def test_what_is_no_node_id_is_refused(live, node):
    """It comes from a browser's address. That no channel has such a name must not be what refuses it."""
    live.open_channel(node, 16.0, lambda: None)
    assert live.find_channel(node) is None


@pytest.mark.parametrize("node", ["1", "5:2", "12:3:456", "0"])
def test_what_is_a_node_id_is_found(live, node):
    assert live.open_channel(node, 16.0, lambda: None) is live.find_channel(node)


def test_channels_and_thumbs_are_bounded(live):
    for number in range(3 * live.CHANNELS):
        live.open_channel(str(number), 16.0, lambda: None)
    assert live.find_channel("0") is None and len(live._channels) == live.CHANNELS
    channel = live.open_channel("1", 16.0, lambda: None)
    for index in range(live.THUMBS + 5):
        channel.keep_thumb(index, PICTURES[0])
    assert len(channel.thumbs) == live.THUMBS
    channel.keep_thumb(0, PICTURES[5])
    assert channel.thumbs[0] == live.jpeg(PICTURES[5]), "a segment that is made again shows its new picture"
