"""Accumulator against direct formulas, Reservoir against the self-normalised weights; neither depends on the chunks."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.evidence.weights import pareto, streaming
from pyrovae.evidence.weights.streaming import Accumulator, Reservoir, _choose

RESULTS = ("log_mean", "standard_error", "ess", "pareto_k", "max_log_w")


def accumulate(log_w: Tensor, chunk: int | None = None) -> Accumulator:
    accumulator = Accumulator(log_w.shape[1], len(log_w))
    for part in log_w.split(chunk or len(log_w)):
        accumulator.add(part)
    return accumulator


def normal(num_particles: int, num_data: int, *, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(num_particles, num_data, generator=generator, dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_results_are_the_formulas() -> None:
    log_w = normal(400, 7)
    w, result = log_w.exp(), accumulate(log_w, 37)
    close(result.log_mean, w.mean(0).log())
    close(result.ess, w.sum(0).square() / w.square().sum(0))
    close(result.standard_error, ((400 * w.square().sum(0) / w.sum(0).square() - 1) / 399).sqrt())
    close(result.standard_error, w.std(0) / w.mean(0) / math.sqrt(400))
    close(result.max_log_w, log_w.amax(0))
    close(result.tail.sort(0).values, log_w.sort(0).values[-61:])
    close(result.pareto_k, pareto.pareto_k(log_w.topk(61, dim=0).values, 400))


@pytest.mark.parametrize("chunk", [1, 7, 250, 999])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
def test_chunks_change_nothing(scale: float, chunk: int) -> None:
    log_w = normal(1000, 6, scale=scale)
    log_w[:3, 1] = -math.inf  # a first chunk of zero weights, a scattering of them, and nothing else
    log_w[::5, 2] = -math.inf
    log_w[:, 3] = -math.inf
    log_w[500, 4] = math.nan
    whole, parts = accumulate(log_w), accumulate(log_w, chunk)
    for name in RESULTS:
        close(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("offset", [1e4, -1e5])
def test_huge_offsets(offset: float) -> None:
    log_w = (normal(300, 4) * 2**20).round() / 2**20  # so that the offset adds no rounding
    plain, shifted = accumulate(log_w, 50), accumulate(log_w + offset, 50)
    torch.testing.assert_close(shifted.log_mean, plain.log_mean + offset, rtol=0, atol=1e-10)
    close(shifted.standard_error, plain.standard_error)
    close(shifted.ess, plain.ess)


def test_rising_and_falling_weights_do_not_overflow() -> None:
    ladder = torch.linspace(-3000, 3000, 13, dtype=torch.float64)
    log_w = torch.stack([ladder, ladder.flip(0)], 1)
    result = accumulate(log_w, 1)
    close(result.log_mean, torch.full((2,), 3000 - math.log(13), dtype=torch.float64))
    close(result.ess, torch.ones(2, dtype=torch.float64))
    close(result.standard_error, torch.ones(2, dtype=torch.float64))  # one weight is all: its error is the whole


@pytest.mark.parametrize("chunk", [1, 30, 100])
def test_equal_weights_have_no_error(chunk: int) -> None:
    result = accumulate(torch.full((100, 3), -1234.567), chunk)
    assert result.standard_error.max() < 1e-12
    close(result.ess, torch.full((3,), 100.0, dtype=torch.float64))
    assert result.pareto_k.isnan().all()


def test_nearly_equal_weights_keep_their_error() -> None:
    """The sum of squares would lose it: S sum w^2 / (sum w)^2 - 1 is 1e-16 here."""
    log_w = normal(1000, 3, scale=1e-8)
    torch.testing.assert_close(accumulate(log_w, 100).standard_error, log_w.std(0) / math.sqrt(1000), rtol=1e-5, atol=0)


def test_zero_weights() -> None:
    log_w = torch.full((50, 2), -math.inf)
    log_w[7, 1] = 2.0
    result = accumulate(log_w, 5)
    assert result.log_mean[0] == -math.inf and result.ess[0] == 0 and result.max_log_w[0] == -math.inf
    assert result.standard_error[0].isnan() and result.pareto_k[0].isnan()
    assert result.log_mean[1] == pytest.approx(2 - math.log(50)) and result.ess[1] == pytest.approx(1)


@pytest.mark.parametrize("where", [0, 20, 49])
def test_nan_is_reported_for_its_datum_alone(where: int) -> None:
    log_w = normal(50, 2)
    log_w[where, 0] = math.nan
    result = accumulate(log_w, 8)
    for name in RESULTS:
        assert getattr(result, name).isnan().tolist() == [True, False], name


def test_one_particle_has_no_standard_error() -> None:
    result = accumulate(torch.tensor([[-3.0, 4.0]]))
    assert result.log_mean.tolist() == [-3.0, 4.0] and result.ess.tolist() == [1.0, 1.0]
    assert result.standard_error.isnan().all() and result.pareto_k.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_any_precision_in_float64_out(dtype: torch.dtype) -> None:
    log_w = normal(30, 2).to(dtype).requires_grad_()
    result = accumulate(log_w)
    close(result.log_mean, log_w.detach().double().exp().mean(0).log())
    assert all(getattr(result, name).dtype == torch.float64 for name in (*RESULTS, "tail"))
    assert not result.log_mean.requires_grad


def test_memory_does_not_grow_with_the_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "TOGETHER", 5000)
    accumulator = Accumulator(3, 10_000)
    sizes = []
    for part in normal(9_000, 3).split(1000):
        accumulator.add(part)
        kept = [v for v in vars(accumulator).values() if isinstance(v, Tensor)]
        sizes.append(sum(v.numel() for v in (*kept, *accumulator._waiting)))
    assert max(sizes) <= 3 * 3 + 3 * pareto.tail_length(10_000) + 5000


def test_accumulator_refusals() -> None:
    accumulator = Accumulator(2, 10)
    for wrong in (torch.zeros(5), torch.zeros(5, 3), torch.zeros(0, 2), torch.zeros(5, 2, 1)):
        with pytest.raises(PyrovaeError, match=r"\(C, 2\)"):
            accumulator.add(wrong)
    accumulator.add(torch.zeros(8, 2))
    for name in (*RESULTS, "tail"):
        with pytest.raises(PyrovaeError, match="8 of 10"):
            getattr(accumulator, name)
    with pytest.raises(PyrovaeError, match="11 particles where 10"):
        accumulator.add(torch.zeros(3, 2))


# ---------------------------------------------------------------------------------------------------------- reservoir

LOG_W = torch.tensor([0.0, -1.0, 1.5, -math.inf, 0.5, 2.0, -4.0, 0.0, 1.0, -2.0, 0.3, -0.7], dtype=torch.float64)


def resample(log_w: Tensor, chunk: int, *, num_draws: int, seed: int = 0) -> Tensor:
    """Indices of the particles in the slots, (R, N)."""
    generator, reservoir = torch.Generator().manual_seed(seed), Reservoir(num_draws)
    index = torch.arange(len(log_w))[:, None].expand(log_w.shape)
    for part, values in zip(log_w.split(chunk), index.split(chunk), strict=True):
        reservoir.add(part, values, generator)
    return reservoir.values


def p_value(index: Tensor, log_w: Tensor) -> float:
    """Chi-square test that the particles were drawn in proportion to weight; those of weight zero never."""
    counts = torch.bincount(index.flatten(), minlength=len(log_w)).double()
    expected = log_w.softmax(0) * counts.sum()
    assert (counts[expected == 0] == 0).all()
    return stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue


# Each test of the reservoir's distribution fails a correct reservoir with probability 1e-4; the seeds are fixed.


@pytest.mark.parametrize("chunk", [1, 2, 5, 12])
def test_slots_follow_the_self_normalised_weights(chunk: int) -> None:
    """Two data with weights of their own, offset by more than a float's range."""
    log_w = torch.stack([LOG_W, LOG_W.flip(0) - 1e4], 1)
    index = resample(log_w, chunk, num_draws=20_000)
    assert p_value(index[:, 0], log_w[:, 0]) > 1e-4
    assert p_value(index[:, 1], log_w[:, 1]) > 1e-4


