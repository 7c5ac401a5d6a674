"""Our routes on ComfyUI's server: the live view, what a Take shows, Stop, and storyboards of other programs.

They take ids, names and texts, never paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

from aiohttp import web
from server import PromptServer

from ..gf_core.errors import GroundedError, TakeError
from ..gf_core.foreign import read_json
from ..gf_core.words import plain
from . import host, shown
from .live import NODE, find_channel, paced

LIVE = "/grounded/live/{node}"
BOUNDARY = "grounded-frame"
PART = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
PATIENCE = 10.0
"""Seconds that a body may take: aiohttp may wait for ever for the rest of one that cannot be unpacked."""
INDEX = re.compile(r"[0-9]{1,6}")


def add_routes() -> None:
    """Put them on the running server, once; does nothing where there is none (unit tests, indexing)."""
    server = getattr(PromptServer, "instance", None)
    if server is None or any(getattr(route, "path", "") == LIVE for route in server.routes):
        return
    server.routes.get(LIVE)(live)
    server.routes.get("/grounded/thumb/{node}/{index}")(thumb)
    server.routes.post("/grounded/stop")(stop)
    server.routes.post("/grounded/convert")(convert)
    server.routes.get("/grounded/take")(take)
    server.routes.get("/grounded/picture")(picture)


async def live(request: web.Request) -> web.StreamResponse:
    """Pictures of a running node as multipart JPEG at the film's speed."""
    channel = find_channel(request.match_info["node"])
    if channel is None:
        raise web.HTTPNotFound(text="this node is not running")
    headers = {
        "Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    viewer = channel.join()

    async def write(picture: bytes) -> None:
        await response.write((PART % len(picture)).encode() + picture + b"\r\n")

    try:
        with contextlib.suppress(ConnectionError):  # the page was closed
            await paced(viewer, channel.fps, write)
    finally:
        channel.leave(viewer)
    return response


async def thumb(request: web.Request) -> web.Response:
    """The first picture of a segment."""
    channel = find_channel(request.match_info["node"])
    index = request.match_info["index"]
    picture = channel.thumbs.get(int(index)) if channel is not None and INDEX.fullmatch(index) else None
    if picture is None:
        raise web.HTTPNotFound(text="no picture of this segment")
    return web.Response(body=picture, content_type="image/jpeg", headers={"Cache-Control": "no-store"})


async def take(request: web.Request) -> web.Response:
    """What nodes show of the newest render in a Take, by kind of node: ?take=film."""
    try:
        facts = await asyncio.to_thread(shown.facts_of, request.query.get("take", ""))
    except TakeError as error:
        host.log.info("nothing can be shown of a Take: %s", error)
        facts = {}
    return web.json_response(facts, headers={"Cache-Control": "no-store"})


async def picture(request: web.Request) -> web.Response:
    """One picture of a film: ?take=film&run=run-0001&frame=12."""
    asked, frame = request.query, request.query.get("frame", "")
    data = None
    if INDEX.fullmatch(frame):
        with contextlib.suppress(TakeError):  # no Take has such a name
            data = await asyncio.to_thread(
                shown.picture_of, asked.get("take", ""), asked.get("run", ""), int(frame)
            )
    if data is None:
        raise web.HTTPNotFound(text="no such picture")
    return web.Response(body=data, content_type="image/jpeg", headers={"Cache-Control": "max-age=86400"})


async def convert(request: web.Request) -> web.Response:
    """Another program's storyboard in the words of ours: {"text": ...} -> {"text": ..., "said": "an LTX ..."}."""
    from ..gf_core.editorial.others import pasted

    text = (await _asked(request)).get("text")
    if not isinstance(text, str):
        raise web.HTTPBadRequest(text="give the text")
    try:
        ours, said = await asyncio.to_thread(pasted, text)
    except GroundedError as error:
        raise web.HTTPUnprocessableEntity(text=plain(host.in_words(error))) from error
    return web.json_response({"text": ours, "said": said})


async def _asked(request: web.Request) -> dict[str, Any]:
    """The object in a request's body; of another kind of JSON an empty one."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON, as application/json")
    try:
        asked = read_json(await asyncio.wait_for(request.read(), PATIENCE))
    except asyncio.TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the body did not come") from error
    except (ValueError, web.RequestPayloadError) as error:  # no JSON, or not packed as it says
        raise web.HTTPBadRequest(text="the body is no JSON") from error
    return asked if isinstance(asked, dict) else {}


async def stop(request: web.Request) -> web.Response:
    """End a node's render early and keep what is there: {"node": "12"} -> {"stopped": true}.

    Asks for JSON by its name, which a page of another site cannot send without asking this server first.
    """
    node = (await _asked(request)).get("node")
    if not isinstance(node, str | int) or not NODE.fullmatch(str(node)):
        raise web.HTTPBadRequest(text="name a node, such as 12")
    channel = find_channel(str(node))
    return web.json_response({"stopped": channel is not None and channel.stop()})
