"""What a captured CUDA graph asks of a step, checked without a GPU: torch's device "meta" has no values at all.

A look at a value fails there, and an operation that joins tensors of two devices is found. Only numbers, tensors
without a dimension, may come from the CPU, as they may on a GPU.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pyro
import pytest
import torch
from cases import CASES, Case
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pyrovae.gradients import plain, trainable
from pyrovae.objectives import elbo
from pyrovae.parameters import adopt, floating_dtype
from pyrovae.terms import log_terms
from pyrovae.training.fit import PRECISIONS
from pyrovae.training.optimizer import GuardedOptimizer
from pyrovae.training.sources import source
from pyrovae.training.step import Step

META = torch.device("meta")
NOT_HERE = {
    "student t posterior": "torch has no meta kernel of the gradient of a gamma sample",
    "gamma posterior": "torch has no meta kernel of the gradient of a gamma sample",
    "beta posterior": "torch has no meta kernel of a Dirichlet sample",
    "registering closures": "moved to the device meta, a module exchanges its parameters for others",
    "by Rprop": "the first step of this optimizer, which runs eagerly, looks at its rate",
    "repeated rows": "fit chooses its terms by values",
}


class OneDevice(TorchDispatchMode):
    """Fails where an operation joins devices or copies between them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = {t.device for t in pytree.tree_leaves((args, kwargs, out)) if isinstance(t, Tensor) and t.dim()}
        assert len(devices) <= 1, f"{func} joins {devices}"
        return out


def on_meta(case: Case) -> Step:
    """The step of a run, all of whose tensors are on the device meta."""
    options = case.options
    if isinstance(case.program, nn.Module):
        case.program.to(META)
    where = META if isinstance(case.program, nn.Module) else torch.device("cpu")
    dtype = floating_dtype(case.program)
    program = adopt(case.program, *source(case.data, where, dtype=dtype).probe(2)).to(META)
    factory = options.get("optimizer", partial(torch.optim.SGD, lr=0.1))
    optimizer = GuardedOptimizer(factory, trainable(program), options.get("max_grad_norm"))
    optimizer.started = True
    gradient = partial(options.get("gradient", plain), num_particles=options.get("num_particles", 1), terms=log_terms)
    scheduled = {name: torch.zeros((), device=META) for name in options.get("schedules", {})}
    precision = PRECISIONS[options.get("precision", "fp32")]
    data = source(case.data, META, options.get("draw"), dtype)
    return Step(program, data, options.get("objective", elbo), gradient, optimizer, scheduled, precision)


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_HERE])
def test_a_step_stays_on_its_device_and_looks_at_no_value(name: str, empty_store: None) -> None:
    with pyro.validation_enabled(False):
        step, feed = on_meta(CASES[name]()), torch.arange(7, device=META)
        step.traceable(feed)  # the first step makes the moments
        step.optimizer.settle()
        assert {tensor.device for tensor in step.state} == {META}
        with OneDevice():
            step.traceable(feed)


def test_what_is_not_here_is_a_case() -> None:
    assert NOT_HERE.keys() <= CASES.keys()


def test_a_copy_and_a_look_would_be_noticed() -> None:
    x = torch.ones(3)
    for fault in (lambda: x.to(META), lambda: torch.ones(3, device=META) + x):
        with OneDevice(), pytest.raises((AssertionError, RuntimeError)):
            fault()
    with pytest.raises(RuntimeError, match="meta"):
        bool(torch.ones((), device=META) > 0)
