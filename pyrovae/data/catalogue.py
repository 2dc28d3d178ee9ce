"""Data sets by name."""

import os
from collections.abc import Callable

from pyrovae.data.embedded import digits
from pyrovae.data.idx_images import fashion_mnist, mnist
from pyrovae.data.splits import Data
from pyrovae.data.unknown import check_known

_CATALOGUE: dict[str, Callable[..., Data]] = {"digits": digits, "fashion_mnist": fashion_mnist, "mnist": mnist}


def names() -> list[str]:
    """The names that :func:`load` knows.

    >>> names()
    ['digits', 'fashion_mnist', 'mnist']
    """
    return sorted(_CATALOGUE)


def load(
    name: str = "digits",
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: int | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Data:
    """Load a data set by name; the options are those of :func:`mnist`. validation=None: as many as is usual for it.

    >>> load("digits").describe()["event_shape"]
    [1, 8, 8]

    Raises:
        PyrovaeError: an unknown name (the nearest names are given) or binarization; a validation split that is empty
            or leaves nothing to train on; a file that is absent, altered or malformed.
    """
    check_known("data set", name, names())
    sizes = {} if validation is None else {"validation": validation}
    return _CATALOGUE[name](binarization=binarization, seed=seed, root=root, download=download, **sizes)
