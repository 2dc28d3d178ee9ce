"""Published files: where they lie on this machine, and that they are what was published."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pyrovae.data.download import WAY_OUT, fetch
from pyrovae.errors import PyrovaeError

Place = str | os.PathLike[str]  # of a file or folder
Root = Place | None


def as_it_is(raw: bytes, name: str) -> bytes:
    """The content of a file whose checksum is that of its bytes."""
    return raw


def gunzipped(raw: bytes, name: str) -> bytes:
    """The content of a file that may be gzip-compressed, as its name says.

    Raises:
        PyrovaeError: not a whole gzip file.
    """
    try:
        return gzip.decompress(raw) if name.endswith(".gz") else raw
    except (OSError, EOFError, zlib.error) as error:
        raise PyrovaeError(f"{name}: not a whole gzip file ({error})") from error


class Published(NamedTuple):
    """A file of a data set as it is published."""

    dataset: str  # the data set's name, for messages
    places: tuple[str, ...]  # below a root, in the order in which they are tried; a download goes to the last
    addresses: tuple[str, ...]  # where it can be downloaded; none where it is not public
    checksum: str  # "md5:..." or "sha256:..." of the content
    content: Callable[[bytes, str], bytes] = as_it_is  # from a file's bytes and name to what the checksum is of
    instructions: str = ""  # how to get it where there is no address

    @property
    def name(self) -> str:
        """The file's name in the cache."""
        return Path(self.places[-1]).name


def read(file: Published, *, root: Root = None, download: bool = True) -> bytes:
    """The verified content of a published file.

    It is looked for under ``root``, or else under the folder that the environment variable PYROVAE_DATA names; then in
    the cache; then downloaded into the cache. ``root`` and PYROVAE_DATA are never written to.

    Raises:
        PyrovaeError: a checksum that differs, a file that cannot be read, or that is absent and cannot be downloaded.
    """
    path = find(file, root=root) or _obtain(file, root, download=download)
    # The bytes that were checked are the bytes that are parsed: the file is read once.
    return _verified(file, read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        PyrovaeError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PyrovaeError(f"{path}: cannot be read ({error})") from error


def find(file: Published, *, root: Root = None) -> Path | None:
    """Where a published file lies, unread; None where it is absent."""
    return next((path for path in _paths(file, root) if path.exists()), None)


def cache() -> Path:
    """The folder for downloads: ``pyrovae`` in XDG_CACHE_HOME, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrovae"


def roots(root: Root) -> list[Path]:
    """Where files may lie, in order; the cache is the last."""
    local = root or os.environ.get("PYROVAE_DATA")
    return [*([Path(local).expanduser()] if local else []), cache()]


def _paths(file: Published, root: Root) -> list[Path]:
    return [folder / place for folder in roots(root) for place in file.places]


def _obtain(file: Published, root: Root, *, download: bool) -> Path:
    if not file.addresses:
        raise PyrovaeError(f"{file.name} of {file.dataset} has no public download: {file.instructions}")
    if download:
        path = cache() / file.places[-1]
        return fetch(path, addresses=file.addresses, check=partial(_check, file, path.name))
    searched = sorted({str(path.parent) for path in _paths(file, root)})
    raise PyrovaeError(
        f"{file.name} of {file.dataset} is in none of {', '.join(searched)}, and download=False: allow the download, "
        + WAY_OUT
    )


def _verified(file: Published, raw: bytes, where: str) -> bytes:
    try:
        return _check(file, where, raw)
    except PyrovaeError as error:
        advice = "delete it to download it again" if file.addresses else file.instructions
        raise PyrovaeError(f"{error}; the file is truncated or altered: {advice}") from error


def _check(file: Published, where: str, raw: bytes) -> bytes:
    """The content of a file; refused where its checksum differs from what was published."""
    content = file.content(raw, where)
    kind, _, expected = file.checksum.partition(":")
    found = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise PyrovaeError(f"{where}: {kind} {found}, expected {expected}")
    return content
