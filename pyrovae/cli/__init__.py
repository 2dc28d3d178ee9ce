"""The command line: ``pyrovae demo | train | evaluate | sandwich | sample | reconstruct | report | ...``."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pyrovae.cli.arguments import parsed
from pyrovae.cli.words import warn
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import EvidenceWarning


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 2 for an error (one line on stderr), 130 on Ctrl-C, 143 on SIGTERM."""
    try:
        with _plain_warnings(), _termination_raises():
            from pyrovae.cli.config import trusting

            arguments = parsed(argv)
            trust = getattr(arguments, "trust", [])
            with trusting(trust), _importable(trust):
                arguments.command(arguments)
            return 0
    except (PyrovaeError, OSError) as error:
        warn(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        warn("interrupted")
        return 130
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0


@contextmanager
def _importable(packages: Sequence[str]) -> Iterator[None]:
    """Trusted packages may lie in the working directory, where a console script does not look by itself."""
    before = list(sys.path)
    if packages:
        sys.path.append(os.getcwd())  # last, so that nothing there stands in for what is installed
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings of pyrovae's estimates in one line, once, without the line of code that a notebook would want."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
            if issubclass(category, EvidenceWarning):
                warn(f"warning: {message}")
            else:
                shown(message, category, *where, **more)

        warnings.filterwarnings("always", category=EvidenceWarning)
        warnings.showwarning = show
        yield


@contextmanager
def _termination_raises() -> Iterator[None]:
    """SIGTERM as SystemExit(143), on which ``fit`` saves its weights before the program ends."""
    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
