"""The shipped workflows as tables: what each is made of and what its notes say. make_workflows.py writes the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STORYBOARDS = Path(__file__).resolve().parents[2] / "workflows" / "storyboards"


@dataclass(frozen=True)
class Link:
    """An input fed by another node's output."""

    key: str
    output: int = 0


@dataclass(frozen=True)
class Node:
    """One node of a graph."""

    key: str
    """its name in this table"""
    kind: str
    """its node id in ComfyUI"""
    column: int
    """0 is the left one; nodes of a column stand under each other in the order of the table"""
    inputs: dict[str, Any] = field(default_factory=dict)
    """only what differs from the node's own defaults, and every `Link`"""
    title: str = ""
    width: int = 0
    """0 takes the node's own"""
    height: int = 0
    row: int = 0
    """nodes of a row begin at the same height in every column"""


@dataclass(frozen=True)
class Workflow:
    """One file of workflows/."""

    name: str
    nodes: tuple[Node, ...]
    notes: tuple[str, ...]
    """Markdown, under each other at the left"""
    columns: tuple[str, ...]
    """titles of the frames around the columns; "" draws none"""
    needs_files: bool = False
    """it cannot run until the artist has chosen model files"""


def storyboard(name: str) -> str:
    """A shipped storyboard without its comment lines."""
    lines = (STORYBOARDS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).strip() + "\n"


def _model(**inputs: Any) -> Node:
    return Node("load", "GF_LoadModel", 0, {"model": "built-in", **inputs}, width=320)


def _wires(timeline: Link) -> dict[str, Any]:
    return {
        "model": Link("load", 0),
        "clip": Link("load", 1),
        "vae": Link("load", 2),
        "timeline": timeline,
    }


def _sampler(key: str, column: int, timeline: str | Link, take: str, row: int = 0, **inputs: Any) -> Node:
    wires = {**_wires(Link(timeline) if isinstance(timeline, str) else timeline), "take": take}
    return Node(key, "GF_StreamSampler", column, {**wires, **inputs}, "", 380, 640, row)


def _save(key: str, column: int, sampler: str, name: str, title: str = "", row: int = 0) -> Node:
    inputs = {"take": Link(sampler), "filename_prefix": f"grounded/{name}"}
    return Node(key, "GF_SaveVideo", column, inputs, title, 420, 520, row)


def _sheet(key: str, column: int, sampler: str) -> tuple[Node, Node]:
    shown = Node(f"{key}_shown", "PreviewImage", column, {"images": Link(key)}, "Contact sheet", 420, 400)
    return Node(key, "GF_TakeSheet", column, {"take": Link(sampler)}, width=420), shown


FIRST_FILM = Workflow(
    "01_first_film",
    (
        _model(),
        Node("memory", "GF_DualMemoryCache", 0, {}, width=320),
        Node(
            "timeline", "GF_PromptTimeline", 1, {"timeline": storyboard("first_film")}, width=620, height=460
        ),
        _sampler("sampler", 2, "timeline", "first_film", memory=Link("memory")),
        Node("report", "GF_TakeReport", 1, {"take": Link("sampler")}, width=620, height=300),
        _save("save", 3, "sampler", "first_film"),
        *_sheet("sheet", 3, "sampler"),
    ),
    (
        "## First film\n"
        "Press **Run**. Nothing has to be downloaded: the built-in model is small and draws a simple cartoon world.\n\n"
        "1. The **Prompt Timeline** is the film: one line is one piece of it. `then:` goes on in the same shot, `cut:` "
        "begins a new shot with the same cast, `scene:` begins anew.\n"
        "2. Change only the last line and press **Run** again: what comes before is reused.\n"
        "3. The film lands in `output/grounded/`. Drop the file onto this page to get the graph back.",
        "## Your own words\n"
        "The built-in model knows a few characters (fox, owl, robot, ghost, frog), colours, places and actions; see "
        "`docs/storyboard.md`. For an open vocabulary load a causal Wan model: workflow **03_your_wan_model**.",
    ),
    ("Model and memory", "The film in words", "Render", "Film"),
)

