"""Inference gaps where they are known: in closed form on linear-Gaussian programs, by quadrature elsewhere."""

import math
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, log_prob_by_quadrature, program
from torch import Tensor, nn
from torch.distributions import kl_divergence

import pyrovae as pv
from pyrovae.checks import InferenceGaps, PerDatum

QUICK: dict[str, Any] = {"seed": 0, "progress": False}


class MeanField(nn.Module):
    """A normal with independent dimensions: of the best sd times ``spread``, and ``shift`` sds off."""

    def __init__(self, exact: LinearGaussian, spread: float, shift: float) -> None:
        super().__init__()
        self.A, self.c = exact.A, exact.c
        self.scale = spread * torch.linalg.inv(exact.V).diagonal().rsqrt()
        self.shift = shift * self.scale

    def forward(self, x: Tensor) -> Any:
        loc = x @ self.A.T + self.c + self.shift
        return dist.Normal(loc, self.scale.expand_as(loc)).to_event(1)


class Known:
    """Of a mean-field guide of a linear-Gaussian program: the gaps in closed form, (N,)."""

    def __init__(self, latent: int, *, spread: float = 1.0, shift: float = 0.0) -> None:
        exact = LinearGaussian(latent, latent, seed=4)
        encoder = MeanField(exact, spread, shift)
        self.program = pv.VAE(exact.program.prior, exact.program.decoder, encoder)
        self.x = exact.data(8)
        self.log_prob, q = exact.log_prob(self.x), encoder(self.x).base_dist
        full = dist.MultivariateNormal(q.loc, scale_tril=torch.diag_embed(q.scale))
        self.total = kl_divergence(full, exact.posterior(self.x))
        precision = torch.linalg.inv(exact.V)
        self.approximation = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).expand(len(self.x))
        self.amortization = self.total - self.approximation


@pytest.fixture(scope="module")
def known() -> Known:
    return Known(3, spread=1.4, shift=0.7)


@pytest.fixture(scope="module")
def gaps(known: Known) -> InferenceGaps:
    return pv.inference_gaps(known.program, known.x, num_steps=300, learning_rate=0.05, **QUICK)


def close(found: PerDatum, exact: Tensor, slack: float = 0.01) -> None:
    """Within four standard errors, and what so many steps leave."""
    assert ((found.value - exact).abs() < 4 * found.standard_error + slack).all(), (found.value - exact, found)


def test_gaps_are_those_of_the_closed_form(known: Known, gaps: InferenceGaps) -> None:
    assert known.approximation[0] > 0.2 and known.amortization.min() > 0.5
    close(gaps.total, known.total, 0.0)
    close(gaps.guide, known.log_prob - known.total, 0.0)
    close(gaps.amortization, known.amortization)
    close(gaps.approximation, known.approximation)
    assert (gaps.amortization.standard_error < 0.05).all()


def test_a_flow_closes_the_gap_of_a_correlated_posterior(known: Known, gaps: InferenceGaps) -> None:
    assert gaps.flow is not None and gaps.beyond_flow is not None
    assert (gaps.beyond_flow.value < 0.15 * known.approximation).all()
    close(PerDatum(gaps.evidence.log_prob, gaps.evidence.standard_error), known.log_prob, 0.0)
    assert (gaps.flow.value < known.log_prob + 4 * gaps.flow.standard_error).all()


def test_parts_add_up(gaps: InferenceGaps) -> None:
    torch.testing.assert_close(gaps.amortization.value + gaps.approximation.value, gaps.total.value)
    torch.testing.assert_close(gaps.refined.value - gaps.guide.value, gaps.amortization.value)


def test_a_guide_that_is_the_best_of_its_family_has_no_amortization_gap() -> None:
    best = Known(2)
    found = pv.inference_gaps(best.program, best.x, flow=False, num_steps=60, **QUICK)
    assert found.flow is None and found.beyond_flow is None and found.late_flow is None
    close(found.amortization, torch.zeros(8), 0.005)
    close(found.approximation, best.approximation, 0.005)


def test_an_exact_guide_has_no_gap_at_all() -> None:
    exact = LinearGaussian(2, 4)
    found = pv.inference_gaps(exact.program, exact.data(3), flow=False, num_steps=60, **QUICK)
    for part in (found.amortization, found.approximation, found.total):
        close(part, torch.zeros(3), 0.003)
    assert found.total.value.abs().max() < 1e-3


def test_too_few_steps_show(known: Known) -> None:
    few = pv.inference_gaps(known.program, known.x, flow=False, num_steps=10, learning_rate=0.02, **QUICK)
    assert few.late.mean > 0.05 and "Not converged" in few.summary()


