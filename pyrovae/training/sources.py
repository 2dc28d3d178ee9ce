"""What ``fit`` may be given as data, made into one thing: an iterable of batches ``(x, *given)`` on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyrovae import trees
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.trees import Tree

Batch = tuple[Tree, ...]  # (x, *given)


class Source(Protocol):
    """Batches for one epoch after another."""

    @property
    def num_data(self) -> int | None:
        """How many data an epoch has; None for a stream."""

    def num_batches(self, batch_size: int) -> int | None:
        """How many batches an epoch has; None for a stream that does not say."""

    def batches(self, batch_size: int, *, shuffle: bool) -> Iterator[Batch]:
        """One epoch, on the device; the last batch may be smaller."""

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

    def batches(self, batch_size: int, *, shuffle: bool) -> Iterator[Batch]:
        size, device = trees.num_data(*self.rows), trees.leaves(self.rows)[0].device
        order = torch.randperm(size, device=device) if shuffle else torch.arange(size, device=device)
        for index in order.split(batch_size):
            yield self._observe(trees.rows(self.rows, index))

    def probe(self, count: int) -> Batch:
        return self._observe(trees.rows(self.rows, slice(0, count)))

    def _observe(self, batch: Batch) -> Batch:
        return (self.draw(batch[0]), *batch[1:])


@dataclass(frozen=True)
class Streamed:
    """A DataLoader, with its own batch size, order and workers."""

    loader: DataLoader[Any]
    draw: Callable[[Tree], Tree]
    device: torch.device
    dtype: torch.dtype | None
    num_data = None  # the loader alone knows

    def num_batches(self, batch_size: int) -> int | None:
        try:
            return len(self.loader)
        except TypeError:
            return None

    def batches(self, batch_size: int, *, shuffle: bool) -> Iterator[Batch]:
        for item in self.loader:
            x, *given = as_batch(item, self.dtype)
            batch = (trees.to(x, self.device), *(trees.to(g, self.device) for g in given))
            yield (self.draw(batch[0]), *batch[1:])

    def probe(self, count: int) -> Batch:
        first = next(self.batches(count, shuffle=False), None)
        if first is None:
            raise PyrovaeError("the DataLoader gives no batch: the data are empty")
        return tuple(trees.rows(tree, slice(0, count)) for tree in first)


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
