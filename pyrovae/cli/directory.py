"""The directory of a run: claimed by one, read with care."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrovae.errors import PyrovaeError
from pyrovae.saving import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def claimed(directory: str | None, name: str, config: str) -> Iterator[Path]:
    """A directory for one run, its ``config.yaml`` in it; taken away again where training never began.

    Args:
        directory: where; by default the first of ``runs/name``, ``runs/name-2``, ... that is not there.
        config: the text of ``config.yaml``, the creation of which is the claim.

    Raises:
        PyrovaeError: it holds a run already, or cannot be made.
    """
    path, made = _fresh(name) if directory is None else _given(Path(directory))
    try:
        write_atomically(path / "config.yaml", config.encode())
        yield path
    except BaseException:
        if not (path / "history.jsonl").exists():
            with contextlib.suppress(OSError):
                for file in (path / "config.yaml", path / "manifest.json"):
                    file.unlink(missing_ok=True)
                if made:
                    path.rmdir()
        raise


def opened(directory: str) -> Path:
    """The directory of a run that is there.

    Raises:
        PyrovaeError: it is none, or holds a symbolic link that leads outside.
    """
    path = Path(directory)
    if not (path / "config.yaml").is_file():
        raise PyrovaeError(f"{path} is not the directory of a run: there is no config.yaml in it")
    home = path.resolve()
    for entry in path.rglob("*"):
        if entry.is_symlink() and not entry.resolve().is_relative_to(home):
            raise PyrovaeError(f"{entry} is a symbolic link that leads outside the run's directory: refused")
    return path


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` in one step."""
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG in one step."""
    from pyrovae.report.canvas import png  # matplotlib takes half a second to import

    write_atomically(path, png(figure))


def _given(path: Path) -> tuple[Path, bool]:
    made = not path.exists()
    if (path / "history.jsonl").exists() or not _claim(path):
        raise PyrovaeError(f"{path} holds a run already, finished or going on: choose another --directory")
    return path, made


def _fresh(name: str) -> tuple[Path, bool]:
    names = (Path("runs", name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in names if not path.exists() and _claim(path)), True


def _claim(path: Path) -> bool:
    """Create ``config.yaml``, still empty; whether it was not there yet."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path / "config.yaml", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError as error:
        if path.is_dir():
            return False
        raise PyrovaeError(f"{path} is a file: choose another --directory") from error
    except OSError as error:
        raise PyrovaeError(f"{path} cannot be written: {error.strerror}; choose another --directory") from error
    return True
