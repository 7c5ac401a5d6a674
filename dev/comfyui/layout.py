"""Places the nodes of a serialised graph in columns, notes at the left, frames around; plain arithmetic on JSON."""

from __future__ import annotations

import math
import uuid
from typing import Any

from .graphs import Node, Workflow

GAP_X, GAP_Y = 40, 24
TITLE = 34
"""height of a node's title bar, which lies above its position"""
TALLER = 52
"""pixels by which Nodes 2.0 may draw a node taller than the size saved for it, if the front end chose that size"""
FIRMER = 12
"""the same where the table wishes a size"""
NOTE_WIDTH, NOTE_CHARACTERS, NOTE_LINE = 340, 54, 17
FRAME_PAD, FRAME_TITLE = 16, 40
NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}
FRAME_COLOURS = ("#3f789e", "#8A8", "#88A", "#b58b2a", "#A88")
REGISTRY_NAME = "grounded-forcing"
WINDOW = (1600, 950)
"""pixels of the page that the graphs are laid out for"""
LEFT, TOP = 80, 110
"""pixels of it that the side bar and the bars at the top may take"""
VIEW = (1200, 700)
"""pixels that the opened graph fits into: what is left of a smaller window, too"""
READABLE = 0.58
"""the zoom below which a front end draws no text is 8/14 (0.571): its smallest letters by the size of a node's"""


def arrange(graph: dict[str, Any], workflow: Workflow) -> dict[str, Any]:
    """The same graph, placed: node sizes as the front end gave them or as the table wishes.

    graph: what the front end serialised for `api_prompt(workflow)`; not changed.
    """
    nodes = {node["id"]: dict(node) for node in graph["nodes"]}
    for index, wished in enumerate(workflow.nodes, 1):
        node = nodes[_same_id(nodes, index)]
        width, height = node["size"]
        node["size"] = [wished.width or math.ceil(width), wished.height or math.ceil(height)]
        node["flags"] = {"collapsed": True} if wished.collapsed else {}
        models = {"models": [file.entry for file in wished.models]} if wished.models else {}
        node["properties"] = {**node.get("properties", {}), "cnr_id": _registry_name(wished.kind), **models}
    notes = _notes(workflow, max(map(int, nodes)) + 1)
    frames = _columns(nodes, workflow, below=notes[-1]["pos"][1] + notes[-1]["size"][1] + GAP_Y + FRAME_TITLE)
    placed = [*nodes.values(), *notes]
    return {
        **graph,
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{REGISTRY_NAME}/{workflow.name}")),
        "revision": 0,
        "last_node_id": max(int(node["id"]) for node in placed),
        "nodes": placed,
        "groups": frames,
        "extra": {"ds": _view(placed, frames)},
    }


def _room(node: dict[str, Any], wished: Node) -> float:
    """Pixels under its title that a node may need in any front end."""
    if wished.collapsed:
        return 0
    return node["size"][1] + (FIRMER if wished.height else TALLER)


def _same_id(nodes: dict[Any, Any], index: int) -> Any:
    return index if index in nodes else str(index)


def _registry_name(kind: str) -> str:
    return REGISTRY_NAME if kind.startswith("GF_") else "comfy-core"


def _columns(nodes: dict[Any, Any], workflow: Workflow, below: float) -> list[dict[str, Any]]:
    """Set every node's position; the frames around the columns. The first column begins at `below`, under the notes."""
    frames, x = [], 0
    for number, title in enumerate(workflow.columns):
        members = [
            (nodes[_same_id(nodes, index)], wished)
            for index, wished in enumerate(workflow.nodes, 1)
            if wished.column == number
        ]
        width = max(node["size"][0] for node, _ in members)
        begin = y = TITLE if number else below + TITLE
        for node, wished in members:
            node["pos"] = [x, y]
            y += _room(node, wished) + TITLE + GAP_Y
        if title:
            top = begin - TITLE - FRAME_TITLE
            bounds = [x - FRAME_PAD, top, width + 2 * FRAME_PAD, y - TITLE - GAP_Y + FRAME_PAD - top]
            frame = {"id": number + 1, "title": title, "bounding": bounds, "font_size": 24, "flags": {}}
            frames.append({**frame, "color": FRAME_COLOURS[number % len(FRAME_COLOURS)]})
        x += width + GAP_X
    return frames


def _notes(workflow: Workflow, first_id: int) -> list[dict[str, Any]]:
    number = int(workflow.name.partition("_")[0])
    first, *others = workflow.notes
    placed, y = [], -FRAME_TITLE + TITLE
    for offset, text in enumerate((f"## {number}. {workflow.title}\n{workflow.about}\n\n{first}", *others)):
        lines = sum(max(1, math.ceil(len(line) / NOTE_CHARACTERS)) for line in text.split("\n"))
        height = 46 + lines * NOTE_LINE
        placed.append(
            {
                "id": first_id + offset,
                "type": "MarkdownNote",
                "pos": [0, y],
                "size": [NOTE_WIDTH, height],
                "flags": {},
                "order": offset,
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "title": "Note",
                "properties": {},
                "widgets_values": [text],
                **NOTE_COLOURS,
            }
        )
        y += height + TITLE + GAP_Y
    return placed


def _view(nodes: list[dict[str, Any]], frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Zoom and offset with which the graph opens: its corner beside the front end's bars, all of it in `VIEW`.

    The front end draws a point of the graph at (point + offset) * scale pixels of the page.
    Raises ValueError: so far away no word can be read.
    """
    boxes = [tuple(frame["bounding"]) for frame in frames]
    boxes += [
        (node["pos"][0], node["pos"][1] - TITLE, node["size"][0], _drawn(node) + TITLE) for node in nodes
    ]
    left, top = min(x for x, *_ in boxes), min(y for _, y, *_ in boxes)
    right = max(x + width for x, _, width, _ in boxes)
    bottom = max(y + height for _, y, _, height in boxes)
    scale = math.floor(1000 * min(VIEW[0] / (right - left), VIEW[1] / (bottom - top), 1.0)) / 1000
    if scale < READABLE:
        raise ValueError(
            f"{right - left:.0f} x {bottom - top:.0f} opens at {scale}, and {READABLE} can be read"
        )
    return {"scale": scale, "offset": [math.ceil(LEFT / scale - left), math.ceil(TOP / scale - top)]}


def _drawn(node: dict[str, Any]) -> float:
    """Pixels below a node's title."""
    return 0 if node["flags"].get("collapsed") else node["size"][1]
