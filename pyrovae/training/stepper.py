"""Whether the steps of a run are compiled, and taking them one way or the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pyrovae import trees
from pyrovae.compiled import Compiled, UntraceableError, said_once
from pyrovae.compiled.backends import Backend
from pyrovae.compiled.pays import Flops, pays
from pyrovae.terms import LogTerms
from pyrovae.training.sources import Source
from pyrovae.training.step import Step
from pyrovae.trees import Tree


def long_enough(terms: Callable[..., LogTerms], source: Source, *, epochs: int, batch_size: int) -> bool:
    """Whether a run is long enough for compiling its step; no for a stream that does not tell its length.

    Args:
        terms: of a batch, whose gradient takes twice its own work.
        source, epochs, batch_size: what is to be done.
    """
    batches = source.num_batches(batch_size)
    if batches is None:
        return False
    probe = source.probe(2)
    with torch.no_grad(), Flops() as counter:
        terms(*probe)
    flops = 3 * counter.total / trees.num_data(*probe) * batch_size
    return pays(epochs * batches, epochs * batches * flops)


class Stepper:
    """Takes steps: the compiled one for batches of the usual size, the eager one for others and for the first.

    Args:
        step: the step.
        backend: compiles it; None for eager steps.
    """

    def __init__(self, step: Step, backend: Backend | None) -> None:
        self.step, self.backend = step, backend
        self.reason = ""  # why steps are eager that were meant to be compiled
        self._compiled: Compiled | None = None
        self._size = 0  # rows of the usual batch
        self._traced: list[Any] = []  # what the trace froze

    def __call__(self, *feed: Tree) -> None:
        if not self._can_compile(feed):
            self.step(*feed)
            return
        try:
            if self._compiled is None:
                self._compiled = self._trace()
            self._compiled(*feed)
        except UntraceableError as untraceable:
            self.backend, self._compiled, self.reason = None, None, str(untraceable)
            said_once("training", self.reason)
            self.step(*feed)

    def begin_epoch(self) -> None:
        """Trace anew where a callback changed what a trace freezes, such as a module's train or eval mode."""
        if self._compiled is not None and self._frozen() != self._traced:
            self._compiled = None

    def _frozen(self) -> list[Any]:
        program = self.step.program
        modes = [module.training for module in program.modules()]
        return [*modes, *(p.requires_grad for p in program.parameters()), *(t.data_ptr() for t in self.step.state)]

    def describe(self) -> dict[str, Any]:
        """For the manifest: whether steps were compiled, what that took, and why not."""
        seconds = {"compile_seconds": round(self._compiled.seconds, 2)} if self._compiled else {}
        return {"compiled": self._compiled is not None, **seconds, **({"eager": self.reason} if self.reason else {})}

    def _can_compile(self, feed: tuple[Tree, ...]) -> bool:
        if self.backend is None:
            return False
        size = trees.num_data(*feed)
        self._size = self._size or size  # an epoch begins with a full batch
        return self.step.optimizer.started and size == self._size

    def _trace(self) -> Compiled:
        assert self.backend is not None
        self.step.optimizer.settle()
        self._traced = self._frozen()
        return Compiled(
            self.step.traceable,
            state=self.step.state,
            constants=self.step.data.tensors,
            backend=self.backend,
            device=self.step.sums.device,
        )
