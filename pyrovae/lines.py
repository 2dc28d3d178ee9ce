"""Rows of words as aligned lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def counted(number: int, noun: str) -> str:
    """How many of what.

    >>> counted(1, "chain"), counted(5000, "particle")
    ('1 chain', '5,000 particles')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """A line per row, columns two spaces apart; those in ``right`` end together, the others begin together.

    >>> aligned([["vae", "-85.1"], ["vamp", "-8.3"]], right=[1])
    ['vae   -85.1', 'vamp   -8.3']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            word.rjust(w) if n in right else word.ljust(w) for n, (word, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [line.rstrip() for line in lines]
