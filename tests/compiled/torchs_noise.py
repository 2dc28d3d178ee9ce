"""Compiled steps with the random numbers of eager ones, so that the two can be compared number by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pyrovae.compiled.philox import Noise


class TorchsNoise(Noise):
    """Leaves random numbers to torch, as the eager step does, and takes none for a key."""

    def __init__(self, device: torch.device) -> None:
        self.key, self.step = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))

    def decompositions(self) -> dict[Any, Callable[..., Any]]:
        return {}
