"""The test of uniform ranks has its size, its bands their coverage, and small p-values need no simulation."""

import math

import pytest
import torch

from pyrovae.checks import uniformity


@pytest.mark.parametrize(("num_data", "num_draws"), [(200, 99), (50, 19), (30, 200), (2, 1)])
def test_the_size_of_the_test(num_data: int, num_draws: int) -> None:
    """Of 4,000 uniform sets, a share a has p <= a, within 4 standard errors; less where p-values are few."""
    torch.manual_seed(0)
    p = uniformity.p_values(torch.randint(num_draws + 1, (num_data, 4000)), num_draws)
    assert (p > 0).all() and (p <= 1).all()
    for a in (0.5, 0.1, 0.01):
        share, error = (p <= a).double().mean().item(), math.sqrt(a * (1 - a) / 4000)
        assert share < a + 4 * error
        if num_data >= 30:
            assert share > a - 0.02 - 4 * error


@pytest.mark.parametrize("level", [0.05, 0.3])
def test_the_band_holds_whole_curves(level: float) -> None:
    torch.manual_seed(0)
    low, high = uniformity.band(100, 50, level)
    curves = uniformity.ecdf(torch.randint(51, (100, 4000)), 50)
    inside = ((low <= curves) & (curves <= high)).all(1).double().mean().item()
    assert abs(inside - (1 - level)) < 0.02 + 4 * math.sqrt(level * (1 - level) / 4000)


def test_the_distribution_function_of_ranks() -> None:
    curves = uniformity.ecdf(torch.tensor([[0, 3], [1, 3], [3, 3], [3, 0]]), 3)
    assert curves.tolist() == [[0.25, 0.5, 0.5], [0.25, 0.25, 0.25]]


def test_p_values_below_the_resolution_of_simulation_are_bounds() -> None:
    """All ranks 0: g = 2 (1 / (L + 1))^N at i = 0, of L points."""
    p = uniformity.p_values(torch.zeros(8, 1, dtype=torch.long), 9)
    assert p.item() == pytest.approx(9 * 2 * 0.1**8, rel=1e-6)


def test_what_is_kept_of_tables_is_bounded() -> None:
    assert uniformity._tails.cache_info().maxsize == 2 and uniformity._null.cache_info().maxsize == 16
