"""A film that is gone on with keeps its kernel, which is in its key, whatever is measured today."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run import settings_in

if TYPE_CHECKING:
    from ..checkpoints.model_bundle import ModelBundle

log = logging.getLogger("grounded")


def begun_with(bundle: ModelBundle, facts: Mapping[str, Any], take: Path) -> str:
    """Attention of the newest run in the folder `take` whose facts are these but for it, else what `facts` say.

    Empty where there is nothing to choose: a host computes, a kernel was asked for, or there is one only.
    """
    if bundle.kernel is not None or bundle.attention:
        return ""
    from ..attention.backends import able

    if len(able(bundle.computes_on, bundle.computes_in, bundle.spec.head_dim)) == 1:
        return ""
    for settings in settings_in(take):
        then = settings.get("facts")
        if isinstance(then, dict) and _without(then) == _without(facts):
            name = recorded_attention(bundle, then["kernels"])
            if name and then != facts:
                log.info("attention: %s, with which this film was begun", name)
            return name or named(facts)
    return named(facts)


def named(facts: Mapping[str, Any]) -> str:
    """The kernel that a film's facts name."""
    return _name(facts["kernels"])


def recorded_attention(bundle: ModelBundle, machine: Mapping[str, Any]) -> str:
    """The kernel that a film was made with, from its facts; empty where it does not run here."""
    from ..attention.backends import can_run

    name = _name(machine)
    return name if can_run(name, bundle.computes_on, bundle.computes_in, bundle.spec.head_dim) else ""


def _name(machine: Mapping[str, Any]) -> str:
    """Without the version that is behind a space; a film of another version is computed anew, by the same kernel."""
    return str(machine.get("attention", "sdpa")).partition(" ")[0]


def _without(facts: Mapping[str, Any]) -> dict[str, Any]:
    kernels = facts.get("kernels")
    rest = {k: v for k, v in kernels.items() if k != "attention"} if isinstance(kernels, dict) else kernels
    return {**facts, "kernels": rest}
