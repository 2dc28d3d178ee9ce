"""Draws from a run, as values and as a figure."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Command

import pyrovae as pv


def test_draws_are_those_of_the_program(pyrovae: Command, trained: Path) -> None:
    assert pyrovae("sample", trained, "-n", 6, "--seed", 3, "--output", "drawn.npz")[0] == 0
    found = np.load("drawn.npz")
    program = pv.load(trained / "program.safetensors")
    torch.manual_seed(3)
    expected = pv.sample(program, 6)
    assert np.array_equal(found["x"], expected.numpy())
    assert found["mean"].shape == (6, 1, 8, 8) and ((found["mean"] > 0) & (found["mean"] < 1)).all()
    assert Path("drawn.png").stat().st_size > 500


def test_the_seed_decides(pyrovae: Command, trained: Path) -> None:
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        assert pyrovae("sample", trained, "-n", 2, "--seed", seed, "--output", f"{name}.npz")[0] == 0
    a, b, c = (np.load(f"{name}.npz")["mean"] for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_labels_are_taken_in_turn(pyrovae: Command, conditional: Path) -> None:
    assert pyrovae("sample", conditional, "-n", 5, "--given", 3, 8, "--output", "some.npz")[0] == 0
    assert np.load("some.npz")["label"].tolist() == [3, 8, 3, 8, 3]
    assert pyrovae("sample", conditional, "-n", 12, "--output", "all.npz")[0] == 0
    assert np.load("all.npz")["label"].tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--given", "12"], "--given 12 is no label of digits"),
        (["--given", "-1"], "--given"),
        (["--output", "x.csv"], "are written as .npz"),
        (["--num_samples", "0"], "at least 1"),
    ],
)
def test_faults(pyrovae: Command, conditional: Path, words: list[str], message: str) -> None:
    code, _, err = pyrovae("sample", conditional, *words)
    assert code == 2 and message in err


def test_labels_for_a_run_without(pyrovae: Command, trained: Path) -> None:
    code, _, err = pyrovae("sample", trained, "--given", 3)
    assert code == 2 and "this run is not conditional" in err
