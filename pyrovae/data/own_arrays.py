"""A NumPy file of one's own."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.files import Place, read_bytes
from pyrovae.data.labels import complete, encoded
from pyrovae.data.npy import Array, parse_npy, parse_npz
from pyrovae.data.partition import OFFICIAL, Share, completed
from pyrovae.data.pixels import digest, image_data, in_unit_interval, is_bits
from pyrovae.data.splits import Data, check_alike, check_counts
from pyrovae.data.tables import table_data
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import nearest

FORM = "x, or x_train with x_validation and x_test or without; and labels or y, named in the same way"


def arrays(
    path: Place,
    *,
    binarization: str | None = None,
    standardize: bool | None = None,
    seed: int = 0,
    validation: Share | None = None,
    test: Share | None = None,
    missing: bool = False,
) -> Data:
    """Arrays in a .npy or .npz file: images (N, H, W), (N, C, H, W) or (N, H, W, C), or a table (N, D).

    Images are uint8, divided by 255, or floats in [0, 1]; whole numbers 0 and 1 are bits, uint8 too. A .npz holds
    ``x`` and, if there are labels, ``labels`` or ``y``; or ``x_train``, and ``x_validation`` and ``x_test`` where these
    splits are made already, with ``labels_*`` or ``y_*``; and nothing else. What is not there is held out by a
    permutation from ``seed``.

    Args:
        binarization: of images; see :func:`images`.
        standardize: of a table, True by default; see :func:`table`.
        validation, test: how many are held out; a float is a fraction, a tenth where None.
        missing: whether NaN stands for a missing value; see :func:`table`.

    Raises:
        PyrovaeError: a file that is cut short, has bytes left over or holds Python objects; arrays of another form;
            an array that has no place in that form; splits of different shapes or kinds; values that are not finite;
            a missing label; images outside [0, 1]; an empty split.
    """
    path = Path(path).expanduser()
    raw = read_bytes(path)
    found = parse_npz(raw, name=str(path)) if path.suffix.lower() == ".npz" else {"x": parse_npy(raw, name=str(path))}
    keys = _keys(path, found)
    x = {part: _values(f"{path}, {key}", found[key], missing=missing) for part, key in keys.items()}
    check_alike(str(path), x)
    labels, classes = _labels(path, found, keys, x)
    generator = torch.Generator("cpu").manual_seed(seed)
    split_x, split_labels = completed(x, labels, validation=validation, test=test, generator=generator)
    fingerprint = digest(raw)
    if x["train"].dim() == 2:
        _check_unused(path, "table", binarization=binarization)
        return table_data(
            path.name, split_x, split_labels, columns=[f"x{i}" for i in range(x["train"].shape[1])], classes=classes,
            standardize=standardize is not False, seed=seed, fingerprint=fingerprint, missing=missing,
        )  # fmt: skip
    _check_unused(path, "array of images", standardize=standardize)
    grey = in_unit_interval(split_x)
    return image_data(
        path.name, grey, split_labels, binarization=binarization or ("static" if all(map(is_bits, grey)) else "none"),
        seed=seed, generator=generator, classes=classes, fingerprint=fingerprint, missing=missing,
    )  # fmt: skip


def _check_unused(path: Path, kind: str, **options: object) -> None:
    if used := [name for name, value in options.items() if value is not None]:
        raise PyrovaeError(f"{path}: a {kind} has no use for the option {used[0]}")


def _keys(path: Path, found: dict[str, Array]) -> dict[str, str]:
    """The name of the array of each split; of the training split alone where there is but one."""
    keys = {name: f"x_{name}" for name in OFFICIAL if f"x_{name}" in found} or ({"train": "x"} if "x" in found else {})
    if "train" not in keys:
        raise PyrovaeError(f"{path}: holds {', '.join(found) or 'nothing'}; expected {FORM}")
    suffixes = [""] if "x" in keys.values() else [f"_{name}" for name in OFFICIAL]
    known = [f"{name}{suffix}" for name in ("x", "labels", "y") for suffix in suffixes]
    read = {*keys.values(), *_label_keys(found, keys).values()}
    for name in found:
        if name not in read:  # a misspelt split would else be made up of the training data
            raise PyrovaeError(f"{path}: no use for the array {name!r}{nearest(name, known)}; expected {FORM}")
    return keys


def _label_keys(found: dict[str, Array], keys: dict[str, str]) -> dict[str, str]:
    """What the labels of each split are called, if they are there."""
    noun = "labels" if any(name.startswith("labels") for name in found) else "y"
    return {part: noun + key.removeprefix("x") for part, key in keys.items()}


def _values(where: str, array: Array, *, missing: bool) -> Tensor:
    """A table (N, D) float64, or images (N, C, H, W), uint8 or float32 in [0, 1]."""
    if array.dtype.kind not in "iufb" or array.ndim not in (2, 3, 4) or not array.size:
        raise PyrovaeError(
            f"{where}: {array.dtype} {array.shape}; expected numbers, a table (N, D) or images (N, H, W), (N, C, H, W)"
        )
    bad = np.isinf(array) if missing else ~np.isfinite(array)
    if bad.any():
        index = np.argwhere(bad)[0].tolist()
        advice = "remove such rows" + (", or announce missing values (missing=True)" if np.isnan(array).any() else "")
        raise PyrovaeError(f"{where}: {array[tuple(index)]} at index {index}; data must be finite: {advice}")
    if array.ndim == 2:
        return torch.from_numpy(array.astype(np.float64))
    return _images(where, array)


def _images(where: str, array: Array) -> Tensor:
    last = array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[-1] in (1, 3)
    array = array[:, None] if array.ndim == 3 else np.moveaxis(array, -1, 1) if last else array
    if array.shape[1] not in (1, 3):
        raise PyrovaeError(f"{where}: {array.shape}; images have 1 or 3 channels, (N, C, H, W) or (N, H, W, C)")
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    if (array < 0).any() or (array > 1).any():
        raise PyrovaeError(
            f"{where}: {array.dtype} values from {np.nanmin(array):g} to {np.nanmax(array):g}; images are uint8, or "
            'floats in [0, 1]: save x.astype("uint8"), or x / 255'
        )
    return torch.from_numpy(array.astype(np.float32))


def _labels(
    path: Path, found: dict[str, Array], keys: dict[str, str], x: dict[str, Tensor]
) -> tuple[dict[str, Tensor | None], tuple[str, ...]]:
    names = _label_keys(found, keys)
    if not any(name in found for name in names.values()):
        return dict.fromkeys(x), ()
    for part, name in names.items():
        if name not in found or found[name].ndim != 1:
            raise PyrovaeError(f"{path}: labels must be (N,), one for each datum, in every split; see {part}")
        check_counts(f"{path}, {part}", data=len(x[part]), labels=len(found[name]), noun="data")
    codes, classes = encoded(np.concatenate([complete(f"{path}, {name}", found[name]) for name in names.values()]))
    parts = torch.from_numpy(codes).split([len(part) for part in x.values()])
    return dict(zip(x, parts, strict=True)), classes