@pytest.mark.parametrize("chunk", [3, 12])
def test_slots_and_data_are_independent(chunk: int) -> None:
    """Pairs of slots of a datum, and of data in a slot, agree as often as independent draws do."""
    index = resample(LOG_W[:, None].expand(-1, 20_000), chunk, num_draws=2)
    same = LOG_W.softmax(0).square().sum().item()
    assert p_value(index[0], LOG_W) > 1e-4
    for agreements in (index[0] == index[1], index[0, ::2] == index[0, 1::2]):
        assert stats.binomtest(int(agreements.sum()), len(agreements), same).pvalue > 1e-4


def test_weights_of_zero_are_never_chosen() -> None:
    """Not even by the least and the largest of random numbers."""
    log_w = torch.tensor([[-math.inf], [0.0], [-math.inf]], dtype=torch.float64)
    uniform = torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)
    assert _choose(log_w, uniform).tolist() == [[1], [1]]


def test_a_sharp_chunk_late_takes_over() -> None:
    log_w = torch.cat([torch.zeros(10, 1), torch.full((10, 1), 60.0)])
    assert (resample(log_w, 10, num_draws=50) >= 10).all()
    assert (resample(log_w.flip(0), 10, num_draws=50) < 10).all()


def test_values_of_a_particle_stay_together() -> None:
    """A tree of leaves with events and types of their own; a slot holds values of one particle of its datum."""
    log_w, reservoir = normal(20, 3), Reservoir(8)
    label = torch.arange(60).reshape(20, 3)
    tree = {"z": label[..., None, None].expand(20, 3, 2, 2).float(), "levels": {"y": label, "on": label % 2 == 0}}
    for part in range(0, 20, 5):
        rows = {"z": tree["z"][part : part + 5], "levels": {k: v[part : part + 5] for k, v in tree["levels"].items()}}
        reservoir.add(log_w[part : part + 5], rows)
    z, y, on = reservoir.values["z"], reservoir.values["levels"]["y"], reservoir.values["levels"]["on"]
    assert z.shape == (8, 3, 2, 2) and z.dtype == torch.float32 and y.shape == (8, 3) and on.dtype == torch.bool
    assert torch.equal(z, y[..., None, None].expand(8, 3, 2, 2).float()) and torch.equal(on, y % 2 == 0)
    assert torch.equal(y % 3, torch.arange(3).expand(8, 3))
    close(reservoir.log_total, log_w.logsumexp(0))


