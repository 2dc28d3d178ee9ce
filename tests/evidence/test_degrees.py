"""Degrees read off operations, against what is known of them."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pyrovae.evidence.degrees import degree

A = torch.randn(3, 3)


def written(z: Tensor) -> Tensor:
    """Into a view of another tensor."""
    whole = torch.zeros(4, 5)
    whole[:, 1:4] = z
    return whole[:, 2] ** 2


def branched(z: Tensor) -> Tensor:
    return torch.ones(()) if z.sum() > 0 else torch.zeros(())


KNOWN: dict[str, tuple[Any, float]] = {
    "nothing": (lambda z: A.exp(), 0),
    "shape of z alone": (lambda z: torch.ones_like(z).exp() + A[0], 0),
    "matrix": (lambda z: (z @ A).T.reshape(-1)[2:].sum(), 1),
    "layer": (lambda z: nn.Linear(3, 2)(z), 1),
    "convolution": (lambda z: nn.Conv1d(1, 2, 2)(z[:, None]), 1),
    "in place": (lambda z: torch.zeros(4, 3).add_(z).mul_(2), 1),
    "square": (lambda z: 3 - z.square() / 2, 2),
    "product": (lambda z: torch.einsum("ni,ij,nj->n", z, A, z), 2),
    "view": (written, 2),
    "normal": (lambda z: dist.Normal(z, A.exp()[0], validate_args=False).log_prob(A[0]), 2),
    "full normal": (
        lambda z: dist.MultivariateNormal(z, A @ A.T + torch.eye(3), validate_args=False).log_prob(torch.zeros(3)),
        2,
    ),
    "constant condition": (lambda z: torch.where(A[:1] > 0, z, 0.0), 1),
    "guard": (lambda z: z.clamp(-1e10, 1e10), 1),
    "cube": (lambda z: z * z * z, 3),
    "power": (lambda z: z**3, math.inf),
    "exponent": (lambda z: torch.full((), 2.0) ** z, math.inf),
    "quotient": (lambda z: A[0] / z, math.inf),
    "kink": (lambda z: torch.relu(z), math.inf),
    "clamp": (lambda z: z.clamp(max=3.0), math.inf),
    "clamp beyond": (lambda z: z.clamp(min=1e10), math.inf),
    "condition": (lambda z: torch.where(z > 9, 1.0, 0.0), math.inf),
    "mask": (lambda z: A[0].masked_fill(z[0] > 9, 0.0), math.inf),
    "index": (lambda z: A[z.long()], math.inf),
    "branch": (branched, math.inf),
    "norm": (lambda z: z.norm(dim=1), math.inf),
}


@pytest.mark.parametrize("name", KNOWN)
def test_degrees(name: str) -> None:
    function, wanted = KNOWN[name]
    found, causes = degree(function, torch.rand(4, 3))
    assert found == wanted and bool(causes) == (wanted == math.inf)


def test_the_input_stays_unknown_to_others() -> None:
    """Another tensor of the same storage is none of it, as is one that takes the place of one that is gone."""
    whole = torch.rand(4, 6)
    assert degree(lambda z: whole[:, 3:].exp(), whole[:, :3])[0] == 0

    def freed(z: Tensor) -> Tensor:
        for _ in range(20):
            (z.exp() + 1).sum()
        return torch.rand(4, 3) + z

    assert degree(freed, torch.rand(4, 3))[0] == 1
