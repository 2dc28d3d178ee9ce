"""What was perhaps meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pyrovae.errors import PyrovaeError

NEAR = 0.55  # difflib's ratio, of letters in common: x_val is still near x_validation, and bta no longer near t


def nearest(name: str, known: Iterable[str], *, where: str = "") -> str:
    """The known names nearest to ``name``, behind ``where``, as the end of a sentence; empty where none is near.

    >>> nearest("epoch", ["epochs", "seed"])
    '; did you mean epochs?'
    """
    return meant([where + near for near in _near(name, known)])


def meant(names: Iterable[str]) -> str:
    """``; did you mean a or b?``, or nothing where there are no names."""
    listed = " or ".join(names)
    return f"; did you mean {listed}?" if listed else ""


def check_known(kind: str, name: str, known: Sequence[str]) -> None:
    """Raise :func:`unknown` unless ``name`` is known."""
    if name not in known:
        raise unknown(kind, name, known)


def unknown(kind: str, name: str, known: Sequence[str]) -> PyrovaeError:
    """The error that an unknown name is: with the nearest names and all known ones."""
    hint = meant(map(repr, _near(name, known)))
    return PyrovaeError(f"unknown {kind} {name!r}{hint}{'' if hint else ';'} known names: {', '.join(known)}")


def _near(name: str, known: Iterable[str]) -> list[str]:
    names = {each.lower(): each for each in known}
    return [names[near] for near in difflib.get_close_matches(name.lower(), names, n=2, cutoff=NEAR)]
