"""``pyrovae compare``: the log-likelihoods of runs, or of one run by several methods, paired datum by datum."""

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


def compare(
    runs: Sequence[str], *, split: str = "test", method: str | None = None, output: str | None = None
) -> Comparison:
    """Print the paired differences of evaluated runs, each against the first, and draw them where asked to.

    Args:
        runs: directories, two or more, evaluated on the same data; or one, of which the methods are compared.
        split: "test" or "validation".
        method: "importance", "annealed", "tolerance" or "exact"; by default the first of these by which all were
            evaluated.
        output: of the figure, a .png.
    """
    if output is not None and Path(output).suffix.lower() != ".png":
        raise PyrovaeError(f"--output {output}: the figure is written as .png")
    sources = _methods(runs[0], split, method) if len(runs) == 1 else _runs(runs, split, method)
    found = {name: records.read(opened(run), split, by) for name, (run, by) in sources.items()}
    (first, (_, record)), *others = found.items()
    for name, (_, other) in others:
        _check_same(first, record, name, other)
        if len(runs) == 1 and record["program_sha256"] != other["program_sha256"]:
            raise PyrovaeError(
                f"{first} and {name} are evaluations of different weights of {runs[0]}: evaluate again by both"
            )
    comparison = evidence.compare(*(each for each, _ in found.values()), names=list(found), own_units=True)
    say(f"{split} data of {record['data'].get('name')}")
    say(comparison.summary())
    if output is not None:
        from pyrovae import report  # matplotlib takes half a second to import

        write_figure(Path(output), report.comparison(dict(zip(found, comparison.evidence, strict=True))))
        say(f"\nas a figure: {output}")
    return comparison


def _methods(run: str, split: str, method: str | None) -> dict[str, tuple[str, str]]:
    """One run by each method."""
    there = records.there(opened(run), split)
    if method is not None:
        raise PyrovaeError(f"--method {method} compares several runs: name a second one, or leave it out")
    if len(there) < 2:
        how = records.command(run, "annealed" if there == ["importance"] else "importance", split)
        raise PyrovaeError(
            f"one run is compared by method, and {run} was evaluated by {there[0] if there else 'none'} alone: name a "
            f"second run, or first: {how}"
        )
    return {by: (run, by) for by in there}


def _runs(runs: Sequence[str], split: str, method: str | None) -> dict[str, tuple[str, str]]:
    """Several runs by one method."""
    if len(set(runs)) < len(runs):
        raise PyrovaeError(f"a run is named twice: {' '.join(runs)}")
    shared = [by for by in records.METHODS if all(by in records.there(opened(run), split) for run in runs)]
    by = method or (shared[0] if shared else "importance")
    return {run: (run, by) for run in runs}


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
