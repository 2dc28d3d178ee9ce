"""What makes a flat graph fast: Inductor on a CPU, a captured CUDA graph on a GPU.

A backend takes the graph, those of its inputs that stay the same tensors from call to call, and an example of the
others; it gives a function of the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor
from torch.fx import GraphModule

Run = Callable[[Sequence[Tensor]], Any]
Backend = Callable[[GraphModule, Sequence[Tensor], Sequence[Tensor]], Run]

WARM_UP = 3  # runs before a capture, in which libraries set up their workspaces
LARGE = 1024  # elements of a kernel's result for which a scalar is worth a place in memory
REPEATS = 16  # of a scalar: a reduction over fewer Inductor would unroll
# Of log(1 + e) on [0, 1]: the polynomial through its values at ten Chebyshev points.
LOG1P = Chebyshev.interpolate(np.log1p, 9, domain=[0, 1]).convert(kind=Polynomial).coef.tolist()


def _product_then_bias(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """The bias is free in the kernel that follows, where the matrix library first copies it to every row."""
    product = torch.mm(a, b)
    return (product if alpha == 1 else alpha * product) - -beta * bias  # Inductor would fold a sum back into addmm


def _norms(tensors: Sequence[Tensor], ord: float = 2, dtype: torch.dtype | None = None) -> Any:
    """Norms in kernels of the graph's own."""
    if ord != 2 or dtype is not None:
        return NotImplemented
    return [tensor.square().sum().sqrt() for tensor in tensors]


def _cross_entropy(logits: Tensor, x: Tensor, weight: Any = None, pos_weight: Any = None, reduction: int = 1) -> Any:
    """max(l, 0) - x l + log(1 + exp(-|l|)), its last term by a polynomial that is off by 6e-9, below float32 rounding.

    A vectorized logarithm takes as long as all the rest of a log-likelihood of bits.
    """
    if weight is not None or pos_weight is not None or reduction != 0 or logits.dtype != torch.float32:
        return NotImplemented
    e, value = torch.exp(-logits.abs()), torch.zeros_like(logits)
    for coefficient in reversed(LOG1P):
        value = value * e + coefficient
    return logits.relu() - x * logits + value


# Operations that are faster on a CPU in other words than Inductor's own.
CHEAPER: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.addmm.default: _product_then_bias,
    torch.ops.aten.binary_cross_entropy_with_logits.default: _cross_entropy,
    torch.ops.aten._foreach_norm.Scalar: _norms,
}


def backend_for(device: torch.device) -> Backend | None:
    """The fastest backend of a device; None where there is none."""
    return {"cpu": inductor, "cuda": cuda_graph}.get(device.type)


def interpreted(graph: GraphModule, fixed: Sequence[Tensor], feed: Sequence[Tensor]) -> Run:
    """The graph as it is: no faster, but the same operations; for tests."""
    return lambda leaves: graph(*fixed, *leaves)


def inductor(graph: GraphModule, fixed: Sequence[Tensor], feed: Sequence[Tensor]) -> Run:
    """Fused kernels by TorchInductor."""
    if all(t.device.type == "cpu" for t in fixed):
        _store_scalars(graph)
    with _quiet():
        run = torch._inductor.compile(graph, [*fixed, *feed])
    return lambda leaves: run(*fixed, *leaves)


def _store_scalars(graph: GraphModule) -> None:
    """Keep single numbers that large kernels use in memory, by way of a reduction, which Inductor stores.

    Otherwise it writes the computation of a scalar, such as Adam's bias correction, into the inner loop of the kernel,
    and no C++ compiler dares to take it out again.
    """
    for node in list(graph.graph.nodes):
        large = [user for user in node.users if _numel(user) >= LARGE]
        if node.op == "call_function" and _numel(node) == 1 and not node.meta["val"].shape and large:
            with graph.graph.inserting_after(node):
                repeated = graph.graph.call_function(torch.ops.aten.expand.default, (node, [REPEATS]))
            with graph.graph.inserting_after(repeated):
                stored = graph.graph.call_function(torch.ops.aten.amax.default, (repeated,))
            for user in large:
                user.replace_input_with(node, stored)
    graph.recompile()


def _numel(node: torch.fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else 0


def cuda_graph(graph: GraphModule, fixed: Sequence[Tensor], feed: Sequence[Tensor]) -> Run:
    """The whole graph as one launch: of Inductor's kernels where it can make them, else of torch's own.

    A rule, and not a race between the two: their random numbers differ.
    """
    static = [leaf.clone() for leaf in feed]
    with torch.cuda.device(fixed[0].device):
        try:
            replay, outputs = _captured(partial(inductor(graph, fixed, static), static))
        except Exception as error:  # no Triton, or a kernel that cannot be captured
            logging.getLogger("pyrovae").info("a CUDA graph without Inductor's kernels: %s", error)
            replay, outputs = _captured(partial(interpreted(graph, fixed, static), static))

    def run(leaves: Sequence[Tensor]) -> Any:
        for own, leaf in zip(static, leaves, strict=True):
            own.copy_(leaf, non_blocking=True)
        replay()
        return outputs

    return run


def _captured(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """A CUDA graph's replay, and its outputs, which every replay overwrites."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    # thread_local: a thread that reads ahead may copy meanwhile
    with torch.no_grad(), torch.cuda.graph(captured, capture_error_mode="thread_local"):
        outputs = run()
    return captured.replay, outputs


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remark on CUDA that a CPU's compilation makes where a GPU build of torch finds no GPU."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
