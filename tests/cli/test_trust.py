"""What is imported, and what is refused before it is."""

import sys
from pathlib import Path

import pytest
from runs import TINY, Command, stranger


@pytest.mark.parametrize("key", ["program", "program.likelihood", "fit.objective", "program.prior.class_path"])
def test_code_of_others_is_refused_before_import(pyrovae: Command, key: str) -> None:
    stranger(Path())
    code, _, err = pyrovae("train", "tiny.yaml", f"--{key}", "stranger.Family", "--print_config")
    assert code == 2 and "stranger.Family is outside pyrovae" in err and "--trust stranger" in err
    assert not Path("imported").exists() and "stranger" not in sys.modules


@pytest.mark.parametrize("program", [["--program.likelihood", "stranger.Family"], ["--program", "stranger.Program"]])
def test_code_of_others_runs_when_it_is_trusted(
    pyrovae: Command, monkeypatch: pytest.MonkeyPatch, program: list[str]
) -> None:
    stranger(Path())
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    words = [*program, "--directory", "run"]
    assert pyrovae("train", "tiny.yaml", *words, "--trust", "stranger")[0] == 0
    assert pyrovae("evaluate", "run", "--trust", "stranger")[0] == 0
    code, _, err = pyrovae("evaluate", "run")
    assert code == 2 and "--trust stranger" in err
    sys.modules.pop("stranger")


def test_trusted_code_that_cannot_be_imported_is_named(pyrovae: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("broken.py").write_text("from torch import nonesuch\n")
    code, _, err = pyrovae("train", "tiny.yaml", "--program", "broken.Program", "--trust", "broken")
    assert code == 2 and "broken cannot be imported: cannot import name 'nonesuch'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "path", ["os.system", "pyrovae.saving.os.system", "torch.hub.load", "torch.load", "pyrovae.saving.torch.load"]
)
def test_what_can_be_reached_from_trusted_code_is_not_thereby_trusted(pyrovae: Command, path: str) -> None:
    code, _, err = pyrovae("train", "tiny.yaml", "--fit.objective", path)
    assert code == 2 and "refused before import" in err


def test_a_config_cannot_call_any_function(pyrovae: Command) -> None:
    claim = "{class_path: pyrovae.training.run.claim, init_args: {directory: claimed}}"
    for key in ("program", "program.prior", "fit.learning_rate"):
        assert pyrovae("train", "tiny.yaml", f"--{key}", claim)[0] == 2
    assert not Path("claimed").exists()


@pytest.mark.parametrize("key", ["fit", "program"])
def test_a_file_named_inside_a_config_is_not_read(pyrovae: Command, key: str) -> None:
    stranger(Path())
    inside = {"fit": "objective: stranger.Family", "program": "class_path: stranger.Recipe"}
    Path("sub").write_text(inside[key])
    Path("outer.yaml").write_text(TINY.replace("program: {", "program: sub #") if key == "program" else TINY)
    words = ["train", "outer.yaml", *(["--fit", "./sub"] if key == "fit" else []), "--print_config"]
    code, _, err = pyrovae(*words)
    assert code == 2 and f"{key}: " in err
    assert not Path("imported").exists() and "stranger" not in sys.modules
