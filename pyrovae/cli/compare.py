"""``pyrovae compare``: the log-likelihoods of runs, paired datum by datum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrovae import evidence
from pyrovae.cli import records
from pyrovae.cli.directory import opened, write_figure
from pyrovae.cli.words import say
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Comparison


def compare(runs: Sequence[str], *, split: str = "test", output: str = "comparison.png") -> Comparison:
    """Print the paired differences of evaluated runs, each against the first, and draw them.

    Args:
        runs: directories, two or more, evaluated on the same data.
        split: "test" or "validation".
        output: of the figure.
    """
    from pyrovae import report

    found = [records.read(opened(run), split) for run in runs]
    for run, (_, record) in zip(runs[1:], found[1:], strict=True):
        _check_same(runs[0], found[0][1], run, record)
    comparison = evidence.compare(*(each for each, _ in found), names=runs)
    say(f"{split} data of {found[0][1]['data']['name']}")
    say(comparison.summary())
    write_figure(Path(output), report.comparison(dict(zip(runs, comparison.evidence, strict=True))))
    say(f"\nas a figure: {output}")
    return comparison


def _check_same(first: str, of_first: Mapping[str, Any], run: str, record: Mapping[str, Any]) -> None:
    expected, got = _data(of_first), _data(record)
    if differing := [key for key in expected | got if expected.get(key) != got.get(key)]:
        told = "; ".join(f"{key}: {expected.get(key)} and {got.get(key)}" for key in differing)
        raise PyrovaeError(f"{first} and {run} were evaluated on different data and cannot be paired ({told})")


def _data(record: Mapping[str, Any]) -> dict[str, Any]:
    """What decides which data they are: not the name, which may be a path, and not how many were trained on."""
    about = {key: value for key, value in record["data"].items() if key not in ("name", "splits")}
    return {**about, "split": record["split"], "number": record["num_data"]}
