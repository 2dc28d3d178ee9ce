"""``pyrovae evaluate``: the log-likelihood of a trained run, with its diagnostics."""

from __future__ import annotations

import time
from typing import Any

from pyrovae.cli import records
from pyrovae.cli.directory import write_figure
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.evidence import Evidence
from pyrovae.training.run import environment


def evaluate(run: Stored, *, split: str = "test", device: str = "auto", **options: Any) -> Evidence:
    """Estimate log p(x) of every datum of a split, print the table, and write it beside the run.

    Args:
        run: the run.
        split: "test" or "validation".
        device: "auto", "cpu", "cuda" or "mps".
        options: those of ``pyrovae.log_marginal`` that differ from the config's.
    """
    from pyrovae import report  # matplotlib takes half a second to import

    data, program = run.data, run.program(device)
    start = time.perf_counter()
    evidence = run.experiment.evaluate(program, getattr(data, split), **options)
    seconds = time.perf_counter() - start
    about = {
        "split": split, "seconds": seconds, "data": data.describe(), "data_sha256": run.experiment.digest(split),
        "environment": environment(),
    }  # fmt: skip
    records.write(run.path, evidence, about)
    write_figure(run.path / f"{records.stem(split)}.png", report.evidence(evidence))
    say(f"log p(x) of the {evidence.num_data:,} {split} data of {data.name}, in {seconds:.1f} s")
    say(evidence.summary())
    return evidence
