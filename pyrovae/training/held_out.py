"""The objective on validation data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial

import torch
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.compiled import Fast
from pyrovae.compiled.backends import Backend
from pyrovae.compiled.watch import held
from pyrovae.parameters import frozen
from pyrovae.precision import float64
from pyrovae.randomness import reseed, seeded
from pyrovae.training.batches import Batch
from pyrovae.training.sources import Source

ROWS = 2048  # of one batch


class HeldOut:
    """The objective per datum, nats, in evaluation mode and with the same noise every time.

    Args:
        program: what is trained.
        data: the validation data.
        evaluate: the objective of a batch, (N,), with the schedules at their end.
        backend: compiles batches of the usual size; None for eager ones.
        seed: of the noise.
    """

    def __init__(
        self, program: nn.Module, data: Source, evaluate: Callable[..., Tensor], backend: Backend | None, seed: int
    ) -> None:
        self.program, self.data, self.evaluate, self.seed = program, data, evaluate, seed
        self._backend = backend
        self._fast: Fast | None = None

    def __call__(self) -> float:
        total, count = 0.0, 0
        feeds = self.data.feeds(ROWS, shuffle=False)
        with frozen(self.program) as device, seeded(self.seed, device), closing(feeds):
            if self._fast is not None and self._fast.outdated:
                self._fast = None
            for batch in map(self.data.observe, feeds):
                if made := self._fast is None:
                    self._fast = self._made(batch, device)
                total += float64(self._fast(*batch)).sum().item()
                count += trees.num_data(*batch)
                if made and self._fast.compiled is not None:
                    reseed(self.seed, device)  # compiling drew a key, which must not shift the noise of other rows
        if self._fast is not None:
            self._fast.rewind()
        return total / count

    def _made(self, batch: Batch, device: torch.device) -> Fast:
        return Fast(
            "validation",
            self.evaluate,
            like=batch,
            constants=[*self.program.parameters(), *self.program.buffers()],
            backend=self._backend,
            device=device,
            watch=partial(held, self.program),
        )
