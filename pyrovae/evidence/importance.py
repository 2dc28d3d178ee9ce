"""Importance sampling from the guide: log 1/S sum_s p(x, z_s) / q(z_s | x), a block of data at a time, streamed."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.evidence.blocks import Block, Setting, compiled, most_rows, padded, sizes
from pyrovae.evidence.draws import draws_of, point_values
from pyrovae.evidence.streaming import Accumulator, Reservoir
from pyrovae.precision import float64_device
from pyrovae.trees import Tree

TOGETHER = 16  # data handled at once, where there are so many: many particles of few data keep the guide's share small


class Importance:
    """Importance sampling with ``num_particles`` for every datum.

    Args:
        setting: what is estimated.
        num_particles: S.
        num_draws: posterior draws to keep of each datum.
        num_data: of how many; all by default.
    """

    def __init__(
        self, setting: Setting, num_particles: int, *, num_draws: int = 0, num_data: int | None = None
    ) -> None:
        self.setting, self.num_particles, self.num_draws = setting, num_particles, num_draws
        size = setting.data.size if num_data is None else num_data
        self.sizes = sizes(size, num_particles, most_rows(setting, self._run), TOGETHER)
        like = padded(setting.probe, self.sizes.block)
        number = num_particles * size
        run = partial(self._chunk, self.sizes.chunk)
        calls = number // (self.sizes.chunk * self.sizes.block)
        self._fast = compiled(setting, run, *like, calls=calls, rows=number, run=self._run)

    @property
    def compiled(self) -> bool:
        return self._fast.compiled is not None

    def begin(self) -> None:
        self._fast.begin()

    def block(self, rows: list[Tree]) -> Block:
        accumulator = Accumulator(trees.num_data(*rows), self.num_particles, float64_device(self.setting.device))
        reservoir = Reservoir(self.num_draws) if self.num_draws else None
        for start in range(0, self.num_particles, self.sizes.chunk):
            log_weight, values = self._points(rows, min(self.sizes.chunk, self.num_particles - start))
            accumulator.add(torch.logsumexp(log_weight.flatten(0, -3), 0) if log_weight.dim() > 2 else log_weight)
            if reservoir:
                reservoir.add(log_weight.flatten(0, -2), values)
        return Block(accumulator.figures(), draws_of(self.setting.program, reservoir, rows) if reservoir else None)

    def _points(self, rows: list[Tree], count: int) -> tuple[Tensor, Any]:
        """(*points, n) log-weights, nats; and the values of the draws, where they are wanted."""
        size = trees.num_data(*rows)
        whole = (count, size) == (self.sizes.chunk, self.sizes.block)
        if self._fast.compiled is None or (self.num_draws and not whole):
            return self._chunk(count, *rows)
        log_weight, values = self._fast(*padded(rows, self.sizes.block))
        return log_weight[..., :count, :size], values  # a chunk or block that is smaller is computed whole and cut

    def _chunk(self, count: int, *rows: Tree) -> tuple[Tensor, Any]:
        t = self.setting.terms(self.setting.program, *rows, num_particles=count)
        log_weight = t.log_point_weight + math.log(count)
        return log_weight, point_values(t, log_weight) if self.num_draws else ()

    def _run(self, count: int, rows: list[Tree]) -> Any:
        return self._chunk(count, *rows)
