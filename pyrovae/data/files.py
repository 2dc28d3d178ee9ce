"""Published files: where they lie on this machine, and that they are what was published."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from pyrovae.data.download import fetch
from pyrovae.errors import PyrovaeError


class Published(NamedTuple):
    """A file of a data set as it is published: where, under which name, with which checksum."""

    dataset: str  # torchvision's name, which is also its folder: "MNIST"
    name: str
    md5: str
    mirrors: tuple[str, ...]  # addresses to which the name is appended


def read(file: Published, *, root: str | os.PathLike[str] | None = None, download: bool = True) -> bytes:
    """The verified bytes of a published file.

    It is looked for under ``root``, or else under the folder that the environment variable PYROVAE_DATA names; then in
    the cache; then downloaded into the cache. ``root`` and PYROVAE_DATA are never written to.

    Raises:
        PyrovaeError: a checksum that differs, a file that cannot be read, or that is absent and cannot be downloaded.
    """
    path = _find(file, root) or _obtain(file, root, download=download)
    return _verified(path, md5=file.md5)


def cache() -> Path:
    """The folder for downloads: ``pyrovae`` in XDG_CACHE_HOME, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrovae"


def _folders(file: Published, root: str | os.PathLike[str] | None) -> list[Path]:
    """The folders in which a file may lie, in order; the cache is the last."""
    local = root or os.environ.get("PYROVAE_DATA")
    raw = Path(file.dataset, "raw")
    here = [Path(local).expanduser() / "torchvision" / raw, Path(local).expanduser() / raw] if local else []
    return [*here, cache() / raw]


def _find(file: Published, root: str | os.PathLike[str] | None) -> Path | None:
    paths = (folder / file.name for folder in _folders(file, root))
    return next((path for path in paths if path.exists()), None)


def _obtain(file: Published, root: str | os.PathLike[str] | None, *, download: bool) -> Path:
    *_, folder = searched = _folders(file, root)
    if download:
        return fetch(file.name, md5=file.md5, mirrors=file.mirrors, folder=folder)
    raise PyrovaeError(
        f"{file.name} of {file.dataset} is in none of {', '.join(map(str, searched))}, and download=False: allow the "
        'download, set PYROVAE_DATA to a folder with the files, or use pyrovae.data.load("digits"), which needs none'
    )


def _verified(path: Path, *, md5: str) -> bytes:
    # The bytes that were checked are the bytes that are parsed: the file is read once.
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PyrovaeError(f"{path}: cannot be read ({error})") from error
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if found != md5:
        raise PyrovaeError(
            f"{path}: md5 {found}, expected {md5}; the file is truncated or altered: delete it to download it again"
        )
    return raw
