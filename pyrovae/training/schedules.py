"""Schedules: functions of the progress of training, ``schedule(epoch, epochs) -> value``.

``epoch`` counts completed epochs and is fractional within one, ``epochs`` is the length of the run. Any callable will
do; ``fit`` puts the value into a tensor at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pyrovae.errors import PyrovaeError

Schedule = Callable[[float, int], float]


@dataclass(frozen=True)
class Warmup:
    """From ``start`` to ``end`` linearly over the first ``epochs``, then constant (KL warm-up, Bowman et al. 2016)."""

    epochs: float
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.start < 0 or self.end < 0:
            raise PyrovaeError(f"a warm-up needs epochs, start and end of at least 0; got {self}")

    def __call__(self, epoch: float, epochs: int) -> float:
        done = min(epoch / self.epochs, 1.0) if self.epochs else 1.0
        return self.start + done * (self.end - self.start)


@dataclass(frozen=True)
class Cosine:
    """A factor on the learning rate: from 0 to 1 over ``warmup`` epochs, then a half cosine down to ``final``."""

    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.final < 0:
            raise PyrovaeError(f"a cosine schedule needs warmup and final of at least 0; got {self}")

    def __call__(self, epoch: float, epochs: int) -> float:
        if epoch < self.warmup:
            return max(epoch, 1e-3) / self.warmup
        done = min((epoch - self.warmup) / max(epochs - self.warmup, 1e-9), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))
