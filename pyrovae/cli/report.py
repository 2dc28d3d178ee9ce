"""``pyrovae report``: a run as one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyrovae.cli import records, sandwich
from pyrovae.cli.pictures import of_run
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.saving import write_atomically


def report(run: Stored, *, split: str = "test", device: str = "auto", output: str | None = None) -> Path:
    """Write ``report.html``, which needs no other file: figures, figures with their errors, config; returns its path.

    Args:
        run: the run, whose training need not have come to its end.
        split: whose evidence is shown, "test" or "validation".
        device: "auto", "cpu", "cuda" or "mps".
        output: where to; by default ``report.html`` in the run's directory.
    """
    from pyrovae import report as pictures

    found = _evidence(run.path, split)
    evidence = {name: each for name, (each, _) in found.items()}
    best = records.best(evidence) if found else None
    told = {name: {**record, **each.record()} for name, (each, record) in found.items()}
    shown = of_run(run.program(device), run.data, run.history, run.seed, evidence, best)
    page = pictures.html(
        title=run.path.resolve().name,
        config=run.experiment.text,
        manifest=run.manifest,
        history=run.history,
        evidence=told.pop(best) if best else None,
        others=list(told.values()),
        sandwiches=sandwich.read(run.path),
        figures=[(picture.heading, picture.caption, picture.draw) for picture in shown],
    )
    path = run.path / "report.html" if output is None else Path(output)
    write_atomically(path, page.encode())
    say(f"written: {path}")
    return path


def _evidence(path: Path, split: str) -> dict[str, tuple[Evidence, dict[str, Any]]]:
    """By method; what cannot be read is named, and left out."""
    found: dict[str, tuple[Evidence, dict[str, Any]]] = {}
    for method in records.there(path, split) or ["importance"]:
        try:
            found[method] = records.read(path, split, method)
        except PyrovaeError as error:
            say(f"the log-likelihood is left out: {error}")
    return found
