"""A batch ``(x, *given)`` of tensors, and the order in which data make batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.trees import Tree

Batch = tuple[Tree, ...]  # (x, *given)
Feed = tuple[Tree, ...]  # what a step is given to make its batch of: row numbers, or the rows themselves


def parts(data: Any) -> tuple[Any, ...]:
    """(x, *given): a tuple or list is that already, anything else is x alone."""
    return tuple(data) if isinstance(data, tuple | list) else (data,)


def as_batch(data: Any, dtype: torch.dtype | None = None) -> Batch:
    """(x, *given) as tensors."""
    return tuple(trees.as_tensors(part, dtype) for part in parts(data))


def order(num_data: int, device: torch.device, *, shuffle: bool) -> Tensor:
    """The row numbers of an epoch, one permutation of all; the same wherever the rows themselves lie."""
    return torch.randperm(num_data, device=device) if shuffle else torch.arange(num_data, device=device)


def identity(x: Tree) -> Tree:
    """The draw of data that are observed as they are."""
    return x
