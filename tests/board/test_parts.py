"""One contract for every part of the board: its density, its samples, its gradients, and where it can be moved."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from combined import LATENT, WIDTH, Data, N, alone, latents, values
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import board
from pyrovae.observations import Observation
from pyrovae.validation import validating

# Standard errors that a mean over samples may be off: 1 in 1.7 million for one comparison, some hundreds made.
ERRORS = 5.0
DRAWS = 20_000
PLACES = {"priors": "prior", "likelihoods": "decoder", "posteriors": "encoder"}
PARTS = [(slot, name) for slot in PLACES for name in board.SLOTS[slot]]
WHOLE = [(slot, name) for slot, name in PARTS if slot != "likelihoods" or not isinstance(
    board.LIKELIHOODS[name].make(LATENT, WIDTH), Observation)]  # fmt: skip

SCORED = [(slot, name) for slot, name in WHOLE if board.SLOTS[slot][name].scores]
FOREIGN = {"neural spline flow of zuko", "coupling flow of Pyro"}  # of another package: saved without a description


def perturbed(module: nn.Module) -> nn.Module:
    """Parameters moved from where they start, which may be a special point."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return module.eval()


def encoder() -> nn.Module:
    return board.POSTERIORS["diagonal normal"].make(WIDTH, LATENT)


def part(slot: str, name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The part, moved from where it starts, and parents for 3 data."""
    torch.manual_seed(2)
    described = board.SLOTS[slot][name]
    if slot == "priors":
        prior = described.make(encoder(), torch.randn(N, WIDTH), LATENT)
        return perturbed(prior), tuple(torch.randn(3, width) for width in described.given)
    sizes = (LATENT, WIDTH) if slot == "likelihoods" else (WIDTH, LATENT)
    return perturbed(described.make(*sizes)), (torch.randn(3, sizes[0]),)


def points_of(slot: str, name: str) -> Any:
    kind = board.SLOTS[slot][name].values
    return values(kind) if slot == "likelihoods" else latents(kind, count=201)


def drawn(distribution: Any, count: int) -> Tensor:
    """(count, n, D) samples, the prior's for n = 1."""
    x = distribution.sample((count,))
    return x if distribution.batch_shape else x[:, None]


def features(x: Tensor) -> Tensor:
    """A few bounded functions of two numbers, whose means tell distributions apart: (*, D) to (*, 6)."""
    a, b = x[..., 0], x[..., 1]
    each = [a.tanh(), b.tanh(), (0.7 * a).sin(), (0.7 * b).cos(), (a + b).sin(), (a - b).tanh()]
    return torch.stack(each, -1)


@pytest.mark.parametrize(("slot", "name"), SCORED)
def test_a_density_sums_to_one_and_its_samples_follow_it(double: None, slot: str, name: str) -> None:
    """By a sum over all values or a quadrature; then means of bounded functions under the density and over draws."""
    module, parents = part(slot, name)
    with torch.no_grad():
        p = module(*parents)
        nodes, log_weight = points_of(slot, name)
        log_p = p.log_prob(nodes[:, None])  # (G, n)
        mass = (log_p.reshape(len(nodes), -1) + log_weight[:, None]).exp()
        torch.testing.assert_close(mass.sum(0), torch.ones(mass.shape[1]), rtol=0, atol=2e-3)
        torch.manual_seed(3)
        found = features(drawn(p, DRAWS))  # (S, n, 6)
        expected = mass.T @ features(nodes)
    error = found.std(0) / math.sqrt(DRAWS) + 2e-3 / ERRORS  # the quadrature's own
    assert ((found.mean(0) - expected).abs() < ERRORS * error).all()


@pytest.mark.filterwarnings("ignore::pyrovae.rows.RowsWarning")
@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_gradients_reach_every_parameter(slot: str, name: str) -> None:
    program, seen = vae_with(slot, name)
    program.train()
    t = pv.log_terms(program, *seen, num_particles=4)
    pv.objectives.elbo(t).mean().backward()  # the evidence of an enumerated latent does not depend on its guide
    module = getattr(program, PLACES[slot])
    for parameter_name, parameter in module.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and gradient.isfinite().all(), parameter_name
        assert gradient.abs().max() > 0, parameter_name


@pytest.mark.parametrize(("slot", "name"), SCORED)
def test_leading_dimensions_are_batches(slot: str, name: str) -> None:
    """Points (S, N, D) and parents (S, N, *) give what they give one by one."""
    module, parents = part(slot, name)
    with torch.no_grad():
        many = [torch.stack([parent, parent + 0.5]) for parent in parents]  # (2, 3, D)
        p = module(*many)
        torch.manual_seed(4)
        x = module(*parents).sample() if parents else module().sample((2, 3))
        x = x.expand(2, 3, 2)
        log_p = p.log_prob(x)
        assert log_p.shape == (2, 3)
        one = module(*(parent[1] for parent in many)).log_prob(x[1])
        torch.testing.assert_close(log_p[1], one, rtol=1e-4, atol=1e-4)
        row = module(*(parent[1, :1] for parent in many)).log_prob(x[1, :1])
        torch.testing.assert_close(log_p[1, :1], row, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_float64_is_float32_with_more_digits(slot: str, name: str) -> None:
    program, (x, *given) = vae_with(slot, name)
    program.eval()
    torch.manual_seed(5)
    z = program.encoder(x, *given).sample()
    single = [p.log_prob(value).double() for p, value in ((program.decoder(z, *given), x), (program.prior(*given), z))]
    program.double()  # in place: a distribution of parameters changes with them
    x, z, *given = (value.double() for value in (x, z, *given))
    double = program.decoder(z, *given), program.prior(*given)
    if isinstance(program.decoder, Observation):
        assert pv.log_terms(program, x, *given).log_px_z.dtype == torch.float64
        return
    for log_p, q, value in zip(single, double, (x, z), strict=True):
        assert q.log_prob(value).dtype == torch.float64
        torch.testing.assert_close(log_p, q.log_prob(value), rtol=1e-4, atol=1e-4)


def vae_with(slot: str, name: str) -> tuple[Any, Data]:
    torch.manual_seed(6)
    program, seen = alone(slot, name)
    return perturbed(program), seen


def terms(program: Any, seen: Data) -> Tensor:
    torch.manual_seed(7)
    with torch.no_grad():
        return pv.log_terms(program, *seen, num_particles=2).log_point_weight


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_copies_are_the_same_program(slot: str, name: str, tmp_path: Path) -> None:
    """deepcopy, pickle, save and load, after the program was used."""
    program, seen = vae_with(slot, name)
    expected = terms(program, seen)
    pv.save(program, tmp_path / "program.safetensors")
    copies = {
        "deepcopy": copy.deepcopy(program),
        "pickle": pickle.loads(pickle.dumps(program)),
    }
    into = vae_with(slot, name)[0] if name in FOREIGN else None
    copies["save and load"] = pv.load(tmp_path / "program.safetensors", program=into).eval()
    for how, other in copies.items():
        torch.testing.assert_close(terms(other, seen), expected, rtol=0, atol=0, msg=how)


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_nothing_is_left_behind_by_a_move(slot: str, name: str) -> None:
    """On the meta device, where any tensor that stayed on the CPU is an error."""
    program, seen = vae_with(slot, name)
    with validating(False):  # which looks at values
        t = pv.log_terms(program.to("meta"), *(value.to("meta") for value in seen), num_particles=2)
    assert t.log_weight.device.type == "meta"
