"""Random numbers of a graph: the published ones, of the right distribution, and fresh wherever they must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Bernoulli, Normal
from torch.fx.experimental.proxy_tensor import make_fx

from pyrovae.compiled.philox import Noise, philox

N = 200_000
LEVEL = 1e-4  # of each test of a distribution; the seed is fixed
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def words(text: str) -> tuple[Any, ...]:
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


KNOWN = [  # counter, key, result: the vectors of Random123 for philox4x32-10 (Salmon et al. 2011)
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    assert philox(words(counter), words(key)) == words(expected)


def noise(seed: int = 0) -> Noise:
    torch.manual_seed(seed)
    made = Noise(torch.device("cpu"))
    made.draw_key()
    return made


def graphed(function: Callable[..., Any], made: Noise, *inputs: Tensor) -> Callable[[], Any]:
    """``function(*inputs)`` as a graph with the numbers of ``made``, a step further with each call."""

    def stepping(key: Tensor, step: Tensor, *inputs: Tensor) -> Any:
        result = function(*inputs)
        step.add_(1)
        return result

    graph = make_fx(stepping, decomposition_table=made.decompositions())(made.key, made.step, *inputs)
    made.step.zero_()
    return lambda: graph(made.key, made.step, *inputs)


# ----------------------------------------------------------------------------------------------------- distributions


def like(dtype: torch.dtype) -> Tensor:
    return torch.empty(N, dtype=dtype)


DRAWS: dict[str, tuple[Callable[[torch.dtype], Tensor], Any]] = {  # the draw by torch's function, and its distribution
    "rand": (lambda t: torch.rand(N, dtype=t), stats.uniform()),
    "rand_like": (lambda t: torch.rand_like(like(t)), stats.uniform()),
    "uniform_": (lambda t: like(t).uniform_(-2.0, 3.0), stats.uniform(-2, 5)),
    "randn": (lambda t: torch.randn(N, dtype=t), stats.norm()),
    "randn_like": (lambda t: torch.randn_like(like(t)), stats.norm()),
    "normal_": (lambda t: like(t).normal_(1.0, 3.0), stats.norm(1, 3)),
    "exponential_": (lambda t: like(t).exponential_(2.0), stats.expon(0, 0.5)),
    "Normal.rsample": (lambda t: Normal(torch.zeros(N, dtype=t), 2.0, validate_args=False).rsample(), stats.norm(0, 2)),
}


@DTYPES
@pytest.mark.parametrize("name", DRAWS)
def test_draws_follow_their_distribution(name: str, dtype: torch.dtype) -> None:
    """Kolmogorov and Smirnov's test of 200,000 numbers, and their first moments within 4 standard errors."""
    draw, expected = DRAWS[name]
    made = noise()
    x = graphed(lambda: draw(dtype), made)().double()
    assert made.draws == 1  # the numbers are ours, not torch's
    assert stats.kstest(x.numpy(), expected.cdf).pvalue > LEVEL
    for power in (1, 2, 3, 4):
        z = (x**power - expected.moment(power)).mean() / (x**power).std() * N**0.5
        assert z.abs() < 4, power


@DTYPES
def test_the_tails_of_a_normal(dtype: torch.dtype) -> None:
    """As many numbers beyond 2, 3 and 4 on either side as there should be; and all finite."""
    x = graphed(lambda: torch.randn(10 * N, dtype=dtype), noise())()
    assert x.isfinite().all()
    for bound in (2.0, 3.0, 4.0):
        for side in (x > bound, x < -bound):
            assert stats.binomtest(int(side.sum()), 10 * N, stats.norm.sf(bound)).pvalue > LEVEL


def test_uniform_numbers_lie_below_one_and_take_all_their_bits() -> None:
    made = noise()
    single, double = (made.uniform(torch.Size((N,)), dtype) for dtype in (torch.float32, torch.float64))
    for x, bits in ((single.double(), 24), (double, 53)):
        whole = x * 2.0**bits
        assert (whole == whole.round()).all() and x.min() >= 0 and x.max() < 1
        assert abs((whole % 2).mean() - 0.5) < 4 * 0.5 / N**0.5  # the last bit too


P = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
DISCRETE: dict[str, Callable[[Tensor], Tensor]] = {  # draws with these probabilities
    "bernoulli": torch.bernoulli,
    "bernoulli_, tensor": lambda p: torch.empty_like(p).bernoulli_(p),
    "bernoulli_, tensor of another type": lambda p: torch.empty_like(p).bernoulli_(p.double()),
    "Bernoulli": lambda p: Bernoulli(p, validate_args=False).sample(),
}


