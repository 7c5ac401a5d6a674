"""Which device and number type to use."""

from __future__ import annotations

import torch

from ..errors import ResourceError


def pick_device(name: str | None) -> torch.device:
    """The device called `name`, or the best one here; raises ResourceError if this machine has no such device."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by device
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ResourceError(f"device '{name}' cannot be used: {reason}", "use --device cpu") from error
    return device


def pick_dtype(name: str | None) -> torch.dtype | None:
    """The torch type called `name`; None stays None."""
    return None if name is None else getattr(torch, name)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available
