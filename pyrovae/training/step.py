"""One step of training as a function of tensors, so that it can be run as it stands or traced and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from pyrovae.compiled import UntraceableError
from pyrovae.gradients import Estimate
from pyrovae.objectives import Objective
from pyrovae.rows import training_on
from pyrovae.training.optimizer import GuardedOptimizer
from pyrovae.training.sources import Source
from pyrovae.trees import Tree

MEANS = ("objective", "log_px_z", "kl", "grad_norm")  # what an epoch reports per datum


class Step:
    """Selection of rows, drawing of observations, objective, gradient, clipping, guard and optimizer step.

    Everything that a step changes is changed in place: parameters, moments and what it counts. It looks at no tensor's
    value, but for the optimizer's first step.

    Args:
        program: what is trained.
        data: where batches come from.
        objective: of the terms; called with ``scheduled`` as keyword arguments.
        gradient: the estimator, bound to its number of particles.
        optimizer: of the program's parameters.
        scheduled: the objective's scheduled arguments, whose values are set from outside.
        precision: of the networks' products, a context manager.
    """

    def __init__(
        self,
        program: nn.Module,
        data: Source,
        objective: Objective,
        gradient: Callable[..., Estimate],
        optimizer: GuardedOptimizer,
        scheduled: dict[str, Tensor],
        precision: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.program, self.data, self.optimizer = program, data, optimizer
        self.objective, self.gradient, self.scheduled = partial(objective, **scheduled), gradient, scheduled
        self.precision = precision
        device = next(iter(optimizer.parameters.values())).device
        self.sums = torch.zeros(len(MEANS), device=device)  # over the data of an epoch
        self.seen, self.skipped, self.in_a_row, self.longest = (torch.zeros((), device=device) for _ in range(4))

    def __call__(self, *feed: Tree) -> None:
        """Take a step on the batch of ``feed``."""
        batch = self.data.observe(feed)
        with self.precision(), training_on(self.data.index(feed)):
            estimate = self.gradient(self.program, self.objective, *batch)
        value = estimate.value.detach()
        norm, bad = self.optimizer.step(estimate.gradients, value.sum())
        with torch.no_grad():
            self._count(estimate, value, norm, bad)

    def _count(self, estimate: Estimate, value: Tensor, norm: Tensor, bad: Tensor) -> None:
        terms, size = estimate.terms, value.shape[0]
        weight = terms.log_w.exp()
        log_px_z = (weight * terms.log_px_z).sum()
        kl = (weight * (terms.log_qz_x - terms.log_pz)).sum()
        sums = torch.stack([value.sum(), log_px_z, kl, norm * size])
        self.sums += torch.where(bad > 0, torch.zeros_like(sums), sums)
        self.seen += (1 - bad) * size
        self.skipped += bad
        self.in_a_row.copy_((self.in_a_row + 1) * bad)
        self.longest.copy_(torch.maximum(self.longest, self.in_a_row))

    def totals(self) -> tuple[dict[str, float], int, int]:
        """Means per datum since the last call, steps skipped, and the longest row of them: one synchronisation."""
        counts = torch.stack([self.seen, self.skipped, self.longest])
        *sums, seen, skipped, longest = torch.cat([self.sums, counts]).tolist()
        for tensor in (self.sums, self.seen, self.skipped, self.longest):
            tensor.zero_()
        means = {name: total / seen if seen else float("nan") for name, total in zip(MEANS, sums, strict=True)}
        return means, int(skipped), int(longest)

    @property
    def state(self) -> list[Tensor]:
        """What a step reads and may change."""
        counts = [self.sums, self.seen, self.skipped, self.in_a_row, self.longest]
        module = [*self.program.parameters(), *self.program.buffers()]
        return [*module, *self.optimizer.state, *self.scheduled.values(), *counts]

    def traceable(self, *feed: Tree) -> tuple[()]:
        """The same step in plain tensor operations."""
        with self.optimizer.traceable(), _same_buffers(self.program):
            self(*feed)
        return ()


@contextmanager
def _same_buffers(program: nn.Module) -> Iterator[None]:
    """Refuses, for a trace, a program that replaces its buffers instead of changing them, and puts them back."""
    before = [(module, dict(module._buffers)) for module in program.modules()]
    try:
        yield
    finally:
        replaced = [name for module, kept in before for name in kept if module._buffers.get(name) is not kept[name]]
        for module, kept in before:
            module._buffers.update(kept)
    if replaced:
        raise UntraceableError(f"it replaces its buffers {replaced}: change them in place, with copy_()")
