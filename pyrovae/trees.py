"""Trees of tensors: tensors, or nested tuples, lists and dicts of them, with one common leading dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pyrovae.errors import PyrovaeError

Tree = Any  # a Tensor, or a (nested) tuple, list or dict of trees


def leaves(tree: Tree) -> list[Any]:
    """The leaves of a tree, left to right; dicts in the order of their keys' insertion."""
    return pytree.tree_leaves(tree)


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply ``function`` leaf by leaf, keeping the structure."""
    return pytree.tree_map(function, tree, *others)


def named(name: str, tree: Tree) -> dict[str, Any]:
    """Leaves by name: a bare leaf is ``name``; the entry ``k`` of a dict or tuple adds ``.k``."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, tuple | list) else None
    if entries is None:
        return {name: tree}
    return {path: leaf for key, value in entries for path, leaf in named(f"{name}.{key}", value).items()}


def only(by_name: dict[str, Any]) -> Any:
    """The value itself where there is one, the dict where there are several."""
    return next(iter(by_name.values())) if len(by_name) == 1 else by_name


def num_data(*trees: Tree) -> int:
    """The common leading size of all leaves.

    Raises:
        PyrovaeError: no tensor at all, a tensor without a data dimension, sizes that differ, or no data.
    """
    for tree in trees:
        if type(tree).__module__.startswith("pyrovae.data"):
            raise PyrovaeError(f"got a {type(tree).__name__}, which holds more than x: pass its tensor, data.test.x")
    sizes = [leaf.shape[0] if leaf.ndim else None for leaf in leaves(trees) if isinstance(leaf, Tensor | np.ndarray)]
    if not sizes or None in sizes:
        raise PyrovaeError("data must be tensors or arrays with a leading data dimension, (N, *event_shape)")
    if len(set(sizes)) > 1:
        raise PyrovaeError(f"x and given must have one common leading size; got {sizes}")
    if sizes[0] == 0:
        raise PyrovaeError("the data are empty: there must be at least one row")
    return sizes[0]  # type: ignore[return-value]


def rows(tree: Tree, index: Any) -> Tree:
    """Select rows: ``index`` is a slice or an index tensor."""
    return tree_map(lambda leaf: leaf[index], tree)


def repeat(tree: Tree, times: int) -> Tree:
    """The whole data ``times`` times over: (N, ...) to (times * N, ...), the copies outermost."""
    return tree_map(lambda leaf: leaf.repeat(times, *[1] * (leaf.dim() - 1)), tree)


def to(tree: Tree, device: torch.device | str) -> Tree:
    """Move every leaf to a device."""
    return tree_map(lambda leaf: leaf.to(device), tree)


def as_tensors(tree: Tree, dtype: torch.dtype | None = None) -> Tree:
    """Arrays to tensors; floating-point leaves in ``dtype``, torch's default one where it is None.

    Raises:
        PyrovaeError: a leaf that is neither a tensor nor an array, or an array of what torch has no type for.
    """
    return tree_map(lambda leaf: _as_tensor(leaf, dtype or torch.get_default_dtype()), tree)


def _as_tensor(leaf: Any, dtype: torch.dtype) -> Tensor:
    if not isinstance(leaf, Tensor | np.ndarray):
        raise PyrovaeError(
            f"data must be tensors or arrays, or (nested) tuples and dicts of them; got a {type(leaf).__name__}"
        )
    try:
        tensor = torch.as_tensor(leaf if isinstance(leaf, Tensor) or leaf.flags.writeable else leaf.copy())
    except (TypeError, ValueError) as error:  # objects, texts, records, a foreign byte order
        raise PyrovaeError(f"data must be numbers that torch knows; got an array of {leaf.dtype}: {error}") from error
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
