"""Training from a config: what a run leaves behind, and that it can be repeated."""

import json
import math
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from runs import Command, command, history
from safetensors.torch import load_file

import pyrovae as pv


def test_train_leaves_a_whole_run_directory(pyrovae: Command) -> None:
    code, out, err = pyrovae("train", "tiny.yaml", "--directory", "run")
    assert (code, err) == (0, "")
    assert "train 1,197 | validation 200 | test 400" in out and "pyrovae evaluate run" in out
    names = {"config.yaml", "manifest.json", "history.jsonl", "program.safetensors"}
    figures = {"samples.png", "reconstructions.png", "learning_curve.png"}
    assert {file.name for file in Path("run").iterdir()} == names | figures
    assert len(history(Path("run"))) == 2
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["data"] == pv.data.digits().describe()
    assert manifest["options"]["epochs"] == 2 and manifest["environment"]["torch"] == torch.__version__


def test_a_runs_own_config_repeats_it_bit_for_bit(pyrovae: Command, trained: Path) -> None:
    torch.rand(1)  # the global random state has no part in it
    assert pyrovae("train", trained / "config.yaml", "--directory", "again")[0] == 0
    assert pyrovae("train", trained / "config.yaml", "--directory", "other", "--seed", 1)[0] == 0
    first, again, other = (load_file(run / "program.safetensors") for run in (trained, Path("again"), Path("other")))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert Path("again/config.yaml").read_text() == (trained / "config.yaml").read_text()
    assert json.loads(Path("other/manifest.json").read_text())["options"]["seed"] == 1


def test_the_config_of_a_run_has_every_option(trained: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["data"] == {"name": "digits", "binarization": "dynamic", "seed": 0}
    assert config["program"]["init_args"]["network"] == "pyrovae.networks.GatedMLP"
    assert config["fit"]["num_particles"] == 1 and config["fit"]["objective"] == "pyrovae.objectives.elbo"
    assert config["fit"]["compile"] == "auto" and config["fit"]["precision"] == "fp32"
    assert config["evaluate"] == {"num_particles": 20, "compile": "auto"}


PRIORS = {"Vamp": pv.priors.VampPrior, "ConditionalPrior": pv.Conditional}


@pytest.mark.parametrize("prior", PRIORS)
def test_conditional_programs_and_recipes_of_priors(pyrovae: Command, prior: str) -> None:
    overrides = ["--conditional", "true", "--program.prior", f"pyrovae.recipes.{prior}", "--directory", "run"]
    assert pyrovae("train", "tiny.yaml", *overrides)[0] == 0
    assert pyrovae("evaluate", "run")[0] == 0
    assert isinstance(pv.load("run/program.safetensors").prior, PRIORS[prior])
    assert Path("run/samples.png").exists()


def test_runs_without_a_directory_get_fresh_ones(pyrovae: Command) -> None:
    for _ in range(2):
        assert pyrovae("train", "tiny.yaml", "--fit.epochs", 1)[0] == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny", "tiny-2"]


def test_one_run_to_a_directory(pyrovae: Command, trained: Path) -> None:
    before = {file: file.read_bytes() for file in trained.iterdir()}
    code, _, err = pyrovae("train", "tiny.yaml", "--directory", trained)
    assert code == 2 and "holds a run already" in err
    assert {file: file.read_bytes() for file in trained.iterdir()} == before
    for name in ("going_on", "begun"):
        Path(name).mkdir()
    Path("begun/config.yaml").touch()  # claimed a moment ago
    assert pyrovae("train", "tiny.yaml", "--directory", "begun")[0] == 2
    Path("going_on/history.jsonl").touch()  # a run of pyrovae.fit, which has no config
    assert pyrovae("train", "tiny.yaml", "--directory", "going_on")[0] == 2
    assert [file.name for file in Path("going_on").iterdir()] == ["history.jsonl"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_leaves_its_weights(pyrovae: Command, number: signal.Signals, status: int) -> None:
    process = command("train", "tiny.yaml", "--directory", "run", "--fit.epochs", 10**6)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if Path("run/history.jsonl").exists() and Path("run/history.jsonl").read_text().count("\n") >= 2:
            process.send_signal(number)
            break
        time.sleep(0.05)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == status, err
    assert "interrupted; the weights so far are in run" in out and "Traceback" not in err
    assert pyrovae("evaluate", "run")[0] == 0


def test_a_table_with_missing_values(pyrovae: Command) -> None:
    rows = [f"{'' if n % 3 == 0 else n / 7},{'' if n % 5 == 0 else math.sin(n)}" for n in range(60)]
    Path("holes.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    Path("holes.yaml").write_text("""
data: {name: holes.csv, missing: true}
program: {class_path: pyrovae.recipes.Dense, init_args: {latent: 2, hidden: [8], observation: pyrovae.Missing}}
fit: {epochs: 1, batch_size: 20, device: cpu}
evaluate: {num_particles: 20}
""")
    assert pyrovae("train", "holes.yaml", "--directory", "run")[0] == 0
    code, out, _ = pyrovae("evaluate", "run")
    assert code == 0 and "log-Jacobian" in out
    record = json.loads(Path("run/evidence.json").read_text())
    assert record["data"]["missing"]["train"] > 0.2 and 1 < record["num_dimensions"] < 2
