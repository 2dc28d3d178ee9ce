"""Random state of our own, on one device, with the global one left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def reseed(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of ``device``, and no other device's, as ``torch.manual_seed`` would."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Generators seeded with ``seed`` and put back afterwards; with None the global ones go on."""
    if seed is None:
        yield
        return
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=devices, device_type="mps" if device.type == "mps" else "cuda"):
        reseed(seed, device)
        yield
