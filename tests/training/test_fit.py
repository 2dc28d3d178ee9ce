"""fit: the training loop is what a plain loop would do, with every option, and a run leaves a whole record."""

from __future__ import annotations

import copy
import importlib
import json
import math
import re
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from small import SGD, D, Point, bits, by_hand, fit, reals, same, state, vae
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.compiled.backends import interpreted
from pyrovae.objectives import elbo, iwae
from pyrovae.terms import LogTerms
from pyrovae.training import trainer
from pyrovae.training.progress import Lines
from pyrovae.training.schedules import Cosine, Warmup

# --------------------------------------------------------------------------------------- what a plain loop would do


@pytest.mark.parametrize("optimizer", [partial(torch.optim.Adam, lr=0.05), SGD, partial(torch.optim.RMSprop, lr=0.01)])
def test_it_is_a_plain_loop(optimizer: Any) -> None:
    program, hand, x = Point(), Point(), reals()
    values = by_hand(hand, x, optimizer(hand.parameters()), 6)
    run = fit(program, x, epochs=6, batch_size=30, optimizer=optimizer)
    assert run.program is program
    torch.testing.assert_close(run.column("objective"), values, rtol=1e-5, atol=0)
    for found, expected in zip(program.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    assert run.column("objective") == sorted(run.column("objective"))
    assert not program.training


def test_float64_programs() -> None:
    program, hand, x = Point().double(), Point().double(), reals().double() + 1e-9
    by_hand(hand, x, SGD(hand.parameters()), 20)
    fit(program, x, epochs=20, batch_size=30, optimizer=SGD)
    for found, expected in zip(program.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    made = vae().double()
    assert fit(made, bits().double(), optimizer=torch.optim.AdamW).history[-1]["skipped"] == 0
    assert pv.sample(made, 2).dtype == pv.encode(made, bits()).mean.dtype == torch.float64


@pytest.mark.parametrize("batch_size", [1, 7, 29, 30, 1000])
def test_batches_of_any_size(batch_size: int) -> None:
    """The record is the mean over the data, however they are cut; the last batch may hold a single datum."""
    program, x = Point(), reals()
    run = fit(program, x, epochs=1, batch_size=batch_size, optimizer=partial(torch.optim.SGD, lr=0.0))
    record = run.history[0]
    assert record["objective"] == pytest.approx(program.value(x).mean().item(), rel=1e-5)
    assert record["objective"] == pytest.approx(record["log_px_z"] - record["kl"], rel=1e-5)
    assert record["skipped"] == 0


@pytest.mark.parametrize("batch_size", [1, 7])
def test_every_datum_is_seen_once_an_epoch_in_another_order(batch_size: int) -> None:
    seen: list[float] = []

    def watched(t: LogTerms) -> Tensor:
        seen.extend(t.sites["x"].value[:, 0].tolist())
        return elbo(t)

    x = torch.arange(30.0).unsqueeze(1).expand(30, 3)
    fit(Point(), x / 30, epochs=2, batch_size=batch_size, objective=watched, optimizer=partial(torch.optim.SGD, lr=0.0))
    one, two = seen[-60:-30], seen[-30:]
    assert sorted(one) == sorted(two) == (x[:, 0] / 30).tolist()
    assert one != two
    assert one != sorted(one)


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
@pytest.mark.parametrize("prior", [lambda e: pv.priors.NormalMixture(D, 3), lambda e: pv.priors.VampPrior(e, bits(4))])
@pytest.mark.parametrize(
    ("gradient", "objective", "num_particles"),
    [
        (pv.gradients.plain, elbo, 1),
        (pv.gradients.plain, iwae, 4),
        (pv.gradients.path, elbo, 2),
        (pv.gradients.doubly_reparameterised, iwae, 4),
    ],
)
def test_the_estimators_train(prior: Any, gradient: Any, objective: Any, num_particles: int) -> None:
    x, program = bits(60), vae(prior)
    before = pv.log_marginal(program, x, num_particles=100, seed=0).mean
    options = {"gradient": gradient, "objective": objective, "num_particles": num_particles}
    run = fit(program, x, epochs=15, optimizer=partial(torch.optim.Adam, lr=0.02), **options)
    assert pv.log_marginal(program, x, num_particles=100, seed=0).mean > before + 0.1
    assert run.history[-1]["objective"] > run.history[0]["objective"]


# ----------------------------------------------------------------------------------------------------------- seeds


def weights(seed: int, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    program = vae()
    torch.manual_seed(len(options))  # whatever the global state is
    return state(fit(program, torch.full((30, 6), 0.5), seed=seed, draw=torch.bernoulli, **options).program)


def test_what_is_checked_before_the_first_step_takes_no_gradients() -> None:
    """A module that learns from what it sees while gradients are taken, as running statistics do, sees no probe."""
    seen: list[int] = []
    program = vae()
    program.decoder.register_forward_hook(lambda m, args, out: seen.append(len(args[0])) if grads_on(m) else None)
    fit(program, bits(30), validation=bits(20, seed=1), epochs=1, batch_size=30, compile=False)
    assert seen == [30]


def grads_on(module: nn.Module) -> bool:
    return module.training and torch.is_grad_enabled()


def test_same_seed_same_bits() -> None:
    assert same(weights(1), weights(1))
    assert same(weights(1), weights(1, progress=True))  # the global state and a progress bar change nothing
    assert not same(weights(1), weights(2))


def test_validation_does_not_change_the_training() -> None:
    """Neither by its random numbers nor by leaving evaluation mode behind."""
    x, programs = bits(), []
    for validation in (None, bits(20, seed=1)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 2 * D))
        program = pv.VAE(vae().prior, vae().decoder, pv.Conditional(net, pv.families.normal))
        seen: list[bool] = []
        net.register_forward_hook(lambda *_, net=net, seen=seen: seen.append(net.training))
        validate = Last(validation)
        fit(program, x, validation=validation, callbacks=[validate])
        programs.append(validate.weights)
        assert seen[-1] is (validation is None)  # the validation itself is in evaluation mode
    assert same(*programs)


class Last:
    """Keeps the weights of the last epoch, whichever are kept in the end."""

    weights: dict[str, Tensor]

    def __init__(self, label: Any = None) -> None:
        self.label = label

    def on_epoch_end(self, run: pv.Run) -> None:
        self.weights = state(run.program)


def test_every_batch_is_drawn_afresh() -> None:
    seen: list[Tensor] = []

    def watched(t: LogTerms) -> Tensor:
        seen.append(t.sites["x"].value)
        return elbo(t)

    grey = torch.full((8, 6), 0.5)
    fit(vae(), grey, epochs=4, objective=watched, draw=torch.bernoulli)
    batches = seen[-4:]  # before them the checks
    assert all(batch.shape == (8, 6) and batch.unique().tolist() == [0, 1] for batch in batches)
    assert len({tuple(batch.flatten().tolist()) for batch in batches}) == 4
    data = pv.data.load("digits")
    seen.clear()
    fit(pv.vae(data, latent=D, hidden=(4,)), data, epochs=1, batch_size=400, objective=watched)
    assert seen[-2].unique().tolist() == [0, 1]
    assert not torch.equal(data.train.x, data.train.x.round())


# ------------------------------------------------------------------------------------------------------- schedules


def test_the_learning_rate_follows_its_schedule() -> None:
    seen: list[tuple[float, int]] = []

    def schedule(epoch: float, epochs: int) -> float:
        seen.append((epoch, epochs))
        return 2.0 - epoch

    program, hand, x = Point(), Point(), reals()
    for factor in (2.0, 1.0, 0.0):
        by_hand(hand, x, torch.optim.SGD(hand.parameters(), lr=0.1 * factor), 1)
    fit(program, x, epochs=3, batch_size=30, optimizer=SGD, learning_rate=schedule)
    assert seen == [(0.0, 3), (1.0, 3), (2.0, 3)]
    for found, expected in zip(program.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_schedules_reach_the_objective_as_tensors() -> None:
    seen: list[Tensor] = []
    values: list[float] = []

    def watched(t: LogTerms, beta: Any, temperature: Any) -> Tensor:
        assert temperature.item() == 3.0
        seen.append(beta)
        values.append(float(beta))
        return elbo(t, beta=beta)

    schedules = {"beta": Warmup(2), "temperature": lambda epoch, epochs: 3.0}
    run = fit(vae(), bits(), epochs=3, batch_size=8, objective=watched, schedules=schedules)  # four steps an epoch
    assert values[-12:] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.0, 1.0, 1.0]
    assert len({id(beta) for beta in seen[-12:]}) == 1  # one tensor, filled anew: a trace of the step stays valid
    assert run.column("beta") == [0.375, 0.875, 1.0]
    assert run.column("temperature") == [3.0] * 3


def test_the_schedules() -> None:
    warm = Warmup(10, start=0.2, end=0.8)
    assert [round(warm(e, 100), 6) for e in (0, 5, 10, 50)] == [0.2, 0.5, 0.8, 0.8]
    assert Warmup(0)(0, 10) == 1.0
    cosine = Cosine(warmup=2, final=0.1)
    assert 0 < cosine(0, 10) < 0.01
    assert cosine(1, 10) == 0.5
    assert cosine(2, 10) == 1.0
    assert cosine(6, 10) == pytest.approx(0.55)
    assert cosine(10, 10) == pytest.approx(0.1)
    assert Cosine(warmup=20)(10, 10) == 0.5  # a run that is over before its warm-up


# ------------------------------------------------------------------------------------------- validation and stopping


def overfit(**options: Any) -> tuple[pv.Run, dict[int, dict[str, Tensor]], Tensor]:
    """A run whose validation rises and then falls, and the weights after each epoch."""
    kept: dict[int, dict[str, Tensor]] = {}

    class Keeper:
        def on_epoch_end(self, run: pv.Run) -> None:
            kept[len(run.history)] = state(run.program)

    held_out = -reals(20, seed=1) + 1.5
    options = {"epochs": 30, "batch_size": 30, "optimizer": SGD, "validation": held_out, **options}
    return fit(Point(), reals(), callbacks=[Keeper()], **options), kept, held_out


def test_the_best_weights_are_kept() -> None:
    run, kept, held_out = overfit()
    validation = run.column("validation")
    assert 1 < run.best_epoch < 30
    assert run.best_epoch == 1 + max(range(30), key=validation.__getitem__)
    assert same(run.program, kept[run.best_epoch])
    assert not same(run.program, kept[30])
    assert run.program.value(held_out).mean().item() == pytest.approx(max(validation), rel=1e-5)
    assert run.stopped == "epochs"
    assert not run.program.training


def test_patience() -> None:
    run, kept, _ = overfit(patience=3)
    assert run.stopped == "patience"
    assert len(run.history) == run.best_epoch + 3
    assert same(run.program, kept[run.best_epoch])


def test_without_validation_the_last_weights_are_kept() -> None:
    run, kept, _ = overfit(validation=None)
    assert run.best_epoch == 30
    assert same(run.program, kept[30])
    assert not run.column("validation")


def test_validation_has_the_schedules_at_their_end_and_the_same_noise() -> None:
    x, betas = bits(), []

    def watched(t: LogTerms, beta: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            betas.append(beta.item())
        return elbo(t, beta=beta)

    optimizer = partial(torch.optim.SGD, lr=0.0)
    run = fit(vae(), x, objective=watched, schedules={"beta": Warmup(2)}, validation=x, optimizer=optimizer)
    assert set(betas) == {1.0}
    assert len(set(run.column("validation"))) == 1
    assert len(set(run.column("objective"))) == 3


def test_validation_counts_every_datum_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.training.held_out.ROWS", 7)
    program, x = Point(), reals(20, seed=1)
    run = fit(program, reals(), validation=x, optimizer=partial(torch.optim.SGD, lr=0.0))
    assert run.history[0]["validation"] == pytest.approx(program.value(x).mean().item(), rel=1e-5)


def test_a_validation_that_is_never_finite_keeps_the_latest_weights() -> None:
    def broken(t: LogTerms) -> Tensor:
        return elbo(t) if torch.is_grad_enabled() else elbo(t) * math.nan

    run, kept, _ = overfit(objective=broken, epochs=3)
    assert all(math.isnan(value) for value in run.column("validation"))
    assert same(run.program, kept[3])


def test_a_data_set_brings_its_validation() -> None:
    data = pv.data.load("digits")
    run = fit(pv.vae(data, latent=D, hidden=(4,)), data, epochs=1, batch_size=400)
    assert run.column("validation")


# ------------------------------------------------------------------------------------------------ records, callbacks


def test_the_record_on_disk(tmp_path: Path) -> None:
    x, program = bits(), vae()
    run = fit(
        program,
        x,
        directory=tmp_path / "a" / "run",
        validation=x,
        schedules={"beta": Warmup(2)},
        optimizer=partial(torch.optim.AdamW, lr=0.01),
        seed=11,
    )
    folder = tmp_path / "a" / "run"
    assert {path.name for path in folder.iterdir()} == {"history.jsonl", "manifest.json", "program.safetensors"}
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert lines == run.history
    assert [record["epoch"] for record in lines] == [1, 2, 3]
    assert set(lines[0]) == {
        "epoch", "objective", "log_px_z", "kl", "grad_norm", "skipped", "beta", "validation", "seconds"
    }  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == run.manifest
    assert manifest["options"]["seed"] == 11
    assert manifest["options"]["optimizer"] == "AdamW(lr=0.01)"
    assert manifest["options"]["schedules"] == "{beta: Warmup(epochs=2, start=0.0, end=1.0)}"
    assert manifest["environment"]["torch"] == torch.__version__
    assert manifest["environment"]["threads"] == 1
    assert manifest["device"] == "cpu"
    assert same(pv.load(folder / "program.safetensors"), program)
    assert "3 epochs, ended by epochs" in repr(run)


def test_callbacks_see_each_epoch_and_may_stop() -> None:
    lengths: list[int] = []

    class Stopper:
        def on_epoch_end(self, run: pv.Run) -> None:
            lengths.append(len(run.history))
            if len(run.history) == 2:
                run.stop()

    run = fit(vae(), bits(), epochs=9, callbacks=[Stopper()])
    assert lengths == [1, 2]
    assert run.stopped == "callback"
    assert run.best_epoch == 2


def test_a_callback_that_fails_does_not_cost_the_run() -> None:
    class Tracker:
        def on_epoch_end(self, run: pv.Run) -> None:
            raise ConnectionError("the server is away")

    last = Last()
    with pytest.warns(UserWarning, match=r"Tracker failed: ConnectionError\('the server is away'\)"):
        run = fit(vae(), bits(), callbacks=[Tracker(), last])
    assert len(run.history) == 3
    assert same(run.program, last.weights)


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_weights(signal: type[BaseException], tmp_path: Path) -> None:
    runs: list[pv.Run] = []

    class Interrupt:
        def on_epoch_end(self, run: pv.Run) -> None:
            if len(run.history) == 2:
                runs.append(run)
                raise signal

    program = vae()
    with pytest.raises(signal):
        fit(program, bits(), epochs=9, directory=tmp_path, callbacks=[Interrupt()])
    assert runs[0].stopped == "interrupted"
    assert same(pv.load(tmp_path / "program.safetensors"), program)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2


def test_the_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    fit(vae(), bits())
    assert capsys.readouterr() == ("", "")  # standard error is no terminal here
    fit(vae(), bits(), progress=True)
    assert "3/3" in capsys.readouterr().err
    fit(vae(), bits(), progress=False)
    assert capsys.readouterr() == ("", "")


# ----------------------------------------------------------------------------------------------------- clipping


def test_clipping_bounds_the_step() -> None:
    program, x = Point(), 10 * reals()
    before = state(program)
    run = fit(program, x, epochs=1, batch_size=30, optimizer=SGD, max_grad_norm=0.5)
    change = torch.cat([(p - before[name]).flatten() for name, p in program.named_parameters()])
    assert run.history[0]["grad_norm"] > 1
    assert change.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-4)


# ------------------------------------------------------------------------------------ programs beside one another


def test_a_program_trained_after_another_is_as_if_alone() -> None:
    def one(others: int) -> dict[str, Tensor]:
        for _ in range(others):
            fit(vae(), bits(seed=5), seed=3)
        torch.manual_seed(4)
        return state(fit(vae(lambda e: pv.priors.NormalMixture(D, 2)), bits()).program)

    assert same(one(0), one(2))


def test_two_programs_that_take_turns_do_not_leak() -> None:
    first, second = vae(), vae()
    fit(first, bits())
    kept = state(first)
    fit(second, bits(seed=1))
    assert same(first, kept)
    assert not pyro.get_param_store().keys()


class Stiff(torch.nn.Module):
    """A plain Pyro program whose networks take rows only: (B, D), and nothing further left."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = torch.nn.Linear(4, 4), torch.nn.Linear(2, 4)

    def model(self, x: torch.Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decode(z.reshape(-1, 2)), 1.0).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            loc, raw = self.encode(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


def test_several_particles_of_a_program_without_batch_freedom() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    run = pv.fit(Stiff(), x, objective=pv.objectives.iwae, num_particles=5, epochs=3, validation=x, device="cpu")
    assert run.column("validation")[-1] > run.column("validation")[0]
    with pytest.raises(pv.PyrovaeError, match="cannot take several particles"):
        pv.fit(Stiff(), x, gradient=pv.gradients.path, num_particles=5, epochs=1, device="cpu")


def test_validation_data_that_are_a_data_set_stand_for_their_validation_split() -> None:
    data = pv.data.load("digits")
    torch.manual_seed(0)
    program = pv.vae(data, latent=2, hidden=(8,))
    runs = [
        pv.fit(copy.deepcopy(program), data, epochs=1, validation=validation, device="cpu")
        for validation in (None, data, data.validation.x)
    ]
    assert len({run.history[0]["validation"] for run in runs}) == 1


def test_a_bad_observation_is_found_in_any_row() -> None:
    data = pv.data.load("digits")
    x = data.validation.x.repeat(50, 1, 1, 1)
    x[9_000, 0, 0, 0] = 0.5
    with pytest.raises(pv.PyrovaeError, match="support"):
        pv.fit(pv.vae(data, latent=2, hidden=(8,)), x, epochs=1, device="cpu")


def test_a_run_that_is_killed_has_left_its_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "SAVED_EVERY", -1.0)
    saved, best = [], []

    class Look:
        def on_epoch_end(self, run: pv.Run) -> None:
            saved.append((tmp_path / "program.safetensors").read_bytes())
            best.append(run.best_epoch)

    torch.manual_seed(0)
    program = vae()
    options = {"epochs": 10, "validation": bits(), "optimizer": partial(torch.optim.Adam, lr=1.0)}
    undisturbed = fit(copy.deepcopy(program), bits(), **options)
    run = fit(program, bits(), directory=tmp_path, callbacks=[Look()], **options)
    assert best[-1] - 1 > len(set(best))  # worse epochs came before better ones
    assert same(run.program, undisturbed.program)
    assert (tmp_path / "program.safetensors").read_bytes() == saved[-1]
    assert [a == b for a, b in pairwise(saved)] == [a == b for a, b in pairwise(best)]


def test_lines_of_progress_tell_the_terms_the_rate_and_what_is_left() -> None:
    lines: list[str] = []
    fit(vae(), bits(), epochs=20, callbacks=[Lines(20, 1000, lines.append)])
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [1, *range(2, 21, 2)]
    assert all(re.search(r"objective -.* log p\(x\|z\) -.* KL .* [\d,]+ data/s", line) for line in lines)
    assert all(" left" in line for line in lines[:-1]) and " left" not in lines[-1]
    assert not any("skipped" in line for line in lines)


def test_lines_of_progress_count_the_steps_that_were_skipped() -> None:
    run = pv.Run(vae(), {}, None)
    lines: list[str] = []
    for epoch in (1, 2):
        run.append({"epoch": epoch, "objective": -1.0, "skipped": 2, "seconds": 0.1})
        Lines(2, 10, lines.append).on_epoch_end(run)
    assert "2 steps skipped" in lines[0] and "4 steps skipped" in lines[1]


def test_a_compiled_validation_has_the_same_noise_in_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eager remainder of its rows too, and from the first epoch on, in which it is compiled."""
    monkeypatch.setattr("pyrovae.training.held_out.ROWS", 7)
    module = importlib.import_module("pyrovae.training.fit")
    monkeypatch.setattr(module, "long_enough", lambda *args, **options: True)
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)
    still = partial(torch.optim.SGD, lr=0.0)
    run = fit(vae(), bits(), validation=bits(17), epochs=4, optimizer=still)
    assert run.manifest["compiled"]
    assert len(set(run.column("validation"))) == 1


def test_a_rate_of_zero_changes_nothing_also_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's capturable Adam divides by the rate: with a moment of zero, as of a pixel that is always black, 0 / 0."""
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)
    x = bits()
    x[..., 0] = 0.0
    weights: list[Any] = []

    class Keeper:
        def on_epoch_end(self, run: pv.Run) -> None:
            weights.append(copy.deepcopy(run.program.state_dict()))

    rate = lambda epoch, epochs: 1.0 if epoch < 1 else 0.0  # noqa: E731
    adam = partial(torch.optim.Adam, lr=1e-2)
    run = fit(vae(), x, epochs=3, learning_rate=rate, optimizer=adam, compile=True, callbacks=[Keeper()])
    assert run.manifest["compiled"]
    for name, kept in weights[0].items():
        torch.testing.assert_close(weights[-1][name], kept, rtol=0, atol=1e-6)