def test_same_seed_same_draws() -> None:
    log_w = normal(40, 5)
    first, again, other = (resample(log_w, 10, num_draws=6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_data_without_valid_weights_hold_no_draws() -> None:
    reservoir = Reservoir(4)
    log_w = torch.zeros(6, 4)
    log_w[:, 0] = -math.inf
    log_w[:3, 1] = -math.inf  # zero in the first chunk only
    log_w[5, 2] = math.nan
    values = torch.arange(6.0)[:, None].expand(6, 4)
    reservoir.add(log_w[:3], values[:3])
    assert reservoir.valid.tolist() == [False, False, True, True]
    reservoir.add(log_w[3:], values[3:])
    assert reservoir.log_total.dtype == torch.float64
    assert reservoir.valid.tolist() == [False, True, False, True]
    assert reservoir.values.isnan().all(0).tolist() == [True, False, True, False]
    assert (reservoir.values[:, 1] >= 3).all()


def test_reservoir_refusals() -> None:
    with pytest.raises(PyrovaeError, match="at least 1"):
        Reservoir(0)
    reservoir = Reservoir(2)
    with pytest.raises(PyrovaeError, match="empty"):
        _ = reservoir.values
    with pytest.raises(PyrovaeError, match=r"\(C, N\)"):
        reservoir.add(torch.zeros(4, 3), {"z": torch.zeros(4, 2)})
    reservoir.add(torch.zeros(4, 3), {"z": torch.zeros(4, 3)})
    with pytest.raises(PyrovaeError, match="holds 3 data"):
        reservoir.add(torch.zeros(4, 2), {"z": torch.zeros(4, 2)})
