"""Whether a film's network is compiled, where the bundle leaves it open, and the Wan VAE's decoder with it; and the
time that takes.

Compiled pieces give other last bits, so this is settled before the film's keys are asked for, and a Take goes on as it
was begun, whatever its length has become.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..devices import now
from ..errors import GroundedError
from ..take.run import settings_in
from ..timeline import Plan, make_plan
from .film import Film

if TYPE_CHECKING:
    import torch

    from ..checkpoints.model_bundle import ModelBundle
    from ..sampling.sampler import Sampler
    from ..vae.base import LatentCodec

log = logging.getLogger("grounded")
WORTH_CHUNKS = 192
"""A shorter film is made sooner than its network is compiled: 17 to 20 s at first, 0.1 s a chunk less (1.3B, H200)."""


def settle_pieces(film: Film, folder: Path) -> Film:
    """The film as it is to be made into the Take in `folder`: its bundle says whether the network is compiled.

    A compiler that does not work here costs a line in the log.
    """
    bundle = film.bundle
    if bundle.team is not None:
        if bundle.compiled:
            raise GroundedError(
                f"{bundle.team.count} ranks exchange keys that compiled pieces have fused away",
                "leave --compile away",
            )
        return replace(film, bundle=replace(bundle, compiled=False))
    compiled = bundle.compiled
    if compiled is None:
        compiled = bundle.computes_on.type == "cuda" and _is_own(bundle) and _wants(film, folder)
    if compiled:
        from ..model.compiled import works

        compiled = works(bundle.computes_on, bundle.computes_in)
    codec = _fused(bundle.codec) if compiled else bundle.codec
    if compiled is bundle.compiled and codec is bundle.codec:
        return film
    return replace(film, bundle=replace(bundle, compiled=compiled, codec=codec))


def _fused(codec: LatentCodec) -> LatentCodec:
    """The codec with compiled pieces, where it has any on the device that it is on; it is left as it is."""
    from ..model.compiled import compiler, works
    from ..vae.tiles import Tiled, whole
    from ..vae.wan import WanVAE
    from ..vae.wan_pieces import fused

    inner = whole(codec)
    if not isinstance(inner, WanVAE) or inner.arithmetic or not _pays(inner.like.device):
        return codec
    if not works(inner.like.device, inner.like.dtype):
        return codec
    inner = inner.fused(fused(*compiler()))
    return Tiled(inner, codec.tile) if isinstance(codec, Tiled) else inner


def _pays(device: torch.device) -> bool:
    """Whether compiled pieces make a decoder faster there: with the channels last a processor convolves slowly."""
    return device.type == "cuda"


def _is_own(bundle: ModelBundle) -> bool:
    from ..model.layers import Own

    return isinstance(bundle.model, Own)


def _wants(film: Film, folder: Path) -> bool:
    """As the Take's newest run was made, else whether the film is long enough."""
    for settings in settings_in(folder):
        machine = settings.get("machine")
        if isinstance(machine, dict) and machine.get("device") == film.bundle.device_name:
            return "compiled" in machine
    return make_plan(film.board, film.timing).chunks >= WORTH_CHUNKS  # its keys wait for what is settled here


def get_ready(sampler: Sampler, *films: tuple[Plan, int], ask: Callable[[], None] = lambda: None) -> float:
    """Have everything compiled, or read back from the disk, before the first chunk of a film; seconds that it took.

    films: plans with what `warm_up` calls `lead`. ask: has its turn between pieces, and may raise.
    """
    from ..model.compiled import asking
    from ..sampling.warm import warm_up

    log.info("compiling the network, once per card and size")
    device = sampler.director.device
    began = now(device)
    with asking(ask):
        for plan, lead in films:
            warm_up(sampler, plan, lead)
    took = now(device) - began
    log.info("compiled in %.1f s", took)
    return took
