"""log_marginal by graphs: particles and data that do not fill a chunk or a block, draws, and what cannot be traced."""

from __future__ import annotations

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from captured import Captured
from exact import LinearGaussian
from torch import Tensor

import pyrovae as pv
from pyrovae.compiled import CompileWarning
from pyrovae.evidence import blocks as at_once


@pytest.mark.parametrize(("num_data", "num_particles"), [(1, 1), (5, 41), (19, 129), (33, 64)])
def test_an_exact_guide_gives_the_exact_evidence(
    seen: Captured, monkeypatch: pytest.MonkeyPatch, num_data: int, num_particles: int
) -> None:
    """Every weight is p(x), whatever was drawn: a row or a particle out of place would show."""
    monkeypatch.setitem(at_once.MOST_ROWS, "cpu", 256)
    torch.manual_seed(0)
    model = LinearGaussian(2, 3)
    x = model.data(num_data)
    ev = pv.log_marginal(model.program, x, num_particles=num_particles, seed=0, compile=True)
    torch.testing.assert_close(ev.log_prob, model.log_prob(x).double(), rtol=0, atol=1e-4)
    blocks, chunks = -(-num_data // min(16, num_data)), -(-num_particles // (256 // min(16, num_data)))
    assert seen.graphs == 1 and seen.runs == 1 + blocks * chunks  # one to compile; the last ones too


def test_draws_are_of_the_posterior(seen: Captured) -> None:
    torch.manual_seed(0)
    model = LinearGaussian(2, 3)
    x = model.data(3)
    ev = pv.log_marginal(model.program, x, num_particles=400, seed=0, num_draws=300, compile=True)
    assert seen.runs and ev.draws is not None
    (z,) = ev.draws.posterior.values()
    by_eager = pv.log_marginal(model.program, x, num_particles=400, seed=1, num_draws=300, compile=False)
    assert by_eager.draws is not None
    (other,) = by_eager.draws.posterior.values()
    error = ((z.var(0) + other.var(0)) / 300).sqrt()
    assert ((z.mean(0) - other.mean(0)).abs() < 4 * error).all()


def test_a_seed_repeats_and_numbers_are_fresh_from_chunk_to_chunk(seen: Captured) -> None:
    torch.manual_seed(0)
    vae = pv.VAE(
        pv.priors.StandardNormal(2),
        pv.Conditional(pv.networks.MLP(2, 8, 6), pv.families.bernoulli),
        pv.Conditional(pv.networks.MLP(6, 8, 4), pv.families.normal),
    )
    x = torch.ones(4, 6)  # the same datum four times: the same noise would give the same estimate
    runs = [pv.log_marginal(vae, x, num_particles=50, seed=s, compile=True).log_prob for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1]) and (runs[0] != runs[2]).all()
    assert len(set(runs[0].tolist())) == 4


class Looking:
    """A program that looks at a value."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z if z.sum() > -1e9 else -z, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


def test_what_cannot_be_traced_runs_eagerly_and_says_why(seen: Captured) -> None:
    x = torch.randn(5)
    with pytest.warns(CompileWarning, match=r"log_marginal runs eagerly.*looks at a tensor's value") as said:
        ev = pv.log_marginal(Looking(), x, num_particles=30, seed=0, compile=True)
    assert len(said) == 1
    torch.testing.assert_close(ev.log_prob, dist.Normal(0.0, 2**0.5).log_prob(x).double(), rtol=0, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        pv.log_marginal(Looking(), x, num_particles=30, seed=0)  # too little work for "auto"
    assert not seen.graphs


def test_compile_is_a_choice_of_three() -> None:
    with pytest.raises(pv.PyrovaeError, match="compile must be True, False or 'auto'"):
        pv.log_marginal(Looking(), torch.randn(5), num_particles=3, compile="no")  # type: ignore[arg-type]
