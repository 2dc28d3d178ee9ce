"""Choosing a device."""

from __future__ import annotations

import logging

import torch

from pyrovae.errors import PyrovaeError

log = logging.getLogger("pyrovae")


def resolve_device(name: str | torch.device) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU, and logs which; a device asked for by name must be there.

    Raises:
        PyrovaeError: the device asked for is absent or unknown.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if str(name) == "auto":
        chosen = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
        log.info("device auto: %s", chosen)
        return torch.device(chosen)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise PyrovaeError(f"unknown device {name!r}: use auto, cpu, cuda or mps") from error
    if not available.get(device.type, False):
        present = [kind for kind, there in available.items() if there]
        raise PyrovaeError(
            f"device {str(name)!r} is not available here (there is {', '.join(present)}); use device='auto'"
        )
    return device
