"""Bounds on data that a run simulates."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs import Command, copied

import pyrovae as pv

FEW = ("--num_data", 6, "--num_particles", 3, "--device", "cpu")


@pytest.mark.parametrize(("method", "file"), [("annealed", "sandwich"), ("importance", "sandwich-importance")])
def test_sandwich_gives_what_the_function_gives(pyrovae: Command, trained: Path, method: str, file: str) -> None:
    run, data = copied(trained), pv.data.digits()
    steps = {"num_steps": 4} if method == "annealed" else {}
    words = [word for name, value in steps.items() for word in (f"--{name}", value)]
    code, out, _ = pyrovae("sandwich", run, "--method", method, *FEW, *words)
    program = pv.load(run / "program.safetensors")
    options: dict[str, Any] = {"num_data": 6, "num_particles": 3, "method": method, **steps}
    expected = pv.sandwich(program, seed=0, like=data.test.x[:6], **options)
    assert code == 0 and expected.summary() in out
    record = json.loads((run / f"{file}.json").read_text())
    assert expected.record().items() <= record.items() and record["seconds"] > 0
    if method == "annealed":  # a page takes seconds
        assert pyrovae("report", run)[0] == 0
        assert "Sandwich bounds on simulated data" in (run / "report.html").read_text()


def test_data_are_simulated_under_what_test_data_are_given(pyrovae: Command, conditional: Path) -> None:
    assert pyrovae("sandwich", copied(conditional), *FEW, "--num_steps", 2)[0] == 0


def test_options_of_another_method_are_refused_in_one_line(pyrovae: Command, trained: Path) -> None:
    code, _, err = pyrovae("sandwich", trained, "--method", "importance", "--num_steps", 3)
    assert code == 2 and "num_steps and annealing are for method='annealed'" in err and err.count("\n") == 1


def test_a_spoilt_file_is_told(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    (run / "sandwich.json").write_text("{")
    code, _, err = pyrovae("report", run)
    assert code == 2 and "pyrovae sandwich writes it anew" in err
