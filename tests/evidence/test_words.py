"""What a summary and a warning say: counts in grammar, why, and what may help."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from exact import LinearGaussian
from torch import Tensor

import pyrovae as pv

QUICK: dict[str, Any] = {"seed": 0, "progress": False}
pytestmark = pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")


@pytest.fixture(scope="module")
def program() -> Any:
    return LinearGaussian(2, 4, spread=1.5).program


@pytest.fixture(scope="module")
def x() -> Iterator[Tensor]:
    yield LinearGaussian(2, 4).data(6)


@pytest.mark.parametrize("count", [1, 10])
def test_too_few_particles_for_k_hat(program: Any, x: Tensor, count: int) -> None:
    with pytest.warns(pv.EvidenceWarning, match="too few particles for k-hat, for 100.0 %.*help: method='annealed'"):
        ev = pv.log_marginal(program, x, num_particles=count, **QUICK)
    text = ev.summary()
    assert text.splitlines()[1].startswith("too few particles for k-hat  100.0 %") and "inf" not in text
    assert ("1 particle," in text) == (count == 1) and "1 particles" not in text and "what may help" in text


def test_one_chain_is_too_few_to_compare(program: Any, x: Tensor) -> None:
    with pytest.warns(pv.EvidenceWarning, match="too few chains to compare.*more num_steps.*start='prior'"):
        ev = pv.log_marginal(program, x, method="annealed", num_particles=1, num_steps=1, **QUICK)
    assert "1 chain of 1 step," in ev.summary() and "runs apart" not in ev.summary()


def test_a_sound_result_is_not_advised(program: Any, x: Tensor) -> None:
    text = pv.log_marginal(program, x, num_particles=2000, **QUICK).summary()
    assert "what may help" not in text and "k-hat above 0.70" in text


def test_an_exact_result_has_no_seed(program: Any, x: Tensor) -> None:
    assert "seed" not in pv.log_marginal(program, x, method="exact").summary()


def test_a_tolerance_says_why_it_was_not_reached_and_what_may_help(program: Any, x: Tensor) -> None:
    with pytest.warns(pv.EvidenceWarning, match=r"not reached for 6 of 6.*6 for their error, 0 with.*larger num_steps"):
        ev = pv.log_marginal(program, x, tolerance=1e-6, num_particles=500, num_steps=100, **QUICK)
    rows = {line.split("  ")[0]: line for line in ev.summary().splitlines() if not line.startswith(" ")}
    assert "1e-06 nats at most, none with " in rows["tolerance reached"]
    assert "6 for their error, 0 with" in ev.summary() and "what may help" in ev.summary()
    assert ev.plan is not None
    assert "tensor" not in repr(ev.plan) and repr(ev.plan).startswith("Plan to 1e-06 nats")
    count = sum("of the data" in line for line in repr(ev.plan).splitlines())
    assert count == len({bool(each) for each in ev.plan.by_annealing}) and "no particles" not in repr(ev.plan)


def test_a_gap_that_one_datum_makes(x: Tensor) -> None:
    def sandwich(gap: list[float]) -> str:
        zero = torch.zeros(len(gap)).double()
        upper = torch.tensor(gap).double()
        return pv.evidence.Sandwich(zero, upper, upper, x, (), "importance", 1).summary()

    assert "over half of the sum" in sandwich([0.1, 9.0, 0.2]) and "1 particle," in sandwich([0.1])
    assert not any("over half" in sandwich(gap) for gap in ([0.1, 0.1, 0.1], [9.0], [-1.0, 0.5]))
