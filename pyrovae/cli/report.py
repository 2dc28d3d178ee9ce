"""``pyrovae report``: a run as one page of HTML."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyrovae.cli import records, sandwich
from pyrovae.cli.pictures import of_run
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.saving import digest_of, write_atomically


def report(run: Stored, *, split: str = "test", device: str = "auto", output: str | None = None) -> Path:
    """Write ``report.html``, which needs no other file: figures, figures with their errors, config; returns its path.

    Args:
        run: the run, whose training need not have come to its end.
        split: whose evidence is shown, "test" or "validation".
        device: "auto", "cpu", "cuda" or "mps".
        output: where to; by default ``report.html`` in the run's directory.
    """
    from pyrovae import report as pictures

    program = run.program(device)
    weights = digest_of(program)
    found = _evidence(run.path, split, weights)
    evidence = {name: each for name, (each, _) in found.items()}
    best = records.best(evidence) if found else None
    told = {name: {**record, **each.record()} for name, (each, record) in found.items()}
    shown = of_run(program, run.data, run.history, run.seed, evidence, best)
    page = pictures.html(
        title=run.path.resolve().name,
        config=run.experiment.text,
        manifest=run.manifest,
        history=run.history,
        evidence=told.pop(best) if best else None,
        others=list(told.values()),
        sandwiches=_sandwiches(run.path, weights),
        figures=[(picture.heading, picture.caption, picture.draw) for picture in shown],
    )
    path = run.path / "report.html" if output is None else Path(output)
    write_atomically(path, page.encode())
    say(f"written: {path}")
    return path


def _evidence(path: Path, split: str, program_sha256: str) -> dict[str, tuple[Evidence, dict[str, Any]]]:
    """By method, of these weights and of the same data; what is spoilt, or of others, is named, and left out."""
    found: dict[str, tuple[Evidence, dict[str, Any]]] = {}
    for method in records.there(path, split) or ["importance"]:
        with _left_out("the log-likelihood"):
            evidence, record = records.read(path, split, method)
            records.check_weights(record, program_sha256, records.command(path, method, split))
            found[method] = evidence, record
    if not found:
        return {}
    best = records.best({method: evidence for method, (evidence, _) in found.items()})
    digest = found[best][1]["data_sha256"]
    for method in [name for name, (_, record) in found.items() if record["data_sha256"] != digest]:
        say(f"the log-likelihood is left out: that by {method} is of other data than that by {best}; evaluate again")
        del found[method]
    return found


def _sandwiches(path: Path, program_sha256: str) -> list[dict[str, Any]]:
    """By method; what is spoilt, or of other weights, is named, and left out."""
    found: list[dict[str, Any]] = []
    for file in sandwich.there(path):
        with _left_out("a sandwich"):
            record = sandwich.read(file)
            records.check_weights(record, program_sha256, f"pyrovae sandwich {path} --method {record['method']}")
            found.append(record)
    return found


@contextmanager
def _left_out(what: str) -> Iterator[None]:
    try:
        yield
    except PyrovaeError as error:
        say(f"{what} is left out: {error}")
