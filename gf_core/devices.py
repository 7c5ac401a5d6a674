"""Where torch computes: a device's name and what is free on it."""

from __future__ import annotations

import psutil
import torch


def name_of(device: torch.device) -> str:
    """The card's own name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def free_bytes(device: torch.device) -> int:
    """Bytes free on the device: on a card, else in the computer."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
