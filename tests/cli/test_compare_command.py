"""Two runs, paired."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Command, copied
from safetensors.torch import load_file

from pyrovae.cli import main, records


@pytest.fixture(scope="session")
def other(evaluated: Path) -> Path:
    """A run of another seed, evaluated on the same data."""
    run = evaluated.parent / "other"
    assert main(["train", str(evaluated.parent / "tiny.yaml"), "--seed", "1", "--directory", str(run)]) == 0
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    return run


def test_the_runs_are_paired_datum_by_datum(pyrovae: Command, evaluated: Path, other: Path) -> None:
    code, out, _ = pyrovae("compare", evaluated, other)
    assert code == 0 and not Path("comparison.png").exists()
    first, second = (load_file(run / "evidence.safetensors") for run in (evaluated, other))
    difference = second["log_prob"] - first["log_prob"]
    noise = (first["standard_error"] ** 2 + second["standard_error"] ** 2).sum().sqrt() / 400
    table = out[out.index("against") :].splitlines()
    row = next(line for line in table if line.startswith(str(other))).split()
    assert row[1:4] == [f"{difference.mean():+.3f}", f"{difference.std() / 20:.3f}", f"{noise:.3f}"]


def test_three_runs_each_against_the_first(pyrovae: Command, evaluated: Path, other: Path) -> None:
    third = copied(evaluated)
    code, out, _ = pyrovae("compare", evaluated, other, third, "--output", "three.png")
    assert code == 0 and Path("three.png").read_bytes().startswith(b"\x89PNG")
    same = next(line for line in out[out.index("against") :].splitlines() if line.startswith("copy "))
    assert same.split()[1:3] == ["+0.000", "0.000"]


@pytest.mark.parametrize("words", [["--seed", "1"], ["--data.seed", "1"], ["--conditional", "true"]])
def test_the_same_rows_are_paired_and_no_others(pyrovae: Command, evaluated: Path, words: list[str]) -> None:
    assert pyrovae("train", "tiny.yaml", *words, "--fit.epochs", 1, "--directory", "run")[0] == 0
    assert pyrovae("evaluate", "run", "--device", "cpu")[0] == 0
    code, _, err = pyrovae("compare", evaluated, "run", "--output", "some.png")
    if words[0] == "--seed":
        assert code == 0
    else:  # other bits, and the labels given
        assert code == 2 and f"{evaluated} and run were evaluated on different data and cannot be paired" in err
        assert not Path("some.png").exists()


TABLE = """
data: {name: mine.csv, validation: 8, test: 10}
program: {class_path: pyrovae.recipes.Dense, init_args: {latent: 2, hidden: [4]}}
fit: {epochs: 1, device: cpu}
evaluate: {num_particles: 10}
"""


def evaluated_table(pyrovae: Command, name: str, *words: object, split: str = "test") -> str:
    Path("table.yaml").write_text(TABLE)
    generator = torch.Generator().manual_seed(0)
    rows = [f"{1000 + 7 * a},{0.01 * b}" for a, b in torch.randn(60, 2, generator=generator).tolist()]
    Path("mine.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    assert pyrovae("train", "table.yaml", *words, "--directory", name)[0] == 0
    assert pyrovae("evaluate", name, "--split", split, "--device", "cpu")[0] == 0
    return name


def test_as_many_rows_of_one_file_are_not_thereby_the_same_rows(pyrovae: Command) -> None:
    first = evaluated_table(pyrovae, "first", split="validation")
    second = evaluated_table(pyrovae, "second", "--data.test", 20, split="validation")
    code, _, err = pyrovae("compare", first, second, "--split", "validation")
    assert code == 2 and "evaluated on different data" in err and "splits: {'train': 42" in err


def test_standardised_or_not_the_same_rows_are_paired_in_their_own_units(pyrovae: Command) -> None:
    first = evaluated_table(pyrovae, "first")
    second = evaluated_table(pyrovae, "second", "--data.standardize", "false")
    code, out, err = pyrovae("compare", first, second)
    assert code == 0, err
    assert "test data of mine.csv" in out
    jacobians = [json.loads(Path(run, "evidence.json").read_text())["log_jacobian"] for run in (first, second)]
    assert jacobians[0] != 0 and jacobians[1] == 0


def test_dynamic_and_static_bits_are_evaluated_on_the_same_test_bits(pyrovae: Command, evaluated: Path) -> None:
    words = ["--data.binarization", "static", "--fit.epochs", 1, "--directory", "run"]
    assert pyrovae("train", "tiny.yaml", *words)[0] == 0
    assert pyrovae("evaluate", "run", "--device", "cpu")[0] == 0
    assert pyrovae("compare", evaluated, "run")[0] == 0


def test_the_figure_goes_where_it_is_asked_for(pyrovae: Command, evaluated: Path, other: Path) -> None:
    code, _, err = pyrovae("compare", evaluated, other, "--output", "some.pdf")
    assert code == 2 and "written as .png" in err and not Path("some.pdf").exists()


def test_what_was_not_evaluated_is_told_with_the_command(pyrovae: Command, evaluated: Path, trained: Path) -> None:
    code, _, err = pyrovae("compare", evaluated, trained)
    assert code == 2 and f"first: pyrovae evaluate {trained}" in err
    code, _, err = pyrovae("compare", evaluated, trained, "--split", "validation")
    assert code == 2 and f"first: pyrovae evaluate {evaluated} --split validation" in err


def test_one_run_is_compared_by_method(pyrovae: Command, evaluated: Path) -> None:
    code, _, err = pyrovae("compare", evaluated)
    assert code == 2 and "was evaluated by importance alone" in err
    assert f"first: pyrovae evaluate {evaluated} --method annealed" in err
    run = copied(evaluated)
    assert pyrovae("evaluate", run, "--method", "annealed", "--num_particles", 4, "--num_steps", 3)[0] == 0
    code, out, _ = pyrovae("compare", run, "--output", "methods.png")
    gain = records.read(run, "test", "annealed")[0].log_prob - records.read(run, "test")[0].log_prob
    row = next(line for line in out[out.index("against importance") :].splitlines() if line.startswith("annealed"))
    assert code == 0 and row.split()[1] == f"{gain.mean():+.3f}" and Path("methods.png").exists()
    record = json.loads((run / "evidence.json").read_text())
    (run / "evidence.json").write_text(json.dumps(record | {"program_sha256": "0"}))
    code, _, err = pyrovae("compare", run)
    assert code == 2 and "importance and annealed are evaluations of different weights" in err
    code, _, err = pyrovae("compare", run, "--method", "annealed")
    assert code == 2 and "compares several runs" in err
    code, _, err = pyrovae("compare", run, run)
    assert code == 2 and "named twice" in err


def test_runs_are_compared_by_the_method_they_share(pyrovae: Command, evaluated: Path) -> None:
    Path("a").symlink_to(copied(evaluated))
    assert pyrovae("evaluate", "a", "--method", "annealed", "--num_particles", 4, "--num_steps", 3)[0] == 0
    code, out, _ = pyrovae("compare", "a", evaluated)
    assert code == 0 and "importance sampling, 20 particles" in out and "annealing" not in out
    code, _, err = pyrovae("compare", "a", evaluated, "--method", "annealed")
    assert code == 2 and f"first: pyrovae evaluate {evaluated} --method annealed" in err
    for file in Path("copy").glob("evidence.*"):
        file.unlink()
    assert pyrovae("compare", "a", "copy")[0] == 0  # by annealing, which they share


def test_spoilt_evidence(pyrovae: Command, evaluated: Path) -> None:
    run = copied(evaluated)
    (run / "evidence.safetensors").write_bytes(b"spoilt")
    code, _, err = pyrovae("compare", evaluated, run)
    assert code == 2 and "evaluate again" in err


def test_tensors_of_one_evaluation_and_facts_of_another(pyrovae: Command, evaluated: Path, other: Path) -> None:
    run = copied(evaluated)
    (run / "evidence.safetensors").write_bytes((other / "evidence.safetensors").read_bytes())
    code, _, err = pyrovae("compare", evaluated, run)
    assert code == 2 and "were not written together" in err and "evaluate again" in err


@pytest.mark.parametrize(
    "change", [{"split": "validation"}, {"num_data": 399}, {"data": None}, {"data_sha256": None}, {"program_sha256": 3}]
)
def test_a_record_that_says_something_else(pyrovae: Command, evaluated: Path, change: dict[str, Any]) -> None:
    run = copied(evaluated)
    record = json.loads((run / "evidence.json").read_text())
    (run / "evidence.json").write_text(json.dumps(record | change))
    code, _, err = pyrovae("compare", evaluated, run)
    assert code == 2 and "evaluate again" in err


@pytest.mark.parametrize("key", ["data", "data_sha256", "tensors_sha256", "program_sha256"])
def test_a_record_that_lacks_something(pyrovae: Command, evaluated: Path, key: str) -> None:
    run = copied(evaluated)
    record = json.loads((run / "evidence.json").read_text())
    del record[key]
    (run / "evidence.json").write_text(json.dumps(record))
    code, _, err = pyrovae("compare", evaluated, run)
    assert code == 2 and f"hold no '{key}': evaluate again" in err
