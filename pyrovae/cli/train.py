"""``pyrovae train``: from a config to a run directory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyrovae.cli.directory import claimed, write_figure
from pyrovae.cli.experiment import Experiment
from pyrovae.data import Data, Split
from pyrovae.errors import PyrovaeError
from pyrovae.training import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = 10  # lines about the progress of training, where no bar is shown
SHOWN = 20  # reconstructions in a figure
ROWS = 8  # of samples


def train(experiment: Experiment, *, name: str, directory: str | None) -> Path:
    """Train, save and draw; returns the run's directory."""
    data = experiment.data()
    program = experiment.program(data)
    epochs = experiment.config.fit.epochs
    with claimed(directory, name, experiment.text) as path:
        say(f"data: {_described(data)}")
        say(f"program: {type(program).__name__}, {_size(program):,} parameters")
        say(f"training for up to {epochs} epochs; the run's directory is {path}")
        start = time.perf_counter()
        with _interruption_told(path):
            run = experiment.fit(program, data, path, [_Journal(data, experiment.config["fit"]["epochs"])])
        seconds = time.perf_counter() - start
        run.manifest |= {"seconds": seconds, "best_epoch": run.best_epoch, "stopped": run.stopped}
        run.write_manifest()
        say(f"trained {len(run.history)} epochs in {seconds:.1f} s on {run.manifest['device']}; {_kept(run)}")
        draw(run, data, path, experiment.config.seed)
    return path


def draw(run: Run, data: Data, path: Path, seed: int) -> None:
    """The figures of a run; one that cannot be drawn of such data is named, and left out."""
    from pyrovae import report  # matplotlib takes half a second to import

    test = data.test
    figures: dict[str, Callable[[], Figure]] = {
        "learning_curve.png": lambda: report.learning_curve(run),
        "samples.png": lambda: report.samples(run.program, *_asked(data), columns=_columns(data)),
        "reconstructions.png": lambda: report.reconstructions(
            run.program, test.x[:SHOWN], *(g[:SHOWN] for g in test.given)
        ),
    }
    device = torch.device(run.manifest["device"])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for name, figure in figures.items():
            try:
                write_figure(path / name, figure())
            except PyrovaeError as error:
                say(f"{name} is left out: {error}")


def say(line: str) -> None:
    """A line for the reader, at once even into a pipe."""
    print(line, flush=True)


@contextmanager
def _interruption_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if (path / "program.safetensors").exists():
            say(f"interrupted; the weights so far are in {path}")
        raise


class _Journal:
    """Adds the data to the manifest when training has begun, and says how it goes."""

    def __init__(self, data: Data, epochs: int) -> None:
        self.data, self.every = data, max(1, epochs // LINES)

    def on_epoch_end(self, run: Run) -> None:
        record = run.history[-1]
        if record["epoch"] == 1:
            run.manifest["data"] = self.data.describe()
            run.write_manifest()
        if not sys.stderr.isatty() and (record["epoch"] == 1 or record["epoch"] % self.every == 0):
            say(f"  epoch {record['epoch']:>4}   {_figures(record)}")


def _figures(record: dict[str, Any]) -> str:
    shown = [f"{name} {record[name]:9.3f}" for name in ("objective", "validation") if name in record]
    return "   ".join([*shown, f"KL {record['kl']:6.2f} nats", f"{record['seconds']:.2f} s"])


def _described(data: Data) -> str:
    shape = " x ".join(map(str, data.event_shape))
    given = ", the labels given" if data.train.given else ""
    return f"{data.name}, {len(data.train.x):,} training images of {shape}, binarization {data.binarization}{given}"


def _size(program: Any) -> int:
    return sum(p.numel() for p in program.parameters()) if hasattr(program, "parameters") else 0


def _kept(run: Run) -> str:
    best = run.history[run.best_epoch - 1].get("validation")
    return f"kept epoch {run.best_epoch}" + ("" if best is None else f", validation {best:.3f} nats per image")


def _columns(data: Data) -> int:
    return data.num_classes if data.train.given else ROWS


def _asked(data: Data) -> tuple[Any, ...]:
    """How many samples, and what is given for them: a column per class, where the labels are."""
    count = ROWS * _columns(data)
    rows = _one_of_each(data.test, data.num_classes).repeat(ROWS) if data.test.given else None
    return (count, *(g[rows] for g in data.test.given))


def _one_of_each(split: Split, num_classes: int) -> Tensor:
    """The index of the first datum of every class; the very first one's where a class is absent."""
    return torch.stack([(split.labels == c).int().argmax() for c in range(num_classes)])
