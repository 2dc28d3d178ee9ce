"""Data sets by name or path."""

import inspect
import os
from typing import Any

from pyrovae.data import own
from pyrovae.data.catalogue import ENTRIES, names
from pyrovae.data.files import Place, Root
from pyrovae.data.splits import Data
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import unknown

COMMON = ("seed", "root", "download")  # accepted by every data set, so that all are called alike


def load(
    name: Place = "digits",
    *,
    binarization: str | None = None,
    standardize: bool | None = None,
    seed: int = 0,
    validation: int | float | None = None,
    test: int | float | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    label: str | None = None,
    missing: bool | None = None,
    root: Root = None,
    download: bool = True,
) -> Data:
    """Load a data set by name, or your own by path; an option that is None is as usual for the data set.

    Args:
        name: one of ``pyrovae.data.names()``, or a path: a folder of images, a .csv or .tsv file with a header, a .npy
            or .npz file. For each there is a function with the details, such as :func:`mnist`, :func:`images`,
            :func:`table` and :func:`arrays`.
        binarization: of images: "dynamic", "static" or "none".
        standardize: of tables: whether columns are shifted and scaled by the training split's mean and standard
            deviation.
        seed: of a random split, of static bits and of the fixed bits of the evaluation splits.
        validation, test: how much is held out: an int is a number of rows, a float a fraction. The test split does
            not depend on ``validation``.
        size: of images, an int or (H, W); of text, the length of a sequence.
        channels: of a folder of images, 1 or 3.
        label: the column of a table, or the attribute of CelebA, that is the label.
        missing: of a table or arrays of your own: whether values may be missing (an empty field, NaN).
        root: the folder where the files of a data set with a name are; else that of the environment variable
            PYROVAE_DATA. It is only read.
        download: whether what is neither there nor in the cache may be downloaded into the cache.

    >>> load("digits")
    digits
      x       images 1 x 8 x 8, dynamic bits
      splits  train 1,197 | validation 200 | test 400
      labels  10 classes: 0, 1, 2, 3, 4, 5, ...

    Raises:
        PyrovaeError: an unknown name (the nearest names are given); an option that this data set has no use for; a
            split that would be empty; a file that is absent, altered or malformed.
    """
    name = os.fspath(name)
    loader = ENTRIES[name].load if name in ENTRIES else own.reader(name)
    if loader is None:
        raise unknown("data set", name, names())
    options = {
        "binarization": binarization, "standardize": standardize, "validation": validation, "test": test,
        "size": size, "channels": channels, "label": label, "missing": missing,
    }  # fmt: skip
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    taken = list(inspect.signature(loader).parameters)
    if useless := [key for key in given if key not in taken]:
        usual = ", ".join(key for key in taken if key not in COMMON) or "none"
        raise PyrovaeError(f"{name} has no use for the option {useless[0]}; it takes {usual}")
    common = {"seed": seed, "root": root, "download": download}
    return loader(**given, **{key: value for key, value in common.items() if key in taken})
