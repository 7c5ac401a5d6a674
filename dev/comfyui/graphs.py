"""The shipped workflows as tables: what each is made of and what its notes say. make_workflows.py writes the files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gf_core.checkpoints.catalog import by_id

STORYBOARDS = Path(__file__).resolve().parents[2] / "workflows" / "storyboards"
HUB = "https://huggingface.co"
SIDE, WORDS = 340, 520
"""widths of the nodes at the left, and of those that hold the storyboard"""
WAN = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"


@dataclass(frozen=True)
class Link:
    """An input fed by another node's output."""

    key: str
    output: int = 0


@dataclass(frozen=True)
class ModelFile:
    """A published file, for the host's own list of files to download."""

    directory: str
    """folder below models/"""
    repository: str
    path: str
    """in the repository"""

    @property
    def name(self) -> str:
        """What it is called on disk, as published."""
        return self.path.rpartition("/")[2]

    @property
    def entry(self) -> dict[str, str]:
        """As the front end reads it from a node's properties."""
        return {
            "name": self.name,
            "url": f"{HUB}/{self.repository}/resolve/main/{self.path}",
            "directory": self.directory,
        }


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
    collapsed: bool = False
    """only its title is seen: one of several alike, whose names say all"""
    models: tuple[ModelFile, ...] = ()
    """files that its inputs name"""


@dataclass(frozen=True)
class Workflow:
    """One file of workflows/."""

    name: str
    title: str
    about: str
    """what it is for, in one line"""
    nodes: tuple[Node, ...]
    notes: tuple[str, ...]
    """Markdown, under each other at the left; the first one follows the title"""
    columns: tuple[str, ...]
    """titles of the frames around the columns; "" draws none"""
    needs_files: bool = False
    """it cannot run until the artist has chosen model files"""


def storyboard(name: str) -> str:
    """A shipped storyboard without its comment lines, and without its seed: that stands on the sampler."""
    lines = (STORYBOARDS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith(("#", "@seed"))).strip() + "\n"


def _model(**inputs: Any) -> Node:
    return Node("load", "GF_LoadModel", 0, {"model": "built-in", **inputs}, width=SIDE)


def _wires(timeline: Link) -> dict[str, Any]:
    return {
        "model": Link("load", 0),
        "clip": Link("load", 1),
        "vae": Link("load", 2),
        "timeline": timeline,
    }


def _sampler(key: str, column: int, timeline: str | Link, take: str, title: str = "", **inputs: Any) -> Node:
    """One with a title of its own is one of several: they are drawn as their titles alone."""
    wires = {**_wires(Link(timeline) if isinstance(timeline, str) else timeline), "take": take}
    return Node(key, "GF_StreamSampler", column, {**wires, **inputs}, title, 340, 624, collapsed=bool(title))


def _save(key: str, column: int, sampler: str, name: str, title: str = "") -> Node:
    inputs = {"take": Link(sampler), "filename_prefix": f"grounded/{name}"}
    return Node(key, "GF_SaveVideo", column, inputs, title, 360, 320 if title else 460)


def _timeline(key: str, column: int, text: str, title: str = "", height: int = 0) -> Node:
    return Node(key, "GF_PromptTimeline", column, {"timeline": text}, title, WORDS, height)


FIRST_FILM = Workflow(
    "01_first_film",
    "First film",
    "Six lines of text become a film of 30 seconds.",
    (
        _model(),
        _timeline("timeline", 1, storyboard("first_film")),
        Node("report", "GF_TakeReport", 1, {"take": Link("sampler")}, width=WORDS, height=230),
        _sampler("sampler", 2, "timeline", "first_film", seed=7),
        _save("save", 3, "sampler", "first_film"),
    ),
    (
        "Press **Run**. Nothing has to be downloaded: the built-in model is small and draws a simple cartoon world.\n\n"
        "1. The **Prompt Timeline** is the film: one line is one piece of it. **then:** goes on in the same shot, "
        "**cut:** begins a new shot with the same cast, **scene:** begins anew.\n"
        "2. Change only the last line and press **Run** again: what comes before is kept.\n"
        "3. Another **seed** on the sampler makes another film of the same words.\n"
        "4. The film lands in **output/grounded**. Drop the file onto this page to get the graph back.",
        "**Your own words**\n\n"
        "The built-in model knows six characters (fox, owl, robot, ghost, frog, snail), some colours, places and "
        "actions: all its words stand in the help of Prompt Timeline. For any other words take workflow 03.",
    ),
    ("Model", "The film in words", "Render", "Film"),
)

_ROBOT = "@seed 12\n\na yellow robot walks left on a city street at noon | 4.5s\n"
_DANCE = "robot dances in a desert at sunset"


