"""Compiled steps with the random numbers of eager ones, so that the two can be compared number by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyrovae.compiled.philox import Noise


class TorchsNoise(Noise):
    """Leaves random numbers to torch, as the eager step does, and takes none for a key."""

    def draw_key(self) -> None:
        pass

    def decompositions(self) -> dict[Any, Callable[..., Any]]:
        return {}
