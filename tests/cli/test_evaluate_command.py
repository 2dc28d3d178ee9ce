"""The log-likelihood of a run, and what must hold of its directory."""

import json
import re
from pathlib import Path

import pytest
import torch
from runs import Command, copied
from safetensors.torch import load_file

import pyrovae as pv


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
