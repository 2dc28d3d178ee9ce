"""What a training run leaves behind."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from torch import nn

from pyrovae.errors import PyrovaeError
from pyrovae.saving import write_atomically

Record = dict[str, Any]


class Run:
    """A run of ``fit``: the trained program, its history and what it was run with.

    Attributes:
        program: the trained program, with the best weights where there was a validation set.
        history: one dict per epoch, as written to ``history.jsonl``: epoch, objective, log_px_z, kl (nats per datum),
            grad_norm, skipped (steps), seconds, the values of the schedules, and validation where there is one.
        manifest: seed, device, threads, versions, every option of the run and, of a ``Data``, what it says of itself.
        best_epoch: the epoch whose weights were kept; the last one without validation.
        stopped: why training ended: "epochs", "patience", "callback", "aborted" or "interrupted".
    """

    def __init__(self, program: nn.Module, manifest: Record, directory: Path | None) -> None:
        self.program = program
        self.manifest = manifest
        self.directory = directory
        self.history: list[Record] = []
        self.best_epoch = 0
        self.stopped = "epochs"
        self._stop = False
        self._file = directory / "history.jsonl" if directory else None

    def stop(self) -> None:
        """Ask training to end after this epoch; for callbacks."""
        self._stop = True

    @property
    def stop_requested(self) -> bool:
        """Whether a callback asked to stop."""
        return self._stop

    def write_manifest(self) -> None:
        """Write ``manifest.json`` where there is a directory."""
        if self.directory:
            write_atomically(self.directory / "manifest.json", json.dumps(self.manifest, indent=2).encode())

    def close(self) -> None:
        """Add to the manifest how training ended, and write it."""
        ending = {"seconds": sum(self.column("seconds")), "best_epoch": self.best_epoch, "stopped": self.stopped}
        self.manifest |= ending
        self.write_manifest()

    def append(self, record: Record) -> None:
        """Add an epoch's record, and its line in ``history.jsonl``."""
        self.history.append(record)
        if self._file:
            with self._file.open("a") as file:
                file.write(json.dumps(record) + "\n")

    def column(self, name: str) -> list[float]:
        """One quantity over the epochs."""
        return [record[name] for record in self.history if name in record]

    def __repr__(self) -> str:
        last = self.history[-1]["objective"] if self.history else float("nan")
        return (
            f"Run({type(self.program).__name__}, {len(self.history)} epochs, ended by {self.stopped}, "
            f"best epoch {self.best_epoch}, last objective {last:.2f} nats)"
        )


def claim(directory: str | Path | None) -> Path | None:
    """Make the run's directory and claim it, before training starts, by creating ``history.jsonl`` exclusively.

    Raises:
        PyrovaeError: it cannot be made or written, or holds a run already.
    """
    if directory is None:
        return None
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path / "history.jsonl", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError as error:
        raise PyrovaeError(f"{path} holds a run already, finished or going on: choose another directory") from error
    except OSError as error:
        raise PyrovaeError(f"{path} cannot be written: {error.strerror}; choose another directory") from error
    return path


def environment() -> Record:
    """Versions, processor and threads: what the same bits depend on besides the seed."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def describe(options: Mapping[str, Any]) -> Record:
    """Options as JSON: numbers and strings as they are, objects by their repr without addresses."""
    return {
        name: value if isinstance(value, int | float | str | None) else _name(value) for name, value in options.items()
    }


def _name(value: Any) -> str:
    if hasattr(value, "func"):  # functools.partial
        options = ", ".join([*map(repr, value.args), *(f"{k}={_name(v)}" for k, v in value.keywords.items())])
        return f"{_name(value.func)}({options})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_name(v)}" for k, v in value.items()) + "}"
    return getattr(value, "__qualname__", None) or repr(value).split(" at 0x")[0]
