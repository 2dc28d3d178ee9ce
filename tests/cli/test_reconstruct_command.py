"""Data and their reconstructions, as values and as a figure."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Command, copied

import pyrovae as pv


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


@pytest.mark.parametrize(
    ("rows", "message"),
    [("400", "rows 0 .. 399"), ("390:410", "rows 0 .. 399"), ("two", "by number"), ("5:5", "names no row")],
)
def test_rows_that_are_not_there(pyrovae: Command, trained: Path, rows: str, message: str) -> None:
    code, _, err = pyrovae("reconstruct", trained, "--rows", rows)
    assert code == 2 and message in err
