"""Readers: what a network is shown of one parent, and which values of it a reader takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyrovae.errors import PyrovaeError
from pyrovae.observations.missing import InOrMissing
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree


class Reader(Recorded, nn.Module):
    """Base of the readers here; ``support`` says which values one takes, where it does not take all."""

    support: constraints.Constraint | None = None


class OneHot(Reader):
    """Whole numbers 0 .. num_levels - 1 of any dtype, (*batch, *event), as one-hot, (*batch, *event, num_levels)."""

    levels: Tensor
    one: Tensor

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        self.support = constraints.integer_interval(0, num_levels - 1)
        self.register_buffer("levels", torch.arange(num_levels), persistent=False)  # whole: bfloat16 knows them to 256
        self.register_buffer("one", torch.tensor(1.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Compared and not scattered: no branch, and no error on the device.
        return (x.unsqueeze(-1) == self.levels).to(self.one.dtype)


class Scaled(Reader):
    """Levels 0 .. num_levels - 1 of any dtype as x / (num_levels - 1), in [0, 1]: grey values, binary attributes."""

    top: Tensor

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        if num_levels < 2:
            raise PyrovaeError(f"there must be at least two levels; got {num_levels}")
        self.support = constraints.interval(0, num_levels - 1)
        self.register_buffer("top", torch.tensor(num_levels - 1.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x / self.top


class Standardized(Reader):
    """(x - loc) / scale, both of x's event shape and not trained: columns in units of their own."""

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", loc.clone())
        self.register_buffer("scale", scale.clone())

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.loc) / self.scale


class LogCounts(Reader):
    """log(1 + x) of counts x of any dtype, a few of which may be large; what is negative counts as 0."""

    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("least", torch.tensor(0.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.least).log1p()  # whole numbers take the program's dtype


class Exp(Reader):
    """exp(z), of logarithms z: the point of the simplex whose logarithm a relaxed categorical gives."""

    def forward(self, z: Tensor) -> Tensor:
        return z.exp()


class Ignore(Reader):
    """Nothing of the parent: the network does not depend on it."""

    def forward(self, x: Tree) -> tuple[()]:
        return ()


def takes(reader: nn.Module) -> constraints.Constraint | None:
    """The values that a reader takes; None where it does not say."""
    if isinstance(reader, nn.Embedding):
        return constraints.integer_interval(0, reader.num_embeddings - 1)
    return getattr(reader, "support", None)


def check_values(reader: nn.Module, x: Tensor, name: str = "a parent") -> None:
    """Raises PyrovaeError where ``x`` holds a value that ``reader`` does not take."""
    support = takes(reader)
    if support is None:
        return
    inside = support.check(x.long() if x.dtype == torch.bool else x)
    if not inside.all():
        raise PyrovaeError(
            f"{name} holds {x[~inside][0].item():g}, and {type(reader).__name__} reads values {_words(support)}: "
            "labels outside the classes, or levels outside those, that the program was built for"
        )


def as_read(reader: nn.Module, parent: Tree) -> Tree:
    """What a reader makes of a parent, whose values are looked at while distributions are validated."""
    support = takes(reader)
    if support is None:
        return reader(parent)
    if Distribution._validate_args:  # as of distributions, so never inside a traced step
        check_values(reader, parent)
    return reader(parent.long() if isinstance(reader, nn.Embedding) else parent)


def check_looked_up(reader: nn.Module, parent: Tree) -> None:
    """Raises PyrovaeError for an embedding of real numbers: of one-hot vectors it would look up each 0 and 1."""
    if isinstance(reader, nn.Embedding) and torch.is_tensor(parent) and parent.is_floating_point():
        raise PyrovaeError(
            f"an Embedding looks up whole numbers and got {parent.dtype} of shape {tuple(parent.shape)}: give labels "
            "as such, data.conditional(one_hot=False) or y.long(), or read one-hot vectors without a reader"
        )


def _words(support: Any) -> str:
    if isinstance(support, InOrMissing):
        return f"{_words(support.base_constraint)}, or missing,"
    return f"{support.lower_bound} .. {support.upper_bound}"
