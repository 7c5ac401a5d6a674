"""A film that is gone on with is computed as it was begun, which is in its key, whatever would be chosen today: by the
same kernel of attention, and on as many threads of a processor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run import settings_in

if TYPE_CHECKING:
    from ..checkpoints.model_bundle import ModelBundle

log = logging.getLogger("grounded")

CHOSEN = ("attention", "threads")
"""What of a film's kernels may be what a film has that is gone on with."""


def as_begun(bundle: ModelBundle, facts: Mapping[str, Any], take: Path) -> ModelBundle:
    """`bundle` with the choices of the newest run in the folder `take` whose facts are these but for them.

    Of any other film, and of what was asked for or cannot be had here, it has those that `facts` say.
    """
    if not (_chooses_attention(bundle) or _chooses_threads(bundle)):
        return bundle
    earlier = (settings.get("facts") for settings in settings_in(take))
    alike = (then for then in earlier if isinstance(then, dict) and _without(then) == _without(facts))
    now = facts["kernels"]
    begun = with_choices(bundle, next(alike, facts)["kernels"])
    chosen = {"attention": begun.attention, "threads": begun.threads}
    for name in CHOSEN:
        if chosen[name] and chosen[name] != _choices(now)[name]:
            log.info("%s: %s, with which this film was begun", name, chosen[name])
    # What the earlier film left open, or cannot be had here, is as it would be chosen today.
    return with_choices(begun, now)


def with_choices(bundle: ModelBundle, machine: Mapping[str, Any]) -> ModelBundle:
    """`bundle`, computing as a film's kernels, `machine`, say where it leaves that open and can do so here."""
    chosen = _choices(machine)
    if _chooses_attention(bundle):
        from ..attention.backends import can_run

        here = (bundle.computes_on, bundle.computes_in, bundle.spec.head_dim)
        if can_run(chosen["attention"], *here):
            bundle = replace(bundle, attention=chosen["attention"])
    threads = chosen["threads"]
    if _chooses_threads(bundle) and type(threads) is int and 0 < threads <= bundle.own_threads:
        bundle = replace(bundle, threads=threads)
    return bundle


def _chooses_attention(bundle: ModelBundle) -> bool:
    """Whether there is something to choose: no host computes, no kernel was asked for, and there are several."""
    if bundle.kernel is not None or bundle.attention:
        return False
    from ..attention.backends import able

    return len(able(bundle.computes_on, bundle.computes_in, bundle.spec.head_dim)) > 1


def _chooses_threads(bundle: ModelBundle) -> bool:
    return bundle.computes_on.type == "cpu" and not bundle.threads


def _choices(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Attention without the version that is behind a space; a film of another version is computed anew, by the same."""
    attention = str(machine.get("attention", "sdpa")).partition(" ")[0]
    return {"attention": attention, "threads": machine.get("threads")}


def _without(facts: Mapping[str, Any]) -> dict[str, Any]:
    kernels = facts.get("kernels")
    rest = {k: v for k, v in kernels.items() if k not in CHOSEN} if isinstance(kernels, dict) else kernels
    return {**facts, "kernels": rest}
