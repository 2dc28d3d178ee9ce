"""Which figures show a run: that depends on its data and its program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import one_hot

from pyrovae.cli.words import say
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence
from pyrovae.randomness import seeded
from pyrovae.sampling import encode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 8  # of samples
SHOWN = 20  # data beside their reconstructions
ENCODED = 2000  # data in a figure of the latent space
STARTS = 500  # data by which traversals measure activity


@dataclass(frozen=True)
class Picture:
    """A figure that is not drawn yet; ``draw`` gives the same one every time."""

    name: str
    heading: str
    caption: str
    draw: Callable[[], Figure]


def of_training(program: Any, data: Data, history: Sequence[Mapping[str, Any]], seed: int) -> list[Picture]:
    """What ``pyrovae train`` draws."""
    return [*_curve(history), *first_look(program, data, seed)]


def of_run(
    program: Any,
    data: Data,
    history: Sequence[Mapping[str, Any]],
    seed: int,
    evidence: Mapping[str, Evidence],
    best: str | None,
) -> list[Picture]:
    """What ``pyrovae report`` shows, ``evidence`` by method."""
    return [
        *_curve(history),
        *(_likelihood(evidence[best]) if best else ()),
        *_by_method(evidence),
        *first_look(program, data, seed),
        *_latent_space(program, data, seed),
    ]


def drawn(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, Figure]]:
    """Those that can be drawn; any other is named, and left out."""
    for picture in pictures:
        try:
            yield picture, picture.draw()
        except PyrovaeError as error:
            say(f"{picture.name} is left out: {error}")


def conditions(data: Data, count: int, labels: Sequence[int] | None = None) -> tuple[torch.Tensor, ...]:
    """What is given for ``count`` samples: the labels in turn, by default every class; nothing where nothing is."""
    if not data.train.given:
        return ()
    chosen = torch.tensor(range(data.num_classes) if labels is None else labels)
    rows = chosen[torch.arange(count) % len(chosen)]
    return (one_hot(rows, data.num_classes).to(data.train.given[0].dtype),)


def _curve(history: Sequence[Mapping[str, Any]]) -> Iterator[Picture]:
    from pyrovae import report

    yield Picture(
        "learning_curve", "Training", "The objective and its terms over the epochs, nats per datum.",
        lambda: report.learning_curve(history),
    )  # fmt: skip


def first_look(program: Any, data: Data, seed: int) -> Iterator[Picture]:
    """Samples, and what the program makes of test data."""
    from pyrovae import report

    x, *given = _spread(SHOWN, data.test.x, *data.test.given)
    if data.kind == "images":
        columns = data.num_classes if data.train.given else ROWS
        each = conditions(data, ROWS * columns)
        yield Picture(
            "samples", "Samples",
            "The mean of p(x | z) at draws of z from the prior" + (", a column per class." if given else "."),
            _always(seed, program, lambda: report.samples(program, ROWS * columns, *each, columns=columns)),
        )  # fmt: skip
        yield Picture(
            "reconstructions", "Reconstructions",
            "Test data, and below them the mean of p(x | z) at the mean of q(z | x).",
            _always(seed, program, lambda: report.reconstructions(program, x, *given)),
        )  # fmt: skip
    if data.kind == "table":
        test = (data.test.x, *data.test.given)
        yield Picture(
            "marginals", "Columns", "Each column of the test data, in its own units, and of samples from the program.",
            _always(seed, program, lambda: report.marginals(
                program, *test, columns=data.columns, restore=data.restore
            )),
        )  # fmt: skip


def _likelihood(evidence: Evidence) -> Iterator[Picture]:
    from pyrovae import report

    exact = evidence.method == "exact"
    judged = "" if exact else f", and by what each estimate is judged; none is trusted with {evidence.sign}"
    yield Picture(
        "evidence", "Log-likelihood", f"How log p(x) is spread over the data{judged}.",
        lambda: report.evidence(evidence),
    )  # fmt: skip
    if not exact:
        yield Picture(
            "weights", "Importance weights",
            "How far the estimates can be trusted: effective sample size, and what they are judged by.",
            lambda: report.weights(evidence),
        )  # fmt: skip


def _by_method(evidence: Mapping[str, Evidence]) -> Iterator[Picture]:
    from pyrovae import report

    if len(evidence) > 1:
        yield Picture(
            "methods", "Methods",
            "log p(x) of each datum by one method less that by another: means with one and two standard errors.",
            lambda: report.comparison(evidence),
        )  # fmt: skip


def _latent_space(program: Any, data: Data, seed: int) -> Iterator[Picture]:
    from pyrovae import report

    some, few = (_spread(count, data.test.x, *data.test.given) for count in (ENCODED, STARTS))
    labels = None
    if data.test.labels is not None:
        labels = [data.classes[label] for label in _spread(ENCODED, data.test.labels)[0].tolist()]
    yield Picture(
        "latents", "Latent space", "The mean of q(z | x) of test data" + ("." if labels is None else ", by label."),
        _always(seed, program, lambda: report.latents(program, *some, labels=labels)),
    )  # fmt: skip
    yield Picture(
        "active_units", "Active units", "How much of each latent dimension the encoder uses.",
        _always(seed, program, lambda: report.active_units(program, *some)),
    )  # fmt: skip
    one = conditions(data, 1)
    if data.kind == "images":
        yield Picture(
            "traversals", "Traversals", "One latent dimension at a time through its prior, the most active first.",
            _always(seed, program, lambda: report.traversals(program, *few)),
        )  # fmt: skip
    if data.kind == "images" and data.train.given:
        each = conditions(data, data.num_classes)
        yield Picture(
            "conditional_grid", "Conditions", "The same z in a row, another condition in each column.",
            _always(seed, program, lambda: report.conditional_grid(program, *each, labels=data.classes)),
        )  # fmt: skip
    yield Picture(
        "prior_density", "Prior", "The prior, and where the encoder puts test data.",
        _always(seed, program, lambda: report.prior_density(program, *some)),
    )  # fmt: skip
    if data.kind == "images" and _plane(program, *some):
        yield Picture(
            "manifold", "Manifold", "The mean of p(x | z) over the plane of z.",
                _always(seed, program, lambda: report.manifold(program, *one)),
        )  # fmt: skip


def _spread(count: int, *parts: torch.Tensor) -> list[torch.Tensor]:
    """``count`` rows at even distances, or all: data that lie sorted by class would show the first classes alone."""
    size = len(parts[0])
    rows = torch.arange(min(count, size)) * size // min(count, size)
    return [part[rows] for part in parts]


def _plane(program: Any, x: Any, *given: Any) -> bool:
    """Whether z is one vector of two dimensions."""
    return getattr(encode(program, x[:2], *(g[:2] for g in given)), "event_shape", None) == (2,)


def _always(seed: int, program: Any, draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """The same figure every time, and the global random state left as it was."""

    def same() -> Figure:
        with seeded(seed, next(program.parameters()).device):
            return draw()

    return same
