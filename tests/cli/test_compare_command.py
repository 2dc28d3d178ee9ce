"""Two runs, paired."""

import json
from pathlib import Path

import pytest
from runs import Command, copied
from safetensors.torch import load_file

import pyrovae as pv
from pyrovae.cli import main


@pytest.fixture(scope="session")
def other(evaluated: Path) -> Path:
    """A run of another seed, evaluated on the same data."""
    run = evaluated.parent / "other"
    assert main(["train", str(evaluated.parent / "tiny.yaml"), "--seed", "1", "--directory", str(run)]) == 0
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    return run


def test_the_runs_are_paired_datum_by_datum(pyrovae: Command, evaluated: Path, other: Path) -> None:
    code, out, _ = pyrovae("compare", evaluated, other)
    assert code == 0
    first, second = (load_file(run / "evidence.safetensors") for run in (evaluated, other))
    difference = second["log_prob"] - first["log_prob"]
    noise = (first["standard_error"] ** 2 + second["standard_error"] ** 2).sum().sqrt() / 400
    table = out[out.index("against") :].splitlines()
    row = next(line for line in table if line.startswith(str(other))).split()
    assert row[1:4] == [f"{difference.mean():+.3f}", f"{difference.std() / 20:.3f}", f"{noise:.3f}"]
    assert Path("comparison.png").stat().st_size > 500


def test_three_runs_each_against_the_first(pyrovae: Command, evaluated: Path, other: Path) -> None:
    third = copied(evaluated)
    code, out, _ = pyrovae("compare", evaluated, other, third, "--output", "three.png")
    assert code == 0 and Path("three.png").exists()
    same = next(line for line in out[out.index("against") :].splitlines() if line.startswith("copy "))
    assert same.split()[1:3] == ["+0.000", "0.000"]


def test_other_data_are_refused(pyrovae: Command, evaluated: Path) -> None:
    run = copied(evaluated)
    record = json.loads((run / "evidence.json").read_text())
    record["data"]["fingerprint"] = "0"
    (run / "evidence.json").write_text(json.dumps(record))
    code, _, err = pyrovae("compare", evaluated, run)
    assert code == 2 and "evaluated on different data" in err and "fingerprint" in err
    assert not Path("comparison.png").exists()


def test_what_was_not_evaluated_is_told_with_the_command(pyrovae: Command, evaluated: Path, trained: Path) -> None:
    code, _, err = pyrovae("compare", evaluated, trained)
    assert code == 2 and f"first: pyrovae evaluate {trained}" in err
    code, _, err = pyrovae("compare", evaluated, trained, "--split", "validation")
    assert code == 2 and f"first: pyrovae evaluate {evaluated} --split validation" in err


def test_one_run_is_no_comparison(pyrovae: Command, evaluated: Path) -> None:
    code, _, err = pyrovae("compare", evaluated)
    assert code == 2 and "at least two programs" in err


def test_spoilt_evidence(pyrovae: Command, evaluated: Path) -> None:
    run = copied(evaluated)
    (run / "evidence.safetensors").write_bytes(b"spoilt")
    code, _, err = pyrovae("compare", evaluated, run)
    assert code == 2 and "evaluate again" in err


def test_evidence_comes_back_as_it_was(evaluated: Path) -> None:
    from pyrovae.cli import records

    found, record = records.read(evaluated, "test")
    assert isinstance(found, pv.Evidence)
    assert found.record().items() <= record.items()
