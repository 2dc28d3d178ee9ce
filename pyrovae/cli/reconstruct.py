"""``pyrovae reconstruct``: data, and what a trained program makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.cli import values
from pyrovae.cli.directory import write_figure
from pyrovae.cli.pictures import SHOWN, Picture, drawn
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.sampling import reconstruct as reconstructed


def reconstruct(
    run: Stored,
    *,
    split: str = "test",
    rows: Sequence[str] = (),
    output: str | None = None,
    device: str = "auto",
) -> Path:
    """Encode data to the mean of q(z | x), decode it, and write both and a figure; returns the path of the values.

    Args:
        run: the run.
        split: "train", "validation" or "test".
        rows: which data, as numbers from 0 or ranges such as ``20:40``; by default the first 20.
        output: where to; by default ``reconstructions.npz`` (tables ``.csv``, texts ``.txt``) in the run's directory.
        device: "auto", "cpu", "cuda" or "mps".
    """
    data = run.data
    name = "reconstructions" if split == "test" else f"reconstructions-{split}"
    path = values.place(output, run.path / name, data)
    whole = getattr(data, split)
    index = _index(rows, len(whole.x))
    x, *given = (trees.rows(part, index) for part in (whole.x, *whole.given))
    program = run.program(device)
    made = _centre(reconstructed(program, x, *given), data)
    tensors = {"row": index, "x": x, "reconstruction": made}
    values.write(path, tensors, data)
    say(f"{len(index):,} {split} data of {data.name} and their reconstructions: {path}")
    for _, figure in drawn(_figure(program, data, x, *given)):
        write_figure(path.with_suffix(".png"), figure)
        say(f"as a figure: {path.with_suffix('.png')}")
    return path


def _figure(program: Any, data: Data, *rows: Tensor) -> list[Picture]:
    from pyrovae import report

    if data.kind == "images":
        return [Picture("the figure", "", "", lambda: report.reconstructions(program, *rows))]
    return []


def _centre(distribution: Any, data: Data) -> Tensor:
    """The mean of p(x | z); of texts, and where there is no mean, its mode.

    Raises:
        PyrovaeError: several observed sites; neither mean nor mode.
    """
    if isinstance(distribution, dict):
        names = ", ".join(distribution)
        raise PyrovaeError(f"this program observes {len(distribution)} things ({names}): use pyrovae.reconstruct in "
                           "Python")  # fmt: skip
    mean = None if data.kind == "tokens" else values.mean(distribution)
    try:
        centre: Tensor = distribution.mode if mean is None else mean
        return centre
    except (NotImplementedError, AttributeError) as error:
        raise PyrovaeError(
            f"the likelihood ({type(distribution).__name__}) has neither a mean nor a mode: draw from "
            "pyrovae.reconstruct(program, x) in Python"
        ) from error


def _index(rows: Sequence[str], count: int) -> Tensor:
    """The numbers that ``rows`` names.

    Raises:
        PyrovaeError: no number and no range; outside the split.
    """
    chosen = [number for row in rows for number in _range(row, count)] if rows else range(min(SHOWN, count))
    if outside := [number for number in chosen if not 0 <= number < count]:
        raise PyrovaeError(f"--rows {outside[0]}: the split has rows 0 .. {count - 1}")
    if not chosen:
        raise PyrovaeError(f"--rows {' '.join(rows)} names no row")
    return torch.tensor(chosen)


def _range(row: str, count: int) -> range:
    first, colon, end = row.partition(":")
    try:
        start = int(first or 0)
        return range(start, (int(end) if end else count) if colon else start + 1)
    except ValueError as error:
        raise PyrovaeError(f"--rows {row}: name rows by number, or a range such as 20:40") from error
