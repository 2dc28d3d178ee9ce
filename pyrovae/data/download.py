"""Download by torchvision's helper, such that an interrupted download is never used."""

import os
import uuid
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pyrovae.errors import PyrovaeError

FAILURES = (OSError, RuntimeError, HTTPException)  # what torchvision and urllib raise
WAY_OUT = (
    'use pyrovae.data.load("digits"), which needs no file, or set PYROVAE_DATA to a folder with the files '
    "(`pyrovae data` lists them)"
)


def fetch(path: Path, *, addresses: Iterable[str], check: Callable[[bytes], Any]) -> Path:
    """Download a file to ``path`` from the first address that has it.

    The bytes go to a temporary name of their own in the same folder; only a file that ``check`` does not refuse gets
    its name, in one step. Two processes can fetch the same file at once.

    Raises:
        PyrovaeError: the folder cannot be made, or no address gave the file; with the reason of each.
    """
    make_folder(path.parent)
    part, reasons = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part"), []
    for address in addresses:
        try:
            _download(address, part)
            check(part.read_bytes())
            os.replace(part, path)
            return path
        except (*FAILURES, PyrovaeError) as error:
            reasons.append(f"{address}: {error}")
        finally:
            part.unlink(missing_ok=True)
    raise PyrovaeError(f"{path.name} could not be downloaded ({'; '.join(reasons)}): {WAY_OUT}")


def _download(address: str, part: Path) -> None:
    from torchvision.datasets.utils import download_url

    # torchvision would verify too, but then says neither what it found nor what it expected.
    download_url(address, str(part.parent), filename=part.name)


def make_folder(folder: Path) -> None:
    """Make a folder of the cache.

    Raises:
        PyrovaeError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PyrovaeError(f"{folder}: cannot be made ({error}); set XDG_CACHE_HOME to a writable folder") from error
