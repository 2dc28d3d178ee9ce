"""log_marginal(tolerance=): who gets which method and budget, and that what is reported is true."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, assert_mean, program
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.compiled.backends import interpreted
from pyrovae.evidence import checkpoint, tolerance
from pyrovae.evidence.blocks import Block
from pyrovae.evidence.weights.draws import NOTHING

FEW = pv.Annealing(num_leapfrog=2)


class _PartlyNarrow(nn.Module):
    """The posterior, widened by 1.2 where x_0 > 0, which bounds the weights, else narrowed by 0.4: their k is 0.84."""

    def __init__(self, model: LinearGaussian) -> None:
        super().__init__()
        self.model, self.tril = model, torch.linalg.cholesky(model.V)

    def forward(self, x: Tensor) -> Any:
        spread = torch.where(x[..., 0] > 0, 1.2, 0.4)[..., None, None]
        return dist.MultivariateNormal(x @ self.model.A.T + self.model.c, scale_tril=spread * self.tril)


def _partly_narrow(num_data: int) -> tuple[LinearGaussian, pv.VAE, Tensor]:
    """Data whose guide is wide and narrow in turns."""
    model = LinearGaussian(1, 3)
    vae = pv.VAE(model.program.prior, model.program.decoder, _PartlyNarrow(model))
    x, half = model.data(10 * num_data), num_data // 2
    return model, vae, torch.stack([x[x[:, 0] > 0][:half], x[x[:, 0] < 0][:half]], 1).flatten(0, 1)


def _log_marginal(*args: Any, **options: Any) -> pv.Evidence:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        return pv.log_marginal(*args, **{"seed": 0, "annealing": FEW} | options)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pilots and budgets so short that a test takes a second."""
    for name, value in {"PARTICLES": 100, "SCOUTS": 4, "SCOUT_STEPS": 5, "LEAST_STEPS": 5}.items():
        monkeypatch.setattr(tolerance, name, value)


# ----------------------------------------------------------------------------------------- what is chosen, and is true


def test_k_hat_selects_the_method_and_what_is_reached_is_true(double: None) -> None:
    """Wide: importance sampling; narrow: annealing, but for one in ten whose k-hat misses it. Errors are as stated.

    Of 450 narrow data reached with these budgets (seed 0), 0.4 % are off by more than twice the tolerance, and 0.4 % by
    more than four times the larger of standard error and spread: sixteen chains tell an error to a fifth.
    """
    model, vae, x = _partly_narrow(80)
    ev = _log_marginal(vae, x, tolerance=0.1, num_steps=200)
    wide = x[:, 0] > 0
    assert ev.plan is not None and (~ev.plan.by_annealing == wide).double().mean() > 0.9
    assert not ev.plan.by_annealing[wide].any() and ev.reached[wide].all()
    assert ev.reached[~wide].double().mean() > 0.5
    error = (ev.log_prob - model.log_prob(x)).abs()[ev.reached]
    stated = ev.standard_error.maximum(ev.spread.nan_to_num(0.0))[ev.reached]
    assert (stated <= 0.1).all()
    assert (error > 4 * stated).double().mean() < 0.03 and (error > 0.2).double().mean() < 0.03
    assert ev.plan.cost < 0.8 * ev.plan.uniform_cost
    alone = _log_marginal(vae, x, num_particles=782, annealing=None)
    assert alone.unreliable[~wide].double().mean() > 0.5  # the narrow data needed another method


