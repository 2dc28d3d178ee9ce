"""Predictive checks: exact p-values of a linear-Gaussian program, uniform ones under the prior, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from exact import LinearGaussian
from scipy import stats
from torch import Tensor

import pyrovae as pv

STATISTICS: dict[str, Any] = {"first": lambda x: x[:, 0], "max": lambda x: x.amax(-1)}
EXACT = torch.distributions.Normal(0.0, 1.0)


def evidence(observed: dict[str, Tensor], drawn: dict[str, Tensor], log_prob: Tensor | None = None) -> pv.Evidence:
    size = len(next(iter(observed.values())))
    zeros = torch.zeros(size).double()
    draws = pv.evidence.Draws({}, drawn, {}, observed)
    return pv.Evidence(zeros if log_prob is None else log_prob, zeros, zeros + 50, zeros, 100, 1, draws=draws)


def _linear(num_data: int, num_draws: int) -> tuple[LinearGaussian, Tensor, pv.Evidence]:
    model = LinearGaussian(2, 3)
    x = model.data(num_data)
    return model, x, pv.log_marginal(model.program, x, num_particles=2000, num_draws=num_draws, seed=0)


def test_by_hand() -> None:
    """Mid-ranks: one replicate above, one equal, two below; and the mean of two data."""
    x = torch.tensor([[1.0], [5.0]])
    drawn = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 10.0], [0.0, 0.0]])[..., None]
    check = pv.predictive_check(evidence({"x": x}, {"x": drawn}), statistics={"value": lambda x: x[:, 0]})
    assert check.p_values["value"].tolist() == [(1 + 0.5) / 4, 1 / 4]
    mean, replicated = check.means["value"]
    assert mean == 3 and replicated.tolist() == [1.0, 0.5, 5.0, 0.0] and check.pooled["value"] == 1 / 4
    assert check.num_draws == 4 and check.num_data == 2


def test_p_values_are_those_of_the_exact_predictive(double: None) -> None:
    """x_rep | x is normal, so P(x_rep_1 > x_1) is known: within 4 standard errors of 400 draws, for 100 data."""
    model, x, ev = _linear(100, 400)
    check = pv.predictive_check(ev, statistics=STATISTICS)
    mean = model.posterior(x).mean @ model.W[0] + model.b[0]
    sd = (model.W[0] @ model.V @ model.W[0] + model.sigma**2).sqrt()
    p = 1 - EXACT.cdf((x[:, 0] - mean) / sd)
    error = (p * (1 - p) / 400 + 0.5 / 400**2).sqrt()
    assert ((check.p_values["first"] - p).abs() < 4.5 * error).all()


def test_data_of_the_program_pass_and_posterior_p_values_are_no_smaller_than_said(double: None) -> None:
    """P(p <= a) <= 2 a (Meng 1994), and in fact below a here; the means of 500 data lie among the replicates'."""
    _, _, ev = _linear(500, 200)
    check = pv.predictive_check(ev, statistics=STATISTICS)
    for name in STATISTICS:
        p = check.p_values[name]
        for a in (0.05, 0.1, 0.25):
            assert (p <= a).double().mean() < a and (p >= 1 - a).double().mean() < a
        assert 0.01 < check.pooled[name] < 0.99
    assert "no" not in check.summary().split("\n")[1] and "posterior" in check.summary()


def test_prior_p_values_are_uniform_under_the_program(double: None) -> None:
    """z ~ p(z): exchangeable with the data, so p is uniform; Kolmogorov-Smirnov, failing one time in 10,000."""
    model, x, ev = _linear(500, 1)
    torch.manual_seed(5)
    replicates = pv.sample(model.program, 999 * 500).unflatten(0, (999, 500))
    check = pv.predictive_check(ev, statistics=STATISTICS, replicates=replicates)
    for name in STATISTICS:
        assert stats.kstest(check.p_values[name], "uniform").pvalue > 1e-4
    assert not check.posterior and check.share_unreliable == 0

    moved = dataclasses.replace(ev, draws=dataclasses.replace(ev.draws, observed={"x": x + 1.0}))
    check = pv.predictive_check(moved, statistics=STATISTICS, replicates=replicates)
    assert stats.kstest(check.p_values["first"], "uniform").pvalue < 1e-6 and check.pooled["first"] < 0.001


def test_pooled_p_values_are_uniform_under_the_program() -> None:
    """1,000 data sets of 20 data, each among 99 replicates of its own."""
    torch.manual_seed(0)
    x, drawn = torch.randn(1000, 20, 1), torch.randn(1000, 99, 20, 1)
    p = [
        pv.predictive_check(evidence({"x": a}, {"x": b}), statistics={"x": lambda x: x[:, 0]}).pooled["x"]
        for a, b in zip(x, drawn, strict=True)
    ]
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def test_pooled_p_values_are_exact_where_z_has_no_part_and_noisy_data_fail(double: None) -> None:
    """Off the plane of the means x_rep is noise alone, so the sum of squares over the data is chi-square with 600
    degrees of freedom. Data of three times the noise, which no z can follow, are far out in its tail."""
    model = LinearGaussian(2, 8)
    off = torch.linalg.svd(model.W).U[:, 2:]
    squares = {"squares": lambda x: ((x - model.b) @ off).square().sum(-1)}

    def check(x: Tensor) -> tuple[float, Tensor, float]:
        ev = pv.log_marginal(model.program, x, num_particles=500, num_draws=400, seed=0)
        found = pv.predictive_check(ev, statistics=squares)
        exact = stats.chi2.sf(squares["squares"](x).sum().item() / model.sigma**2, 600)
        return found.pooled["squares"], found.p_values["squares"], exact

    for seed in (1, 2, 3):
        pooled, p, exact = check(model.data(100, seed=seed))
        assert abs(pooled - exact) < 4 * math.sqrt(exact * (1 - exact) / 400)
        assert stats.kstest(p, "uniform").pvalue > 1e-4
    pooled, p, _ = check(model.b + 3 * (model.data(100) - model.b))
    assert pooled == 0 and (p < 0.05).double().mean() > 0.5


