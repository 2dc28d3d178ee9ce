"""What was perhaps meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, where: str = "") -> str:
    """The known names nearest to ``name``, behind ``where``, as the end of a sentence; empty where none is near.

    >>> nearest("epoch", ["epochs", "seed"])
    '; did you mean epochs?'
    """
    names = {each.lower(): each for each in known}
    return meant([where + names[near] for near in difflib.get_close_matches(name.lower(), names, n=2)])


def meant(names: Iterable[str]) -> str:
    """``; did you mean a or b?``, or nothing where there are no names."""
    listed = " or ".join(names)
    return f"; did you mean {listed}?" if listed else ""
