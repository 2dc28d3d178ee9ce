"""``pyrovae data``: which data sets there are, and where."""

from __future__ import annotations

from pyrovae.cli.words import say
from pyrovae.data import Listed, listing, names, verify
from pyrovae.lines import aligned
from pyrovae.nearest import check_known

HEAD = ["name", "x", "train / validation / test", "checksum", "where"]


def every() -> None:
    """A line about each data set."""
    rows = [[each.name, _shape(each), _splits(each), _short(each), _where(each)] for each in listing()]
    for line in aligned([HEAD, *rows], right=(2,)):
        say(line)
    say("\npyrovae data NAME says what it is and how to get it, and verifies its files. Your own data, a folder of")
    say("images or a .csv, .npy or .npz file, stand in a config by their path: data: {name: path/to/folder}")


def one(name: str) -> None:
    """All about one data set; its files are read and compared with their checksums.

    Raises:
        PyrovaeError: an unknown name, with the nearest ones; a file that is cut short or altered.
    """
    check_known("data set", name, names())
    (entry,) = (each for each in listing() if each.name == name)
    bits = "" if entry.binarization == "none" else f", {entry.binarization} binarization"
    about = [
        ["what", entry.title],
        ["x", f"{_shape(entry)}{bits}"],
        ["splits", f"{_splits(entry)} (train / validation / test)"],
        ["licence", entry.licence],
        ["where", _where(entry)],
    ]
    obtain = [] if entry.embedded else [["from", entry.obtain]]
    for line in aligned([[name, ""], *about, *obtain]):
        say(line)
    if entry.found:
        for path, checksum in verify(name).items():
            say(f"verified  {path}  {checksum}")
    elif not entry.embedded:
        for file, checksum in entry.checksums.items():
            say(f"checksum  {file}  {checksum}")


def _shape(entry: Listed) -> str:
    return " x ".join(map(str, entry.event_shape))


def _splits(entry: Listed) -> str:
    return " / ".join(f"{size:,}" for size in entry.splits.values())


def _short(entry: Listed) -> str:
    """The beginning of the first checksum, and how many there are besides."""
    if not entry.checksums:
        return ""
    first = next(iter(entry.checksums.values()))
    return f"{first[:15]}.." + (f" +{len(entry.checksums) - 1}" if len(entry.checksums) > 1 else "")


def _where(entry: Listed) -> str:
    return "embedded" if entry.embedded else str(entry.found or "not here")
