"""Paired comparisons: by hand, and against simulation, for what other particles and what other data would change."""

import dataclasses
import math
import warnings

import pytest
import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.evidence import Evidence


def evidence(log_prob: Tensor, standard_error: float | Tensor = 0.1, pareto_k: float | Tensor = 0.0) -> Evidence:
    like = torch.ones_like(log_prob)
    return Evidence(log_prob, like * standard_error, 50 * like, like * pareto_k, num_particles=100, num_dimensions=4)


def test_by_hand() -> None:
    first = evidence(torch.zeros(4).double(), 0.3)
    second = evidence(torch.tensor([1.0, 2.0, 3.0, 4.0]).double(), 0.4)
    third = evidence(torch.tensor([-1.0, -1.0, 1.0, -1.0]).double(), torch.tensor([0.1, 0.2, 0.3, 0.4]).double())
    found = pv.compare(first, second, third, names=["a", "b", "c"])
    assert torch.equal(found.differences, torch.stack([second.log_prob, third.log_prob]))
    assert found.mean.tolist() == [2.5, -0.5]
    total, particles = math.sqrt(5 / 3) / 2, math.sqrt(4 * (0.3**2 + 0.4**2)) / 4
    assert found.standard_error[0].item() == pytest.approx(total)
    assert found.monte_carlo_error.tolist() == pytest.approx([particles, math.sqrt(4 * 0.09 + 0.3) / 4])
    assert found.sampling_error[0].item() == pytest.approx(math.sqrt(total**2 - particles**2))
    assert found.share_ahead.tolist() == [1.0, 0.25]
    assert found.differences_standard_error.shape == (2, 4)
    assert found.differences_standard_error[0].tolist() == pytest.approx([0.5] * 4)
    assert found.differences_standard_error[1, 3].item() == pytest.approx(0.5)


def test_errors_are_those_of_simulation() -> None:
    """400 repetitions: the spread of the mean difference over other particles, and over other data and particles."""
    torch.manual_seed(0)
    repetitions, size, spread = 400, 100, torch.rand(2, 100).double()  # each datum's standard error under each program

    def means(truth: Tensor) -> tuple[Tensor, Tensor]:
        """The mean differences found, and a comparison's errors (Monte Carlo, all), one row for each repetition."""
        noise = torch.randn(repetitions, 2, size).double() * spread
        difficulty = 30 * torch.randn(repetitions, 1, size).double()  # shared by the programs, far larger
        both = difficulty + torch.stack([torch.zeros_like(truth), truth], 1) + noise
        found = [pv.compare(evidence(a, spread[0]), evidence(b, spread[1])) for a, b in both]
        errors = torch.stack([torch.cat([each.monte_carlo_error, each.standard_error]) for each in found])
        return torch.cat([each.mean for each in found]), errors

    margin = 4 * math.sqrt(2 / repetitions)  # four standard errors of a variance
    same_data, errors = means(torch.randn(1, size).double().expand(repetitions, size))
    assert (same_data.var() / errors[:, 0].square().mean()).item() == pytest.approx(1, abs=margin)
    other_data, errors = means(0.2 + torch.randn(repetitions, size).double())
    assert (other_data.var() / errors[:, 1].square().mean()).item() == pytest.approx(1, abs=margin)
    assert (other_data.mean() - 0.2).abs() < 4 * other_data.std() / math.sqrt(repetitions)


def test_a_summary_names_every_program_and_says_what_is_doubtful() -> None:
    sound, doubtful = torch.tensor([0.1, 0.2, 0.1, 0.1]), torch.tensor([0.9, 0.1, 0.1, 0.1])
    values = torch.arange(4).double()
    text = pv.compare(
        evidence(values, 0.1, sound), evidence(values + 1.5, 0.1, doubtful), names=["vae", "vamp"]
    ).summary()
    assert "against vae" in text and "+1.500" in text and "For 25.0 % of the data k-hat" in text
    assert text.index("For 25.0 %") < text.index("against vae")  # how far to trust it comes first
    assert "unreliable" in text and "25.0 %" in text and text.count("lower bound") == 3  # the doubt, and each mean
    assert "importance sampling, 100 particles" in text and "different methods" not in text
    assert "k-hat is above" not in pv.compare(*[evidence(values, 0.1, sound)] * 2).summary()


