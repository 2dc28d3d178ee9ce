"""The command line: whole runs on the digits, and every fault it must survive. Most of it runs in this process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import pyrovae as pv
from pyrovae.cli import main
from pyrovae.cli.demo import FILES

ROOT = Path(__file__).parent.parent
TINY = """
data: {name: digits, binarization: dynamic}
program: {class_path: pyrovae.recipes.Dense, init_args: {latent: 2, hidden: [8]}}
fit:
  epochs: 2
  batch_size: 400
  optimizer: {class_path: torch.optim.Adam, init_args: {lr: 1e-2}}
  device: cpu
evaluate: {num_particles: 20}
"""
Result = tuple[int, str, str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory of the test's own with the tiny config in it, an empty cache and no network; one thread."""

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network in the tests")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PYROVAE_DATA", raising=False)
    monkeypatch.setattr("torchvision.datasets.utils.download_url", no_network)
    (tmp_path / "tiny.yaml").write_text(TINY)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pyrovae(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command line, in this process: exit status, stdout and stderr."""

    def run(*words: object) -> Result:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be copied or only read."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    assert main(["train", str(folder / "tiny.yaml"), "--directory", str(folder / "run")]) == 0
    return folder / "run"


def copied(run: Path) -> Path:
    """A copy of a run's files, to be spoilt."""
    copy = Path("copy")
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


# Whole runs


def test_train_leaves_a_whole_run_directory(pyrovae: Callable[..., Result]) -> None:
    code, out, err = pyrovae("train", "tiny.yaml", "--directory", "run")
    assert (code, err) == (0, "")
    assert "1,197 training images" in out and "pyrovae evaluate run" in out
    names = {"config.yaml", "manifest.json", "history.jsonl", "program.safetensors"}
    figures = {"samples.png", "reconstructions.png", "learning_curve.png"}
    assert {file.name for file in Path("run").iterdir()} == names | figures
    assert len(history(Path("run"))) == 2
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["data"] == pv.data.digits().describe()
    assert manifest["options"]["epochs"] == 2 and manifest["environment"]["torch"] == torch.__version__


def test_a_runs_own_config_repeats_it_bit_for_bit(pyrovae: Callable[..., Result], trained: Path) -> None:
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
    assert config["evaluate"] == {"num_particles": 20}


def test_evaluate_gives_what_log_marginal_gives(pyrovae: Callable[..., Result], trained: Path) -> None:
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


def test_evaluate_keeps_the_splits_apart(pyrovae: Callable[..., Result], trained: Path) -> None:
    run = copied(trained)
    assert pyrovae("evaluate", run, "--split", "validation")[0] == 0
    assert json.loads((run / "evidence-validation.json").read_text())["num_data"] == 200
    assert not (run / "evidence.json").exists()


def test_the_warning_of_unreliable_estimates_is_one_line(pyrovae: Callable[..., Result], trained: Path) -> None:
    code, _, err = pyrovae("evaluate", copied(trained))
    assert code == 0
    assert re.fullmatch(r"pyrovae: warning: k-hat is above [^\n]*\n", err)


PRIORS = {"Vamp": pv.priors.VampPrior, "ConditionalNormal": pv.Conditional}


@pytest.mark.parametrize("prior", PRIORS)
def test_conditional_programs_and_recipes_of_priors(pyrovae: Callable[..., Result], prior: str) -> None:
    overrides = ["--conditional", "true", "--program.prior", f"pyrovae.recipes.{prior}", "--directory", "run"]
    assert pyrovae("train", "tiny.yaml", *overrides)[0] == 0
    assert pyrovae("evaluate", "run")[0] == 0
    assert isinstance(pv.load("run/program.safetensors").prior, PRIORS[prior])
    assert Path("run/samples.png").exists()


def test_runs_without_a_directory_get_fresh_ones(pyrovae: Callable[..., Result]) -> None:
    for _ in range(2):
        assert pyrovae("train", "tiny.yaml", "--fit.epochs", 1)[0] == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny", "tiny-2"]


def test_demo(pyrovae: Callable[..., Result]) -> None:
    torch.set_num_threads(2)
    short = ["--fit.epochs", 1, "--evaluate.num_particles", 20]
    for expected in ("runs/demo", "runs/demo-2"):
        code, out, _ = pyrovae("demo", *short)
        assert code == 0 and "k-hat above" in out
        assert {*FILES, "manifest.json", "history.jsonl"} <= {file.name for file in Path(expected).iterdir()}
    code, _, err = pyrovae("demo", *short, "--directory", "runs/demo")
    assert code == 2 and "runs/demo holds a run already" in err
    assert torch.get_num_threads() == 2


def test_global_state_is_left_alone(pyrovae: Callable[..., Result]) -> None:
    state, handler, path = torch.get_rng_state(), signal.getsignal(signal.SIGTERM), list(sys.path)
    assert pyrovae("train", "tiny.yaml", "--fit.epochs", 1, "--trust", "nobody")[0] == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert signal.getsignal(signal.SIGTERM) is handler and sys.path == path


# Configs


def test_options_reach_objective_optimizer_and_schedules(pyrovae: Callable[..., Result]) -> None:
    objective = ["--fit.objective", "pyrovae.objectives.iwae", "--fit.num_particles", 3]
    optimizer = ["--fit.optimizer", "torch.optim.AdamW", "--fit.optimizer.lr", "1e-5"]
    rate = ["--fit.learning_rate", "pyrovae.schedules.Cosine", "--fit.learning_rate.warmup", 0.5]
    beta = ["--fit.schedules", "{beta: {class_path: pyrovae.schedules.Warmup, init_args: {epochs: 4, end: 4}}}"]
    assert pyrovae("train", "tiny.yaml", *objective, *optimizer, *rate, *beta, "--directory", "run")[0] == 0
    manifest = json.loads(Path("run/manifest.json").read_text())["options"]
    assert manifest["objective"] == "iwae" and manifest["num_particles"] == 3
    assert "AdamW" in manifest["optimizer"] and "lr=1e-05" in manifest["optimizer"]
    assert manifest["learning_rate"] == "Cosine(warmup=0.5, final=0.0)"
    assert [record["beta"] for record in history(Path("run"))] == pytest.approx([2 / 3, 5 / 3])


def test_print_config_builds_nothing_and_is_its_own_config(
    pyrovae: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrovae.data.embedded._read", lambda: pytest.fail("the data were read"))
    code, out, _ = pyrovae("train", "tiny.yaml", "--print_config", "--program.prior", "pyrovae.recipes.Vamp")
    assert code == 0
    assert yaml.safe_load(out)["program"]["init_args"]["prior"]["init_args"] == {"num_pseudo_inputs": 500}
    Path("whole.yaml").write_text(out)
    assert pyrovae("train", "whole.yaml", "--print_config")[1] == out


@pytest.mark.parametrize("config", sorted(ROOT.glob("experiments/**/*.yaml")), ids=lambda path: path.stem)
def test_the_configs_of_the_experiments_are_valid(pyrovae: Callable[..., Result], config: Path) -> None:
    code, out, err = pyrovae("train", config, "--print_config")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["data"]["name"] == "mnist"


# Faults: one line on stderr, exit status 2, nothing left behind

WARMUP = "{{{}: {{class_path: pyrovae.schedules.Warmup, init_args: {{epochs: {}}}}}}}"
FAULTS = {
    "no command": ([], "arguments are required"),
    "unknown command": (["trian"], "'trian'"),
    "no config": (["train", "nowhere.yaml"], "nowhere.yaml cannot be read: No such file"),
    "unknown key": (["train", "tiny.yaml", "--fit.epoch", "3"], "--fit.epoch 3; did you mean fit.epochs"),
    "unknown section": (["train", "tiny.yaml", "--fti.epochs", "3"], "--fti.epochs 3; did you mean fit.epochs"),
    "unknown argument": (["train", "tiny.yaml", "--program.latnt", "3"], "Option 'latnt' is not accepted"),
    "not for a config": (["train", "tiny.yaml", "--fit.directory", "x"], "unrecognized arguments: --fit.directory"),
    "number": (["train", "tiny.yaml", "--fit.epochs", "ten"], "\"fit.epochs\": Expected a <class 'int'>"),
    "whole number": (["train", "tiny.yaml", "--fit.epochs", "2.5"], "\"fit.epochs\": Expected a <class 'int'>"),
    "truth": (["train", "tiny.yaml", "--conditional", "2"], "\"conditional\": Expected a <class 'bool'>"),
    "nested type": (["train", "tiny.yaml", "--program.hidden", "[8, b]"], "\"hidden\": Expected a <class 'int'>"),
    "type of torch": (["train", "tiny.yaml", "--fit.optimizer.eps", "tiny"], "\"eps\": Expected a <class 'float'>"),
    "object": (["train", "tiny.yaml", "--program.likelihood", "3"], 'Parser key "likelihood"'),
    "wrong object": (["train", "tiny.yaml", "--program.likelihood", "pyrovae.recipes.Vamp"], 'Parser key "likelihood"'),
    "no value": (["train", "tiny.yaml", "--fit.epochs"], "--fit.epochs: expected one argument"),
    "lacking": (
        ["train", "tiny.yaml", "--program.likelihood.class_path", "pyrovae.families.Categorical"],
        "num_categories",
    ),
    "misspelt data": (["train", "tiny.yaml", "--data.name", "mnits"], "did you mean 'mnist'"),
    "misspelt class": (
        ["train", "tiny.yaml", "--program.prior", "pyrovae.recipes.Vmap"],
        "there is no pyrovae.recipes.Vmap; did you mean pyrovae.recipes.Vamp?",
    ),
    "wrong place": (
        ["train", "tiny.yaml", "--fit.optimizer.class_path", "pyrovae.AdamW"],
        "there is no pyrovae.AdamW; did you mean torch.optim.AdamW",
    ),
    "a module": (["train", "tiny.yaml", "--program", "pyrovae.recipes"], "pyrovae.recipes is a module"),
    "binarization": (["train", "tiny.yaml", "--data.binarization", "dynamc"], "did you mean 'dynamic'?"),
    "no network": (["train", "tiny.yaml", "--data.name", "mnist"], 'pyrovae.data.load("digits")'),
    "no epochs": (["train", "tiny.yaml", "--fit.epochs", "-1"], "epochs must be a whole number of at least 1; got -1"),
    "no latents": (["train", "tiny.yaml", "--program.latent", "0"], "must be at least 1; got 0"),
    "learning rate": (["train", "tiny.yaml", "--fit.optimizer.lr", "-0.1"], "Invalid learning rate: -0.1"),
    "warm-up": (["train", "tiny.yaml", "--fit.schedules", WARMUP.format("beta", -3)], "a warm-up needs epochs"),
    "schedule of nothing": (["train", "tiny.yaml", "--fit.schedules", WARMUP.format("gamma", 3)], "gamma"),
    "no GPU": (["train", "tiny.yaml", "--fit.device", "cuda"], "device 'cuda' is not available"),
    "a file in the way": (["train", "tiny.yaml", "--directory", "tiny.yaml"], "tiny.yaml is a file"),
    "impossible directory": (["train", "tiny.yaml", "--directory", "tiny.yaml/run"], "tiny.yaml/run cannot be written"),
    "no run": (["evaluate", "nowhere"], "nowhere is not the directory of a run"),
    "no such option": (["evaluate", "nowhere", "--particles", "3"], "--particles: no such option"),
    "no such split": (["evaluate", "nowhere", "--split", "train"], "'train'"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_one_line_and_leaves_nothing(
    pyrovae: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    directory = ["--directory", "run"] if words[:1] == ["train"] and "--directory" not in words else []
    code, _, err = pyrovae(*words, *directory)
    assert code == 2
    assert re.fullmatch(r"pyrovae: error: [^\n]+\n", err) and message in err
    assert sorted(path.name for path in Path().iterdir() if path.name != "cache") == ["tiny.yaml"]


BAD_YAML = {
    "malformed": (b"data: [1, 2\nprogram: 3", "line 2, column 8"),
    "empty": (b"", "a config is a mapping"),
    "a list": (b"- data", "a config is a mapping"),
    "binary": (b"\x80\xff\x00", "is not YAML"),
    "control characters": (b"data: \x01", "is not YAML"),
    "python object": (b"data: !!python/object/apply:os.system [touch hacked]", "line 1, column 7"),
    "no program": (b"data: {name: digits}", "required: program"),
    "unknown key": (b"program: pyrovae.recipes.Dense\nfit: {epoch: 3}", "'fit' does not accept option 'epoch'"),
    "section": (b"program: pyrovae.recipes.Dense\nfit: 3", "fit"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_YAML.values(), ids=BAD_YAML.keys())
def test_a_bad_config_is_told_by_file_line_or_key(pyrovae: Callable[..., Result], text: bytes, message: str) -> None:
    Path("bad.yaml").write_bytes(text)
    code, _, err = pyrovae("train", "bad.yaml", "--print_config")
    assert code == 2 and message in err and err.count("\n") == 1
    assert not Path("hacked").exists()


def test_one_run_to_a_directory(pyrovae: Callable[..., Result], trained: Path) -> None:
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


def test_other_data_than_those_of_the_run(pyrovae: Callable[..., Result], trained: Path) -> None:
    run = copied(trained)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["data"]["fingerprint"] = "0"
    (run / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = pyrovae("evaluate", run)
    assert code == 2 and "the data are not those of the run, they differ in fingerprint" in err


def test_a_spoilt_file_of_weights(pyrovae: Callable[..., Result], trained: Path) -> None:
    run = copied(trained)
    weights = bytearray((run / "program.safetensors").read_bytes())
    weights[-1] ^= 1
    (run / "program.safetensors").write_bytes(weights)
    code, _, err = pyrovae("evaluate", run)
    assert code == 2 and "was altered" in err


# What is not trusted


def stranger(folder: Path) -> None:
    """A package that leaves a mark when it is imported."""
    (folder / "stranger.py").write_text(
        "from pathlib import Path\nPath('imported').touch()\nimport pyrovae\n"
        "class Family(pyrovae.families.Bernoulli):\n    pass\n"
        "class Program(pyrovae.recipes.Recipe):\n"
        "    def __call__(self, data):\n"
        "        return pyrovae.vae(data, latent=3, hidden=(8,), likelihood=Family())\n"
    )


@pytest.mark.parametrize("key", ["program", "program.likelihood", "fit.objective", "program.prior.class_path"])
def test_code_of_others_is_refused_before_import(pyrovae: Callable[..., Result], key: str) -> None:
    stranger(Path())
    code, _, err = pyrovae("train", "tiny.yaml", f"--{key}", "stranger.Family", "--print_config")
    assert code == 2 and "stranger.Family is outside pyrovae" in err and "--trust stranger" in err
    assert not Path("imported").exists() and "stranger" not in sys.modules


@pytest.mark.parametrize("program", [["--program.likelihood", "stranger.Family"], ["--program", "stranger.Program"]])
def test_code_of_others_runs_when_it_is_trusted(
    pyrovae: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, program: list[str]
) -> None:
    stranger(Path())
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    words = [*program, "--directory", "run"]
    assert pyrovae("train", "tiny.yaml", *words, "--trust", "stranger")[0] == 0
    assert pyrovae("evaluate", "run", "--trust", "stranger")[0] == 0
    code, _, err = pyrovae("evaluate", "run")
    assert code == 2 and "--trust stranger" in err
    sys.modules.pop("stranger")


@pytest.mark.parametrize(
    "path", ["os.system", "pyrovae.saving.os.system", "torch.hub.load", "torch.load", "pyrovae.saving.torch.load"]
)
def test_what_can_be_reached_from_trusted_code_is_not_thereby_trusted(
    pyrovae: Callable[..., Result], path: str
) -> None:
    code, _, err = pyrovae("train", "tiny.yaml", "--fit.objective", path)
    assert code == 2 and "refused before import" in err


def test_a_config_cannot_call_any_function(pyrovae: Callable[..., Result]) -> None:
    claim = "{class_path: pyrovae.training.run.claim, init_args: {directory: claimed}}"
    for key in ("program", "program.prior", "fit.learning_rate"):
        assert pyrovae("train", "tiny.yaml", f"--{key}", claim)[0] == 2
    assert not Path("claimed").exists()


def test_a_link_that_leads_out_of_the_run_is_refused(pyrovae: Callable[..., Result], trained: Path) -> None:
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


# Processes


def command(*words: object, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pyrovae.cli", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_leaves_its_weights(
    pyrovae: Callable[..., Result], number: signal.Signals, status: int
) -> None:
    process = command("train", "tiny.yaml", "--directory", "run", "--fit.epochs", 10**6)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if Path("run/history.jsonl").exists() and Path("run/history.jsonl").read_text().count("\n") >= 2:
            process.send_signal(number)
            break
        time.sleep(0.05)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "interrupted; the weights so far are in run" in out and "Traceback" not in err
    assert pyrovae("evaluate", "run")[0] == 0


def test_the_process_exits_with_the_status_and_help_is_light() -> None:
    fault, helped = command("train", "nowhere.yaml"), command("--help")
    assert fault.communicate()[1].startswith("pyrovae: error: nowhere.yaml") and fault.returncode == 2
    assert "evaluate" in helped.communicate()[0] and helped.returncode == 0
    code = "import sys; from pyrovae.cli import main; main(['--help']); print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'torch'" in modules and "'matplotlib'" not in modules and "'sklearn'" not in modules


def test_version(pyrovae: Callable[..., Result]) -> None:
    assert pyrovae("--version")[:2] == (0, f"pyrovae {pv.__version__}\n")


# Two runs


def test_compare_pairs_the_runs_datum_by_datum(pyrovae: Callable[..., Result], trained: Path) -> None:
    run = copied(trained)
    assert pyrovae("train", "tiny.yaml", "--directory", "other", "--seed", 1)[0] == 0
    for each in (run, "other"):
        assert pyrovae("evaluate", each)[0] == 0
    script = [sys.executable, str(ROOT / "experiments/mnist/compare.py"), str(run), "other"]
    out = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    a, b = (load_file(Path(each, "evidence.safetensors")) for each in (run, "other"))
    difference = a["log_prob"] - b["log_prob"]
    noise = (a["standard_error"] ** 2 + b["standard_error"] ** 2).sum().sqrt() / 400
    assert f"{difference.mean():+.3f}   standard error {difference.std() / 20:.3f}" in out
    assert f"Monte Carlo    {noise:.3f}" in out
    assert pyrovae("evaluate", "other", "--split", "validation")[0] == 0
    Path("other/evidence-validation.json").rename("other/evidence.json")
    assert "different images" in subprocess.run(script, capture_output=True, text=True).stderr


@pytest.mark.parametrize("key", ["fit", "program"])
def test_a_file_named_inside_a_config_is_trusted_no_more(pyrovae: Callable[..., Result], key: str) -> None:
    stranger(Path())
    inside = {"fit": "objective: stranger.Family", "program": "class_path: stranger.Recipe"}
    Path("sub").write_text(inside[key])
    Path("outer.yaml").write_text(TINY.replace("program: {", "program: sub #") if key == "program" else TINY)
    words = ["train", "outer.yaml", *(["--fit", "./sub"] if key == "fit" else []), "--print_config"]
    code, _, err = pyrovae(*words)
    assert code == 2 and "is not allowed" in err
    assert not Path("imported").exists() and "stranger" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit: 3", "fit: expected a mapping of options, got 3"),
        ("fit: sub", "fit: expected a mapping of options, got 'sub'"),
        ("seed: 1\nseed: 2", "the key seed stands twice"),
    ],
)
def test_what_jsonargparse_would_pass_over(pyrovae: Callable[..., Result], text: str, message: str) -> None:
    Path("bad.yaml").write_text(f"program: pyrovae.recipes.Dense\n{text}")
    code, _, err = pyrovae("train", "bad.yaml", "--print_config")
    assert code == 2 and message in err
