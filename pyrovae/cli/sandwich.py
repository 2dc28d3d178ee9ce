"""``pyrovae sandwich``: lower and upper bounds on the log-likelihood of data that a trained run simulates."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrovae.cli.directory import write_figure, write_json
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Sandwich
from pyrovae.saving import digest_of
from pyrovae.training.run import environment

FIGURES = ("mean_lower", "mean_upper", "gap_mean", "gap_standard_error", "gap_largest")
FILES = {"annealed": "sandwich.json", "importance": "sandwich-importance.json"}


def sandwich(run: Stored, *, device: str = "auto", **asked: Any) -> Sandwich:
    """Simulate data, bound their log p(x) from both sides, print the table, and write it beside the run.

    Args:
        run: the run.
        device: "auto", "cpu", "cuda" or "mps".
        asked: options of ``pyrovae.sandwich``.
    """
    from pyrovae import report  # matplotlib takes half a second to import

    program, start = run.program(device), time.perf_counter()
    result = run.experiment.sandwich(program, **{name: value for name, value in asked.items() if value is not None})
    seconds = time.perf_counter() - start
    about = {"seconds": seconds, "program_sha256": digest_of(program), "environment": environment()}
    place = run.path / FILES[result.method]
    write_json(place, {**result.record(), **about})
    write_figure(place.with_suffix(".png"), report.sandwich(result))
    say(f"in {seconds:.1f} s: {result.summary()}")
    return result


def there(path: Path) -> list[Path]:
    """The files that hold what was written of a run, method by method."""
    return [path / file for file in FILES.values() if (path / file).is_file()]


def read(file: Path) -> dict[str, Any]:
    """What is written there.

    Raises:
        PyrovaeError: a spoilt file, or one that lacks something.
    """
    try:
        record = dict(json.loads(file.read_text(encoding="utf-8")))
        _check(record)
        return record
    except KeyError as error:
        raise PyrovaeError(f"{file} holds no {error}: pyrovae sandwich writes it anew") from error
    except (OSError, ValueError, TypeError) as error:
        raise PyrovaeError(f"{file} is spoilt ({error}): pyrovae sandwich writes it anew") from error


def _check(record: Mapping[str, Any]) -> None:
    """Raise KeyError or TypeError unless all that a page shows is there."""
    kinds = {"num_data": int, "procedure": str, "method": str, "program_sha256": str}
    for name, kind in {**kinds, **dict.fromkeys(FIGURES, int | float | None)}.items():
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is {record[name]!r}")
