"""What data sets there are, where each lies on this machine, and whether it is what was published."""

from pathlib import Path
from typing import NamedTuple

from pyrovae.data import files
from pyrovae.data.catalogue import ENTRIES, Entry, names
from pyrovae.data.torchvision_images import UNREADABLE, checksums, found, source_page
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import check_known


class Listed(NamedTuple):
    """A data set of the catalogue, as it stands on this machine."""

    name: str
    title: str
    event_shape: tuple[int, ...]
    splits: dict[str, int]  # the usual sizes
    binarization: str  # the usual one
    found: Path | None  # the folder that holds its files; None where one of them is absent
    embedded: bool  # whether it comes with a dependency, and needs no file
    obtain: str  # addresses, or what to do
    checksums: dict[str, str]  # by file, "md5:..." or "sha256:..."
    licence: str  # as far as known


def listing(*, root: files.Root = None) -> list[Listed]:
    """Every data set with a name. No data are read: a file counts as found where it is, whatever is in it.

    >>> [entry.title for entry in listing() if entry.name == "omniglot28"]
    ['OMNIGLOT-28 (reconstructed)']
    """
    return [_listed(name, ENTRIES[name], root) for name in names()]


def verify(name: str, *, root: files.Root = None) -> dict[str, str]:
    """Read the files of a data set and compare them with their checksums, which are returned by path.

    Raises:
        PyrovaeError: an unknown name; a file that is absent, truncated or altered.
    """
    check_known("data set", name, names())
    entry = ENTRIES[name]
    if entry.through:
        return _verified_by_torchvision(name, entry.through, root)
    verified = {}
    for file in entry.files():
        files.read(file, root=root, download=False)
        verified[str(files.find(file, root=root))] = file.checksum
    return verified


def _listed(name: str, entry: Entry, root: files.Root) -> Listed:
    published = entry.files()
    paths = [files.find(file, root=root) for file in published]
    whole = [path for path in paths if path is not None]
    where = whole[0].parent if whole and len(whole) == len(paths) else None
    return Listed(
        name, entry.title, entry.event_shape, dict(zip(("train", "validation", "test"), entry.splits, strict=True)),
        entry.binarization, found(entry.through, root=root) if entry.through else where,
        not published and not entry.through, _obtain(entry),
        checksums(entry.through) if entry.through else {file.name: file.checksum for file in published},
        entry.licence,
    )  # fmt: skip


def _obtain(entry: Entry) -> str:
    if entry.through:
        return source_page(entry.through)
    published = entry.files()
    return " ".join(" ".join(file.addresses[:1]) or file.instructions for file in published) or "embedded"


def _verified_by_torchvision(name: str, through: str, root: files.Root) -> dict[str, str]:
    from torchvision.datasets.utils import check_integrity

    where = found(through, root=root)
    if where is None:
        raise PyrovaeError(
            f"{name} is neither in PYROVAE_DATA nor in the cache: pyrovae.data.load({name!r}) downloads it"
        )
    verified = {}
    for place, checksum in checksums(through).items():
        try:
            right = check_integrity(str(where / place), checksum.removeprefix("md5:"))
        except UNREADABLE:
            right = False
        if not right:
            raise PyrovaeError(f"{where / place}: absent, truncated or altered; expected {checksum}: delete it")
        verified[str(where / place)] = checksum
    return verified
