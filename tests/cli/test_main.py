"""The command line as a whole: its demo, its processes, its global state."""

import signal
import subprocess
import sys
from pathlib import Path

import torch
from runs import Command, command

import pyrovae as pv
from pyrovae.cli.demo import FILES


def test_demo(pyrovae: Command) -> None:
    torch.set_num_threads(2)
    short = ["--fit.epochs", 1, "--evaluate.num_particles", 20]
    for expected in ("runs/demo", "runs/demo-2"):
        code, out, _ = pyrovae("demo", *short)
        assert code == 0 and "k-hat above" in out
        assert {*FILES, "manifest.json", "history.jsonl"} <= {file.name for file in Path(expected).iterdir()}
    code, _, err = pyrovae("demo", *short, "--directory", "runs/demo")
    assert code == 2 and "runs/demo holds a run already" in err
    assert torch.get_num_threads() == 2


def test_python_runs_the_package() -> None:
    shown = subprocess.run([sys.executable, "-m", "pyrovae", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"pyrovae {pv.__version__}"


def test_global_state_is_left_alone(pyrovae: Command) -> None:
    state, handler, path = torch.get_rng_state(), signal.getsignal(signal.SIGTERM), list(sys.path)
    assert pyrovae("train", "tiny.yaml", "--fit.epochs", 1, "--trust", "nobody")[0] == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert signal.getsignal(signal.SIGTERM) is handler and sys.path == path


def test_the_process_exits_with_the_status_and_help_is_light() -> None:
    fault, helped = command("train", "nowhere.yaml"), command("--help")
    assert fault.communicate()[1].startswith("pyrovae: error: nowhere.yaml") and fault.returncode == 2
    assert "evaluate" in helped.communicate()[0] and helped.returncode == 0
    code = "import sys; from pyrovae.cli import main; main(['--help']); print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'torch'" in modules and "'matplotlib'" not in modules and "'sklearn'" not in modules


def test_the_config_comes_before_what_overrides_it(pyrovae: Command) -> None:
    code, _, err = pyrovae("train", "--fit.epochs", 3, "tiny.yaml")
    assert code == 2 and "pyrovae train CONFIG --fit.epochs 3" in err
    assert pyrovae("train", "--fit.epochs=3", "tiny.yaml", "--print_config")[0] == 0
    assert pyrovae("train", "--print_config", "tiny.yaml", "--seed", 1)[0] == 0


def test_version(pyrovae: Command) -> None:
    assert pyrovae("--version")[:2] == (0, f"pyrovae {pv.__version__}\n")
