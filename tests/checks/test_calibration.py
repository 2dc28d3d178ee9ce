"""Calibration passes exact guides and no others, whatever the program's latents are."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, program
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.checks import Calibration
from pyrovae.checks.calibration import LOG_JOINT


def test_an_exact_guide_passes() -> None:
    found = pv.calibration(LinearGaussian(3, 5).program, num_data=500, seed=0)
    assert found.passed() and found.p_value > 0.01
    assert found.ranks["z"].shape == (500, 3) and found.ranks[LOG_JOINT].shape == (500, 1)
    assert found.ranks["z"].min() == 0 and found.ranks["z"].max() == found.num_draws == 99
    assert "no fault found" in found.summary()


@pytest.mark.parametrize(
    ("guide", "spread", "mean"),
    [
        ({"spread": 0.7}, (1.05, 1.4), (0.4, 0.6)),
        ({"spread": 1.5}, (0.6, 0.95), (0.4, 0.6)),
        ({"shift": 0.15}, (0.8, 1.2), (0.0, 0.47)),
    ],
)
def test_other_guides_fail(guide: dict[str, float], spread: Any, mean: Any) -> None:
    found = pv.calibration(LinearGaussian(3, 5, **guide).program, num_data=500, seed=0)
    assert not found.passed() and (found.p_values["z"].min() < 1e-4)
    assert "is not the posterior" in found.summary()
    row = next(line for line in found.summary().splitlines() if line.startswith("z")).split()
    assert mean[0] < float(row[4]) < mean[1] and spread[0] < float(row[5]) < spread[1]
    worst = found.worst(2)
    assert worst[0].p_value <= worst[1].p_value == found.p_values[worst[1].name][worst[1].dimension]


def test_a_guide_that_ignores_x_is_found_by_log_p() -> None:
    """The prior: its ranks of z are uniform."""
    model = LinearGaussian(1, 3)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))

    wrong = program(model.program.model, guide)
    found = pv.calibration(wrong, num_data=500, seed=0)
    assert found.p_values["z"].min() > 0.01 and found.p_values[LOG_JOINT].min() < 1e-6 and not found.passed()


def conjugate(wide: float) -> Any:
    """z ~ Gamma(3, 2), x ~ Poisson(g z), z | x ~ Gamma(3 + x, 2 + g), and the variance of the guide ``wide`` times."""

    def model(x: Tensor | None, g: Tensor, num_data: int | None = None) -> Tensor:
        with pyro.plate("data", len(g) if num_data is None else num_data, dim=-1):
            z = pyro.sample("z", dist.Gamma(3.0, 2.0))
            return pyro.sample("x", dist.Poisson(g * z), obs=x)

    def guide(x: Tensor, g: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Gamma((3.0 + x) / wide, (2.0 + g) / wide))

    return program(model, guide)


@pytest.mark.parametrize(("wide", "passes"), [(1.0, True), (2.0, False)])
def test_constrained_latents_and_conditions(wide: float, passes: bool) -> None:
    g = torch.linspace(0.5, 8, 400)
    found = pv.calibration(conjugate(wide), g, num_data=400, seed=0)
    assert found.passed() == passes and found.ranks["z"].shape == (400, 1)


@pytest.mark.parametrize(("correlated", "passes"), [(True, True), (False, False)])
def test_several_latents_and_quantities_of_them(correlated: bool, passes: bool) -> None:
    """a, b ~ N(0, 1), x ~ N(a + b, 1): without their correlation the marginals are right, but not a + b."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(a + b[..., 0], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Normal(x / 3, math.sqrt(2 / 3)))
            loc, scale = ((x - a) / 2, math.sqrt(1 / 2)) if correlated else (x / 3 + 0 * a, math.sqrt(2 / 3))
            loc = torch.stack([loc, torch.zeros_like(loc)], -1)
            pyro.sample("b", dist.Normal(loc, torch.tensor([scale, 1.0])).to_event(1))

    found = pv.calibration(
        program(model, guide), num_data=600, num_draws=49, seed=0, like=torch.zeros(3),
        quantities={"sum": lambda z: z["a"] + z["b"][..., 0]},
    )  # fmt: skip
    assert list(found.ranks) == ["a", "b", LOG_JOINT, "sum"] and found.ranks["b"].shape == (600, 2)
    assert found.passed() == passes and (found.p_values["sum"].min() > 0.01) == passes
    assert found.p_values["a"].min() > 1e-3 and found.p_values["b"].min() > 1e-3


