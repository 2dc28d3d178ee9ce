"""What ``fit`` may be given as data, made into one thing: an iterable of batches ``(x, *given)`` on the device."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyrovae import trees
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.training.batches import Batch, Feed, as_batch, identity, order, parts
from pyrovae.training.streams import EachEpoch, Mapped, Streamed, memory_mapped
from pyrovae.trees import Tree


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

    def feeds(self, batch_size: int, *, shuffle: bool) -> Generator[Feed]:
        """One epoch, on the device; the last batch may be smaller. Close it: a thread may read ahead."""

    def observe(self, feed: Feed) -> Batch:
        """The batch of a feed; a pure function of tensors."""

    def index(self, feed: Feed) -> Tensor | None:
        """The numbers of a feed's rows, (N,); None where rows have none."""

    def take(self, index: Tensor) -> Batch:
        """Rows by number as they are given, where they have numbers."""

    def head(self, count: int) -> Batch:
        """The first ``count`` rows as they are given."""

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

    def feeds(self, batch_size: int, *, shuffle: bool) -> Generator[Feed]:
        for index in order(self.num_data, self.tensors[0].device, shuffle=shuffle).split(batch_size):
            yield (index,)

    def observe(self, feed: Feed) -> Batch:
        x, *given = trees.rows(self.rows, feed[0])
        return (self.draw(x), *given)

    def index(self, feed: Feed) -> Tensor:
        index: Tensor = feed[0]
        return index

    def take(self, index: Tensor) -> Batch:
        return tuple(trees.rows(tree, index) for tree in self.rows)

    def head(self, count: int) -> Batch:
        return tuple(trees.rows(tree, slice(0, count)) for tree in self.rows)

    def probe(self, count: int) -> Batch:
        return self.observe((slice(0, count),))


def source(
    data: Any,
    device: torch.device,
    draw: Callable[[Tree], Tree] | None = None,
    dtype: torch.dtype | None = None,
) -> Source:
    """Make a source of whatever holds data.

    Args:
        data: a tensor or array (x), a dict of them (x as a tree), a tuple (x, *given), a ``pyrovae.data.Data`` (its
            training split, with its own draw) or a torch Dataset (read once) are kept on the device. Arrays in
            memory-mapped files, an IterableDataset, a DataLoader, an iterable of batches and a function that returns
            an epoch's iterator of batches are streamed.
        draw: makes a fresh observation of each batch's x, on the device.
        dtype: of the floating-point leaves; torch's default where it is None.

    Raises:
        PyrovaeError: empty data, rows that differ in number, something that holds no tensors, an iterator.
    """
    if isinstance(data, Data):
        split = data.train
        return source((split.x, *split.given), device, draw or data.draw, dtype)
    draw = draw or identity
    if (epoch := _epoch(data)) is not None:
        return Streamed(epoch, draw, device, dtype)
    if any(map(memory_mapped, trees.leaves(parts(data)))):
        return _mapped(data, device, draw, dtype)
    batch = _read(data, dtype) if isinstance(data, Dataset) else as_batch(data, dtype)
    trees.num_data(*batch)
    return Resident(tuple(trees.to(tree, device) for tree in batch), draw)


def _epoch(data: Any) -> Callable[[int], Iterable[Any]] | None:
    """What gives the batches of an epoch from the batch size; None for data that have rows."""
    if isinstance(data, Iterator):
        raise PyrovaeError(
            f"a {type(data).__name__} can be iterated only once, and every epoch begins anew: pass an object whose "
            "__iter__ begins anew, or a function that returns the iterator of an epoch (a generator function itself, "
            "without calling it)"
        )
    if isinstance(data, IterableDataset):
        return lambda batch_size: DataLoader(data, batch_size=batch_size)
    if isinstance(data, Tensor | np.ndarray | Dataset | tuple | list | dict | str | bytes):
        return None
    if isinstance(data, Iterable):
        return lambda batch_size: data
    return (lambda batch_size: EachEpoch(data)) if callable(data) else None


def _mapped(data: Any, device: torch.device, draw: Callable[[Tree], Tree], dtype: torch.dtype | None) -> Mapped:
    def on_host(leaf: Any) -> Any:
        return leaf if isinstance(leaf, np.ndarray) else trees.as_tensors(leaf, dtype).cpu()

    mapped = Mapped(tuple(trees.tree_map(on_host, part) for part in parts(data)), draw, device, dtype)
    trees.num_data(*mapped.rows)
    mapped.head(1)  # refuses what torch has no type for
    return mapped


def _read(data: Dataset[Any], dtype: torch.dtype | None) -> Batch:
    if not len(data):  # type: ignore[arg-type]
        raise PyrovaeError("the data are empty: there must be at least one row")
    chunks = [as_batch(item, dtype) for item in DataLoader(data, batch_size=1024)]
    return tuple(trees.tree_map(lambda *parts: torch.cat(parts), *column) for column in zip(*chunks, strict=True))
