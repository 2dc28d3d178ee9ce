"""Refusal of an unknown name, with the names that were perhaps meant."""

import difflib
from collections.abc import Sequence

from pyrovae.errors import PyrovaeError


def check_known(kind: str, name: str, known: Sequence[str]) -> None:
    """Raise PyrovaeError, with the nearest names and all known ones, unless ``name`` is known."""
    if name in known:
        return
    nearest = difflib.get_close_matches(str(name).lower(), known, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    raise PyrovaeError(f"unknown {kind} {name!r}: {hint}known names: {', '.join(known)}")
