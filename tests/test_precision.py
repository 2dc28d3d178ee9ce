"""Products in bfloat16 by choice: layers are rounded, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pyrovae as pv
from pyrovae.gradients import plain
from pyrovae.objectives import elbo
from pyrovae.precision import bfloat16_layers

Layer = Callable[..., Tensor]
IMAGE, VECTOR = (2, 3, 9, 8), (5, 3)
LAYERS: dict[str, tuple[Layer, tuple[int, ...], tuple[int, ...]]] = {  # the layer, its input and its weight
    "linear": (F.linear, VECTOR, (4, 3)),
    "linear, leading dimensions": (F.linear, (2, 5, 3), (4, 3)),
    "conv1d": (partial(F.conv1d, stride=2, padding=1), (2, 3, 9), (4, 3, 3)),
    "conv2d": (partial(F.conv2d, stride=2, padding=1), IMAGE, (4, 3, 3, 3)),
    "conv2d, groups": (partial(F.conv2d, groups=3, dilation=2), IMAGE, (6, 1, 3, 3)),
    "conv3d": (F.conv3d, (2, 3, 4, 4, 4), (4, 3, 2, 2, 2)),
    "conv_transpose2d": (partial(F.conv_transpose2d, stride=2, output_padding=1), IMAGE, (3, 4, 3, 3)),
    "conv_transpose2d, groups": (partial(F.conv_transpose2d, groups=3), IMAGE, (3, 2, 3, 3)),
}


def made(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def layer(name: str) -> tuple[Layer, Tensor, Tensor, Tensor]:
    function, x, w = LAYERS[name]
    bias = function(torch.zeros(x), torch.zeros(w)).shape[-1 if len(w) == 2 else 1]
    return function, made(x, 0), made(w, 1), made((bias,), 2)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_multiply_rounded_numbers(name: str, biased: bool) -> None:
    """The product of rounded numbers, rounded once (2^-8 of it), then the bias in float32."""
    function, x, w, bias = layer(name)
    with bfloat16_layers():
        y = function(x, w, bias if biased else None)
    exact = function(rounded(x).double(), rounded(w).double())
    added = bias.double().reshape(-1, *[1] * (w.dim() - 2)) if biased else 0.0
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), exact + added, rtol=0, atol=float(exact.detach().abs().max()) * 2**-7)
    within = (y.double() - exact - added).abs() <= 2**-7 * exact.abs() + 1e-3
    assert within.all()
    assert not torch.allclose(y, function(x, w, bias if biased else None), rtol=1e-5, atol=1e-5)  # rounded indeed


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_the_rounded_layer(name: str) -> None:
    function, x, w, bias = layer(name)
    with bfloat16_layers():
        y = function(x, w, bias)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    found = torch.autograd.grad(y, [x, w, bias], direction)
    expected = torch.autograd.grad(function(x, w, bias), [x, w, bias], direction)
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - two).norm() < 0.02 * two.norm()
    torch.testing.assert_close(found[2], expected[2])  # no product: exact


def test_layers_may_be_called_by_keywords() -> None:
    x, w, bias = made(VECTOR, 0), made((4, 3), 1), made((4,), 2)
    with bfloat16_layers():
        assert torch.equal(F.linear(input=x, weight=w, bias=bias), F.linear(x, w, bias))


def test_float64_and_other_products_are_untouched() -> None:
    a, b = made((4, 4), 0), made((4, 4), 1)
    tril = torch.eye(4) + 0.1 * a.tril(-1)
    products: dict[str, Callable[[], Tensor]] = {
        "matmul": lambda: a @ b,
        "mm": lambda: a.mm(b),
        "bmm": lambda: torch.bmm(a[None], b[None]),
        "einsum": lambda: torch.einsum("ij,jk->ik", a, b),
        "addmm": lambda: torch.addmm(a, a, b),
        "MultivariateNormal": lambda: dist.MultivariateNormal(torch.zeros(4), scale_tril=tril).log_prob(b),
        "linear in float64": lambda: F.linear(a.double(), b.double()),
        "conv2d in float64": lambda: F.conv2d(a.double()[None, None], b.double()[None, None]),
    }
    for name, product in products.items():
        with bfloat16_layers():
            found = product()
        assert torch.equal(found, product()), name


def test_the_mixture_of_many_components_is_untouched() -> None:
    """Its density is a matrix product, and no layer."""
    prior, z = pv.priors.NormalMixture(3, 5), made((4, 3), 0)
    with bfloat16_layers():
        found = prior().log_prob(z)
    assert torch.equal(found, prior().log_prob(z))


class Full(nn.Module):
    """A normal with full covariance, by a layer."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.net, self.width = nn.Linear(n, width + width**2), width

    def forward(self, parent: Tensor) -> Any:
        loc, raw = self.net(parent).split([self.width, self.width**2], -1)
        return dist.MultivariateNormal(
            loc, scale_tril=torch.eye(self.width) + 0.1 * raw.unflatten(-1, (self.width, -1)).tril(-1)
        )


