"""From the rows of a table to a data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.npy import Array
from pyrovae.data.partition import Share, shuffled
from pyrovae.data.pixels import Triple
from pyrovae.data.splits import Data, Split
from pyrovae.data.standardization import standardization
from pyrovae.errors import PyrovaeError

ROUNDING = 1e-4  # of a column's standard deviation; float32 has seven digits
VALIDATION, TEST = 0.1, 0.2  # the usual shares of a table without official splits


def table_data(
    name: str,
    x: Triple,
    labels: Sequence[Tensor | None],
    *,
    columns: Sequence[str],
    classes: Sequence[str],
    standardize: bool,
    seed: int,
    fingerprint: str,
    missing: bool = False,
) -> Data:
    """Splits of a table, each (N, D) float64, standardised by the training split where ``standardize``.

    Args:
        missing: whether values are missing, NaN.

    Raises:
        PyrovaeError: a column that is constant in the training split; without standardising, one that float32, in which
            programs compute, cannot hold.
    """
    units = standardization(x[0], columns) if standardize else None
    if units is None:
        _check_held(torch.cat(list(x)), columns)
    model = [(part if units is None else units.apply(part)).float() for part in x]
    train, validation, test = map(Split, model, labels)
    return Data(
        name, train, validation, test, "none", seed, fingerprint,
        kind="table", classes=tuple(classes), columns=tuple(columns), standardization=units, missing=missing,
    )  # fmt: skip


def _check_held(x: Tensor, columns: Sequence[str]) -> None:
    x = torch.where(x.isnan(), x.nanmean(0), x)
    error = (x.float().double() - x).abs().amax(0)
    lost = (error > ROUNDING * x.std(0, correction=0)) & (x != x[0]).any(0) | error.isinf()
    if lost.any():
        names = ", ".join(str(columns[i]) for i in lost.nonzero().flatten())
        raise PyrovaeError(
            f"float32 rounds values away: {names}; they vary little against their size. Subtract an offset from such "
            "columns, or leave out standardize=False"
        )


def split_table(
    name: str,
    values: Array,
    labels: Array | None,
    *,
    seed: int,
    validation: Share,
    test: Share,
    **options: Any,
) -> Data:
    """A table (N, D) without official splits, split by a permutation from ``seed``; options as for table_data."""
    x = torch.from_numpy(np.array(values, dtype=np.float64))
    codes = None if labels is None else torch.from_numpy(np.array(labels, dtype=np.int64))
    generator = torch.Generator("cpu").manual_seed(seed)
    parts = shuffled(len(x), validation=validation, test=test, generator=generator)
    split_labels = [None if codes is None else codes[part] for part in parts]
    return table_data(name, [x[part] for part in parts], split_labels, seed=seed, **options)
