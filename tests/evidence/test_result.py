"""What an estimate says of itself: whose errors it does not trust."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.evidence.plan import Plan
from pyrovae.evidence.weights.streaming import Accumulator

CHAINS, RUNS = 16, 4


def _annealed(log_w: Tensor) -> pv.Evidence:
    """What chains of such log-weights (C, N) give."""
    accumulator = Accumulator(log_w.shape[1], len(log_w))
    accumulator.add(log_w)
    runs = log_w.unflatten(0, (RUNS, -1)).logsumexp(1) - math.log(len(log_w) / RUNS)
    figures: dict[str, Any] = accumulator.figures()
    return pv.Evidence(
        **figures, runs=runs, method="annealed", num_steps=100, num_particles=len(log_w), num_dimensions=1
    )


def _log_weights(sd: Tensor, kind: str) -> Tensor:
    """Of p = 1 and of that standard deviation: normal, as in the limit of many steps, or skewed to the left."""
    if kind == "normal":
        return sd * torch.randn(CHAINS, len(sd), dtype=torch.float64) - sd**2 / 2
    scale = sd / math.sqrt(2)
    gamma = torch.distributions.Gamma(2.0, 1.0).sample((CHAINS, len(sd))).double()
    return 2 * scale.log1p() - scale * gamma


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_sixteen_chains_seldom_pass_where_another_run_would_differ(kind: str) -> None:
    """True spreads of 0.03 to 0.8 nats: the four groups alone, with three degrees of freedom, would let too much pass.

    Of the data whose spread is above 0.15 that is 6 % (normal) and 13 % (skewed), here 0.3 %; of all that pass 3.0 and
    1.5 % would be off by more than 0.4 nats, here 0.06 % and none. Hardly any whose spread is below 0.06 are flagged.
    """
    torch.manual_seed(0)
    sd = torch.linspace(0.1, 2.0, 20, dtype=torch.float64).repeat_interleave(1000)
    ev = _annealed(_log_weights(sd, kind))
    true = ev.log_prob.unflatten(0, (20, 1000)).std(1).repeat_interleave(1000)
    passed = ~ev.unreliable
    assert ev.runs is not None and ((ev.runs.std(0) / 2 <= 0.1) >= passed).all()
    assert passed[true > 0.15].double().mean() < 0.01 and passed[true < 0.06].double().mean() > 0.98
    off = ev.log_prob[passed].abs()
    assert (off > 0.4).double().mean() < 0.002
    assert (off > 4 * ev.standard_error[passed]).double().mean() < 0.01


def test_the_spread_of_one_group_is_not_known() -> None:
    ev = replace(_annealed(torch.zeros(16, 2, dtype=torch.float64)), runs=torch.zeros(1, 2))
    assert ev.spread.isnan().all() and ev.unreliable.all()


@pytest.mark.parametrize(
    ("numbers", "sign", "limits"),
    [
        ((500, 1000, 50_000), "k-hat above 0.63 to 0.70", [0.6295, 0.7]),
        ((1000, 1000, 16), "k-hat above 0.67 or runs apart by over 0.1 nats", [0.6667]),
        ((16, 16, 16), "runs apart by over 0.1 nats", []),
    ],
)
def test_the_limits_of_k_hat_go_by_the_particles_of_each_datum(
    numbers: tuple[int, ...], sign: str, limits: list[float]
) -> None:
    number = torch.tensor(numbers)
    plan = Plan(0.1, number == 16, number, number, number, number)
    ev = replace(_annealed(torch.randn(16, 3, dtype=torch.float64)), num_particles=max(numbers), plan=plan)
    assert ev.sign == sign and sign in ev.summary()
    assert json.loads(json.dumps(ev.record()))["pareto_k_thresholds"] == pytest.approx(limits, abs=1e-4)
