"""Data that are not kept in memory: arrays in memory-mapped files, and batches that an iterable brings."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.training.batches import Batch, Feed, as_batch, order
from pyrovae.training.prefetch import prefetched, prefetched_where_repeatable
from pyrovae.trees import Tree

BLOCK = 2**22  # bytes that are read together


def memory_mapped(leaf: Any) -> bool:
    """Whether an array lies in a memory-mapped file, as ``np.load(path, mmap_mode="r")`` and slices of it do."""
    while isinstance(leaf, np.ndarray):
        leaf = leaf.base
    return isinstance(leaf, mmap.mmap)


@dataclass(frozen=True)
class Mapped:
    """Arrays of which some lie in memory-mapped files; the rows of a batch are read when its turn comes."""

    rows: Batch  # on the host, converted only when read
    draw: Callable[[Tree], Tree]
    device: torch.device
    dtype: torch.dtype | None
    tensors: list[Tensor] = field(default_factory=list)

    @property
    def num_data(self) -> int:
        return trees.num_data(*self.rows)

    def num_batches(self, batch_size: int) -> int:
        return -(-self.num_data // batch_size)

    def feeds(self, batch_size: int, *, shuffle: bool) -> Generator[Feed]:
        size = self._batches_together(batch_size) * batch_size
        indices = order(self.num_data, self.device, shuffle=shuffle).cpu().split(size)
        with closing(prefetched(map(self._numbered, indices), self.device)) as blocks:
            for block in blocks:
                for start in range(0, trees.num_data(*block), batch_size):
                    yield trees.rows(block, slice(start, start + batch_size))

    def observe(self, feed: Feed) -> Batch:
        _, x, *given = feed
        return (self.draw(x), *given)

    def index(self, feed: Feed) -> Tensor:
        index: Tensor = feed[0]
        return index

    def take(self, index: Tensor) -> Batch:
        return trees.to(self._read(index.cpu()), self.device)

    def head(self, count: int) -> Batch:
        return self.take(torch.arange(min(count, self.num_data)))

    def probe(self, count: int) -> Batch:
        x, *given = self.head(count)
        return (self.draw(x), *given)

    def _batches_together(self, batch_size: int) -> int:
        """How many batches are read at once: each reading hands over from thread to thread, which costs time."""
        row = sum(leaf.nbytes for leaf in trees.leaves(self.rows)) / self.num_data
        return max(1, int(BLOCK / (row * batch_size)))

    def _numbered(self, index: Tensor) -> Feed:
        return (index, *self._read(index))

    def _read(self, index: Tensor) -> Batch:
        """A copy of these rows: nothing of a file is read later, in a step."""
        return as_batch(trees.tree_map(lambda leaf: _taken(leaf, index), self.rows), self.dtype)


def _taken(leaf: Any, index: Tensor) -> Any:
    # NumPy's take reads without Python's lock, on one thread, and so takes nothing from a step's threads
    return leaf.take(index.numpy(), 0) if isinstance(leaf, np.ndarray) else leaf.index_select(0, index)


class EachEpoch:
    """The iterable of a function that returns the iterator of an epoch."""

    def __init__(self, function: Callable[[], Iterator[Any]]) -> None:
        self.function = function

    def __iter__(self) -> Iterator[Any]:
        batches = self.function()
        if not isinstance(batches, Iterable):
            raise PyrovaeError(f"data may be a function that returns an epoch's iterator; it gave {batches!r}")
        return iter(batches)


@dataclass(frozen=True)
class Streamed:
    """Batches of an iterable, with its own sizes and order.

    Args:
        epoch: gives the iterable of one epoch's batches, from the batch size.
    """

    epoch: Callable[[int], Iterable[Any]]
    draw: Callable[[Tree], Tree]
    device: torch.device
    dtype: torch.dtype | None
    num_data = None  # only an epoch tells
    tensors: list[Tensor] = field(default_factory=list)

    def num_batches(self, batch_size: int) -> int | None:
        try:
            return len(self.epoch(batch_size))  # type: ignore[arg-type]
        except TypeError:
            return None

    def feeds(self, batch_size: int, *, shuffle: bool) -> Generator[Feed]:
        yield from prefetched_where_repeatable(self._batches(batch_size), self.device)

    def observe(self, feed: Feed) -> Batch:
        x, *given = feed
        return (self.draw(x), *given)

    def head(self, count: int) -> Batch:
        return trees.to(tuple(trees.rows(tree, slice(0, count)) for tree in self._first), self.device)

    def index(self, feed: Feed) -> None:
        return None

    def take(self, index: Tensor) -> Batch:
        raise TypeError("the rows of a stream have no numbers")

    def probe(self, count: int) -> Batch:
        return self.observe(self.head(count))

    @cached_property
    def _first(self) -> Batch:
        """The first batch, read once: beginning an epoch may start processes or open files."""
        return next(self._batches(1024))

    def _batches(self, batch_size: int) -> Iterator[Batch]:
        empty = True
        for item in self.epoch(batch_size):
            yield as_batch(item, self.dtype)
            empty = False
        if empty:
            raise PyrovaeError(
                "the data are empty: an epoch of the iterable has no batch. If an earlier epoch had some, it can be "
                "iterated only once: pass a DataLoader, an object whose __iter__ begins anew, or a function that "
                "returns the iterator of an epoch"
            )