def test_p_hat_is_unbiased_under_a_plan(double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 10,000 replicates of one datum E[p-hat] / p = 1 within 4 standard errors, though their budgets differ.

    The test has power: were the pilot's particles kept for the estimate, it would be 1.04.
    """
    for name, value in {"PARTICLES": 20, "LARGEST_K": math.inf, "LEAST_ESS": 0.0}.items():
        monkeypatch.setattr(tolerance, name, value)
    model = LinearGaussian(2, 3, spread=2.0)  # of bounded weights
    x = model.data(1).expand(10_000, -1)
    ev = _log_marginal(model.program, x, tolerance=0.35, num_particles=80, num_steps=5)
    assert ev.plan is not None and len(ev.plan.groups()) >= 3
    assert_mean((ev.log_prob - model.log_prob(x)).exp(), 1.0)

    with torch.no_grad():
        w = (pv.log_terms(model.program, x, num_particles=80).log_point_weight - model.log_prob(x)).exp() * 80
    first = w[:20]
    error = first.std(0) / first.mean(0) / math.sqrt(20)
    number = tolerance.rung(20 * (tolerance.SAFETY * error / 0.35).square(), 20, 80)
    kept = (w.cumsum(0).gather(0, number[None] - 1) / number)[0]
    assert kept.mean() - 1 > 10 * kept.std() / math.sqrt(10_000)


def test_annealed_p_hat_is_unbiased_under_a_plan(double: None, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerance, "LEAST_ESS", math.inf)
    model = LinearGaussian(1, 3, spread=1.5)
    x = model.data(1).expand(600, -1)
    ev = _log_marginal(model.program, x, tolerance=0.1, num_steps=20)
    assert ev.plan is not None and ev.plan.by_annealing.all() and len(ev.plan.groups()) >= 2
    assert_mean((ev.log_prob - model.log_prob(x)).exp(), 1.0)


def test_what_cannot_be_reached_is_said(double: None, short: None) -> None:
    _, vae, x = _partly_narrow(6)
    with pytest.warns(pv.EvidenceWarning) as said:
        ev = pv.log_marginal(vae, x, tolerance=0.001, num_particles=200, num_steps=10, seed=0, annealing=FEW)
    assert any("the tolerance of 0.001 nats was not reached for 6 of 6 data" in str(each.message) for each in said)
    assert not ev.reached.any() and ev.plan is not None
    assert set(ev.plan.groups()) <= {(False, 200, 1), (True, tolerance.CHAINS, 10)}  # the largest


def test_the_exact_guide_costs_least(double: None) -> None:
    model = LinearGaussian(2, 3)
    x = model.data(4)
    ev = pv.log_marginal(model.program, x, tolerance=0.01, seed=0)
    assert ev.plan is not None and ev.reached.all() and (ev.plan.budget < 1000).all()
    torch.testing.assert_close(ev.log_prob, model.log_prob(x))


@pytest.mark.parametrize(
    ("tolerance_", "steps", "by_annealing"), [(0.02, 100.0, True), (0.1, 100.0, False), (0.02, math.inf, False)]
)
def test_annealing_is_chosen_where_it_is_cheaper(
    double: None, monkeypatch: pytest.MonkeyPatch, tolerance_: float, steps: float, by_annealing: bool
) -> None:
    """Of a wide guide with sound weights, E[w^2] / p^2 - 1 = 3: 17,000 particles for 0.02, against 10,000 passes.

    Not where fewer particles do, nor where it is foretold that annealing does not.
    """
    monkeypatch.setattr(tolerance, "steps_needed", lambda variance, _: torch.full_like(variance, steps))
    model = LinearGaussian(6, 8, spread=1.6)
    ev = _log_marginal(model.program, model.data(3), tolerance=tolerance_, num_steps=100)
    assert ev.plan is not None and (ev.plan.by_annealing == by_annealing).all()


def test_what_is_foretold_of_a_datum_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own chains, whatever those of the data beside it say."""
    monkeypatch.setattr(tolerance, "_Scouts", lambda *_: SimpleNamespace(start="guide"))
    request = tolerance.Request(0.1, 1000, 1000, FEW, NOTHING)

    def foretold(*own: float) -> float:
        def run(*_: Any) -> list[Block]:
            return [Block({"variance": torch.tensor(own, dtype=torch.float64)})]

        found = tolerance._scouted(None, request, torch.ones(3, dtype=torch.bool), run)  # type: ignore[arg-type]
        return found.variance[0].item()

    assert foretold(1.0, 1.0, 1.0) == foretold(1.0, 50.0, 50.0) == foretold(1.0, 0.1, math.nan) > 1.0


def test_the_sampling_error_of_a_variance() -> None:
    """Of sixteen normal log-weights, an estimate is below the truth as often as not; the upper one in 20 %."""
    torch.manual_seed(0)
    variance = (3 * torch.randn(16, 20_000, dtype=torch.float64)).var(0)
    assert (tolerance.upper(variance) < 9).double().mean().item() == pytest.approx(0.2, abs=0.01)


def test_rungs() -> None:
    needed = torch.tensor([0.0, 100.0, 124.0, 126.0, 500.0, 501.0, 1000.0, 1001.0, math.inf])
    assert tolerance.rung(needed, 100, 1000).tolist() == [125, 125, 125, 250, 500, 1000, 1000, 1000, 1000]
    assert tolerance.rung(needed, 500, 200).tolist() == [200] * 9


def test_budgets_are_passes_through_the_decoder(double: None, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As counted, but for pilots of annealing, which walk less than an ordinary one where the path is short."""
    _, vae, x = _partly_narrow(40)
    rows = 0

    def count(module: nn.Module, args: Any, out: Any) -> None:
        nonlocal rows
        rows += args[0].shape[:-1].numel() * (1 + args[0].requires_grad)

    vae.decoder.register_forward_hook(count)
    ev = _log_marginal(vae, x, tolerance=0.1, num_steps=20)
    assert ev.plan is not None and ev.plan.by_annealing.any()
    assert 0.5 * ev.plan.cost < rows < 1.1 * ev.plan.cost


# -------------------------------------------------------------------------------------------------- what goes with it


def test_the_same_seed_gives_the_same_bits_and_leaves_the_generator(double: None, short: None) -> None:
    _, vae, x = _partly_narrow(6)
    state = torch.random.get_rng_state()
    once, twice, other = (_log_marginal(vae, x, tolerance=0.2, num_steps=10, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(once.log_prob, twice.log_prob) and not torch.equal(once.log_prob, other.log_prob)
    torch.manual_seed(0)
    free = [_log_marginal(vae, x, tolerance=0.2, num_steps=10, seed=None).log_prob for _ in range(2)]
    assert not torch.equal(*free)


def test_a_run_that_was_stopped_goes_on(
    double: None, short: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped after each of its blocks in turn, pilots included, it gives the bits of one that was not."""
    _, vae, x = _partly_narrow(8)
    options: dict[str, Any] = {"tolerance": 0.2, "num_steps": 10, "memory": 100_000}
    whole = _log_marginal(vae, x, **options)
    add, stops = checkpoint.Stage.add, 0

    def stopping(stage: Any, block: Any) -> None:
        add(stage, block)
        stage.write()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Stage, "add", stopping)
    path = tmp_path / "checkpoint"
    while True:
        try:
            ev = _log_marginal(vae, x, checkpoint=path, **options)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 4
    for name in ("log_prob", "standard_error", "pareto_k", "runs", "acceptance"):
        assert torch.equal(getattr(ev, name).nan_to_num(-1.0), getattr(whole, name).nan_to_num(-1.0))
    with pytest.raises(pv.PyrovaeError, match=r"tolerance: 0\.2 there, 0\.3 here"):
        _log_marginal(vae, x, checkpoint=path, **options | {"tolerance": 0.3})


@pytest.mark.parametrize("stage", ["pilot", "pilot of annealing", "steps", "particles"])
def test_each_stage_goes_on_only_as_it_was_begun(
    double: None, short: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str
) -> None:
    """Stopped in any of its stages, it does not go on with another memory or compiled, were those before it the same.

    So they may be: the sizes and the graph of the pilot do not tell those of the stages after it.
    """
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)
    _, vae, x = _partly_narrow(8)
    options: dict[str, Any] = {"tolerance": 0.2, "num_steps": 10, "memory": 200_000, "compile": False}
    path, begin = tmp_path / "checkpoint", checkpoint.Checkpoint.stage

    def stopped(own: Any, name: str, how: Any) -> Any:
        monkeypatch.setattr(checkpoint.Stage, "add", _add_and_stop if name.endswith(stage) else add)
        return begin(own, name, how)

    def others_the_same(own: Any, name: str, how: Any) -> Any:
        return begin(own, name, how if name.endswith(stage) else own.stages[name].how)

    add = checkpoint.Stage.add
    monkeypatch.setattr(checkpoint.Checkpoint, "stage", stopped)
    with pytest.raises(KeyboardInterrupt):
        _log_marginal(vae, x, checkpoint=path, **options)
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint.Checkpoint, "stage", others_the_same)
    for other, differs in (({"memory": 20_000}, "at once: "), ({"compile": True}, "compiled: False there, True here")):
        with pytest.raises(pv.PyrovaeError, match=rf"another estimate \([\w ]*{stage}, {differs}"):
            _log_marginal(vae, x, checkpoint=path, **options | other)
        assert path.read_bytes() == before


