"""A strict reader of AMAT text, in which the static binarization of MNIST is published.

A file has a line for each datum: the values, 0 or 1, with a single space between them.
"""

import numpy as np
import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError


def parse(raw: bytes, *, width: int, name: str) -> Tensor:
    """The bits (N, width) uint8 in an AMAT file; ``name`` is for the messages.

    Raises:
        PyrovaeError: an empty file, a line that is too short or too long, a value other than 0 and 1, anything left
            over; with the first such line.
    """
    if not raw or len(raw) % (2 * width):
        raise _refusal(raw, width, name)
    lines = np.frombuffer(raw, dtype=np.uint8).reshape(-1, width, 2)  # a value and what follows it
    bits, after = lines[..., 0] - ord("0"), lines[..., 1]
    if (bits > 1).any() or (after[:, :-1] != ord(" ")).any() or (after[:, -1] != ord("\n")).any():
        raise _refusal(raw, width, name)
    return torch.from_numpy(bits)


def _refusal(raw: bytes, width: int, name: str) -> PyrovaeError:
    """Says which line is the first that is wrong."""
    if not raw:
        return PyrovaeError(f"{name}: is empty")
    for number, line in enumerate(raw.splitlines(keepends=True), start=1):
        words = line.split()
        if wrong := [word for word in words if word not in (b"0", b"1")]:
            return PyrovaeError(f"{name}: line {number} holds {wrong[0][:20]!r}; every value must be 0 or 1")
        if len(words) != width or line != b" ".join(words) + b"\n":
            return PyrovaeError(
                f"{name}: line {number} has {len(words)} values; expected {width}, single spaces and a line's end"
            )
    return PyrovaeError(f"{name}: not lines of {width} values 0 or 1")