def _shot(key: str, prompt: str, keep_cast: bool) -> Node:
    inputs = {"timeline": Link("base"), "at": "end", "prompt": prompt, "seconds": 4.5, "keep_cast": keep_cast}
    return Node(key, "GF_ShotCut", 2, inputs, key, 380, 286)


def _way(key: str, title: str) -> tuple[Node, Node]:
    return _sampler(f"{key}_film", 2, key, "verbs", f"Render {key}"), _save(
        f"{key}_save", 3, f"{key}_film", f"verbs_{key}", title
    )


CUT_THEN_SCENE = Workflow(
    "02_cut_then_scene",
    "Cut, then, scene",
    "One first shot goes on in three ways: see what each word keeps.",
    (
        _model(),
        _timeline("base", 1, _ROBOT, "The first shot", 480),
        _timeline("then", 1, f"{_ROBOT}then: it dances | 4.5s\n", "then", 480),
        # Folded ones first: some front ends count their whole height when they show all of a graph.
        *_way("then", "then: the shot goes on"),
        *_way("cut", "cut: a new shot, the same robot"),
        *_way("scene", "scene: another robot"),
        _shot("cut", f"the same yellow {_DANCE}", True),
        _shot("scene", f"a yellow {_DANCE}", False),
    ),
    (
        "**then:** changes the action inside the shot: the motion goes on. **cut:** drops the motion and the place and "
        "keeps the cast: look at the robot's scarf and hat. **scene:** forgets everything: another robot.\n\n"
        "All three share one Take, so the first shot is rendered once. Its seed stands in the text (**@seed**), so "
        "that it is the same in all three: the samplers' own is not used then. They are folded; a "
        "click on the dot opens one.\n\n"
        "**Shot Cut** puts a shot into a timeline: at its **end**, before a segment (**3**), or at a time (**12.5s**). "
        "With *keep cast* off it is a scene. Chain as many as you like.",
    ),
    ("Model", "The film in words", "Renders and cuts", "Films"),
)

_LONGLIVE = by_id("longlive")
assert _LONGLIVE and _LONGLIVE.lora
YOUR_FILES = (
    ModelFile("diffusion_models", _LONGLIVE.repository, _LONGLIVE.file),
    ModelFile("loras", _LONGLIVE.repository, _LONGLIVE.file.rpartition("/")[0] + "/" + _LONGLIVE.lora),
    ModelFile("text_encoders", WAN, "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors"),
    ModelFile("vae", WAN, "split_files/vae/wan_2.1_vae.safetensors"),
)
YOUR_WAN_MODEL = Workflow(
    "03_your_wan_model",
    "Your Wan model",
    "Any words, at 832 x 480, with a published causal model.",
    (
        Node(
            "load",
            "GF_LoadModel",
            0,
            dict(zip(("model", "lora", "text_encoder", "vae"), (file.name for file in YOUR_FILES))),
            width=SIDE,
            models=YOUR_FILES,
        ),
        _timeline("timeline", 1, storyboard("frozen_lake")),
        _sampler("sampler", 2, "timeline", "your_wan_model", seed=7),
        _save("save", 3, "sampler", "your_wan_model"),
    ),
    (
        "Four files, as published; ComfyUI offers each that you lack with a button:\n\n"
        "- **longlive_base.pt** into models/diffusion_models: LongLive 1.3B, trained with this memory's window\n"
        "- **lora.pt** into models/loras: its second half, from the same page\n"
        "- **umt5_xxl_fp8_e4m3fn_scaled.safetensors** (6.7 GB) into models/text_encoders\n"
        "- **wan_2.1_vae.safetensors** (254 MB) into models/vae\n\n"
        "Then press **R**, and **Run**. Another causal model (Self Forcing, Causal Forcing, Reward Forcing): choose it "
        "in *model*, and **none** in *lora*.",
        "**Your own loaders**\n\n"
        "ComfyUI's loaders, LoRA, GGUF and offload nodes work in place of Load Model. A file is refused? The words "
        "on the node say what it is and what it needs; one whose name says nothing: choose its family in *assume*.",
    ),
    ("Your files", "The film in words", "Render", "Film"),
    needs_files=True,
)

