"""Which data evidence is of: a short digest of their values, by which evidence of other data is refused."""

from __future__ import annotations

import hashlib

import torch

from pyrovae import trees
from pyrovae.trees import Tree

ROWS = 1000  # read at once: data may be a memory map
DIGITS = 16


def identity(x: Tree, *given: Tree) -> str:
    """Of the values of x, and behind a dash of what is given: "5e1c...", "5e1c...-07ab..."; hexadecimal.

    The values count and their order, not the precision or the shape of a row: to single precision, 8-bit integers and
    their floats are the same data, and so are images and their flattened rows.
    """
    return "-".join(_digest(tree) for tree in ((x, given) if given else (x,)))


def _digest(tree: Tree) -> str:
    sha = hashlib.sha256()
    for start in range(0, trees.num_data(tree), ROWS):
        part = trees.as_tensors(trees.rows(tree, slice(start, start + ROWS)), torch.float32)
        for _, leaf in sorted(trees.named("", part).items()):
            sha.update(leaf.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return sha.hexdigest()[:DIGITS]
