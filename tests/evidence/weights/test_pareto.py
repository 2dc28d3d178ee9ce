"""k-hat: agreement with the installed ArviZ, tails of known shape, and the degenerate tails."""

import math

import arviz
import numpy as np
import pytest
import torch

from pyrovae.errors import PyrovaeError
from pyrovae.evidence.weights import pareto

OLD_ARVIZ = arviz.__version__.startswith("0.")
WEIGHTS = {
    "nearly equal": lambda rng, shape: rng.normal(0, 0.01, shape),
    "log-normal": lambda rng, shape: rng.normal(0, 1, shape),
    "wide log-normal": lambda rng, shape: rng.normal(0, 10, shape),
    "underflowing": lambda rng, shape: rng.normal(0, 300, shape),
    "Student": lambda rng, shape: rng.standard_t(2, shape),
    "bounded": lambda rng, shape: -rng.exponential(3, shape),
    "Pareto 0.3": lambda rng, shape: rng.exponential(0.3, shape),
    "Pareto 1.5": lambda rng, shape: rng.exponential(1.5, shape),
    "shifted": lambda rng, shape: rng.normal(-1e4, 3, shape),
}


def top(log_w: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(log_w).topk(pareto.tail_length(len(log_w)), dim=0).values


def ours(log_w: np.ndarray) -> np.ndarray:
    return pareto.pareto_k(top(log_w), len(log_w)).numpy()


def arviz_k(log_w: np.ndarray) -> np.ndarray:
    """ArviZ's k-hat of each column. 1.x negates its input, and its tail is made as long as 0.23's by way of r_eff."""
    if OLD_ARVIZ:
        return arviz.psislw(log_w.T.copy())[1]
    from arviz_stats.base import array_stats

    length = pareto.tail_length(len(log_w)) - 1
    r_eff = 9 * len(log_w) / length**2 * (1 - 1e-12) if len(log_w) > 225 else 1.0
    return array_stats.psislw(-log_w.T, r_eff=r_eff, axis=-1)[1]


@pytest.mark.parametrize("num_particles", [25, 40, 100, 225, 226, 240, 400, 1000, 4999, 20_000])
@pytest.mark.parametrize("name", WEIGHTS)
def test_agrees_with_arviz(name: str, num_particles: int) -> None:
    if not OLD_ARVIZ and (num_particles in (25, 226) or name == "underflowing"):
        pytest.skip("ArviZ 1.x: nan for a tail of 5; cannot be told to take 46 of 226; counts zeros as tail")
    log_w = WEIGHTS[name](np.random.default_rng(num_particles), (num_particles, 12))
    k, expected = ours(log_w), arviz_k(log_w)
    both = np.isfinite(k) & np.isfinite(expected)
    np.testing.assert_allclose(k[both], expected[both], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(k[~both], expected[~both])


def test_agrees_with_arviz_on_many_data() -> None:
    log_w = np.random.default_rng(0).normal(0, np.linspace(0.01, 20, 3000), (100, 3000))
    np.testing.assert_allclose(ours(log_w), arviz_k(log_w), rtol=0, atol=1e-6)


@pytest.mark.skipif(not OLD_ARVIZ, reason="ArviZ 1.x keeps ties and needs five weights or more in the tail")
@pytest.mark.parametrize("num_particles", [5, 6, 20, 21, 33, 60, 101, 500, 2000])
@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_ties_and_few_particles_follow_arviz(decimals: int, num_particles: int) -> None:
    """Ties at the cutoff leave tails of many lengths side by side, four or fewer among them."""
    log_w = np.random.default_rng(1).normal(0, 1, (num_particles, 200)).round(decimals)
    k, expected = ours(log_w), arviz_k(log_w)
    flat = np.isnan(k)  # ours alone: the largest are all equal
    assert np.all(np.isinf(expected[flat]))
    assert np.array_equal(np.isinf(k[~flat]), np.isinf(expected[~flat]))
    finite = np.isfinite(k)
    np.testing.assert_allclose(k[finite], expected[finite], rtol=0, atol=1e-6)


def test_ties_at_the_cutoff_leave_the_tail() -> None:
    """Values of ArviZ 0.23, so that its rule is held to under ArviZ 1.x too: tails of 93, 64 and 7 weights."""
    log_w = -2 * np.log1p(-(np.arange(1000) + 0.5) / 1000)
    columns = np.stack([log_w.round(1), log_w.round(0), np.where(log_w > 10, log_w, log_w.clip(max=4))], 1)
    expected = [1.759053973695965, 1.4239701611243127, 0.7787686823310046]
    np.testing.assert_allclose(ours(columns), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [-0.5, 0.2, 0.7, 1.2])
def test_finds_the_shape_of_a_generalized_pareto_tail(k: float) -> None:
    u = np.random.default_rng(3).uniform(size=(20_000, 200))
    excess = np.expm1(-k * np.log(u)) / k
    mean = ours(np.log1p(excess)).mean()
    # k-hat scatters by about (1 + k) / sqrt(425) per datum; the prior of ten observations pulls it towards 1/2.
    shrunk = (425 * k + 5) / 435
    assert abs(mean - shrunk) < 0.03


def test_order_and_position_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    tail = top(rng.normal(0, 2, (500, 5)).round(1))
    k = pareto.pareto_k(tail, 500)
    assert torch.equal(pareto.pareto_k(tail[torch.randperm(len(tail))], 500), k)
    for i in range(5):  # a datum's k-hat is its own, whatever the lengths of the others' tails
        torch.testing.assert_close(pareto.pareto_k(tail[:, i : i + 1], 500)[0], k[i], rtol=0, atol=1e-12)


def test_weights_equal_to_rounding_have_no_shape() -> None:
    rng = np.random.default_rng(5)
    equal = np.full((1000, 1), -543.21)
    float32 = (-543.21 + rng.normal(0, 1e-5, (1000, 1))).astype(np.float32).astype(np.float64)
    spread = rng.normal(0, 1e-3, (1000, 1))
    k = ours(np.concatenate([equal, float32, spread], 1))
    assert np.isnan(k[:2]).all() and np.isfinite(k[2])
    assert pareto.pareto_k(top(spread), 1000, rounding=1e-4).isnan().all()
    assert np.isnan(ours(np.array([[-3.0]]))).all()  # one particle


def test_rounding_scales_with_the_log_weights() -> None:
    tail = top(np.random.default_rng(6).normal(0, 1e-3, (1000, 1)))
    assert pareto.pareto_k(tail, 1000).isfinite() and pareto.pareto_k(tail - 1e5, 1000).isnan()


def test_zero_infinite_and_missing_weights() -> None:
    log_w = np.random.default_rng(7).normal(size=(1000, 6))
    log_w[:, 0] = -np.inf
    log_w[3, 1] = np.nan
    log_w[3, 2] = np.inf
    log_w[10:, 3] = -np.inf  # ten weights are not zero: they are the tail
    log_w[4:, 4] = -np.inf
    k = ours(log_w)
    assert np.isfinite(ours(log_w[:21, 5:])).all() and np.isinf(ours(log_w[:20, 5:])).all()
    assert np.isnan(k[:3]).all()
    assert np.isfinite(k[[3, 5]]).all() and k[4] == np.inf


@pytest.mark.parametrize(
    ("num_particles", "length"),
    [(1, 1), (2, 2), (5, 2), (6, 3), (20, 5), (225, 46), (226, 47), (1000, 96), (20_000, 426)],
)
def test_tail_length(num_particles: int, length: int) -> None:
    assert pareto.tail_length(num_particles) == length


def test_threshold() -> None:
    assert pareto.threshold(100) == pytest.approx(0.5) and pareto.threshold(10_000) == pytest.approx(0.7)
    assert pareto.threshold(1000) == pytest.approx(2 / 3) and pareto.threshold(1) == -math.inf


def test_refusals() -> None:
    with pytest.raises(PyrovaeError, match=r"\(21, N\)"):
        pareto.pareto_k(torch.zeros(20, 3), 100)
    with pytest.raises(PyrovaeError, match="at least 1"):
        pareto.tail_length(0)
