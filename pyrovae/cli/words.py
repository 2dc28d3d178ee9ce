"""Lines for the reader."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """A line of output, at once even into a pipe."""
    print(line, flush=True)


def warn(line: str) -> None:
    """One line on standard error, as every fault and warning is told."""
    print(f"pyrovae: {' '.join(line.split())}", file=sys.stderr, flush=True)
