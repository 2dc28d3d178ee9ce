"""From labels as they are written to codes."""

import numpy as np

from pyrovae.data.npy import Array
from pyrovae.errors import PyrovaeError


def complete(where: str, labels: Array) -> Array:
    """Labels (N,), whole numbers or texts, of which none is missing.

    Raises:
        PyrovaeError: a label that is missing (NaN, or an empty text); real numbers, which are not classes; neither
            numbers nor texts.
    """
    if labels.dtype.kind not in "iufbUS":
        raise PyrovaeError(f"{where}: labels are {labels.dtype}; they are whole numbers, or texts")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    missing = np.isnan(labels) if labels.dtype.kind == "f" else labels == "" if labels.dtype.kind == "U" else None
    if missing is not None and missing.any():
        raise PyrovaeError(
            f"{where}: no label in row {int(missing.argmax()) + 1}, and in {int(missing.sum())} places in all: remove "
            "such rows, or name a class for them"
        )
    if labels.dtype.kind != "f":
        return labels
    if (labels != np.floor(labels)).any() or np.isinf(labels).any():
        raise PyrovaeError(f"{where}: holds real numbers, and a label is one of a few classes: leave it a column of x")
    return labels.astype(np.int64)


def encoded(labels: Array) -> tuple[Array, tuple[str, ...]]:
    """Labels as codes 0, 1, ... (N,) int64, and the names of the classes in order."""
    classes, codes = np.unique(labels, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), tuple(str(name) for name in classes)