def test_converged_is_not_flagged(gaps: InferenceGaps) -> None:
    assert gaps.late.mean < 0.03
    lines = gaps.summary().splitlines()
    assert "8 data" in lines[0] and "300 steps" in lines[0]
    amortization = next(line for line in lines if "amortization gap" in line)
    assert f"{gaps.amortization.mean:.3f}" in amortization
    assert f"{gaps.amortization.mean_standard_error:.3f}" in amortization


def test_refinement_that_does_harm_is_put_back(known: Known) -> None:
    found = pv.inference_gaps(known.program, known.x, flow=False, num_steps=4, learning_rate=50.0, **QUICK)
    assert found.unimproved.all() and (found.amortization.value == 0).all()
    assert "did not help 8 of 8" in found.summary()


def test_what_was_put_back_says_nothing_of_convergence(known: Known) -> None:
    """Of a search that harms some data: their second halves lead from where the search was to the guide itself."""
    found = pv.inference_gaps(known.program, known.x, flow=False, num_steps=8, learning_rate=0.9, **QUICK)
    kept = ~found.unimproved
    assert kept.any() and found.unimproved.any()
    assert found.late.value[kept].isfinite().all() and found.late.value[found.unimproved].isnan().all()
    shown = next(line for line in found.summary().splitlines() if line.startswith("second half"))
    assert f" {found.late.value[kept].mean():.3f}" in shown
    assert f"did not help {int(found.unimproved.sum())} of 8" in found.summary()


def test_a_flow_that_does_harm_is_put_back_and_told() -> None:
    exact = LinearGaussian(2, 4)
    found = pv.inference_gaps(exact.program, exact.data(3), num_steps=4, learning_rate=20.0, **QUICK)
    assert found.unimproved_flow is not None and found.unimproved_flow.all()
    assert found.late_flow is not None and found.late_flow.value.isnan().all()
    assert "The flow did not help 3 of 3 data, which keep the refined guide's" in found.summary()
    assert "Not converged" not in found.summary()


def test_a_flow_that_goes_on_improving_is_doubted(gaps: InferenceGaps) -> None:
    zero, more = PerDatum(torch.zeros(8), torch.zeros(8)), PerDatum(torch.ones(8), torch.zeros(8))
    found = replace(gaps, late=zero, late_flow=more, unimproved_flow=torch.zeros(8).bool())
    assert "added 1.000 nats to L[q_flow*]; a flow leaves less than it seems" in found.summary()
    found = replace(gaps, late=zero, late_flow=more, unimproved_flow=torch.ones(8).bool())
    assert "Not converged" not in found.summary()


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_second_half_that_is_not_finite_is_told(gaps: InferenceGaps, figure: float) -> None:
    late = PerDatum(torch.tensor([figure, *[0.0] * 7]), torch.zeros(8))
    found = replace(gaps, late=late, unimproved=torch.zeros(8).bool())
    assert "added to L[q*] is not finite for 1 data" in found.summary()


def test_errors_are_those_of_repetition() -> None:
    """Of the bounds and the gaps between them, over 30 seeds."""
    it = Known(2, spread=1.3, shift=0.3)
    x = it.x[:2]
    runs = [
        pv.inference_gaps(it.program, x, flow=False, num_steps=2, learning_rate=1e-9, num_particles=200, seed=seed,
                          progress=False)
        for seed in range(30)
    ]  # fmt: skip
    for name in ("guide", "approximation", "total"):
        values = torch.stack([getattr(run, name).value for run in runs])
        claimed = torch.stack([getattr(run, name).standard_error for run in runs]).square().mean(0).sqrt()
        ratio = values.std(0) / claimed
        assert ((ratio > 0.55) & (ratio < 1.6)).all(), (name, ratio)


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_evidence_from_outside(known: Known) -> None:
    given = pv.log_marginal(known.program, known.x, num_particles=500, seed=1, progress=False)
    found = pv.inference_gaps(known.program, known.x, evidence=given, flow=False, num_steps=2, **QUICK)
    assert found.evidence is given
    torch.testing.assert_close(found.total.value, given.log_prob - found.guide.value)
    expected = (given.standard_error.square() + found.guide.standard_error.square()).sqrt()
    torch.testing.assert_close(found.total.standard_error, expected)


