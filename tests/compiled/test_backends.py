"""The words in which a backend gets operations: the same numbers as torch's own, in every case that is taken over."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyrovae.compiled.backends import CHEAPER, LARGE, _store_scalars, interpreted

aten = torch.ops.aten


def test_cross_entropy_is_within_float32_rounding() -> None:
    """Against float64, over logits from certain to indifferent: the polynomial for log(1 + e) is off by 6e-9."""
    logits, x = torch.linspace(-40, 40, 8001), torch.tensor([[0.0], [1.0], [0.3]])
    value = CHEAPER[aten.binary_cross_entropy_with_logits.default](logits, x, None, None, 0)
    double = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.double().expand(3, -1), x.double().expand(3, 8001), reduction="none"
    )
    assert (value - double).abs().max() < 4e-6  # 40 in float32 has steps of 4e-6
    near = logits.abs() < 1
    assert (value - double)[:, near].abs().max() < 3e-7


@pytest.mark.parametrize("reduction", [1, 2])
def test_what_is_not_taken_over(reduction: int) -> None:
    cross_entropy = CHEAPER[aten.binary_cross_entropy_with_logits.default]
    logits = torch.zeros(3)
    assert cross_entropy(logits, logits, None, None, reduction) is NotImplemented
    assert cross_entropy(logits, logits, torch.ones(3), None, 0) is NotImplemented
    assert cross_entropy(logits.double(), logits.double(), None, None, 0) is NotImplemented
    assert CHEAPER[aten._foreach_norm.Scalar]([logits], 1) is NotImplemented


@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (2, 1), (1, 3), (0.5, 0.25)])
def test_a_product_with_a_bias(beta: float, alpha: float) -> None:
    bias, a, b = torch.randn(5), torch.randn(4, 3), torch.randn(3, 5)
    value = CHEAPER[aten.addmm.default](bias, a, b, beta=beta, alpha=alpha)
    torch.testing.assert_close(value, torch.addmm(bias, a, b, beta=beta, alpha=alpha))


def test_norms() -> None:
    tensors = [torch.randn(7), torch.randn(3, 4), torch.zeros(2)]
    torch.testing.assert_close(CHEAPER[aten._foreach_norm.Scalar](tensors), list(torch._foreach_norm(tensors)))


def test_scalars_are_stored_once_and_mean_the_same() -> None:
    def function(x: Tensor, step: Tensor) -> Tensor:
        correction = 1 - 0.9**step
        return (x / correction).where(step > 2, x) + correction.expand(3)[0]

    inputs = torch.randn(LARGE), torch.tensor(5.0)
    graph = make_fx(function)(*inputs)
    before = graph(*inputs)
    _store_scalars(graph)
    stored = [node for node in graph.graph.nodes if node.target == aten.amax.default]
    assert len(stored) == 3  # the correction, its expansion's element, the condition
    assert torch.equal(interpreted(graph, (), inputs)(inputs), before)
