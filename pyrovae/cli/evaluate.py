"""``pyrovae evaluate``: the log-likelihood of a trained run, with its diagnostics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyrovae.cli import records
from pyrovae.cli.directory import write_figure
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.evidence.checkpoint import Done, done
from pyrovae.saving import digest_of
from pyrovae.training.run import environment


def evaluate(run: Stored, *, split: str = "test", device: str = "auto", **asked: Any) -> Evidence:
    """Estimate log p(x) of every datum of a split, print the table, and write it beside the run.

    What is done is kept in the run's directory until all is: the same command goes on where it was stopped.

    Args:
        run: the run.
        split: "test" or "validation".
        device: "auto", "cpu", "cuda" or "mps".
        asked: options of ``pyrovae.log_marginal`` that differ from the config's, see ``Experiment.evaluation``.
    """
    from pyrovae import report  # matplotlib takes half a second to import

    data, program = run.data, run.program(device)
    options = run.experiment.evaluation(**asked)
    place = run.path / records.stem(records.method_of(options), split)
    unfinished = place.with_suffix(".unfinished")
    before, start = _found(unfinished), time.perf_counter()
    with _interruption_told(unfinished):
        evidence = run.experiment.evaluate(program, getattr(data, split), checkpoint=unfinished, **options)
    seconds = before.seconds + time.perf_counter() - start
    about = {
        "split": split, "seconds": seconds, "data": data.describe(), "data_sha256": run.experiment.digest(split),
        "program_sha256": digest_of(program), "environment": environment(),
    }  # fmt: skip
    if older := _older(run.path, split, evidence):
        say(f"{place}.json is replaced: it held {older}")
    records.write(run.path, evidence, about)
    write_figure(place.with_suffix(".png"), report.evidence(evidence))
    unfinished.unlink(missing_ok=True)
    earlier = f", {before.seconds:.1f} s of them before it was stopped" if before.data else ""
    say(f"log p(x) of the {evidence.num_data:,} {split} data of {data.name}, in {seconds:.1f} s{earlier}")
    say(evidence.summary())
    return evidence


def _older(path: Path, split: str, evidence: Evidence) -> str | None:
    """What an earlier evaluation by the same method left."""
    with suppress(PyrovaeError):
        _, record = records.read(path, split, records.method(evidence))
        return f"{record['procedure']}, seed {record['seed']}"
    return None


def _found(unfinished: Path) -> Done:
    """What an evaluation that was stopped has done; a file in which nothing is done is taken away."""
    found = done(unfinished)
    if found.data:
        say(f"found {unfinished}, an evaluation that was stopped; done: {_told(found)}")
    else:
        unfinished.unlink(missing_ok=True)
    return found


def _told(found: Done) -> str:
    return ", ".join(f"{name} of {number:,} data" for name, number in found.data.items())


@contextmanager
def _interruption_told(unfinished: Path) -> Iterator[None]:
    before = _written(unfinished)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if _written(unfinished) == before:  # by this command nothing, and what is there may be of another one
            say(f"interrupted before anything was done{f'; {unfinished} is as it was' if before else ''}")
        elif (found := done(unfinished)).data:
            say(f"interrupted; done: {_told(found)}; the same command goes on from there")
        else:
            say("interrupted before anything was done")
            unfinished.unlink(missing_ok=True)
        raise


def _written(file: Path) -> int:
    """When, in nanoseconds; 0 where there is none."""
    return file.stat().st_mtime_ns if file.exists() else 0
