"""Configs: YAML, overrides, and every way to get them wrong."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml
from runs import ROOT, TINY, Command, history

import pyrovae as pv
from pyrovae.cli.config import trusting
from pyrovae.cli.experiment import Experiment
from pyrovae.families import Laplace


def test_options_reach_objective_optimizer_and_schedules(pyrovae: Command) -> None:
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


def test_print_config_builds_nothing_and_is_its_own_config(pyrovae: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.data.embedded._read", lambda: pytest.fail("the data were read"))
    code, out, _ = pyrovae("train", "tiny.yaml", "--print_config", "--program.prior", "pyrovae.recipes.Vamp")
    assert code == 0
    assert yaml.safe_load(out)["program"]["init_args"]["prior"]["init_args"] == {"num_pseudo_inputs": 500}
    Path("whole.yaml").write_text(out)
    assert pyrovae("train", "whole.yaml", "--print_config")[1] == out


FAMILIES = {
    "a learned prior": ("prior", "Learned", "{class_path: pyrovae.priors.Learned, init_args: {family: %s, latent: 2}}"),
    "a flow as posterior": (
        "posterior", "Flow",
        "{class_path: pyrovae.families.Flow, init_args: {family: %s, transforms: {class_path: "
        "pyrovae.flows.inverse_autoregressive, init_args: {latent: 2, num_layers: 1}}}}",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("slot", "kind", "text"), FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize(
    "family", ["pyrovae.families.laplace", "pyrovae.families.Laplace", "{class_path: pyrovae.families.Laplace}"]
)
def test_parts_may_be_made_of_families(pyrovae: Command, slot: str, kind: str, text: str, family: str) -> None:
    code, out, err = pyrovae("train", "tiny.yaml", f"--program.{slot}", text % family, "--print_config")
    assert (code, err) == (0, "")
    Path("whole.yaml").write_text(out)
    experiment = Experiment(Path("whole.yaml"))
    program = experiment.program(experiment.data())
    part = program.prior if slot == "prior" else program.encoder.family
    assert type(part).__name__ == kind and isinstance(part.family, Laplace)
    assert slot == "prior" or len(part.transforms.each) == 1


@pytest.mark.parametrize("config", sorted(ROOT.glob("experiments/**/*.yaml")), ids=lambda path: path.stem)
def test_the_configs_of_the_experiments_are_valid(pyrovae: Command, config: Path) -> None:
    code, out, err = pyrovae("train", config, "--print_config")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["data"]["name"] == "mnist"


WARMUP = "{{{}: {{class_path: pyrovae.schedules.Warmup, init_args: {{epochs: {}}}}}}}"
FAULTS = {
    "no command": ([], "arguments are required"),
    "unknown command": (["trian"], "'trian'"),
    "no config": (["train", "nowhere.yaml"], "nowhere.yaml cannot be read: No such file"),
    "not for a config": (["train", "tiny.yaml", "--fit.directory", "x"], "fit.directory is no key of a config"),
    "number": (["train", "tiny.yaml", "--fit.epochs", "ten"], "\"fit.epochs\": Expected a <class 'int'>"),
    "whole number": (["train", "tiny.yaml", "--fit.epochs", "2.5"], "\"fit.epochs\": Expected a <class 'int'>"),
    "truth": (["train", "tiny.yaml", "--conditional", "2"], "\"conditional\": Expected a <class 'bool'>"),
    "nested type": (["train", "tiny.yaml", "--program.hidden", "[8, b]"], "\"hidden\": Expected a <class 'int'>"),
    "type of torch": (["train", "tiny.yaml", "--fit.optimizer.eps", "tiny"], "\"eps\": Expected a <class 'float'>"),
    "object": (["train", "tiny.yaml", "--program.likelihood", "3"], 'Parser key "likelihood"'),
    "wrong object": (["train", "tiny.yaml", "--program.likelihood", "pyrovae.recipes.Vamp"], 'Parser key "likelihood"'),
    "no value": (["train", "tiny.yaml", "--fit.epochs"], "--fit.epochs: expected a value"),
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
    pyrovae: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
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
    "unknown key": (b"program: pyrovae.recipes.Dense\nfit: {epoch: 3}", "fit.epoch is no key of a config"),
    "section": (b"program: pyrovae.recipes.Dense\nfit: 3", "fit"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_YAML.values(), ids=BAD_YAML.keys())
def test_a_bad_config_is_told_by_file_line_or_key(pyrovae: Command, text: bytes, message: str) -> None:
    Path("bad.yaml").write_bytes(text)
    code, _, err = pyrovae("train", "bad.yaml", "--print_config")
    assert code == 2 and message in err and err.count("\n") == 1
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit: 3", "fit: expected a mapping of options, got 3"),
        ("fit: sub", "fit: expected a mapping of options, got 'sub'"),
        ("seed: 1\nseed: 2", "the key seed stands twice"),
    ],
)
def test_what_jsonargparse_would_pass_over(pyrovae: Command, text: str, message: str) -> None:
    Path("bad.yaml").write_text(f"program: pyrovae.recipes.Dense\n{text}")
    code, _, err = pyrovae("train", "bad.yaml", "--print_config")
    assert code == 2 and message in err


# A typo is told with the nearest name, at any depth

TYPOS = {
    "trian": "there is no 'trian'; did you mean train?",
    "evaluate run --num_particle 3": "did you mean --num_particles or --num_steps?",
    "evaluate run --split tset": "there is no 'tset'; did you mean test?",
    "train tiny.yaml --fti.epochs 3": "fti is no key of a config; did you mean fit?",
    "train tiny.yaml --fit.epoch 3": "fit.epoch is no key of a config; did you mean fit.epochs?",
    "train tiny.yaml --data.binarisation none": "did you mean data.binarization",
    "train tiny.yaml --data.binarization dynamc": "did you mean 'dynamic'?",
    "train tiny.yaml --data.name mnits": "did you mean 'mnist'",
    "train tiny.yaml --program.latnt 3": "no argument of pyrovae.recipes.Dense; did you mean program.latent?",
    "train tiny.yaml --program.prior pyrovae.recipes.Vmap": "did you mean pyrovae.recipes.Vamp?",
    "train tiny.yaml --program.prior pyrovae.recipes.Vamp --program.prior.num_pseudo_input 3": (
        "no argument of pyrovae.recipes.Vamp; did you mean program.prior.num_pseudo_inputs?"
    ),
    "train tiny.yaml --fit.schedules '{b: {class_path: pyrovae.schedules.Warmup, init_args: {epoch: 3}}}'": (
        "fit.schedules.b.epoch is no argument of pyrovae.schedules.Warmup; did you mean fit.schedules.b.epochs?"
    ),
    "train tiny.yaml --fit.schedules '{bta: pyrovae.schedules.Cosine}'": "did you mean beta?",
    "train tiny.yaml --fit.objective pyrovae.objectives.iwea": "did you mean pyrovae.objectives.iwae?",
    "train tiny.yaml --fit.objective.bta 3": "did you mean fit.objective.beta?",
    "train tiny.yaml --fit.optimizer.leaning_rate 3": "no argument of torch.optim.Adam",
}


@pytest.mark.parametrize(("line", "message"), TYPOS.items())
def test_a_typo_is_told_with_the_nearest_name(pyrovae: Command, line: str, message: str) -> None:
    code, _, err = pyrovae(*shlex.split(line))
    assert code == 2 and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit: {epoch: 3}", "fit.epoch is no key of a config; did you mean fit.epochs?"),
        ("data: {nam: digits}", "data.nam is no key of a config; did you mean data.name?"),
        ("evaluate: {num_particle: 3}", "did you mean evaluate.num_particles or evaluate.num_steps?"),
        ("sede: 3", "sede is no key of a config; did you mean seed?"),
        (
            "fit: {learning_rate: {class_path: pyrovae.schedules.Cosine, init_arg: {warmup: 3}}}",
            "did you mean fit.learning_rate.init_args?",
        ),
    ],
)
def test_a_typo_in_the_file(pyrovae: Command, text: str, message: str) -> None:
    Path("bad.yaml").write_text(f"program: pyrovae.recipes.Dense\n{text}")
    code, _, err = pyrovae("train", "bad.yaml", "--print_config")
    assert code == 2 and message in err and err.count("\n") == 1


# Options of objectives, and other slots

OBJECTIVES = {
    "beta": (["--fit.objective.beta", "4"], "elbo(beta=4.0, kl=sampled_kl)"),
    "kl": (["--fit.objective.kl", "pyrovae.objectives.closed_form_kl"], "elbo(beta=1.0, kl=closed_form_kl)"),
    "iwae": (["--fit.objective", "pyrovae.objectives.iwae", "--fit.objective.beta", "0.5"], "iwae(beta=0.5)"),
    "whole": (
        ["--fit.objective", "{class_path: pyrovae.objectives.elbo, init_args: {beta: 1e-1}}"],
        "elbo(beta=0.1, kl=sampled_kl)",
    ),
}


@pytest.mark.parametrize(("words", "expected"), OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_options_of_an_objective(pyrovae: Command, words: list[str], expected: str) -> None:
    text = pyrovae("train", "tiny.yaml", *words, "--print_config")[1]
    Path("whole.yaml").write_text(text)
    assert pyrovae("train", "whole.yaml", "--print_config")[1] == text
    assert pyrovae("train", "whole.yaml", "--fit.epochs", 1, "--directory", "run")[0] == 0
    assert json.loads(Path("run/manifest.json").read_text())["options"]["objective"] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fit.objective.beta", "four"], "beta"),
        (["--fit.objective.beta", "-1"], "beta, the weight of the KL, must be at least 0"),
        (["--fit.objective.kl", "os.system"], "os.system is outside pyrovae"),
    ],
)
def test_bad_options_of_an_objective(pyrovae: Command, words: list[str], message: str) -> None:
    code, _, err = pyrovae("train", "tiny.yaml", *words)
    assert code == 2 and message in err and not [*Path().glob("runs/*")]


def test_the_gradient_is_a_slot_too(pyrovae: Command) -> None:
    words = ["--fit.gradient", "pyrovae.gradients.path", "--fit.epochs", 1, "--directory", "run"]
    assert pyrovae("train", "tiny.yaml", *words)[0] == 0
    assert json.loads(Path("run/manifest.json").read_text())["options"]["gradient"] == "path"


def test_another_class_keeps_the_arguments_of_the_same_type(pyrovae: Command) -> None:
    out = pyrovae("train", "tiny.yaml", "--program", "pyrovae.recipes.Convolutional", "--print_config")[1]
    program = yaml.safe_load(out)["program"]
    assert program["class_path"] == "pyrovae.recipes.Convolutional"
    assert program["init_args"]["latent"] == 2 and program["init_args"]["hidden"] == 256


# Data of the user's own


@pytest.mark.parametrize("name", ["data.v1", "pictures.old", "os.path"])
def test_a_folder_may_be_called_anything(pyrovae: Command, name: str) -> None:
    Path(name).mkdir()
    out = pyrovae("train", "tiny.yaml", "--data.name", name, "--print_config")[1]
    assert yaml.safe_load(out)["data"]["name"] == str(Path(name).resolve())


def test_a_function_of_a_trusted_package_gives_data(pyrovae: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.py").write_text(
        "from pathlib import Path\nPath('imported').touch()\nimport pyrovae\n"
        "def some(*, binarization: str = 'static', many: int = 3):\n"
        "    Path(f'{binarization}-{many}').touch()\n"
        "    return pyrovae.data.digits(binarization=binarization)\n"
        "def nothing():\n    return 3\n"
    )
    words = ["train", "tiny.yaml", "--data", "{name: mine.some, many: 5}", "--fit.epochs", 1, "--directory", "run"]
    code, _, err = pyrovae(*words)
    assert code == 2 and "--trust mine" in err and not Path("imported").exists()
    trusted = ["--trust", "mine"]
    assert pyrovae(*words, *trusted)[0] == 0
    assert Path("static-5").exists()
    assert pyrovae("evaluate", "run", *trusted)[0] == 0
    assert "did you mean data.many" in pyrovae(*words, *trusted, "--data.manny", "3")[2]
    assert (
        "mine.nothing gives a int" in pyrovae(*words, *trusted, "--data", "{name: mine.nothing}", "--directory", "x")[2]
    )
    sys.modules.pop("mine")


def test_evaluation_by_another_method_does_not_take_its_numbers() -> None:
    section = "evaluate: {num_particles: 20, seed: 3, method: annealed, num_steps: 9, annealing: {num_leapfrog: 2}}"
    Path("annealed.yaml").write_text(TINY[: TINY.index("evaluate:")] + section)
    with trusting([]):
        experiment = Experiment(Path("annealed.yaml"))
        own = {"num_particles": 20, "method": "annealed", "num_steps": 9, "annealing": pv.Annealing(num_leapfrog=2)}
        always = {"seed": 3, "compile": "auto"}
        assert experiment.evaluation() == {**own, **always}
        assert experiment.evaluation(method="annealed", num_steps=5) == {**own, **always, "num_steps": 5}
        assert experiment.evaluation(method="importance") == {**always, "method": "importance"}
        assert experiment.evaluation(tolerance=0.1, seed=1) == {**always, "tolerance": 0.1, "seed": 1}


def test_how_to_anneal_is_written_whole(pyrovae: Command) -> None:
    words = ["--evaluate.method", "annealed", "--evaluate.annealing.schedule", "pyrovae.evidence.Linear"]
    code, out, err = pyrovae("train", "tiny.yaml", *words, "--print_config")
    assert code == 0, err
    Path("whole.yaml").write_text(out)
    with trusting([]):
        experiment = Experiment(Path("whole.yaml"))
        assert experiment.evaluation()["annealing"] == pv.Annealing(pv.evidence.Linear())
        assert experiment.text == out and "checkpoint" not in out
