"""The evidence of a run on disk: its summary as JSON, and per datum as tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from pyrovae.cli.directory import write_json
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.saving import write_atomically

PER_DATUM = ("log_prob", "standard_error", "ess", "pareto_k")
ABOUT = ("num_particles", "num_dimensions", "seed", "log_jacobian")


def stem(split: str) -> str:
    """The name of the files of a split."""
    return "evidence" if split == "test" else f"evidence-{split}"


def write(path: Path, evidence: Evidence, about: Mapping[str, Any]) -> None:
    """Write both files into the directory ``path``; ``about`` says of what they are."""
    tensors = {name: getattr(evidence, name).contiguous() for name in PER_DATUM}
    write_atomically(path / f"{stem(about['split'])}.safetensors", safetensors.torch.save(tensors))
    write_json(path / f"{stem(about['split'])}.json", {**evidence.record(), **about})


def read(path: Path, split: str) -> tuple[Evidence, dict[str, Any]]:
    """What ``write`` wrote of a split.

    Raises:
        PyrovaeError: there is none; a spoilt file.
    """
    file = path / f"{stem(split)}.json"
    if not file.is_file():
        option = "" if split == "test" else f" --split {split}"
        raise PyrovaeError(f"{path} was not evaluated on its {split} data; first: pyrovae evaluate {path}{option}")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        tensors = safetensors.torch.load((path / f"{stem(split)}.safetensors").read_bytes())
        about: dict[str, Any] = {name: record[name] for name in ABOUT} | {name: tensors[name] for name in PER_DATUM}
        return Evidence(**about, is_bound=record["kind"] == "lower bound"), record
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise PyrovaeError(f"{file} or the tensors beside it are spoilt ({error}): evaluate again") from error