_ROBOT = "@seed 12\n\na yellow robot walks left on a city street at noon | 4.5s\n"
_DANCE = "robot dances in a desert at sunset"
CUT_THEN_SCENE = Workflow(
    "02_cut_then_scene",
    (
        _model(),
        Node("base", "GF_PromptTimeline", 0, {"timeline": _ROBOT}, "The first shot", 460, 240, 1),
        Node(
            "then",
            "GF_PromptTimeline",
            1,
            {"timeline": f"{_ROBOT}then: it dances | 4.5s\n"},
            "then",
            460,
            240,
        ),
        Node(
            "cut",
            "GF_ShotCut",
            1,
            {
                "timeline": Link("base"),
                "at": "end",
                "prompt": f"the same yellow {_DANCE}",
                "seconds": 4.5,
                "keep_cast": True,
            },
            "cut",
            460,
            260,
            1,
        ),
        Node(
            "scene",
            "GF_ShotCut",
            1,
            {
                "timeline": Link("base"),
                "at": "end",
                "prompt": f"a yellow {_DANCE}",
                "seconds": 4.5,
                "keep_cast": False,
            },
            "scene",
            460,
            260,
            2,
        ),
        _sampler("then_film", 2, "then", "verbs"),
        _sampler("cut_film", 2, "cut", "verbs", 1),
        _sampler("scene_film", 2, "scene", "verbs", 2),
        _save("then_save", 3, "then_film", "verbs_then", "then: the shot goes on"),
        _save("cut_save", 3, "cut_film", "verbs_cut", "cut: a new shot, the same robot", 1),
        _save("scene_save", 3, "scene_film", "verbs_scene", "scene: another robot", 2),
    ),
    (
        "## Three ways to go on\n"
        "The same first shot, continued three times. **then** changes the action inside the shot: the motion goes on. "
        "**cut** drops the motion and the place and keeps the cast: look at the robot's scarf and hat. **scene** "
        "forgets everything: another robot.\n\n"
        "All three share one Take, so the first shot is rendered once and reused.",
        "## Shot Cut\n"
        "**Shot Cut** puts a shot into a timeline: `end`, before a segment (`3`), or at a time (`12.5s`). "
        "*keep cast* off makes it a scene. Chain as many as you like.",
    ),
    ("Model", "Second segment", "Render", "Films"),
)