def test_what_cannot_be_paired_is_refused() -> None:
    four, five = evidence(torch.zeros(4).double()), evidence(torch.zeros(5).double())
    with pytest.raises(pv.PyrovaeError, match="at least two programs; got 1"):
        pv.compare(four)
    with pytest.raises(pv.PyrovaeError, match=r"different numbers of data, \[4, 5\]"):
        pv.compare(four, five)
    for names in (["a"], ["a", "a"]):
        with pytest.raises(pv.PyrovaeError, match="as many different names"):
            pv.compare(four, four, names=names)


def test_one_program_twice_differs_in_nothing() -> None:
    found = pv.compare(*[evidence(torch.randn(6).double(), 0.0)] * 2)
    assert not found.differences.any() and found.standard_error.item() == 0 and found.share_ahead.item() == 0


def test_figures_in_different_units_are_refused() -> None:
    standardised = dataclasses.replace(evidence(torch.zeros(4).double()), log_jacobian=-3.0)
    own = evidence(torch.zeros(4).double())
    with pytest.raises(pv.PyrovaeError, match="some of the evidence has a log-Jacobian and some has none"):
        pv.compare(standardised, own)
    assert not pv.compare(standardised, own, own_units=True).differences.any()
    assert not pv.compare(standardised, dataclasses.replace(own, log_jacobian=-2.0)).differences.any()


def test_data_of_other_dimensions_are_refused() -> None:
    four = evidence(torch.zeros(4).double())
    with pytest.raises(pv.PyrovaeError, match=r"different numbers of dimensions, \[4, 5\]"):
        pv.compare(four, dataclasses.replace(four, num_dimensions=5))
    assert not pv.compare(four, dataclasses.replace(four, num_dimensions=0)).differences.any()  # unknown


def test_one_datum_has_a_difference_and_no_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pv.compare(*[evidence(torch.randn(1).double())] * 2)
        assert found.mean.item() == 0 and math.isnan(found.standard_error.item())
        assert math.isnan(found.sampling_error.item()) and "nan" in found.summary()


def test_each_mean_and_each_difference_is_of_its_kind() -> None:
    """Exact minus a lower bound is an upper bound on the difference, a bound minus exact a lower one; else neither."""
    bound = evidence(torch.zeros(4).double())
    exact = dataclasses.replace(evidence(torch.ones(4).double(), 0.0, math.nan), method="exact", is_bound=False)
    estimate = dataclasses.replace(bound, is_bound=False)
    assert pv.compare(bound, exact, bound, estimate).kinds == ("upper bound", "estimate", "estimate")
    found = pv.compare(exact, bound, exact, estimate)
    assert found.kinds == ("lower bound", "exact", "estimate")
    assert found.share_unreliable == 0 and found.monte_carlo_error[1] == 0
    assert [each.kind for each in found.evidence] == ["exact", "lower bound", "exact", "estimate"]


def test_bounds_of_different_methods_or_budgets_are_pointed_out() -> None:
    few = evidence(torch.zeros(4).double())
    many = dataclasses.replace(few, num_particles=5000)
    annealed = dataclasses.replace(few, method="annealed", num_steps=300)
    for other in (many, annealed):
        text = pv.compare(few, other).summary()
        assert "what is looser looks worse" in text and other.procedure in text
    assert "looser" not in pv.compare(few, few).summary()


def test_data_without_a_finite_figure_are_pointed_out() -> None:
    impossible = evidence(torch.tensor([0.0, -math.inf, 0.0, 0.0]).double())
    text = pv.compare(impossible, impossible).summary()
    assert "For 1 data log p(x) is not finite" in text and "nan" in text
