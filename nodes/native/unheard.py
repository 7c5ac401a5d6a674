"""What other nodes have put on a MODEL that the engine does not act on: found, and named for people.

The engine calls the sub-modules of the host's network itself, chunk by chunk and with a memory of its own. Weights and
their patches (LoRA, merges, packed files), the attention override, the compute type, callbacks, and replaced
sub-modules (norms, linear layers, feed-forward and cross-attention forwards) come along. What is hung on the
calls in between does not: those are calls that are never made.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...gf_core.words import counted

log = logging.getLogger("grounded")
SCHEDULE = "model_sampling"
"""What ModelSamplingSD3 and its like put in place."""
OPTIONS = {
    "model_function_wrapper": "a wrapper around the model's call",
    "sampler_cfg_function": "a CFG function",
    "sampler_pre_cfg_function": "what is done before CFG",
    "sampler_post_cfg_function": "what is done after CFG",
    "sampler_calc_cond_batch_function": "another way to batch conditions",
    "context_handler": "context windows",
}
"""Entries of a MODEL's options, in words."""
PARTS = re.compile(
    r"apply_model|_apply_model|diffusion_model(\.(_?forward\w*|rope_\w+|unpatchify|head(\.forward)?"
    r"|blocks\.\d+(\.forward|\.self_attn|\.self_attn\.forward|\.cross_attn)?))?"
)
"""Object patches on calls that the engine does not make; it goes past these modules to those inside."""
SHOWN = 6
"""Entries that are named; a patch on every layer would fill the screen."""


def unheard(patcher: Any) -> tuple[str, ...]:
    """Lines for people about what lies on this MODEL and has no effect on a film; empty when everything has."""
    objects = sorted(getattr(patcher, "object_patches", {}))
    lines = []
    if SCHEDULE in objects:
        lines.append("the MODEL's noise schedule is not used: steps and shift are those of Stream Sampler")
    found = [*_options(patcher.model_options), *_wrappers(patcher), *_replaced(objects)]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        named = ", ".join(found[:SHOWN])
        lines.append(f"not used, the film is made as without: {named}{more}")
    for line in lines:
        log.warning("%s", line)
    return tuple(lines)


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    """What hangs on the sampler's and the transformer's options."""
    yield from (words for name, words in OPTIONS.items() if options.get(name))
    inner = options.get("transformer_options", {})
    for name, patches in inner.get("patches", {}).items():
        if patches:
            yield f"patch {name} ({', '.join(sorted({_name(patch) for patch in patches}))})"
    for name, places in inner.get("patches_replace", {}).items():
        if places:
            by = ", ".join(sorted({_name(place) for place in places.values()}))
            yield f"{counted(len(places), 'replaced place')} of {name} ({by})"
    if inner.get("rope_options"):
        yield "RoPE scaling"
    yield from _wrapper_names(inner.get("wrappers", {}))


def _wrappers(patcher: Any) -> Iterator[str]:
    """What hangs on the patcher itself."""
    yield from _wrapper_names(getattr(patcher, "wrappers", {}))
    yield from (f"injection {key}" for key, found in getattr(patcher, "injections", {}).items() if found)


def _wrapper_names(wrappers: Mapping[str, Mapping[Any, list[Any]]]) -> Iterator[str]:
    """One entry per node that has wrapped something, however many calls it has wrapped."""
    names = {
        f"wrapper {key or _name(function)}"
        for keyed in wrappers.values()
        for key, functions in keyed.items()
        for function in functions
    }
    yield from sorted(names)


def _replaced(objects: list[str]) -> Iterator[str]:
    """Replaced modules and methods, the same one of several layers as one entry."""
    counts: dict[str, int] = {}
    for key in objects:
        if PARTS.fullmatch(key):
            kind = re.sub(r"blocks\.\d+", "blocks", key.removeprefix("diffusion_model.")).replace(
                "_model", " model"
            )
            counts[kind] = counts.get(kind, 0) + 1
    for kind, count in counts.items():
        yield f"replaced {kind}" + (f" ({count} layers)" if count > 1 else "")


def _name(what: Any) -> str:
    """What a function or an object is called: a class for most, else the function's own name."""
    name = getattr(what, "__qualname__", type(what).__qualname__)
    return name.partition(".<locals>")[0]