def bent() -> pv.VAE:
    """x = (z1, z2 - z1^2) + noise: the posterior is a banana."""

    class Decoder(nn.Module):
        def forward(self, z: Tensor) -> Any:
            return dist.Normal(torch.stack([0.3 * z[..., 0], z[..., 1] - z[..., 0] ** 2], -1), 0.4).to_event(1)

    class Encoder(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return dist.Normal(x, 1.0).to_event(1)

    return pv.VAE(pv.priors.StandardNormal(2), Decoder(), Encoder())


def test_a_bent_posterior() -> None:
    it, x = bent(), torch.tensor([[0.0, 0.5], [0.3, 1.0]])
    exact = log_prob_by_quadrature(it, x, half_width=8.0, step=0.05)
    found = pv.inference_gaps(it, x, num_steps=500, learning_rate=0.05, num_particles=4000, **QUICK)
    assert found.beyond_flow is not None
    close(PerDatum(found.evidence.log_prob, found.evidence.standard_error), exact, 0.0)
    assert (found.approximation.value > 0.15).all()
    assert (found.beyond_flow.value < 0.5 * found.approximation.value).all()


def mixture() -> Any:
    """y in three classes, x ~ N(m_y, 1); the guide, of the right family, is uniform."""
    means, weights = torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([0.2, 0.5, 0.3])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(means[y], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            q = dist.Categorical(logits=torch.zeros(len(x), 3))
            pyro.sample("y", q, infer={"enumerate": "parallel"})

    return program(model, guide), lambda x: (dist.Normal(means, 1.0).log_prob(x[:, None]).exp() @ weights).log()


def test_an_enumerated_guide_becomes_exact() -> None:
    it, log_prob = mixture()
    x = torch.linspace(-2, 3, 5)
    found = pv.inference_gaps(it, x, num_steps=400, learning_rate=0.2, num_particles=4, **QUICK)
    close(found.approximation, torch.zeros(5), 1e-3)
    close(found.refined, log_prob(x), 1e-3)
    assert found.amortization.value.min() > 0.05 and found.evidence.standard_error.abs().max() < 1e-5


def test_a_hierarchical_guide_with_offsets() -> None:
    """a ~ N(0, 1), b ~ N(a, 1), x ~ N(b, 1), and the guide b | x, a | b, whose exact form is in its family."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros(len(x)), 1.0))
            b = pyro.sample("b", dist.Normal(a, 1.0))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Normal(0.2 * x, 1.5))  # exact: 2/3 x, sqrt(2/3)
            pyro.sample("a", dist.Normal(0.5 * b + 0.4, 1.0))  # exact: b / 2, sqrt(1/2)

    x = torch.tensor([-1.0, 0.5, 3.0])
    found = pv.inference_gaps(program(model, guide), x, flow=False, num_steps=250, learning_rate=0.1, **QUICK)
    close(found.refined, dist.Normal(0.0, 3**0.5).log_prob(x), 0.01)
    close(found.approximation, torch.zeros(3), 0.01)


def test_blocks_of_data_and_given() -> None:
    torch.manual_seed(0)
    decoder = pv.Conditional(pv.networks.MLP([2, 3], 8, 4), pv.families.bernoulli)
    encoder = pv.Conditional(pv.networks.MLP([4, 3], 8, 4), pv.families.normal)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, encoder)
    x, y = torch.rand(70, 4).round(), torch.eye(3)[torch.arange(70) % 3]
    found = pv.inference_gaps(vae, x, y, num_steps=3, num_particles=50, **QUICK)
    assert found.num_data == 70 and found.beyond_flow is not None and found.beyond_flow.value.shape == (70,)
    assert found.amortization.value.dtype == torch.float64


def test_nothing_outside_changes_and_seeds_repeat(known: Known) -> None:
    store, training = dict(pyro.get_param_store().items()), known.program.training
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    runs = [pv.inference_gaps(known.program, known.x, num_steps=3, num_particles=20, **QUICK) for _ in range(2)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(runs[0].refined.value, runs[1].refined.value)
    assert known.program.training == training and dict(pyro.get_param_store().items()) == store
    other = pv.inference_gaps(known.program, known.x, num_steps=3, num_particles=20, seed=1, progress=False)
    assert not torch.equal(runs[0].refined.value, other.refined.value)


def discrete() -> Any:
    it, _ = mixture()

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=torch.zeros(len(x), 3)))

    return program(it.model, guide)


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_refusals(known: Known) -> None:
    def refused(message: str, it: Any = known.program, x: Tensor = known.x, **options: Any) -> None:
        with pytest.raises(pv.PyrovaeError, match=message):
            pv.inference_gaps(it, x, **options)

    refused("neither reparameterised nor enumerated", discrete(), torch.zeros(2))
    refused("at least 2", num_steps=1)
    refused("at least 2", num_particles=1)
    for rate in (0.0, math.inf, math.nan):
        refused("learning_rate must be positive", learning_rate=rate)
    given = pv.log_marginal(known.program, known.x[:2], num_particles=500, log_jacobian=1.0, seed=0, progress=False)
    refused("2 data, x of 8", evidence=given)
    refused("log-Jacobian", x=known.x[:2], evidence=given)
