"""A user's own data: which reader a path is for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pyrovae.data.own_arrays import arrays
from pyrovae.data.own_images import images
from pyrovae.data.own_tables import table
from pyrovae.data.splits import Data
from pyrovae.errors import PyrovaeError

READERS: dict[str, Callable[..., Data]] = {".csv": table, ".tsv": table, ".npy": arrays, ".npz": arrays}
PATHLIKE = ("/", "./", "../", "~")
KNOWN = "a folder of images, or a file .csv, .tsv, .npy or .npz"


def reader(name: str) -> Callable[..., Data] | None:
    """The function that reads the file or folder ``name``; None where it is neither there nor looks like a path.

    Raises:
        PyrovaeError: it looks like a path and is absent, or its suffix is not known.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return partial(images, path)
    if path.exists() or path.suffix.lower() in READERS or name.startswith(PATHLIKE) or name.endswith("/"):
        if not path.exists():
            raise PyrovaeError(f"{name}: there is no such file or folder (from {Path.cwd()})")
        if path.suffix.lower() not in READERS:
            raise PyrovaeError(
                f"{name}: data of your own are {KNOWN}; this is a file {path.suffix or 'without suffix'}"
            )
        return partial(READERS[path.suffix.lower()], path)
    return None