@pytest.mark.parametrize(("power", "passes"), [(1.0, True), (0.3, False)])
@pytest.mark.parametrize("enumerate", ["parallel", None])
def test_discrete_latents_have_their_ties_broken_at_random(power: float, passes: bool, enumerate: str | None) -> None:
    weights, loc = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([-1.0, 0.5, 2.0])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(loc[y], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        logits = weights.log() + dist.Normal(loc, 1.0).log_prob(x[:, None])
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Categorical(logits=power * logits), infer={"enumerate": enumerate})

    found = pv.calibration(program(model, guide), num_data=600, seed=0, like=torch.zeros(1))
    assert found.passed() == passes


def test_a_latent_of_the_model_alone_is_summed_out() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(torch.stack(torch.broadcast_tensors(z, y), -1), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x[:, 0] / 2, math.sqrt(0.5)))

    found = pv.calibration(program(model, guide), num_data=300, seed=0, like=torch.zeros(1, 2))
    assert list(found.ranks) == ["z", LOG_JOINT] and found.passed()


def test_noise_of_a_dequantization_is_no_latent() -> None:
    decoder = pv.Dequantized(pv.Conditional(nn.Linear(2, 6), pv.families.logit_normal), num_levels=4)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, pv.Conditional(nn.Linear(3, 4), pv.families.normal))
    assert list(pv.calibration(vae, num_data=10, num_draws=5, seed=0).ranks) == ["z", LOG_JOINT]


def test_the_seed_and_the_global_generator() -> None:
    vae = LinearGaussian(2, 3).program
    before = torch.get_rng_state()
    first, again, other = (pv.calibration(vae, num_data=30, num_draws=9, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.ranks["z"], again.ranks["z"]) and not torch.equal(first.ranks["z"], other.ranks["z"])


def test_networks_that_cannot_take_particles() -> None:
    class OnlyRows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows, _ = x.shape
            assert rows
            return self.linear(x)

    decoder = pv.Conditional(nn.Sequential(OnlyRows(), nn.Linear(4, 6)), pv.families.normal)
    encoder = pv.Conditional(nn.Linear(3, 6), pv.families.normal)
    found = pv.calibration(pv.VAE(pv.priors.StandardNormal(3), decoder, encoder), num_data=20, num_draws=9, seed=0)
    assert found.ranks["z"].shape == (20, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_data": 1}, "num_data must be at least 2; got 1"),
        ({"num_draws": 0}, "num_draws must be positive; got 0"),
        ({"quantities": {"all": lambda z: z["z"]}}, r"'all' must give one number .* \(9, 20\); got \(9, 20, 2\)"),
        ({"quantities": {"bad": lambda z: z["z"][..., 0] * math.nan}}, "bad is nan"),
    ],
)
def test_faults(options: dict[str, Any], message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.calibration(LinearGaussian(2, 3).program, **{"num_data": 20, "num_draws": 9, **options})


@pytest.mark.parametrize(("num_data", "num_draws", "few"), [(2, 1, True), (4, 9, False), (50, 19, False)])
def test_too_few_ranks_find_no_fault_and_say_so(num_data: int, num_draws: int, few: bool) -> None:
    worst = Calibration({"z": torch.zeros(num_data, 3, dtype=torch.long)}, num_draws)
    assert worst.p_value == pytest.approx(worst.least_p_value) and worst.passed() == few
    assert ("too few data and draws to find any fault" in worst.summary()) == few
