"""What ``fit`` may be given as data, made into one thing: an iterable of batches ``(x, *given)`` on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyrovae import trees
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.trees import Tree

Batch = tuple[Tree, ...]  # (x, *given)
Feed = tuple[Tree, ...]  # what a step is given to make its batch of: row numbers, or the rows themselves


class Source(Protocol):
    """Batches for one epoch after another.

    ``feeds`` brings what changes from step to step, and ``observe`` makes a batch of it, with tensor operations only:
    the selection of rows and the drawing of observations are a part of the step, and are traced with it.
    """

    @property
    def num_data(self) -> int | None:
        """How many data an epoch has; None for a stream."""

    def num_batches(self, batch_size: int) -> int | None:
        """How many batches an epoch has; None for a stream that does not say."""

    @property
    def tensors(self) -> list[Tensor]:
        """What ``observe`` reads besides the feed."""

    def feeds(self, batch_size: int, *, shuffle: bool) -> Iterator[Feed]:
        """One epoch, on the device; the last batch may be smaller."""

    def observe(self, feed: Feed) -> Batch:
        """The batch of a feed; a pure function of tensors."""

    def probe(self, count: int) -> Batch:
        """The first ``count`` rows, as a training step would see them."""


@dataclass(frozen=True)
class Resident:
    """Tensors on the device; rows are selected, and observations drawn, there."""

    rows: Batch
    draw: Callable[[Tree], Tree]

    @property
    def num_data(self) -> int:
        return trees.num_data(*self.rows)

    def num_batches(self, batch_size: int) -> int:
        return -(-self.num_data // batch_size)

    @property
    def tensors(self) -> list[Tensor]:
        return trees.leaves(self.rows)

    def feeds(self, batch_size: int, *, shuffle: bool) -> Iterator[Feed]:
        size, device = trees.num_data(*self.rows), trees.leaves(self.rows)[0].device
        order = torch.randperm(size, device=device) if shuffle else torch.arange(size, device=device)
        for index in order.split(batch_size):
            yield (index,)

    def observe(self, feed: Feed) -> Batch:
        x, *given = trees.rows(self.rows, feed[0])
        return (self.draw(x), *given)

    def probe(self, count: int) -> Batch:
        return self.observe((slice(0, count),))


@dataclass(frozen=True)
class Streamed:
    """A DataLoader, with its own batch size, order and workers."""

    loader: DataLoader[Any]
    draw: Callable[[Tree], Tree]
    device: torch.device
    dtype: torch.dtype | None
    num_data = None  # the loader alone knows
    tensors: list[Tensor] = field(default_factory=list)

    def num_batches(self, batch_size: int) -> int | None:
        try:
            return len(self.loader)
        except TypeError:
            return None

    def feeds(self, batch_size: int, *, shuffle: bool) -> Iterator[Feed]:
        for item in self.loader:
            yield tuple(trees.to(tree, self.device) for tree in as_batch(item, self.dtype))

    def observe(self, feed: Feed) -> Batch:
        x, *given = feed
        return (self.draw(x), *given)

    def probe(self, count: int) -> Batch:
        first = next(self.feeds(count, shuffle=False), None)
        if first is None:
            raise PyrovaeError("the DataLoader gives no batch: the data are empty")
        return self.observe(tuple(trees.rows(tree, slice(0, count)) for tree in first))


def identity(x: Tree) -> Tree:
    """The draw of data that are observed as they are."""
    return x


def source(
    data: Any,
    device: torch.device,
    draw: Callable[[Tree], Tree] | None = None,
    dtype: torch.dtype | None = None,
) -> Source:
    """Make a source of whatever holds data.

    Args:
        data: a tensor or array (x), a dict of them (x as a tree), a tuple (x, *given), a ``pyrovae.data.Data`` (its
            training split, with its own draw), a torch Dataset (read once and kept on the device) or a DataLoader.
        draw: makes a fresh observation of each batch's x, on the device.
        dtype: of the floating-point leaves; torch's default where it is None.

    Raises:
        PyrovaeError: empty data, rows that differ in number, something that holds no tensors.
    """
    if isinstance(data, Data):
        split = data.train
        return source((split.x, *split.given), device, draw or data.draw, dtype)
    if isinstance(data, DataLoader):
        return Streamed(data, draw or identity, device, dtype)
    batch = _read(data, dtype) if isinstance(data, Dataset) else as_batch(data, dtype)
    trees.num_data(*batch)
    return Resident(tuple(trees.to(tree, device) for tree in batch), draw or identity)


def as_batch(data: Any, dtype: torch.dtype | None = None) -> Batch:
    """(x, *given) of tensors: a tuple or list is (x, *given), anything else is x alone."""
    parts = tuple(data) if isinstance(data, tuple | list) else (data,)
    return tuple(trees.as_tensors(part, dtype) for part in parts)


def _read(data: Dataset[Any], dtype: torch.dtype | None) -> Batch:
    if isinstance(data, IterableDataset):
        raise PyrovaeError("an IterableDataset has no rows to keep on the device: wrap it in a DataLoader")
    if not len(data):  # type: ignore[arg-type]
        raise PyrovaeError("the data are empty: there must be at least one row")
    chunks = [as_batch(item, dtype) for item in DataLoader(data, batch_size=1024)]
    return tuple(trees.tree_map(lambda *parts: torch.cat(parts), *column) for column in zip(*chunks, strict=True))
