"""Which rows of the training data a batch consists of, for a part of a program that has to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_index: ContextVar[Tensor | None] = ContextVar("rows", default=None)


@contextmanager
def training_on(index: Tensor | None) -> Iterator[None]:
    """Programs run in here on these rows of the training data, (N,) whole numbers; None where nobody knows."""
    token = _index.set(index)
    try:
        yield
    finally:
        _index.reset(token)


def current_rows() -> Tensor | None:
    """The rows that are trained on now, (N,); None outside training."""
    return _index.get()


@contextmanager
def repeated(times: int) -> Iterator[None]:
    """The rows so many times over, where a program runs on repeated data."""
    index = current_rows()
    with training_on(None if index is None else index.repeat(times)):
        yield
