"""Download by torchvision's helper, such that an interrupted download is never used."""

import hashlib
import os
import uuid
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path

from pyrovae.errors import PyrovaeError


def fetch(name: str, *, md5: str, mirrors: Iterable[str], folder: Path) -> Path:
    """Download the file ``name`` into ``folder`` from the first mirror that has it, and return its path.

    The bytes go to a temporary name of their own in the same folder; only a file whose checksum is right gets its name,
    in one step. Two processes can fetch the same file at once.

    Raises:
        PyrovaeError: the folder cannot be made, or no mirror gave the file; with the reason of each.
    """
    _make(folder)
    part, reasons = folder / f".{name}.{uuid.uuid4().hex}.part", []
    for mirror in mirrors:
        try:
            _download(mirror + name, part, md5=md5)
            os.replace(part, folder / name)
            return folder / name
        except (OSError, RuntimeError, HTTPException) as error:  # what torchvision and urllib raise
            reasons.append(f"{mirror}: {error}")
        finally:
            part.unlink(missing_ok=True)
    raise PyrovaeError(
        f'{name} could not be downloaded ({"; ".join(reasons)}): use pyrovae.data.load("digits"), which needs no file, '
        "or set PYROVAE_DATA to a folder with the files"
    )


def _download(url: str, part: Path, *, md5: str) -> None:
    from torchvision.datasets.utils import download_url

    # torchvision would verify too, but then says neither what it found nor what it expected.
    download_url(url, str(part.parent), filename=part.name)
    found = hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        raise OSError(f"what came has md5 {found}, expected {md5}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PyrovaeError(f"{folder}: cannot be made ({error}); set XDG_CACHE_HOME to a writable folder") from error
