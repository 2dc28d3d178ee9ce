"""A CSV or TSV file of one's own."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pyrovae.data.files import read_bytes
from pyrovae.data.npy import Array
from pyrovae.data.partition import Share
from pyrovae.data.pixels import digest
from pyrovae.data.splits import Data
from pyrovae.data.tables import TEST, VALIDATION, split_table
from pyrovae.data.unknown import check_known
from pyrovae.errors import PyrovaeError


def table(
    path: Path,
    *,
    standardize: bool = True,
    seed: int = 0,
    validation: Share = VALIDATION,
    test: Share = TEST,
    label: str | None = None,
) -> Data:
    """A file of comma- (.csv) or tab-separated (.tsv) numbers, x (N, D), the columns' names in its first line.

    Args:
        standardize: whether each column is shifted and scaled by the training split's mean and standard deviation;
            see ``Data.log_jacobian``.
        seed: of the permutation that splits the rows.
        validation, test: how many rows are held out; a float is a fraction of all.
        label: the column that is the label, of whole numbers or text; no labels where None.

    Raises:
        PyrovaeError: a file that is not such a table: no header, rows of unequal length, missing values, text in a
            column, an infinity; an unknown label; a constant column; a split that would be empty.
    """
    raw = read_bytes(path)
    frame = _frame(path, raw)
    codes: Array | None = None
    classes: tuple[str, ...] = ()
    if label is not None:
        check_known(f"column of {path.name}", label, list(frame.columns))
        codes, classes = encoded(f"{path}, column {label}", frame.pop(label).to_numpy())
    _check_numbers(path, frame)
    return split_table(
        path.name, frame.to_numpy(dtype=np.float64), codes, columns=tuple(frame.columns), classes=classes,
        standardize=standardize, seed=seed, validation=validation, test=test, fingerprint=digest(raw),
    )  # fmt: skip


def encoded(where: str, values: Array) -> tuple[Array, tuple[str, ...]]:
    """Labels as codes 0, 1, ... (N,) int64, and the names of the classes in order.

    Raises:
        PyrovaeError: real numbers, which are not classes.
    """
    if values.dtype.kind == "f" and (values % 1 != 0).any():
        raise PyrovaeError(f"{where}: holds real numbers, and a label is one of a few classes: leave it a column of x")
    values = values.astype(np.int64) if values.dtype.kind == "f" else values
    classes, codes = np.unique(values if values.dtype.kind in "iubU" else values.astype(str), return_inverse=True)
    return codes.reshape(-1).astype(np.int64), tuple(str(name) for name in classes)


def _frame(path: Path, raw: bytes) -> Any:
    """The table, with every row as long as the header."""
    import pandas

    options: dict[str, Any] = {"sep": "\t" if path.suffix.lower() == ".tsv" else ",", "skipinitialspace": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows that would be cut to the header's length
            header = pandas.read_csv(io.BytesIO(raw), header=None, nrows=1, dtype=str, **options)
            frame = pandas.read_csv(io.BytesIO(raw), index_col=False, low_memory=False, **options)
    except (ValueError, pandas.errors.ParserWarning) as error:  # ParserError, EmptyDataError, UnicodeDecodeError
        reason = " ".join(str(error).split())
        raise PyrovaeError(f"{path}: not a table whose rows are all as long as its header ({reason})") from error
    _check_header(path, header.iloc[0].tolist())
    frame.columns = [str(name) for name in frame.columns]
    if frame.empty:
        raise PyrovaeError(f"{path}: there are no rows below the header")
    return frame


def _check_header(path: Path, names: list[Any]) -> None:
    if all(_is_number(name) for name in names):
        raise PyrovaeError(f"{path}: the first line holds numbers; it must hold the columns' names")
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        raise PyrovaeError(f"{path}: the header names {', '.join(twice)} twice; every column needs a name of its own")


def _is_number(name: Any) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _check_numbers(path: Path, frame: Any) -> None:
    if not frame.shape[1]:
        raise PyrovaeError(f"{path}: there is no column besides the label")
    missing = frame.isna().to_numpy()
    if missing.any():
        row, column = (int(i) for i in np.argwhere(missing)[0])
        raise PyrovaeError(
            f"{path}: no value in row {row + 1} of the column {frame.columns[column]!r}, and in {int(missing.sum())} "
            "places in all (an empty field, NA, or a row that is too short): remove such rows, or impute the values"
        )
    text = [name for name, kind in zip(frame.columns, frame.dtypes, strict=True) if kind.kind not in "iufb"]
    if text:
        hint = "; its fields seem to be separated by semicolons: write it with commas" if ";" in text[0] else ""
        raise PyrovaeError(
            f"{path}: text in the column {text[0]!r} (columns with text: {len(text)}), such as "
            f"{frame[text[0]].iloc[0]!r}{hint}. Write it as numbers, leave it out, or name it: label={text[0]!r}"
        )
    infinite = ~np.isfinite(frame.to_numpy(dtype=np.float64))
    if infinite.any():
        row, column = (int(i) for i in np.argwhere(infinite)[0])
        raise PyrovaeError(f"{path}: an infinity in row {row + 1} of the column {frame.columns[column]!r}; remove it")
