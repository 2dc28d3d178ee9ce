"""What the tests of the command line share: a tiny config, its types, and ways to look at a run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
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
Command = Callable[..., Result]


def copied(run: Path) -> Path:
    """A copy of a run's files, to be spoilt."""
    copy = Path("copy")
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def stranger(folder: Path) -> None:
    """A package that leaves a mark when it is imported."""
    (folder / "stranger.py").write_text(
        "from pathlib import Path\nPath('imported').touch()\nimport pyrovae\n"
        "class Family(pyrovae.families.Bernoulli):\n    pass\n"
        "class Program(pyrovae.recipes.Recipe):\n"
        "    def __call__(self, data):\n"
        "        return pyrovae.vae(data, latent=3, hidden=(8,), likelihood=Family())\n"
    )


def command(*words: object, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pyrovae.cli", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        # a shell starts what it puts in the background with Ctrl-C ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **options,
    )  # fmt: skip
