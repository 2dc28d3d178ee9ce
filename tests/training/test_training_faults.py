"""Faults that fit must survive, or refuse before the first step."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SGD, D, Point, bits, fit, reals, same, state, vae
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.objectives import elbo, iwae
from pyrovae.terms import LogTerms
from pyrovae.training.schedules import Cosine, Warmup

X = bits()


def refused(message: str, program: Any, data: Any, **options: Any) -> None:
    """That fit refuses, before it changes a weight or makes a directory."""
    before = state(program)
    with pytest.raises(pv.PyrovaeError, match=message):
        fit(program, data, **options)
    assert same(program, before)


# -------------------------------------------------------------------------------------- a loss that is not finite


class Broken:
    """elbo, spoilt at some of the training steps (counted from 1)."""

    def __init__(self, *numbers: int, by: float = math.nan) -> None:
        self.numbers, self.by, self.count = numbers, by, 0

    def __call__(self, t: LogTerms) -> Tensor:
        self.count += torch.is_grad_enabled()  # the checks before training are made without gradients
        return elbo(t) * (self.by if self.count in self.numbers else 1.0)


OPTIMIZERS = {"fused": partial(torch.optim.Adam, lr=0.1), "unfused": partial(torch.optim.RMSprop, lr=0.1, momentum=0.9)}


@pytest.mark.parametrize("by", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_step_is_skipped_and_counted(optimizer: str, by: float) -> None:
    """The good steps are, bit for bit, those of a run that had no bad ones."""
    options = {"batch_size": 30, "optimizer": OPTIMIZERS[optimizer]}
    spoilt = fit(Point(), reals(), epochs=6, objective=Broken(1, 3, 5, by=by), **options)
    clean = fit(Point(), reals(), epochs=3, **options)
    assert spoilt.column("skipped") == [1, 0, 1, 0, 1, 0]
    # The last epoch's weights are kept; the order of rows differs, hence the tolerance.
    for found, expected in zip(spoilt.program.parameters(), clean.program.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert math.isnan(spoilt.history[0]["objective"])  # an epoch without a good step has no value, not the value zero
    torch.testing.assert_close(spoilt.column("objective")[1::2], clean.column("objective"), rtol=1e-5, atol=0)


def test_the_record_leaves_bad_steps_out() -> None:
    program, x = Point(), reals()
    run = fit(program, x, epochs=1, batch_size=10, objective=Broken(2), optimizer=partial(torch.optim.SGD, lr=0.0))
    assert run.history[0]["skipped"] == 1
    assert math.isfinite(run.history[0]["objective"])
    assert run.history[0]["objective"] == pytest.approx(run.history[0]["log_px_z"] - run.history[0]["kl"], rel=1e-5)


def test_a_gradient_that_is_not_finite() -> None:
    """With a loss that is: d sqrt(v) / dv is infinite at 0."""

    def kinked(t: LogTerms) -> Tensor:
        zero = t.log_px_z - t.log_px_z.detach()
        return elbo(t) + zero.sqrt().sum(0)

    program = Point()
    before = state(program)
    run = fit(program, reals(), objective=kinked)
    assert run.column("skipped") == [4, 4, 4]
    assert same(program, before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_too_many_bad_steps_abort_with_good_weights(optimizer: str, tmp_path: Path) -> None:
    weights: list[dict[str, Tensor]] = []

    class Keeper:
        def on_epoch_end(self, run: pv.Run) -> None:
            weights.append(state(run.program))

    program = vae()
    options = {"max_skipped": 5, "optimizer": OPTIMIZERS[optimizer], "callbacks": [Keeper()]}
    spoilt = Broken(2, *range(11, 16))  # four steps an epoch: a single one, then five in a row
    with pytest.raises(pv.PyrovaeError, match=r"5 steps in a row.*epoch 4.*weights of epoch 3"):
        fit(program, X, epochs=9, objective=spoilt, directory=tmp_path, **options)
    assert len(weights) == 3
    assert same(program, weights[-1])
    assert same(pv.load(tmp_path / "program.safetensors"), program)
    assert not program.training


def test_bad_steps_that_are_not_in_a_row_do_not_abort() -> None:
    run = fit(vae(), X, epochs=9, objective=Broken(*range(1, 37, 2)), max_skipped=2)
    assert run.column("skipped") == [2] * 9


def test_extreme_networks_give_finite_terms() -> None:
    """Scales driven to zero, logits exploding: the objective and its gradient stay finite, and so do the weights."""
    for likelihood, x in ((pv.families.bernoulli, X), (pv.families.normal, reals(30).repeat(1, 2))):
        for size in (-1e4, 1e4):
            encoder = pv.Conditional(pv.networks.MLP(6, 2 * D), pv.families.normal)
            decoder = pv.Conditional(pv.networks.MLP(D, 6 * likelihood.num_params), likelihood)
            program = pv.VAE(pv.priors.StandardNormal(D), decoder, encoder)
            with torch.no_grad():
                encoder.net.output.bias[D:].fill_(min(size, 1e3))
                decoder.net.output.bias.fill_(size)
            for estimator in (pv.gradients.plain, pv.gradients.path):
                estimate = estimator(program, elbo, x)
                assert estimate.value.isfinite().all()
                assert all(gradient.isfinite().all() for gradient in estimate.gradients.values())


# ------------------------------------------------------------------------------------------------------ bad data


def spoil(x: Tensor, row: int, value: float) -> Tensor:
    x = x.clone()
    x[row, 2] = value
    return x


@pytest.mark.parametrize("row", [0, 1, 17])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(row: int, value: float, tmp_path: Path) -> None:
    bad = spoil(X, row, value)
    message = rf"{value} at index \[{row}, 2\]"
    refused(f"x holds {message}", vae(), bad, directory=tmp_path / "run")
    refused(f"x holds {message}", vae(), X, validation=bad)
    refused(rf"given\[0\] holds {message}", vae(), (X, bad))
    assert not (tmp_path / "run").exists()


def test_the_first_bad_index_beyond_the_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.training.checks.CHUNK", 4)
    refused(r"x holds nan at index \[9, 2\]", vae(), spoil(spoil(X, 9, math.nan), 21, math.nan))
    refused(r"x\.b holds nan at index \[9, 2\]", vae(), {"a": X, "b": spoil(X, 9, math.nan)})


@pytest.mark.parametrize(
    ("scale", "message"),
    [(1.0, "[Bb]inarize"), (255.0, "divide.*by 255"), (-1.0, "support")],
    ids=["grey", "0..255", "negative"],
)
def test_data_outside_the_support(scale: float, message: str) -> None:
    grey = torch.rand(30, 6) * scale
    refused(message, vae(), grey)
    refused(message, vae(), X, validation=grey)
    late = torch.cat([X, grey])  # beyond the rows that Pyro's own validation sees
    refused(message, vae(), late)
    refused(message, vae(), X, validation=late)


def test_grey_images_with_a_draw_are_welcome() -> None:
    assert fit(vae(), torch.rand(30, 6), draw=torch.bernoulli).history


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (bits(30, 5), r"expects data of shape \(\.\.\., 6\); got \(\.\.\., 5\)"),
        (X.unsqueeze(1).repeat(1, 6, 1)[:, :, :5], r"\(\.\.\., 6\); got \(\.\.\., 5\)"),
        (X.long(), "floating-point data and got torch.int64"),
        (X.bool(), "floating-point data and got torch.bool"),
    ],
    ids=["width", "shape", "int", "bool"],
)
def test_data_of_another_shape_or_dtype(x: Tensor, message: str) -> None:
    refused(message, vae(), x)


def test_images_with_other_channels() -> None:
    encoder = pv.Conditional(pv.networks.ConvEncoder((3, 8, 8), 2 * D, channels=(4,)), pv.families.normal)
    decoder = pv.Conditional(pv.networks.ConvDecoder(D, (3, 8, 8), channels=(4,)), pv.families.bernoulli)
    program = pv.VAE(pv.priors.StandardNormal(D), decoder, encoder)
    refused(r"\(\.\.\., 3, 8, 8\); got \(\.\.\., 1, 8, 8\)", program, torch.ones(10, 1, 8, 8))


def test_conditioning_variables_that_the_program_has_not() -> None:
    refused("has 1 parent.*got 2", vae(), (X, X))


# ------------------------------------------------------------------------------------------------- bad programs


class Normed(nn.Module):
    out_shape = (2 * D,)

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(6, 2 * D), nn.BatchNorm1d(2 * D)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


def normed() -> pv.VAE:
    return pv.VAE(vae().prior, vae().decoder, pv.Conditional(Normed(), pv.families.normal))


def test_batch_normalisation_in_training() -> None:
    refused(r"encoder\.net\.norm is a batch normalisation", normed(), X)


def test_batch_normalisation_that_is_frozen() -> None:
    """Also through a validation, which switches to evaluation and back."""
    program = normed()
    program.encoder.net.norm.eval()
    running = program.encoder.net.norm.running_mean.clone()
    weight = program.encoder.net.norm.weight.detach().clone()
    modes: list[bool] = []

    class Modes:
        def on_epoch_end(self, run: pv.Run) -> None:
            modes.extend([program.encoder.net.norm.training, program.encoder.net.linear.training])

    fit(program, X, validation=X, callbacks=[Modes()])
    assert modes == [False, True] * 3
    assert torch.equal(program.encoder.net.norm.running_mean, running)
    assert not torch.equal(program.encoder.net.norm.weight, weight)


def test_objectives_that_are_not_one_value_per_datum() -> None:
    refused(r"one value per datum, \(2,\); got \(\)", vae(), X, objective=lambda t: elbo(t).mean())
    refused(r"one value per datum, \(2,\); got \(1, 2\)", vae(), X, objective=lambda t: t.log_weight)


def test_a_program_without_parameters() -> None:
    program = pv.VAE(
        pv.priors.StandardNormal(2),
        pv.Conditional(nn.Identity(), pv.families.FixedScaleNormal(1.0)),
        pv.Conditional(nn.Identity(), pv.families.FixedScaleNormal(1.0)),
    )
    with pytest.raises(pv.PyrovaeError, match="no parameters"):
        fit(program, torch.randn(5, 2))


# -------------------------------------------------------------------------------------------------- bad options

OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"epochs": 0}, "epochs must be a whole number of at least 1; got 0"),
    "negative epochs": ({"epochs": -3}, "at least 1; got -3"),
    "fractional epochs": ({"epochs": 1.5}, "whole number"),
    "batch size": ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
    "particles": ({"num_particles": 0}, "num_particles must be a whole number of at least 1; got 0"),
    "skipped": ({"max_skipped": 0}, "max_skipped must be"),
    "patience": ({"patience": 0, "validation": X}, "patience must be positive; got 0"),
    "patience alone": ({"patience": 3}, "patience needs validation data"),
    "clipping": ({"max_grad_norm": -1.0}, "max_grad_norm must be positive; got -1.0"),
    "rate": ({"optimizer": partial(torch.optim.Adam, lr=-1e-3)}, "Invalid learning rate: -0.001"),
    "rate of a factory": ({"optimizer": lambda ps: torch.optim.RMSprop(ps, lr=-1.0)}, "Invalid learning rate: -1.0"),
    "negative beta": ({"objective": partial(elbo, beta=-0.5)}, "beta.* at least 0; got -0.5"),
    "negative beta of iwae": ({"objective": partial(iwae, beta=-1)}, "beta.* at least 0; got -1"),
    "a number as a rate": ({"learning_rate": 1e-3}, "learning_rate is a schedule.*got 0.001"),
    "a number as a schedule": ({"schedules": {"beta": 0.5}}, "beta is a schedule.*got 0.5"),
    "an unknown schedule": ({"schedules": {"bta": Warmup(3)}}, r"scheduled \['bta'\].*unexpected keyword.*'bta'"),
    "an unknown device": ({"device": "gpu"}, "unknown device 'gpu': use auto, cpu, cuda or mps"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_out_of_range(name: str, tmp_path: Path) -> None:
    options, message = OPTIONS[name]
    refused(message, vae(), X, directory=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Warmup(-1),
        lambda: Warmup(3, start=-0.1),
        lambda: Warmup(3, end=-1.0),
        lambda: Cosine(warmup=-1),
        lambda: Cosine(final=-0.1),
    ],
)
def test_schedules_out_of_range(make: Callable[[], Any]) -> None:
    with pytest.raises(pv.PyrovaeError, match="at least 0"):
        make()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_absent(caplog: pytest.LogCaptureFixture) -> None:
    refused("'cuda' is not available here", vae(), X, device="cuda")
    with caplog.at_level("INFO", logger="pyrovae"):
        run = fit(vae(), X, epochs=1, device="auto")
    assert run.manifest["device"] in caplog.text


# --------------------------------------------------------------------------------------------------- directories


def test_a_directory_holds_one_run(tmp_path: Path) -> None:
    fit(vae(), X, directory=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused("holds a run already", vae(), X, directory=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_runs_at_once(tmp_path: Path) -> None:
    errors: list[str] = []

    class Second:
        def on_epoch_end(self, run: pv.Run) -> None:
            try:
                fit(vae(), X, directory=tmp_path)
            except pv.PyrovaeError as error:
                errors.append(str(error))

    run = fit(vae(), X, directory=tmp_path, callbacks=[Second()])
    assert len(errors) == 3
    assert "holds a run already" in errors[0]
    assert len(run.history) == 3


def test_impossible_directories(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused("cannot be written: Not a directory", vae(), X, directory=tmp_path / "file" / "run")
    refused("cannot be written|holds a run", vae(), X, directory=tmp_path / "file")


@pytest.mark.skipif(platform.system() == "Windows" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    refused("cannot be written: Permission denied", vae(), X, directory=tmp_path / "run")


def test_a_program_that_trained_well_in_spite_of_it_all() -> None:
    """A control for ``refused``: the same call without a fault trains."""
    program = vae()
    before = state(program)
    fit(program, X, optimizer=SGD)
    assert not same(program, before)
