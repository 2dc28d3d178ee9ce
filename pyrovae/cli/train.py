"""``pyrovae train``: from a config to a run directory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyrovae.cli.directory import claimed, write_figure
from pyrovae.cli.experiment import Experiment
from pyrovae.cli.pictures import drawn, of_training
from pyrovae.cli.words import say
from pyrovae.data import Data
from pyrovae.training import Run
from pyrovae.training.progress import Lines, duration, skipped
from pyrovae.training.trainer import Callback


def train(experiment: Experiment, *, name: str, directory: str | None) -> Path:
    """Train, save and draw; returns the run's directory."""
    data = experiment.data()
    program = experiment.program(data)
    epochs = experiment.config.fit.epochs
    with claimed(directory, name, experiment.text) as path:
        say(f"data: {data}")
        say(f"program: {type(program).__name__}, {_size(program):,} parameters")
        say(f"training for up to {epochs} epochs; the run's directory is {path}")
        with _interruption_told(path):
            run = experiment.fit(program, data, path, _told(epochs, data))
        seconds = duration(run.manifest["seconds"])
        lost = skipped(sum(run.column("skipped")))
        say(f"trained {len(run.history)} epochs in {seconds} on {run.manifest['device']}; {_kept(run)}{lost}")
        for picture, figure in drawn(of_training(run.program, data, run.history, experiment.config.seed)):
            write_figure(path / f"{picture.name}.png", figure)
    return path


def _told(epochs: int, data: Data) -> list[Callback]:
    """Lines about the progress, where ``fit`` shows no bar."""
    return [] if sys.stderr.isatty() else [Lines(epochs, len(data.train.x), say)]


@contextmanager
def _interruption_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if (path / "program.safetensors").exists():
            say(f"interrupted; the weights so far are in {path}")
            say(f"next: pyrovae evaluate {path}")
        raise


def _size(program: Any) -> int:
    return sum(p.numel() for p in program.parameters()) if hasattr(program, "parameters") else 0


def _kept(run: Run) -> str:
    best = run.history[run.best_epoch - 1].get("validation")
    return f"kept epoch {run.best_epoch}" + ("" if best is None else f", validation {best:.3f} nats per datum")
