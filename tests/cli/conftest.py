"""The command line in this process, in a working directory of the test's own, and a finished run."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TINY, Command, Result

from pyrovae.cli import main


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
def pyrovae(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process: exit status, stdout and stderr."""

    def run(*words: object) -> Result:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be copied or only read."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    assert main(["train", str(folder / "tiny.yaml"), "--directory", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def evaluated(trained: Path) -> Path:
    """A finished run, evaluated, to be copied or only read."""
    run = trained.parent / "evaluated"
    shutil.copytree(trained, run)
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    return run


@pytest.fixture(scope="session")
def conditional(trained: Path) -> Path:
    """A finished run with the labels given, to be copied or only read."""
    words = [str(trained.parent / "tiny.yaml"), "--conditional", "true", "--fit.epochs", "1"]
    assert main(["train", *words, "--directory", str(trained.parent / "conditional")]) == 0
    return trained.parent / "conditional"
