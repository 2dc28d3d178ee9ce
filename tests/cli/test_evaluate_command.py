"""The log-likelihood of a run, and what must hold of its directory."""

import json
import re
from pathlib import Path

import pytest
import torch
from runs import Command, copied
from safetensors.torch import load_file

import pyrovae as pv
from pyrovae.cli import experiment, records
from pyrovae.evidence.importance import Importance


def test_evaluate_gives_what_log_marginal_gives(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    code, out, _ = pyrovae("evaluate", run, "--num_particles", 30, "--seed", 5, "--device", "cpu")
    program, data = pv.load(run / "program.safetensors"), pv.data.digits()
    with pytest.warns(pv.EvidenceWarning):
        expected = pv.log_marginal(program, data.test.x, num_particles=30, seed=5)
    found, record = load_file(run / "evidence.safetensors"), json.loads((run / "evidence.json").read_text())
    for name in ("log_prob", "standard_error", "ess", "pareto_k"):
        assert torch.equal(found[name], getattr(expected, name))
    assert expected.record().items() <= record.items()
    assert record["data"] == data.describe() and record["split"] == "test" and record["seconds"] > 0
    assert code == 0 and expected.summary() in out


def test_older_evidence_is_replaced_with_a_word(pyrovae: Command, evaluated: Path) -> None:
    run = copied(evaluated)
    out = pyrovae("evaluate", run, "--split", "validation")[1]
    assert "is replaced" not in out
    out = pyrovae("evaluate", run, "--num_particles", 30)[1]
    assert "copy/evidence.json is replaced: it held importance sampling, 20 particles, seed 0" in out


def test_evaluate_keeps_the_splits_apart(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    assert pyrovae("evaluate", run, "--split", "validation")[0] == 0
    assert json.loads((run / "evidence-validation.json").read_text())["num_data"] == 200
    assert not (run / "evidence.json").exists()


def test_the_warning_of_unreliable_estimates_is_one_line(pyrovae: Command, trained: Path) -> None:
    code, _, err = pyrovae("evaluate", copied(trained))
    assert code == 0
    assert re.fullmatch(r"pyrovae: warning: k-hat is above [^\n]*\n", err)


def test_other_data_than_those_of_the_run(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["data"]["fingerprint"] = "0"
    (run / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = pyrovae("evaluate", run)
    assert code == 2 and "the data are not those of the run, they differ in fingerprint" in err


def test_a_spoilt_file_of_weights(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    weights = bytearray((run / "program.safetensors").read_bytes())
    weights[-1] ^= 1
    (run / "program.safetensors").write_bytes(weights)
    code, _, err = pyrovae("evaluate", run)
    assert code == 2 and "was altered" in err


def test_a_link_that_leads_out_of_the_run_is_refused(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    (run / "inside.yaml").symlink_to("config.yaml")
    assert pyrovae("evaluate", run)[0] == 0
    for name in ("program.safetensors", "evidence.json"):
        kept = (run / name).read_bytes()
        (run / name).unlink()
        (run / name).symlink_to(trained / name)
        code, _, err = pyrovae("evaluate", run)
        assert code == 2 and f"{run / name} is a symbolic link that leads outside" in err
        (run / name).unlink()
        (run / name).write_bytes(kept)


SHORT = ("--method", "annealed", "--num_particles", 4, "--num_steps", 3, "--device", "cpu")


def test_each_method_has_files_of_its_own(pyrovae: Command, evaluated: Path) -> None:
    run, data = copied(evaluated), pv.data.digits()
    before = (run / "evidence.json").read_bytes()
    code, out, _ = pyrovae("evaluate", run, *SHORT)
    expected = pv.log_marginal(
        pv.load(run / "program.safetensors"), data.test.x, method="annealed", num_particles=4, num_steps=3, seed=0
    )
    found, record = records.read(run, "test", "annealed")
    assert code == 0 and expected.summary() in out and found.summary() == expected.summary()
    assert torch.equal(found.log_prob, expected.log_prob) and record["method"] == "annealed"
    assert (run / "evidence.json").read_bytes() == before and (run / "evidence-annealed.png").exists()
    assert pyrovae("evaluate", run, "--tolerance", 50, "--num_particles", 2000, "--num_steps", 40)[0] == 0
    assert records.there(run, "test") == ["importance", "annealed", "tolerance"]
    _, of_importance = records.read(run, "test")
    assert record["program_sha256"] == of_importance["program_sha256"] != ""
    assert records.read(run, "test", "tolerance")[0].reached.any()
    assert not list(run.glob("*.unfinished"))
    assert pyrovae("report", run)[0] == 0
    page = (run / "report.html").read_text()
    assert "By every method" in page and "annealing from the guide, 4 chains of 3 steps" in page


BLOCKS = ("--method", "annealed", "--num_particles", 16, "--num_steps", 2, "--device", "cpu")  # four of them


@pytest.mark.parametrize("words", [(), BLOCKS], ids=["importance", "annealed"])
def test_what_was_stopped_goes_on_to_the_same_bits(
    pyrovae: Command, trained: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]
) -> None:
    from pyrovae.evidence.annealing.annealed import Annealed

    whole, run = trained.parent / f"whole-{len(words)}", copied(trained)
    whole.mkdir()
    for file in trained.iterdir():
        (whole / file.name).write_bytes(file.read_bytes())
    estimator = Annealed if words else Importance
    with monkeypatch.context() as patch:
        stopping(patch, estimator, after=2)
        code, out, _ = pyrovae("evaluate", run, *words)
    file = run / f"{records.stem('annealed' if words else 'importance', 'test')}.unfinished"
    assert code == 130 and "the same command goes on from there" in out and file.exists()
    other = (*words, "--num_particles", 7)
    code, _, err = pyrovae("evaluate", run, *other)
    assert code == 2 and "7 here" in err and "or remove the file" in err and file.exists()
    with monkeypatch.context() as patch:  # before it sees that the file is of another budget
        patch.setattr(experiment.Experiment, "evaluate", interrupted)
        code, out, _ = pyrovae("evaluate", run, *other)
    assert code == 130 and f"before anything was done; {file} is as it was" in out and "the same command" not in out
    code, out, _ = pyrovae("evaluate", run, *words)
    assert code == 0 and re.search(rf"found {file}, an evaluation that was stopped; done: estimate of \d+ data", out)
    assert not file.exists() and re.search(r"in \d+\.\d s, \d+\.\d s of them before it was stopped", out)
    assert pyrovae("evaluate", whole, *words)[0] == 0
    name = f"{file.stem}.safetensors"
    assert (run / name).read_bytes() == (whole / name).read_bytes()


def interrupted(*args: object, **options: object) -> None:
    raise KeyboardInterrupt


def stopping(patch: pytest.MonkeyPatch, estimator: type, after: int) -> None:
    block, count = estimator.block, iter(range(after))  # type: ignore[attr-defined]

    def stopped(self: object, rows: object) -> object:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return block(self, rows)

    patch.setattr(estimator, "block", stopped)


def test_where_nothing_was_done_nothing_stays(pyrovae: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied(trained)
    with monkeypatch.context() as patch:
        stopping(patch, Importance, after=0)
        code, out, _ = pyrovae("evaluate", run)
    assert code == 130 and "interrupted before anything was done" in out and "the same command" not in out
    assert not list(run.glob("*.unfinished"))


def test_a_spoilt_unfinished_file(pyrovae: Command, trained: Path) -> None:
    run = copied(trained)
    (run / "evidence.unfinished").write_bytes(b"spoilt")
    code, _, err = pyrovae("evaluate", run)
    assert code == 2 and "is no checkpoint" in err and "remove it" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num_steps", 3), "num_steps and annealing are for method='annealed'"),
        (("--method", "exact"), "has no closed form"),
        (("--method", "annealed", "--tolerance", 0.1), "leave out method='annealed'"),
        (("--tolerance", -1), "tolerance must be a positive number"),
        (("--method", "annealing"), "there is no 'annealing'; did you mean"),
    ],
)
def test_refusals_are_one_line(pyrovae: Command, trained: Path, words: tuple[object, ...], message: str) -> None:
    run = copied(trained)
    code, _, err = pyrovae("evaluate", run, *words)
    assert code == 2 and err.count("\n") == 1 and message in err
    assert not list(run.glob("evidence*"))