def _add_and_stop(stage: checkpoint.Stage, block: Any) -> None:
    stage.blocks.append(block)
    raise KeyboardInterrupt


def test_draws_and_expectations_are_those_of_their_data(double: None, short: None) -> None:
    model, vae, x = _partly_narrow(10)
    ev = _log_marginal(
        vae, x, tolerance=0.2, num_steps=10, num_draws=200, expectations={"z": lambda latents: latents["z"]}
    )
    assert ev.plan is not None and 0 < ev.plan.by_annealing.sum() < 10
    assert ev.draws is not None and torch.equal(ev.draws.observed["x"], x)
    mean = ev.draws.posterior["z"].mean(0)
    posterior = model.posterior(x)
    assert ((mean - posterior.mean).abs() < 1.0 * posterior.stddev).all()  # 16 chains for 200 draws
    assert ((ev.expectations["z"].mean - posterior.mean).abs() < 1.0 * posterior.stddev).all()
    assert posterior.mean.std() > 3 * posterior.stddev.mean()  # so that another order would be seen
    assert ev.draws.posterior_predictive["x"].shape == (200, 10, 3)


def test_memory_maps(double: None, short: None, tmp_path: Path) -> None:
    """Also where a group is of one datum."""
    _, vae, x = _partly_narrow(6)
    np.save(tmp_path / "x.npy", x[:3].numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    options: dict[str, Any] = {"tolerance": 0.2, "num_steps": 10}
    assert torch.equal(_log_marginal(vae, mapped, **options).log_prob, _log_marginal(vae, x[:3], **options).log_prob)


def test_trees_and_given(double: None, short: None) -> None:
    """x = {"a": ...}, given a scale for each datum: exact, and in the order of the data."""

    def model(x: Any, scale: Tensor) -> None:
        with pyro.plate("data", len(scale)):
            z = pyro.sample("z", dist.Normal(0.0, scale))
            pyro.sample("x.a", dist.Normal(z, 1.0), obs=x["a"])

    def guide(x: Any, scale: Tensor) -> None:
        with pyro.plate("data", len(scale)):
            v = scale**2 / (1 + scale**2)
            wide = torch.where(x["a"] > 0, 1.2, 0.5)
            pyro.sample("z", dist.Normal(v * x["a"], wide * v.sqrt()))

    torch.manual_seed(0)
    scale, x = 0.5 + torch.rand(20), {"a": 2 * torch.randn(20)}
    ev = _log_marginal(program(model, guide), x, scale, tolerance=0.2, num_steps=20)
    exact = dist.Normal(0.0, (1 + scale**2).sqrt()).log_prob(x["a"])
    assert ev.plan is not None and 0 < ev.plan.by_annealing.sum() < 20
    assert ((ev.log_prob - exact).abs()[ev.reached] < 0.6).all() and exact.std() > 0.6


def test_a_program_that_cannot_be_annealed_is_importance_sampled(double: None, short: None) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)))
            pyro.sample("x", dist.Normal(4 * y, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(torch.tensor(0.5)))

    with pytest.warns(pv.EvidenceWarning, match="annealing was not possible: .* this program has none"):
        ev = pv.log_marginal(program(model, guide), torch.zeros(3), tolerance=1e-4, num_particles=200, seed=0)
    assert ev.plan is not None and not ev.plan.by_annealing.any() and (ev.plan.num_particles == 200).all()


def test_summary_and_record(double: None, short: None) -> None:
    _, vae, x = _partly_narrow(6)
    ev = _log_marginal(vae, x, tolerance=0.2, num_steps=10)
    text = ev.summary()
    for part in ("to a tolerance of 0.2 nats", "k-hat above", "or runs apart by", "tolerance reached", "by annealing",
                 "by importance sampling", "passes through the decoder", "for the pilot"):  # fmt: skip
        assert part in text
    record = json.loads(json.dumps(ev.record()))
    assert ev.plan is not None and record["tolerance"] == 0.2 and record["method"] == "mixed"
    assert record["cost"] == ev.plan.cost and record["uniform_cost"] == ev.plan.uniform_cost
    assert record["share_reached"] == ev.reached.double().mean().item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.1, "method": "importance"}, "a tolerance decides on the method"),
        ({"tolerance": 0.0}, "positive number of nats"),
        ({"tolerance": math.nan}, "positive number of nats"),
        ({"method": "mixed"}, "method must be one of"),
        ({"num_steps": 10, "annealing": None}, "or a tolerance"),
        ({"tolerance": 0.1, "num_particles": 0}, "num_particles must be positive"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    model = LinearGaussian(1, 2)
    with pytest.raises(pv.PyrovaeError, match=message):
        _log_marginal(model.program, model.data(2), **{"annealing": None} | options)


def test_no_tolerance_is_reached_where_none_was_asked_for() -> None:
    model = LinearGaussian(1, 2)
    with pytest.raises(pv.PyrovaeError, match="no tolerance"):
        _ = pv.log_marginal(model.program, model.data(2), num_particles=50, seed=0).reached