def programs() -> dict[str, tuple[pv.VAE, Tensor]]:
    shape, sizes = (1, 6, 6), {"channels": (2, 3), "hidden": 5}
    encoder = pv.Conditional(pv.networks.ConvEncoder(shape, 4, **sizes), pv.families.normal)
    decoder = pv.Conditional(pv.networks.ConvDecoder(2, shape, **sizes), pv.families.bernoulli)
    mlp = pv.Conditional(pv.networks.MLP(6, 7, 4), pv.families.normal)
    dense = pv.Conditional(pv.networks.GatedMLP(2, 7, 6), pv.families.bernoulli)
    vamp = pv.priors.VampPrior(mlp, torch.rand(4, 6))
    full = pv.VAE(pv.priors.StandardNormal(2), Full(2, 6), Full(6, 2))
    return {
        "dense": (pv.VAE(vamp, dense, mlp), torch.rand(8, 6).round()),
        "convolutions": (pv.VAE(pv.priors.StandardNormal(2), decoder, encoder), torch.rand(8, *shape).round()),
        "full covariance": (full, torch.randn(8, 6)),
    }


@pytest.mark.parametrize("name", ["dense", "convolutions", "full covariance"])
def test_terms_and_parameters_are_float32_and_gradients_reach_all(name: str) -> None:
    torch.manual_seed(0)
    program, x = programs()[name]
    estimates = []
    for precision in (bfloat16_layers, lambda: torch.enable_grad()):
        torch.manual_seed(1)
        with precision():
            estimates.append(plain(program, elbo, x, num_particles=3))
    ours, exact = estimates
    assert all(t.dtype == torch.float32 for t in (ours.value, ours.terms.log_px_z, ours.terms.log_pz))
    assert all(g.dtype == torch.float32 and g.abs().sum() > 0 for g in ours.gradients.values())
    assert all(p.dtype == torch.float32 for p in program.parameters())
    torch.testing.assert_close(ours.value, exact.value, rtol=0.02, atol=0.05)
    assert not torch.equal(ours.value, exact.value)


def test_a_run_in_bfloat16_keeps_its_parameters_in_float32_and_says_so() -> None:
    torch.manual_seed(0)
    program, x = programs()["dense"]
    run = pv.fit(program, x, epochs=2, batch_size=4, device="cpu", precision="bf16")
    assert all(p.dtype == torch.float32 for p in program.parameters())
    assert run.manifest["options"]["precision"] == "bf16"
    with pytest.raises(pv.PyrovaeError, match="precision must be one of"):
        pv.fit(program, x, precision="fp16")


def test_the_mode_ends_where_it_should() -> None:
    x, w = made((5, 3), 0), made((4, 3), 1)
    before = F.linear(x, w)
    with pytest.raises(ValueError), bfloat16_layers():
        raise ValueError
    assert torch.equal(F.linear(x, w), before)
