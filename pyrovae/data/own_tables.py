"""A CSV or TSV file of one's own."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pyrovae.data.files import Place, read_bytes
from pyrovae.data.labels import complete, encoded
from pyrovae.data.npy import Array
from pyrovae.data.partition import Share
from pyrovae.data.pixels import digest
from pyrovae.data.splits import Data
from pyrovae.data.tables import TEST, VALIDATION, split_table
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import check_known

_AS_TEXT = {"dtype": str, "keep_default_na": False}  # pandas else reads NA, None and the like as missing


def table(
    path: Place,
    *,
    standardize: bool = True,
    seed: int = 0,
    validation: Share = VALIDATION,
    test: Share = TEST,
    label: str | None = None,
    missing: bool = False,
) -> Data:
    """A file of comma- (.csv) or tab-separated (.tsv) numbers, x (N, D), the columns' names in its first line.

    Args:
        standardize: whether each column is shifted and scaled by the training split's mean and standard deviation;
            see ``Data.log_jacobian``.
        seed: of the permutation that splits the rows.
        validation, test: how many rows are held out; a float is a fraction of all.
        label: the column that is the label, of whole numbers or text; no labels where None. A text is a class as it
            is written, "NA" and "None" too; only an empty field is missing.
        missing: whether numbers may be missing (an empty field, NA): they become NaN, which a program has to announce
            by ``pyrovae.Missing``. Columns are standardised by what is seen of them.

    Raises:
        PyrovaeError: a file that is not such a table: no header, rows of unequal length, missing values that are not
            announced, text in a column, an infinity; a column without a name; an unknown or missing label; a constant
            column; values that float32 cannot hold where nothing is standardised; a split that would be empty.
    """
    path = Path(path).expanduser()
    raw = read_bytes(path)
    frame = _frame(path, raw)
    codes: Array | None = None
    classes: tuple[str, ...] = ()
    if label is not None:
        check_known(f"column of {path.name}", label, list(frame.columns))
        codes, classes = encoded(complete(f"{path}, column {label}", _labels(path, raw, frame.pop(label))))
    _check_numbers(path, frame, missing=missing)
    columns = tuple(frame.columns)
    return split_table(
        path.name, frame.to_numpy(dtype=np.float64), codes, columns=columns, classes=classes, standardize=standardize,
        seed=seed, validation=validation, test=test, fingerprint=digest(raw, json.dumps([columns, label]).encode()),
        missing=missing,
    )  # fmt: skip


def _frame(path: Path, raw: bytes) -> Any:
    """The table, with every row as long as the header."""
    import pandas

    form = _form(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows that would be cut to the header's length
            header = pandas.read_csv(io.BytesIO(raw), header=None, nrows=1, **_AS_TEXT, **form)
            frame = pandas.read_csv(io.BytesIO(raw), index_col=False, low_memory=False, **form)
    except (ValueError, pandas.errors.ParserWarning) as error:  # ParserError, EmptyDataError, UnicodeDecodeError
        reason = " ".join(str(error).split())
        raise PyrovaeError(f"{path}: not a table whose rows are all as long as its header ({reason})") from error
    _check_header(path, header.iloc[0].tolist())
    frame.columns = [str(name) for name in frame.columns]
    if frame.empty:
        raise PyrovaeError(f"{path}: there are no rows below the header")
    return frame


def _form(path: Path) -> dict[str, Any]:
    return {"sep": "\t" if path.suffix.lower() == ".tsv" else ",", "skipinitialspace": True}


def _labels(path: Path, raw: bytes, column: Any) -> Array:
    """The column of labels: numbers as they were read, NaN where one is missing; texts as they are written."""
    import pandas

    if column.dtype.kind in "iufb" and not column.isna().all():
        return np.asarray(column.to_numpy())
    written = pandas.read_csv(io.BytesIO(raw), usecols=[column.name], index_col=False, **_AS_TEXT, **_form(path))
    return np.asarray(written[column.name].to_numpy(dtype=str))


def _check_header(path: Path, names: list[Any]) -> None:
    if all(_is_number(name) for name in names):
        raise PyrovaeError(f"{path}: the first line holds numbers; it must hold the columns' names")
    if "" in names:
        raise PyrovaeError(
            f"{path}: column {names.index('') + 1} has no name in the header; name it, or take it out if it only "
            "numbers the rows: pandas leaves it out with to_csv(index=False)"
        )
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        raise PyrovaeError(f"{path}: the header names {', '.join(twice)} twice; every column needs a name of its own")


def _is_number(name: Any) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _check_numbers(path: Path, frame: Any, *, missing: bool) -> None:
    if not frame.shape[1]:
        raise PyrovaeError(f"{path}: there is no column besides the label")
    empty = frame.isna().to_numpy()
    if empty.any() and not missing:
        row, column = (int(i) for i in np.argwhere(empty)[0])
        raise PyrovaeError(
            f"{path}: no value in row {row + 1} of the column {frame.columns[column]!r}, and in {int(empty.sum())} "
            "places in all (an empty field, NA, or a row that is too short): announce missing values (missing=True), "
            "remove such rows, or impute the values"
        )
    text = [name for name, kind in zip(frame.columns, frame.dtypes, strict=True) if kind.kind not in "iufb"]
    if text:
        hint = "; its fields seem to be separated by semicolons: write it with commas" if ";" in text[0] else ""
        raise PyrovaeError(
            f"{path}: text in the column {text[0]!r} (columns with text: {len(text)}), such as "
            f"{frame[text[0]].iloc[0]!r}{hint}. Write it as numbers, leave it out, or name it: label={text[0]!r}"
        )
    infinite = np.isinf(frame.to_numpy(dtype=np.float64))
    if infinite.any():
        row, column = (int(i) for i in np.argwhere(infinite)[0])
        raise PyrovaeError(f"{path}: an infinity in row {row + 1} of the column {frame.columns[column]!r}; remove it")
