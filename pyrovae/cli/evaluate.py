"""``pyrovae evaluate``: the log-likelihood of a trained run, with its diagnostics."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from pyrovae import trees
from pyrovae.cli.directory import opened, write_figure, write_json
from pyrovae.cli.experiment import Experiment
from pyrovae.cli.train import say
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.parameters import adopt
from pyrovae.saving import load, write_atomically
from pyrovae.training.device import resolve_device
from pyrovae.training.run import environment

PER_DATUM = ("log_prob", "standard_error", "ess", "pareto_k")


def evaluate(
    directory: str, *, split: str = "test", device: str = "auto", trust: tuple[str, ...] = (), **options: Any
) -> Evidence:
    """Estimate log p(x) of every datum of a split, print the table, and write it beside the run.

    Args:
        directory: of the run.
        split: "test" or "validation".
        options: those of ``pyrovae.log_marginal`` that differ from the config's.
    """
    path = opened(directory)
    experiment = Experiment(path / "config.yaml", trust=trust)
    data = experiment.data()
    _check_same_data(path / "manifest.json", data)
    rows = getattr(data, split)
    program = _loaded(path / "program.safetensors", experiment, data, trust).to(resolve_device(device))
    start = time.perf_counter()
    evidence = experiment.evaluate(program, rows, **options)
    seconds = time.perf_counter() - start
    _write(path, evidence, {"split": split, "seconds": seconds, "data": data.describe(), "environment": environment()})
    say(f"log p(x) of the {evidence.num_data:,} {split} data of {data.name}, in {seconds:.1f} s")
    say(evidence.summary())
    return evidence


def _loaded(path: Path, experiment: Experiment, data: Data, trust: tuple[str, ...]) -> nn.Module:
    """The program as its file describes it; where the file holds weights alone, as the config builds it."""
    try:
        return load(path, trust=trust)
    except PyrovaeError as error:
        first = error
    try:
        rows = (trees.rows(tree, slice(0, 2)) for tree in (data.test.x, *data.test.given))
        return load(path, program=adopt(experiment.program(data), *rows))
    except PyrovaeError as second:
        raise first if str(first) == str(second) else PyrovaeError(f"{second}; and {first}") from second


def _write(path: Path, evidence: Evidence, about: dict[str, Any]) -> None:
    """The summary as JSON, and per datum as tensors, by which two runs can be compared datum by datum."""
    from pyrovae import report  # matplotlib takes half a second to import

    stem = "evidence" if about["split"] == "test" else f"evidence-{about['split']}"
    tensors = {name: getattr(evidence, name).contiguous() for name in PER_DATUM}
    write_atomically(path / f"{stem}.safetensors", safetensors.torch.save(tensors))
    write_json(path / f"{stem}.json", {**evidence.record(), **about})
    write_figure(path / f"{stem}.png", report.evidence(evidence))


def _check_same_data(path: Path, data: Data) -> None:
    try:
        trained_on = dict(json.loads(path.read_text(encoding="utf-8")).get("data") or {})  # none before epoch 1
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PyrovaeError(f"{path} is no manifest of a run: {error}") from error
    found = data.describe()
    if differing := [name for name in trained_on if trained_on[name] != found.get(name)]:
        raise PyrovaeError(
            f"the data are not those of the run, they differ in {', '.join(differing)}: set PYROVAE_DATA to where "
            "those of the run are"
        )
