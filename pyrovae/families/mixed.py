"""Tables whose columns are of different kinds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import Family, VectorFamily, num_params


class Mixed(Family):
    """p(x) = prod_d p_d(x_d): a table (N, D) with a family for each column; nats.

    Args:
        families: one elementwise family per column. Columns that are given the same object share its parameters;
            where they are neighbours they are computed together.

    The network gives the sum of the columns' numbers. The distribution is elementwise: single missing values can be
    left out.

    Example:
        >>> import torch, pyrovae as pv
        >>> real, binary, grade = pv.families.normal, pv.families.bernoulli, pv.families.Ordinal(5)
        >>> mixed = pv.families.Mixed([real, real, binary, grade])
        >>> pv.families.out_shape(mixed, (4,))
        torch.Size([6])
        >>> mixed(torch.zeros(10, 6)).log_prob(torch.tensor([0.3, -1.2, 1.0, 4.0])).shape
        torch.Size([10, 4])

    Nazabal et al. 2020, "Handling incomplete heterogeneous data using VAEs".
    """

    def __init__(self, families: Sequence[Family]) -> None:
        super().__init__()
        if not families:
            raise PyrovaeError("a mixed table needs a family for each of its columns; got none")
        for family in families:
            _check_elementwise(family)
        self.families = nn.ModuleList(families)

    @property
    def runs(self) -> list[tuple[Any, int]]:
        """Neighbouring columns of one family: it, and how many."""
        runs = [list(run) for _, run in groupby(self.families, key=id)]
        return [(run[0], len(run)) for run in runs]

    @property
    def numbers(self) -> list[int]:
        """How many numbers of the network each of these takes."""
        return [num_params(family) * count for family, count in self.runs]

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        if tuple(event_shape) != (len(self.families),):
            raise PyrovaeError(
                f"there are {len(self.families)} families for columns and the data have the shape "
                f"{tuple(event_shape)}: give one family per column"
            )
        return Size((sum(self.numbers),))

    def forward(self, params: Tensor) -> TorchDistribution:
        if params.shape[-1] != sum(self.numbers):
            raise PyrovaeError(
                f"the columns' families want {sum(self.numbers)} numbers in all; the network gives {params.shape[-1]}"
            )
        parts = zip(self.runs, params.split(self.numbers, -1), strict=True)
        return Columns([family(*part.chunk(num_params(family), -1)) for (family, _), part in parts])

    def params_at(self, mean: Tensor) -> Tensor:
        """Those of each column."""
        parts = zip(self.runs, mean.split([count for _, count in self.runs]), strict=True)
        return torch.cat([family.params_at(part) for (family, _), part in parts])

    def standard(self, event_shape: Sequence[int]) -> Tensor:
        """Those of each column."""
        self.out_shape(event_shape)
        return torch.cat([family.standard((count,)) for family, count in self.runs])


def _check_elementwise(family: Any) -> None:
    if not isinstance(family, Family) or isinstance(family, VectorFamily | Mixed):
        raise PyrovaeError(
            f"{type(family).__name__} is no family of single columns: a table takes elementwise families such as "
            "pyrovae.families.normal, bernoulli, Categorical(num_categories), poisson"
        )


class Columns(TorchDistribution):
    """Columns of different distributions side by side, elementwise: batch shape (*, D).

    Args:
        parts: distributions of batch shape (*, n), each of n neighbouring columns.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, parts: Sequence[Any], *, validate_args: bool | None = None) -> None:
        self.parts = list(parts)
        self.sizes = [part.batch_shape[-1] for part in self.parts]
        lead = torch.broadcast_shapes(*(part.batch_shape[:-1] for part in self.parts))
        super().__init__(Size((*lead, sum(self.sizes))), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return all(part.has_rsample for part in self.parts)

    @property
    def support(self) -> Any:
        """One constraint per column."""
        each = [part.support for part, size in zip(self.parts, self.sizes, strict=True) for _ in range(size)]
        return constraints.stack(each, dim=-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Columns:
        shapes = [Size((*tuple(batch_shape)[:-1], size)) for size in self.sizes]
        parts = [part.expand(shape) for part, shape in zip(self.parts, shapes, strict=True)]
        return Columns(parts, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        columns = zip(self.parts, value.split(self.sizes, -1), strict=True)
        return torch.cat([part.log_prob(column) for part, column in columns], -1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return _table([part.rsample(sample_shape) for part in self.parts])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return _table([part.sample(sample_shape) for part in self.parts])

    @property
    def mean(self) -> Tensor:
        """Of each column; the mode where it is of unordered categories, which have no mean."""
        return _table([part.mode if isinstance(part, dist.Categorical) else part.mean for part in self.parts])


def _table(parts: list[Tensor]) -> Tensor:
    """Columns (*, n) side by side, whole numbers among them as floating-point ones."""
    dtypes = [part.dtype for part in parts if part.is_floating_point()]
    return torch.cat([part.to((*dtypes, torch.get_default_dtype())[0]) for part in parts], -1)
