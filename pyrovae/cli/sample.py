"""``pyrovae sample``: draws from a trained program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pyrovae.cli import values
from pyrovae.cli.directory import write_figure
from pyrovae.cli.pictures import Picture, conditions, drawn, first_look
from pyrovae.cli.stored import Stored
from pyrovae.cli.words import say
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import nearest
from pyrovae.randomness import seeded
from pyrovae.sampling import generated


def sample(
    run: Stored,
    *,
    num_samples: int = 64,
    seed: int | None = None,
    given: Sequence[str] = (),
    output: str | None = None,
    device: str = "auto",
) -> Path:
    """Draw x ~ p(x), or p(x | given), and write the draws and a figure of them; returns the path of the draws.

    Args:
        run: the run.
        num_samples: how many.
        seed: of the draws; by default that of the run.
        given: labels of a conditional run, by name or number, taken in turn; by default every class.
        output: where to; by default ``samples.npz`` (tables ``.csv``, texts ``.txt``) in the run's directory.
        device: "auto", "cpu", "cuda" or "mps".
    """
    data = run.data
    path = values.place(output, run.path / "samples", data)
    labels = _labels(data, given)
    asked = conditions(data, num_samples, labels)
    program, seed = run.program(device), run.seed if seed is None else seed
    with seeded(seed, next(program.parameters()).device):
        sites = generated(program, num_samples, *asked)
    if len(sites) != 1:
        raise PyrovaeError(f"this program draws {len(sites)} things ({', '.join(sites)}): use pyrovae.sample in Python")
    (site,) = sites.values()
    tensors: dict[str, Tensor] = {"label": asked[0].argmax(-1)} if asked else {}
    tensors["x"] = site["value"]
    if data.kind == "images" and (mean := values.mean(site["fn"])) is not None:
        tensors["mean"] = mean
    values.write(path, tensors, data)
    say(f"{num_samples:,} draws from {run.path}: {path}")
    columns = len(labels or data.classes) if asked else None
    for _, figure in drawn(_figure(program, tensors, data, columns, seed)):
        write_figure(path.with_suffix(".png"), figure)
        say(f"as a figure: {path.with_suffix('.png')}")
    return path


def _figure(program: Any, tensors: Mapping[str, Tensor], data: Data, columns: int | None, seed: int) -> list[Picture]:
    from pyrovae import report

    if data.kind == "images":
        shown = tensors.get("mean", tensors["x"])
        return [Picture("the figure", "", "", lambda: report.images(shown, columns=columns))]
    return [picture for picture in first_look(program, data, seed) if picture.name == "marginals"]


def _labels(data: Data, given: Sequence[str]) -> list[int] | None:
    """The numbers of the labels that are named.

    Raises:
        PyrovaeError: the run is not conditional; a label that is none of its classes.
    """
    if given and not data.train.given:
        raise PyrovaeError("--given: this run is not conditional; train one with --conditional true")
    return [_label(data, each) for each in given] or None


def _label(data: Data, name: str) -> int:
    if name in data.classes:
        return data.classes.index(name)
    if name.isdecimal() and int(name) < data.num_classes:
        return int(name)
    raise PyrovaeError(
        f"--given {name} is no label of {data.name}{nearest(name, data.classes)}; its classes are "
        f"{', '.join(data.classes)}"
    )