@DTYPES
@pytest.mark.parametrize("name", DISCRETE)
def test_bernoulli(name: str, dtype: torch.dtype) -> None:
    p, made = P.to(dtype).expand(N // 5, 5), noise()
    x = graphed(DISCRETE[name], made, p)()
    assert x.dtype == dtype and made.draws == 1
    assert ((x == 0) | (x == 1)).all()
    for column, probability in zip(x.unbind(1), P.tolist(), strict=True):
        assert stats.binomtest(int(column.sum()), len(column), probability).pvalue > LEVEL


@DTYPES
def test_bernoulli_with_a_number_and_dropout(dtype: torch.dtype) -> None:
    x = torch.ones(N, dtype=dtype)
    for function, kept in (
        (lambda x: torch.empty_like(x).bernoulli_(0.3), 0.3),
        (lambda x: torch.nn.functional.dropout(x, 0.7), 0.3),
        (lambda x: torch.feature_dropout(x[:, None], 0.7, True)[:, 0], 0.3),
    ):
        made = noise()
        out = graphed(function, made, x)()
        assert made.draws == 1
        assert stats.binomtest(int((out > 0).sum()), N, kept).pvalue > LEVEL
    scaled = graphed(lambda x: torch.nn.functional.dropout(x, 0.7), noise(), x)()
    torch.testing.assert_close(scaled[scaled > 0].unique(), torch.tensor([1 / 0.3], dtype=dtype))


# ------------------------------------------------------------------------------------------------------ independence


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1])


def independent(a: Tensor, b: Tensor) -> bool:
    """By Pearson's correlation, of the numbers and of their squares."""
    bound = 4 / math.sqrt(a.numel())
    return not torch.equal(a, b) and max(abs(correlation(a, b)), abs(correlation(a**2, b**2))) < bound


@pytest.mark.parametrize("draw", [lambda: torch.rand(N), lambda: torch.randn(N)], ids=["rand", "randn"])
def test_draws_of_a_call_of_calls_and_of_keys_are_independent(draw: Callable[[], Tensor]) -> None:
    call, other = (graphed(lambda: (draw(), draw()), noise(seed)) for seed in (0, 1))
    (a, b), (c, d), (e, f) = call(), call(), other()
    for one, two in ((a, b), (a, c), (b, d), (a, d), (b, c), (a, e), (b, f)):
        assert independent(one, two)
    for lag in (1, 2, 3, N // 4, N // 2):  # within a draw: words of a counter, pairs of Box & Muller
        assert independent(a[:-lag], a[lag:])
    assert not independent(a, a + 0.1 * b)  # which the test would notice


def test_the_seed_decides_and_the_global_generator_is_left_alone_by_a_call() -> None:
    one, two = (graphed(lambda: torch.randn(5), noise()) for _ in range(2))
    before = torch.random.get_rng_state()
    for _ in range(3):
        torch.testing.assert_close(one(), two(), rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_step_beyond_32_bits_gives_other_numbers() -> None:
    made = noise()
    first = made.words(8)
    made.draws = 0
    made.step.fill_(2**32)
    assert not torch.equal(made.words(8), first)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7])
def test_any_number_of_elements(count: int) -> None:
    for dtype in (torch.float32, torch.float64):
        for draw in (noise().uniform, noise().normal):
            assert draw(torch.Size((count,)), dtype).shape == (count,)
            assert draw(torch.Size((2, count, 3)), dtype).shape == (2, count, 3)


# ------------------------------------------------------------------------------------------------ what stays torch's


def test_other_types_and_given_generators_stay_torchs() -> None:
    generator = torch.Generator().manual_seed(5)
    for function in (
        lambda: torch.rand(4, dtype=torch.bfloat16),
        lambda: torch.randn(4, dtype=torch.complex64),
        lambda: torch.empty(4).normal_(generator=generator),
        lambda: torch.bernoulli(torch.full((4,), 0.5), generator=generator),
        lambda: torch.rand(4, generator=generator),
        lambda: torch.randn(4, generator=generator),
        lambda: torch.normal(torch.zeros(4), torch.ones(4)),
        lambda: torch.bernoulli(torch.ones(4), 0.5),
        lambda: torch._standard_gamma(torch.ones(4)),
        lambda: torch.poisson(torch.ones(4)),
        lambda: torch.randint(5, (4,)),
        lambda: torch.randperm(4),
    ):
        made = noise()
        graph = graphed(function, made)
        assert made.draws == 0
        torch.manual_seed(3)
        generator.manual_seed(5)
        found = graph()
        torch.manual_seed(3)
        generator.manual_seed(5)
        torch.testing.assert_close(found, function(), rtol=0, atol=0)
