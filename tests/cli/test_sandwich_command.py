"""Bounds on data that a run simulates."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs import Command, copied

import pyrovae as pv
from pyrovae.cli import sandwich

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
    assert (run / f"{file}.png").read_bytes().startswith(b"\x89PNG")
    if method == "annealed":  # a page takes seconds
        assert pyrovae("report", run)[0] == 0
        assert "Sandwich bounds on simulated data" in (run / "report.html").read_text()


def test_data_are_simulated_under_what_test_data_are_given(pyrovae: Command, conditional: Path) -> None:
    assert pyrovae("sandwich", copied(conditional), *FEW, "--num_steps", 2)[0] == 0


def test_particles_are_those_of_the_config_by_its_method(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)  # whose config has 20, for importance sampling
    words = ("--num_data", 3, "--device", "cpu")
    assert "importance sampling, 20 particles" in pyrovae("sandwich", run, "--method", "importance", *words)[1]
    assert "annealed importance sampling, 16 chains" in pyrovae("sandwich", run, *words, "--num_steps", 2)[1]


def test_options_of_another_method_are_refused_in_one_line(pyrovae: Command, trained: Path) -> None:
    code, _, err = pyrovae("sandwich", trained, "--method", "importance", "--num_steps", 3)
    assert code == 2 and "num_steps and annealing are for method='annealed'" in err and err.count("\n") == 1


@pytest.mark.parametrize("number", [0, -5])
def test_no_data_are_refused_in_one_line(pyrovae: Command, trained: Path, number: int) -> None:
    code, _, err = pyrovae("sandwich", trained, "--num_data", number)
    assert code == 2 and f"num_data must be positive; got {number}" in err and err.count("\n") == 1


SOUND = {"num_data": 6, "procedure": "p", "method": "annealed", "program_sha256": "0", "mean_lower": -1.0,
         "mean_upper": -0.5, "gap_mean": 0.5, "gap_standard_error": None, "gap_largest": 1.0}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is spoilt"),
        ("[1]", "is spoilt"),
        ("{}", "holds no 'num_data'"),
        (json.dumps(SOUND | {"gap_mean": "wide"}), "gap_mean is 'wide'"),
        (json.dumps(SOUND | {"num_data": None}), "num_data is None"),
    ],
)
def test_a_spoilt_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sandwich.json"
    file.write_text(text)
    with pytest.raises(pv.PyrovaeError, match=rf"{message}.*: pyrovae sandwich writes it anew"):
        sandwich.read(file)


def test_spoilt_files_and_those_of_other_weights_are_left_out_of_the_report(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    (run / "sandwich.json").write_text("{}")
    (run / "sandwich-importance.json").write_text(json.dumps(SOUND | {"method": "importance"}))
    code, out, _ = pyrovae("report", run)
    assert code == 0 and "a sandwich is left out: copy/sandwich.json holds no 'num_data'" in out
    assert "that by p is of other weights than the run's now; anew: pyrovae sandwich copy --method importance" in out
    assert "Sandwich bounds on simulated data" not in (run / "report.html").read_text()
