"""The evidence of a run on disk: its summary as JSON, and per datum as tensors."""

from __future__ import annotations

import hashlib
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
    """Write both files into the directory ``path``; ``about`` says of what they are.

    The JSON holds the digest of the tensors, so that a pair of which but one was written is not taken for whole.
    """
    tensors = safetensors.torch.save({name: getattr(evidence, name).contiguous() for name in PER_DATUM})
    record = {**evidence.record(), **about, "tensors_sha256": hashlib.sha256(tensors).hexdigest()}
    write_atomically(path / f"{stem(about['split'])}.safetensors", tensors)
    write_json(path / f"{stem(about['split'])}.json", record)


def read(path: Path, split: str) -> tuple[Evidence, dict[str, Any]]:
    """What ``write`` wrote of a split.

    Raises:
        PyrovaeError: there is none; a spoilt file; two files that do not belong together.
    """
    file = path / f"{stem(split)}.json"
    if not file.is_file():
        option = "" if split == "test" else f" --split {split}"
        raise PyrovaeError(f"{path} was not evaluated on its {split} data; first: pyrovae evaluate {path}{option}")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        raw = (path / f"{stem(split)}.safetensors").read_bytes()
        tensors = safetensors.torch.load(raw)
        about: dict[str, Any] = {name: record[name] for name in ABOUT} | {name: tensors[name] for name in PER_DATUM}
        evidence = Evidence(**about, is_bound=record["kind"] == "lower bound")
        _check(record, evidence, split, hashlib.sha256(raw).hexdigest())
        return evidence, record
    except KeyError as error:
        raise PyrovaeError(f"{file} or the tensors beside it hold no {error}: evaluate again") from error
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise PyrovaeError(f"{file} or the tensors beside it are spoilt ({error}): evaluate again") from error


def _check(record: Mapping[str, Any], evidence: Evidence, split: str, tensors_sha256: str) -> None:
    """Raise KeyError, TypeError or ValueError unless the record is one of these tensors and this split."""
    if record["tensors_sha256"] != tensors_sha256:
        raise ValueError("they were not written together")
    if record["split"] != split or record["num_data"] != evidence.num_data:
        raise ValueError(f"of {record['num_data']} {record['split']} data, with {evidence.num_data} in the tensors")
    if not isinstance(record["data"], dict) or not isinstance(record["data_sha256"], str):
        raise TypeError("what is said of the data")
