"""Data and their reconstructions, as values and as a figure."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Command, copied

import pyrovae as pv
from pyrovae.cli import reconstruct as command


def test_reconstructions_are_those_of_the_program(pyrovae: Command, trained: Path) -> None:
    words = ["--split", "validation", "--rows", 7, "2:5", "--output", "some.npz"]
    assert pyrovae("reconstruct", trained, *words)[0] == 0
    found, x = np.load("some.npz"), pv.data.digits().validation.x
    assert found["row"].tolist() == [7, 2, 3, 4]
    assert np.array_equal(found["x"], x[[7, 2, 3, 4]].numpy())
    expected = pv.reconstruct(pv.load(trained / "program.safetensors"), x[torch.tensor([7, 2, 3, 4])]).mean
    assert np.allclose(found["reconstruction"], expected.detach().numpy())
    assert Path("some.png").stat().st_size > 500


def test_by_default_they_lie_in_the_run(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    assert pyrovae("reconstruct", run)[0] == 0
    assert len(np.load(run / "reconstructions.npz")["x"]) == 20
    assert pyrovae("reconstruct", run, "--split", "train", "--rows", ":3")[0] == 0
    assert len(np.load(run / "reconstructions-train.npz")["x"]) == 3


def no_mean(self: object) -> None:
    raise NotImplementedError


def test_without_a_mean_there_are_draws_and_modes(
    pyrovae: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributions.Bernoulli, "mean", property(no_mean))
    assert pyrovae("sample", trained, "-n", 3, "--output", "drawn.npz")[0] == 0
    assert set(np.load("drawn.npz")) == {"x"} and Path("drawn.png").exists()
    code, out, _ = pyrovae("reconstruct", trained, "--rows", 0, "--output", "some.npz")
    assert code == 0 and "has no mean to show" in out
    assert set(np.unique(np.load("some.npz")["reconstruction"])) <= {0.0, 1.0}
    monkeypatch.setattr(torch.distributions.Bernoulli, "mode", property(no_mean))
    code, _, err = pyrovae("reconstruct", trained, "--rows", 0, "--output", "none.npz")
    assert code == 2 and "neither a mean nor a mode" in err


def test_several_observed_sites_are_refused(pyrovae: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "reconstructed", lambda *args: {"a": None, "b": None})
    code, _, err = pyrovae("reconstruct", trained)
    assert code == 2 and "observes 2 things (a, b): use pyrovae.reconstruct" in err


@pytest.mark.parametrize(
    ("rows", "message"),
    [("400", "rows 0 .. 399"), ("390:410", "rows 0 .. 399"), ("two", "by number"), ("5:5", "names no row")],
)
def test_rows_that_are_not_there(pyrovae: Command, trained: Path, rows: str, message: str) -> None:
    code, _, err = pyrovae("reconstruct", trained, "--rows", rows)
    assert code == 2 and message in err
