"""`grounded bench`: measure a model, or random weights of its shape, on this machine."""

from __future__ import annotations

import json
from argparse import Namespace

from ..evaluation.bench import bench_lines, bundle_subject, measure, random_subject
from ..memory.presets import PRESETS
from .device import pick_device, pick_dtype


def bench(args: Namespace) -> int:
    """Print the measurements; JSON where asked."""
    device, dtype = pick_device(args.device), pick_dtype(args.dtype)
    memory = PRESETS[args.memory] if args.memory else None
    if args.shape:
        subject = random_subject(args.shape, memory, args.size, device, dtype)
    else:
        from ..checkpoints.bundle import load_bundle

        bundle = load_bundle(args.model, dtype=dtype, device=device)
        subject = bundle_subject(bundle, memory, args.size)
    result = measure(subject, args.chunks)
    print(*bench_lines(result), sep="\n")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0
