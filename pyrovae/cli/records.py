"""The evidence of a run on disk: its summary as JSON, and per datum as tensors; by each method files of its own."""

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
from pyrovae.evidence import Evidence, kept
from pyrovae.saving import write_atomically

METHODS = ("importance", "annealed", "tolerance", "exact")  # where a tolerance was asked for, that stands for a method
Record = dict[str, Any]


def method(evidence: Evidence) -> str:
    """By which of ``METHODS`` it is."""
    return "tolerance" if evidence.plan is not None else evidence.method


def method_of(options: Mapping[str, Any]) -> str:
    """Which of ``METHODS`` these options of ``log_marginal`` ask for."""
    return "tolerance" if "tolerance" in options else str(options.get("method", "importance"))


def stem(method: str, split: str) -> str:
    """The name of the files of a method and split."""
    parts = ("evidence", *([] if method == "importance" else [method]), *([] if split == "test" else [split]))
    return "-".join(parts)


def there(path: Path, split: str) -> list[str]:
    """The methods by which a split was evaluated."""
    return [method for method in METHODS if (path / f"{stem(method, split)}.json").is_file()]


def best(evidence: Mapping[str, Evidence]) -> str:
    """The method to be believed first: with the smallest share of doubtful data; of equals the exact, or later, one."""
    return min(evidence, key=lambda name: (evidence[name].share_unreliable, -METHODS.index(name)))


def command(path: Path | str, method: str, split: str) -> str:
    """What makes these files."""
    how = {"importance": "", "tolerance": " --tolerance 0.1"}.get(method, f" --method {method}")
    return f"pyrovae evaluate {path}{how}{'' if split == 'test' else f' --split {split}'}"


def write(path: Path, evidence: Evidence, about: Mapping[str, Any]) -> None:
    """Write both files into the directory ``path``; ``about`` says of what they are.

    The JSON holds the digest of the tensors, so that a pair of which but one was written is not taken for whole.
    """
    name = stem(method(evidence), about["split"])
    tensors = safetensors.torch.save({key: value.contiguous() for key, value in kept.tensors(evidence).items()})
    record = {**evidence.record(), **about, "tensors_sha256": hashlib.sha256(tensors).hexdigest()}
    write_atomically(path / f"{name}.safetensors", tensors)
    write_json(path / f"{name}.json", record)


def read(path: Path, split: str, method: str = "importance") -> tuple[Evidence, Record]:
    """What ``write`` wrote of a split.

    Raises:
        PyrovaeError: there is none; a spoilt file; two files that do not belong together.
    """
    name = stem(method, split)
    file = path / f"{name}.json"
    if not file.is_file():
        by = "" if method == "importance" else f" by {method}"
        raise PyrovaeError(f"{path} was not evaluated{by} on its {split} data; first: {command(path, method, split)}")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        raw = (path / f"{name}.safetensors").read_bytes()
        evidence = kept.restored(record, safetensors.torch.load(raw))
        _check(record, evidence, split, hashlib.sha256(raw).hexdigest())
        return evidence, record
    except KeyError as error:
        raise PyrovaeError(f"{file} or the tensors beside it hold no {error}: evaluate again") from error
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise PyrovaeError(f"{file} or the tensors beside it are spoilt ({error}): evaluate again") from error


def check_weights(record: Mapping[str, Any], program_sha256: str, again: str) -> None:
    """Refuse a record of other weights than these; ``again`` is the command that makes one of these."""
    if record["program_sha256"] != program_sha256:
        raise PyrovaeError(f"that by {record['procedure']} is of other weights than the run's now; anew: {again}")


def _check(record: Mapping[str, Any], evidence: Evidence, split: str, tensors_sha256: str) -> None:
    """Raise KeyError, TypeError or ValueError unless the record is one of these tensors and this split."""
    if record["tensors_sha256"] != tensors_sha256:
        raise ValueError("they were not written together")
    if record["split"] != split or record["num_data"] != evidence.num_data:
        raise ValueError(f"of {record['num_data']} {record['split']} data, with {evidence.num_data} in the tensors")
    if not isinstance(record["data"], dict) or not isinstance(record["data_sha256"], str):
        raise TypeError("what is said of the data")
    if not isinstance(record["program_sha256"], str):
        raise TypeError("what is said of the weights")