LOW_VRAM = Workflow(
    "04_low_vram",
    "Little memory",
    "Four savings for a small card, and a report of what was used.",
    (
        _model(precision="fp8_e4m3fn"),
        Node(
            "memory",
            "GF_DualMemoryCache",
            0,
            {"preset": "grounded", "recent": 3, "stored": "int8"},
            width=SIDE,
        ),
        _timeline("timeline", 1, storyboard("three_actions")),
        Node("report", "GF_TakeReport", 1, {"take": Link("sampler")}, width=WORDS, height=230),
        _sampler("sampler", 2, "timeline", "low_vram", memory=Link("memory"), seed=3),
        _save("save", 3, "sampler", "low_vram"),
    ),
    (
        "1. **precision fp8_e4m3fn** halves the model's weights. Choose your own file in *model*.\n"
        "2. **recent 3** instead of 6 makes the memory a quarter smaller; motion follows the past a little less.\n"
        "3. **stored int8** keeps that memory in a third of the room, nearly equal to the eye.\n"
        "4. *width* and *height* in the sampler: 640 x 368 instead of 832 x 480 needs about 40 % less for the rest.\n\n"
        "The length of the film costs disk only. A tiny VAE (**taew2_1.safetensors** in models/vae) is faster and "
        "smaller, a little softer; Save Video can decode again with the full one later.",
    ),
    ("Model and memory", "The film in words", "Render", "Film"),
)

_FOX = """\
a red fox walks right in a meadow at noon | 4.5s
then: it jumps | 4.5s
cut: the same red fox sleeps in the snow at night | 4.5s
"""
START_IMAGE = Workflow(
    "05_start_image",
    "Begin with a picture",
    "A picture becomes the first moment of the film; the words take over.",
    (
        _model(),
        Node("picture", "LoadImage", 0, {"image": "example.png"}, "The first picture", SIDE, 320),
        _timeline("timeline", 1, _FOX),
        _sampler("sampler", 2, "timeline", "start_image", start_image=Link("picture"), seed=3),
        _save("save", 3, "sampler", "start_image"),
    ),
    (
        "Choose a picture in **Load Image**, and describe in the first line what is on it. It is cropped to the film's "
        "shape from the middle.\n\n"
        "The built-in model knows its own cartoon world best. A picture to try lies in this pack: drag "
        "**workflows/pictures/fox.jpg** onto Load Image.",
    ),
    ("Model and picture", "The film in words", "Render", "Film"),
)


def _compared(preset: str, title: str) -> tuple[Node, ...]:
    short = title.split("-")[0].split()[0]  # a folded node shows 20 letters
    memory, film, sheet = f"{preset}_memory", f"{preset}_film", f"{preset}_sheet"
    return (
        Node(memory, "GF_DualMemoryCache", 2, {"preset": preset}, f"{short} memory", 280, collapsed=True),
        _sampler(film, 2, "timeline", f"compare_{preset}", f"{short} render", memory=Link(memory)),
        Node(sheet, "GF_TakeSheet", 2, {"take": Link(film)}, f"{short} sheet", 280, collapsed=True),
        Node(f"{sheet}_shown", "PreviewImage", 3, {"images": Link(sheet)}, title, 460, 300),
    )


COMPARE_MEMORIES = Workflow(
    "06_compare_memories",
    "Compare memories",
    "The same words, remembered in three ways, side by side.",
    (
        _model(),
        _timeline("timeline", 1, f"@seed 7\n\n{storyboard('first_film')}"),
        *_compared("grounded", "Grounded Forcing"),
        *_compared("longlive", "LongLive"),
        *_compared("infinity_rope", "Infinity-RoPE"),
    ),
    (
        "Compare the rows after each **cut:**. Is it still the same character?\n\n"
        "Everything else is equal: the seed stands in the text (**@seed**), so that it is the same for all three, and "
        "the samplers' own is not used.\n\n"
        "The presets are published methods. The nodes in the middle are folded; a click on the dot opens one: every "
        "number of a memory can be changed.",
    ),
    ("Model", "The film in words", "Three memories", "Contact sheets"),
)

_OWL = """\
a red fox walks right in a meadow at noon | 4.5s
scene: a blue owl stands still on a beach at sunset | 4.5s
then: it dances | 4.5s
"""
PICK_A_TAKE = Workflow(
    "07_pick_a_take",
    "Pick a take",
    "One shot, four times: choose one, and the film goes on from it.",
    (
        _model(),
        replace(_timeline("timeline", 1, _OWL), width=460),
        Node(
            "takes",
            "GF_SegmentTakes",
            2,
            {**_wires(Link("timeline")), "take": "pick_a_take", "segment": 2, "count": 4, "seed": 7},
            width=460,
        ),
        _sampler("sampler", 3, Link("takes", 1), "pick_a_take", seed=7),
        replace(_save("save", 3, "sampler", "pick_a_take"), height=320),
    ),
    (
        "1. Press **Run**. Segment 2 is rendered four times, each with a seed of its own; the film waits.\n"
        "2. The takes play on **Segment Takes**. Press **Pick** under the one you like.\n"
        "3. Press **Run** again: the film goes on from that take. What is there is not made again.\n\n"
        "More to choose from? Raise **count**: only the new ones are made.",
    ),
    ("Model", "The film in words", "Takes", "Render and film"),
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