class Both(torch.nn.Module):
    """An encoder of a dict."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: dict[str, Tensor]) -> Any:
        return self.encoder(x["a"], x["b"])


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_several_sites_come_by_name() -> None:
    torch.manual_seed(0)
    factors = {
        "a": pv.Conditional(pv.networks.MLP(2, 8, 3), pv.families.bernoulli),
        "b": pv.Conditional(pv.networks.MLP(2, 8, 4), pv.families.normal),
    }
    x = {"a": torch.rand(5, 3).bernoulli(), "b": torch.randn(5, 2)}
    encoder = pv.Conditional(pv.networks.MLP([3, 2], 8, 4), pv.families.normal)
    vae = pv.VAE(pv.priors.StandardNormal(2), pv.Product(factors), Both(encoder))
    ev = pv.log_marginal(vae, x, num_particles=400, num_draws=30, seed=0)
    names: list[list[str]] = []

    def both(rows: Any) -> Tensor:
        names.append(list(rows))
        return rows["x.a"].sum(-1) + rows["x.b"].sum(-1)

    check = pv.predictive_check(ev, statistics={"both": both})
    assert names == [["x.a", "x.b"]] * 2 and check.p_values["both"].isfinite().all()
    torch.testing.assert_close(check.observed["both"], (x["a"].sum(-1) + x["b"].sum(-1)).double())


def test_what_is_missing_in_x_is_missing_in_its_replicates() -> None:
    x = torch.tensor([[1.0, math.nan, 3.0], [math.nan, 2.0, 2.0]])
    drawn = torch.full((4, 2, 3), 2.0)
    seen = {"count": lambda x: (~x.isnan()).sum(-1), "sum": lambda x: x.nansum(-1)}
    check = pv.predictive_check(evidence({"x": x}, {"x": drawn}), statistics=seen)
    assert check.p_values["count"].tolist() == check.p_values["sum"].tolist() == [0.5, 0.5]
    assert check.pooled["sum"] == 0.5


def test_data_without_draws_are_left_out_and_counted() -> None:
    """Also integers, which cannot be nan."""
    x, drawn = torch.tensor([[3], [1]]), torch.tensor([[[2], [9]], [[4], [9]]])
    ev = evidence({"x": x}, {"x": drawn}, torch.tensor([-1.0, -math.inf]).double())
    check = pv.predictive_check(ev, statistics={"x": lambda x: x[:, 0]})
    assert check.p_values["x"][0] == 0.5 and check.p_values["x"][1].isnan() and check.pooled["x"] == 0.5
    assert "1 data have no draws" in check.summary() and "for 50.0 % of the data" in check.summary()


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_digits() -> None:
    """An untrained program on real data: its pictures have the ink, but more edges; the check says so."""
    data = pv.data.load("digits")
    x = data.test.x[:20]
    ev = pv.log_marginal(pv.vae(data, latent=2), x, num_particles=300, num_draws=40, seed=0)
    statistics = {"ink": lambda x: x.flatten(1).mean(1), "edges": lambda x: x.diff(dim=-1).abs().flatten(1).mean(1)}
    check = pv.predictive_check(ev, statistics=statistics)
    assert check.p_values["ink"].shape == (20,) and 0 < check.pooled["ink"] < 1 and check.pooled["edges"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistics": {}}, "a check needs a statistic"),
        ({"statistics": {"m": lambda x: x.mean()}}, r"'m' must give a value per row, here \(\d+,\); got \(\)"),
        ({"statistics": {"m": lambda x: 1.0}}, "got a float"),
        ({"replicates": torch.zeros(4, 3)}, r"replicates are \(R, N, \*event_shape\)"),
        ({"replicates": torch.zeros(0, 2, 3)}, r"replicates are \(R, N, \*event_shape\)"),
        ({"replicates": {"y": torch.zeros(4, 2, 3)}}, r"of the observed sites, \{'x': \(2, 3\)\}"),
    ],
)
def test_what_cannot_be_checked_is_refused(change: dict[str, Any], message: str) -> None:
    ev = evidence({"x": torch.zeros(2, 3)}, {"x": torch.zeros(4, 2, 3)})
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.predictive_check(ev, **{"statistics": STATISTICS} | change)
    with pytest.raises(pv.PyrovaeError, match="no draws were kept"):
        pv.predictive_check(dataclasses.replace(ev, draws=None), statistics=STATISTICS)
