"""Whether the steps of a run are compiled, and taking them one way or the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pyrovae import trees
from pyrovae.compiled import Fast
from pyrovae.compiled.backends import Backend
from pyrovae.compiled.choice import Flops, pays
from pyrovae.compiled.watch import held
from pyrovae.terms import LogTerms
from pyrovae.training.sources import Feed, Source
from pyrovae.training.step import Step
from pyrovae.trees import Tree


def long_enough(
    terms: Callable[..., LogTerms], source: Source, *, epochs: int, batch_size: int, passes: int = 3
) -> bool:
    """Whether a run is long enough for compiling; no for a stream that does not tell its length.

    Args:
        terms: of a batch.
        source, epochs, batch_size: what is to be done.
        passes: the work of a batch in units of that of its terms; a gradient takes two more.
    """
    batches = source.num_batches(batch_size)
    if batches is None:
        return False
    probe = source.probe(2)
    with torch.no_grad(), Flops() as counter:
        terms(*probe)
    flops = passes * counter.total / trees.num_data(*probe) * batch_size
    return pays(epochs * batches, epochs * batches * flops)


class Stepper:
    """Takes steps: compiled for batches of the usual size, eager for others and for the first.

    Args:
        step: the step.
        backend: compiles it; None for eager steps.
    """

    def __init__(self, step: Step, backend: Backend | None) -> None:
        self.step, self.backend = step, backend
        self._fast: Fast | None = None
        self._first: Feed = ()  # a batch of the usual size, with which an epoch begins

    def __call__(self, *feed: Tree) -> None:
        self._first = self._first or feed
        if not self.step.optimizer.started:
            self.step(*feed)
            return
        self._fast = self._fast or self._made()
        self._fast(*feed)

    def begin_epoch(self) -> None:
        """Trace anew where a callback changed what a trace freezes, such as a module's mode or a number it keeps."""
        if self._fast is not None and self._fast.outdated:
            self._fast = None

    def describe(self) -> dict[str, Any]:
        """For the manifest: whether steps were compiled, what that took, and why not."""
        if self._fast is None or self._fast.compiled is None or not self._fast.compiled.seconds:
            reason = {"eager": self._fast.reason} if self._fast and self._fast.reason else {}
            return {"compiled": False, "compile_seconds": 0.0} | reason
        return {"compiled": True, "compile_seconds": round(self._fast.compiled.seconds, 2)}

    def _made(self) -> Fast:
        if self.backend is not None:
            self.step.optimizer.settle()
        return Fast(
            "training",
            self.step.traceable,
            eager=self.step,
            like=self._first,
            state=self.step.state,
            constants=self.step.data.tensors,
            backend=self.backend,
            device=self.step.sums.device,
            watch=partial(held, self.step.program, self.step.objective.func),
        )
