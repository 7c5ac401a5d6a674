"""A part of `card.py` that drives LongLive's own network beside ours, where its repository is in build/card/reference.

    git clone --branch v1.0 https://github.com/NVlabs/LongLive build/card/reference

Its code is read from that folder and is no part of this project. Attention goes through PyTorch, as it does there
where flash-attn is not installed; its pipeline's loop is repeated here without decoder and schedule.
"""

from __future__ import annotations

import statistics
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from card_place import Place, ms

from gf_core.config import SHAPES
from gf_core.evaluation.bench import now

FOLDER = Path(__file__).resolve().parents[2] / "build/card/reference"
WINDOW, SINK, CHUNK = 12, 3, 3
LEVELS = (1000, 750, 500, 250)


def reference(place: Place) -> None:
    """A steady chunk of LongLive's own code, same shape, window and steps; nothing where it is not there."""
    if not (FOLDER / "wan/modules/causal_model.py").is_file():
        place.tell("reference code", "", "not in build/card/reference")
        return
    network = _network(place)
    cells = (8, 12) if place.dry else (60, 104)
    frames, spec = 3 if place.dry else 8, SHAPES[place.shape]
    tokens, rows = cells[0] * cells[1] // 4, spec.text_len
    where: dict[str, Any] = {"device": place.device, "dtype": place.dtype}

    def room(size: int) -> dict[str, Any]:
        return {name: torch.zeros(1, size, spec.num_heads, spec.head_dim, **where) for name in "kv"}

    def index() -> torch.Tensor:
        return torch.zeros(1, dtype=torch.long, device=place.device)

    layers = range(spec.num_layers)
    past = [
        {**room(WINDOW * tokens), "global_end_index": index(), "local_end_index": index()} for _ in layers
    ]
    text = [{**room(rows), "is_init": False} for _ in layers]
    prompt = torch.randn(1, 64, spec.text_dim, **where) * 0.1
    seconds = []
    for chunk in range(WINDOW // CHUNK + frames):
        latents = torch.randn(1, spec.in_dim, CHUNK, *cells, **where)
        began = now(place.device)
        for level in (*LEVELS, 0):
            network(
                latents, torch.full((1, CHUNK), level, device=place.device), prompt, CHUNK * tokens,
                kv_cache=past, crossattn_cache=text, current_start=chunk * CHUNK * tokens,
            )  # fmt: skip
        seconds.append(now(place.device) - began)
    chunk = statistics.median(seconds[-frames:])
    place.keep("seconds", seconds)
    place.tell("chunk", ms(chunk), f"{4 * CHUNK / chunk:.1f} pictures a second, network calls alone")


def _network(place: Place) -> Any:
    """Their causal Wan with random weights, without what their packages import beside it."""
    sys.path.insert(0, str(FOLDER))
    for name, folder in (("wan", "wan"), ("wan.modules", "wan/modules")):
        package = ModuleType(name)
        package.__path__ = [str(FOLDER / folder)]
        sys.modules[name] = package
    if place.dry:  # it asks for a card when it is imported
        memory: Any = ModuleType("utils.memory")
        memory.gpu = memory.get_cuda_free_memory_gb = memory.DynamicSwapInstaller = memory.log_gpu_memory = (
            None
        )
        sys.modules["utils.memory"] = memory
    warnings.filterwarnings("ignore", "Padding mask is disabled")
    attention: Any = __import__("wan.modules.attention", fromlist=["attention"])
    attention.flash_attention = attention.attention  # before the network's module takes it by name
    module: Any = __import__("wan.modules.causal_model", fromlist=["CausalWanModel"])
    spec = SHAPES[place.shape]
    if place.dry:  # it writes bfloat16 into its attention whatever is given
        attention.attention.__defaults__ = (*attention.attention.__defaults__[:-2], torch.float32, None)
    with torch.device(place.device):
        network = module.CausalWanModel(
            text_len=spec.text_len, dim=spec.dim, ffn_dim=spec.ffn_dim, freq_dim=spec.freq_dim,
            text_dim=spec.text_dim, num_heads=spec.num_heads, num_layers=spec.num_layers,
            local_attn_size=WINDOW, sink_size=SINK,
        )  # fmt: skip
    network = network.to(place.dtype).eval().requires_grad_(False)
    return torch.no_grad()(network)
