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


def compare(runs: Sequence[str], *, split: str = "test", output: str | None = None) -> Comparison:
    """Print the paired differences of evaluated runs, each against the first, and draw them where asked to.

    Args:
        runs: directories, two or more, evaluated on the same data.
        split: "test" or "validation".
        output: of the figure, a .png.
    """
    if output is not None and Path(output).suffix.lower() != ".png":
        raise PyrovaeError(f"--output {output}: the figure is written as .png")
    found = [records.read(opened(run), split) for run in runs]
    for run, (_, record) in zip(runs[1:], found[1:], strict=True):
        _check_same(runs[0], found[0][1], run, record)
    comparison = evidence.compare(*(each for each, _ in found), names=runs, own_units=True)
    say(f"{split} data of {found[0][1]['data'].get('name')}")
    say(comparison.summary())
    if output is not None:
        from pyrovae import report  # matplotlib takes half a second to import

        write_figure(Path(output), report.comparison(dict(zip(runs, comparison.evidence, strict=True))))
        say(f"\nas a figure: {output}")
    return comparison


def _check_same(first: str, of_first: Mapping[str, Any], run: str, record: Mapping[str, Any]) -> None:
    if of_first["data_sha256"] == record["data_sha256"]:
        return
    expected, got = _described(of_first), _described(record)
    differing = [key for key in expected | got if expected.get(key) != got.get(key)]
    told = "; ".join(f"{key}: {expected.get(key)} and {got.get(key)}" for key in differing)
    raise PyrovaeError(
        f"{first} and {run} were evaluated on different data and cannot be paired: the values of x, their order, or "
        f"what is given{f' ({told})' if told else ''}"
    )


def _described(record: Mapping[str, Any]) -> dict[str, Any]:
    """What may tell a reader why the data differ."""
    return {**record["data"], "number": record["num_data"]}