YOUR_WAN_MODEL = Workflow(
    "03_your_wan_model",
    (
        Node("unet", "UNETLoader", 0, {"unet_name": "longlive_base.safetensors"}, width=380),
        Node(
            "lora",
            "LoraLoaderModelOnly",
            0,
            {"model": Link("unet"), "lora_name": "longlive_lora.safetensors"},
            width=380,
        ),
        Node(
            "clip",
            "CLIPLoader",
            0,
            {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan"},
            width=380,
        ),
        Node("vae", "VAELoader", 0, {"vae_name": "wan_2.1_vae.safetensors"}, width=380),
        Node("memory", "GF_DualMemoryCache", 0, {}, width=380),
        Node(
            "timeline", "GF_PromptTimeline", 1, {"timeline": storyboard("frozen_lake")}, width=620, height=460
        ),
        Node(
            "sampler",
            "GF_StreamSampler",
            2,
            {
                "model": Link("lora"),
                "clip": Link("clip"),
                "vae": Link("vae"),
                "timeline": Link("timeline"),
                "memory": Link("memory"),
                "take": "your_wan_model",
            },
            width=340,
        ),
        _save("save", 3, "sampler", "your_wan_model"),
    ),
    (
        "## Your Wan model\n"
        "Any causal model of the Wan 2.1 family, through ComfyUI's own loaders: LoRA, GGUF and offload nodes go in "
        "between as usual.\n\n"
        "- model: LongLive 1.3B in `models/diffusion_models` (the best fit: it was trained with this memory's window)\n"
        "- LoRA: in `models/loras`. None? Select the node and press **Ctrl+B**\n"
        "- text encoder: umT5-XXL in `models/text_encoders`; VAE: Wan 2.1 in `models/vae`\n\n"
        "Choose your files in the four loaders, then **Run**.",
        "## If it is refused\n"
        "The sampler says in words what the file is and what it needs. Files as published (.pt, EMA, one LoRA file of "
        "another naming) load with **Load Model (Grounded Forcing)**, which renames their keys. A file with a name "
        "that says nothing: choose its family under *assume*.",
    ),
    ("Your files", "The film in words", "Render", "Film"),
    needs_files=True,
)

LOW_VRAM = Workflow(
    "04_low_vram",
    (
        _model(precision="fp8_e4m3fn"),
        Node("memory", "GF_DualMemoryCache", 0, {"preset": "grounded", "recent": 3}, width=320),
        Node(
            "timeline",
            "GF_PromptTimeline",
            1,
            {"timeline": storyboard("three_actions")},
            width=620,
            height=400,
        ),
        _sampler("sampler", 2, "timeline", "low_vram", memory=Link("memory")),
        Node("report", "GF_TakeReport", 1, {"take": Link("sampler")}, width=620, height=300),
        _save("save", 3, "sampler", "low_vram"),
    ),
    (
        "## Little memory\n"
        "Three savings, each alone or together. The report under the timeline says what was used.\n\n"
        "1. **precision fp8_e4m3fn** halves the model's weights. Choose your own file in *model*.\n"
        "2. **recent 3** instead of 6 makes the memory a quarter smaller; motion follows the past a little less.\n"
        "3. *width* and *height* in the sampler: 640 x 368 instead of 832 x 480 needs about 40 % less for the rest.\n\n"
        "The length of the film costs disk only.",
        "## Tiny VAE\n"
        "Put a tiny VAE for Wan 2.1 (for example `taew2_1.safetensors`) into `models/vae` and choose it in *vae*: "
        "faster and smaller, a little softer. Save Video can decode again with the full VAE later.",
    ),
    ("Model and memory", "The film in words", "Render", "Film"),
)

START_IMAGE = Workflow(
    "05_start_image",
    (
        _model(),
        Node("picture", "LoadImage", 0, {"image": "example.png"}, "The first picture", 320, 340),
        Node(
            "timeline",
            "GF_PromptTimeline",
            1,
            {
                "timeline": "@seed 3\n\na red fox walks right in a meadow at noon | 4.5s\nthen: it jumps | 4.5s\n"
                "cut: the same red fox sleeps in the snow at night | 4.5s\n"
            },
            width=620,
            height=400,
        ),
        _sampler("sampler", 2, "timeline", "start_image", start_image=Link("picture")),
        _save("save", 3, "sampler", "start_image"),
    ),
    (
        "## Begin with a picture\n"
        "Choose a picture in **Load Image**: it becomes the first moment of the film, and the words take over from "
        "there. Describe in the first line what is on it.\n\n"
        "It is cropped to the film's shape from the middle. The built-in model knows its own cartoon world best. A "
        "picture to try lies in this pack: drag `workflows/pictures/fox.jpg` onto **Load Image**.",
    ),
    ("Model and picture", "The film in words", "Render", "Film"),
)


def _compared(preset: str, title: str, row: int) -> tuple[Node, ...]:
    memory, film, sheet = f"{preset}_memory", f"{preset}_film", f"{preset}_sheet"
    return (
        Node(memory, "GF_DualMemoryCache", 1, {"preset": preset}, title, 340, row=row),
        _sampler(film, 2, "timeline", f"compare_{preset}", row, memory=Link(memory)),
        Node(sheet, "GF_TakeSheet", 3, {"take": Link(film)}, width=230, row=row),
        Node(f"{sheet}_shown", "PreviewImage", 4, {"images": Link(sheet)}, title, 460, 400, row),
    )


COMPARE_MEMORIES = Workflow(
    "06_compare_memories",
    (
        _model(),
        Node(
            "timeline",
            "GF_PromptTimeline",
            0,
            {"timeline": storyboard("first_film")},
            width=520,
            height=360,
            row=1,
        ),
        *_compared("grounded", "Grounded Forcing", 0),
        *_compared("longlive", "LongLive", 1),
        *_compared("infinity_rope", "Infinity-RoPE", 2),
    ),
    (
        "## Same words, three memories\n"
        "One storyboard, rendered with three ways to remember. Compare the rows after each `cut:`: is it still the "
        "same character?\n\n"
        "Everything else is equal, seeds included. The presets are published methods; every number of theirs can be "
        "changed in the node.",
    ),
    ("Model and film", "Memory", "Render", "", "Contact sheets"),
)

_OWL = """@seed 7

a red fox walks right in a meadow at noon | 4.5s
scene: a blue owl stands still on a beach at sunset | 4.5s
then: it dances | 4.5s
"""
PICK_A_TAKE = Workflow(
    "07_pick_a_take",
    (
        _model(),
        Node("timeline", "GF_PromptTimeline", 0, {"timeline": _OWL}, width=520, height=400),
        Node(
            "takes",
            "GF_SegmentTakes",
            1,
            {**_wires(Link("timeline")), "take": "pick_a_take", "segment": 2, "count": 4},
            width=380,
            height=700,
        ),
        Node("sheet", "PreviewImage", 2, {"images": Link("takes")}, "Takes a to d", 560, 700),
        _sampler("sampler", 3, Link("takes", 1), "pick_a_take"),
        _save("save", 4, "sampler", "pick_a_take"),
    ),
    (
        "## Several takes of one shot\n"
        "1. Press **Run**. Segment 2 is rendered four times, each with a seed of its own; the film waits.\n"
        "2. Look at the sheet, and write the name of the one you like, such as `c`, into **pick**.\n"
        "3. Press **Run** again: the film goes on from that take. What is on the sheet is not made again.\n\n"
        "More to choose from? Raise **count**: only the new ones are made.",
    ),
    ("Model and film", "Takes", "Choose", "Render", "Film"),
)

WORKFLOWS = (
    FIRST_FILM,
    CUT_THEN_SCENE,
    YOUR_WAN_MODEL,
    LOW_VRAM,
    START_IMAGE,
    COMPARE_MEMORIES,
    PICK_A_TAKE,
)


def api_prompt(workflow: Workflow) -> dict[str, Any]:
    """The workflow as POST /prompt takes it, without the inputs that keep their defaults."""
    numbers = {node.key: str(index) for index, node in enumerate(workflow.nodes, 1)}
    return {
        numbers[node.key]: {
            "class_type": node.kind,
            "inputs": {
                name: [numbers[value.key], value.output] if isinstance(value, Link) else value
                for name, value in node.inputs.items()
            },
            **({"_meta": {"title": node.title}} if node.title else {}),
        }
        for node in workflow.nodes
    }
