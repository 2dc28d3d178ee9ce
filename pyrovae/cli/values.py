"""What a program draws or reconstructs, as a file for other programs: arrays, a table in the data's units, or text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.saving import write_atomically

SUFFIXES = {"table": ".csv", "tokens": ".txt"}  # by kind of data; of all others .npz


def place(output: str | None, usual: Path, data: Data) -> Path:
    """Where the values go: ``output``, or ``usual`` with the suffix of such data.

    Raises:
        PyrovaeError: another suffix than that of such data.
    """
    suffix = SUFFIXES.get(data.kind, ".npz")
    path = usual.with_suffix(suffix) if output is None else Path(output)
    if path.suffix != suffix:
        raise PyrovaeError(f"--output {path}: values of such data ({data.kind}) are written as {suffix}")
    return path


def mean(distribution: Any) -> Tensor | None:
    """The mean of a likelihood, where there is one: a Categorical has none, nor has what has it in no closed form."""
    try:
        found: Tensor = distribution.mean
    except (NotImplementedError, AttributeError):
        return None
    return None if found.isnan().any() else found


def write(path: Path, values: Mapping[str, Tensor], data: Data) -> None:
    """Write tensors of N rows: every one into an ``.npz``, as columns into a ``.csv``, or line by line as text.

    Args:
        path: of the file, its suffix that of ``place``.
        values: by name; "x" and "reconstruction" are such as the program sees, and are written in the data's units.
        data: the data set.
    """
    own = {name: _restored(name, value.detach().cpu(), data) for name, value in values.items()}
    writer = {".csv": _table, ".txt": _text}.get(path.suffix, _arrays)
    write_atomically(path, writer(own, data))


def _restored(name: str, value: Tensor, data: Data) -> Tensor:
    if name not in ("x", "reconstruction") or data.standardization is None:
        return value
    return data.restore(value.double())  # float32 would lose what a large loc leaves of it


def _arrays(values: Mapping[str, Tensor], data: Data) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: value.numpy() for name, value in values.items()}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _table(values: Mapping[str, Tensor], data: Data) -> bytes:
    """A column per column of the data, labels by name; columns of reconstructions stand behind."""
    head, columns = [], []
    for name, value in values.items():
        wide = value.dim() > 1
        head += [f"{c}{'' if name == 'x' else f' ({name})'}" for c in data.columns] if wide else [name]
        columns += [[_shown(name, number, data) for number in column] for column in (value.T if wide else value[None])]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows([head, *zip(*columns, strict=True)])
    return buffer.getvalue().encode()


def _shown(name: str, number: Tensor, data: Data) -> str:
    if name == "label" or not number.is_floating_point():
        return data.classes[int(number)] if name == "label" else str(number.item())
    return f"{number.item():.{7 if number.dtype == torch.float32 else 10}g}"  # float32 holds no more digits


def _text(values: Mapping[str, Tensor], data: Data) -> bytes:
    """A paragraph per row, under a line that says what it is."""
    texts = {name: value.tolist() for name, value in values.items() if value.dim() > 1}
    numbers = values["row"].tolist() if "row" in values else range(len(next(iter(texts.values()))))
    return "".join(
        f"=== {number} {name}\n{''.join(data.levels[level] for level in rows[place])}\n"
        for place, number in enumerate(numbers) for name, rows in texts.items()
    ).encode()  # fmt: skip
