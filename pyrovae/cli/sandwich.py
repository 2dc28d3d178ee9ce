"""``pyrovae sandwich``: lower and upper bounds on the log-likelihood of data that a trained run simulates."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pyrovae.cli.directory import write_json
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Sandwich
from pyrovae.training.run import environment

FILES = {"annealed": "sandwich.json", "importance": "sandwich-importance.json"}


def sandwich(run: Stored, *, device: str = "auto", **asked: Any) -> Sandwich:
    """Simulate data, bound their log p(x) from both sides, print the table, and write it beside the run.

    Args:
        run: the run.
        device: "auto", "cpu", "cuda" or "mps".
        asked: options of ``pyrovae.sandwich``.
    """
    program, start = run.program(device), time.perf_counter()
    result = run.experiment.sandwich(program, **{name: value for name, value in asked.items() if value is not None})
    seconds = time.perf_counter() - start
    about = {"seconds": seconds, "environment": environment()}
    write_json(run.path / FILES[result.method], {**result.record(), **about})
    say(f"in {seconds:.1f} s: {result.summary()}")
    return result


def read(path: Path) -> list[dict[str, Any]]:
    """What was written of a run, method by method."""
    return [_read(path / file) for file in FILES.values() if (path / file).is_file()]


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PyrovaeError(f"{file} is spoilt ({error}): pyrovae sandwich writes it anew") from error
