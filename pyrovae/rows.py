"""Which rows of the training data a program runs on, for a part of it that has to know.

Such a part calls ``current_rows(self)`` in its forward, and defines ``check_rows(count, take)``, which refuses training
data that are not those it was made for. ``pyrovae.fit`` announces the rows of every batch; a training loop of your own
does so by ``training_on``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError


class RowsWarning(UserWarning):
    """What may be a training step does not say which rows it is on."""


class NoRows(Enum):
    """Why there are no numbers of rows."""

    SAID = "nobody said on what the program runs"
    OTHER = "other data than those that are trained on"
    NUMBERED = "training data without numbers"


_rows: ContextVar[Tensor | NoRows] = ContextVar("rows", default=NoRows.SAID)
_asking: ContextVar[list[Any] | None] = ContextVar("asking", default=None)


@contextmanager
def _on(rows: Tensor | NoRows) -> Iterator[None]:
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


def training_on(index: Tensor | None) -> Any:
    """A context in which programs run on these rows of the training data, (N,) whole numbers; None where nobody knows.

    Example:
        >>> import torch, pyrovae as pv
        >>> x = torch.rand(20, 6).round()
        >>> encoder = pv.Conditional(pv.networks.MLP(6, 16, 4), pv.families.normal)
        >>> decoder = pv.Conditional(pv.networks.MLP(2, 16, 6), pv.families.bernoulli)
        >>> vae = pv.VAE(pv.priors.ExemplarPrior(encoder, x), decoder, encoder)
        >>> index = torch.tensor([3, 8, 5])
        >>> with pv.rows.training_on(index):
        ...     loss = -pv.objectives.elbo(pv.log_terms(vae, x[index])).mean()
    """
    return _on(NoRows.NUMBERED if index is None else index)


def on_other_data() -> Any:
    """A context in which programs run on data that are none of the training data."""
    return _on(NoRows.OTHER)


def current_rows(part: torch.nn.Module) -> Tensor | None:
    """The rows that are trained on now, (N,); None outside training. ``part`` is who has to know them.

    Raises:
        PyrovaeError: in training on rows that nobody knows, those of a stream.

    Warns:
        RowsWarning: ``part`` is in training mode, with gradients, and nobody said what the program runs on.
    """
    if (asking := _asking.get()) is not None:
        asking.append(part)
    rows = _rows.get()
    if isinstance(rows, Tensor):
        return rows
    if rows is NoRows.NUMBERED:
        raise PyrovaeError(unnumbered(part))
    if rows is NoRows.SAID and part.training and torch.is_grad_enabled():
        warnings.warn(
            f"if this is a training step, its bound is flattered: {type(part).__name__} leaves each datum out of its "
            "own prior only where it knows the rows. Train with pyrovae.fit, or within "
            "pyrovae.rows.training_on(index); else .eval() the program, or use torch.no_grad()",
            RowsWarning,
            stacklevel=2,
        )
    return None


def unnumbered(part: torch.nn.Module) -> str:
    return (
        f"{type(part).__name__} must know the numbers of the rows that it is trained on, which a stream has not: pass "
        "tensors, arrays, or a memory-mapped file"
    )


@contextmanager
def asking() -> Iterator[list[Any]]:
    """The parts that ask for their rows in here, in a list that fills."""
    parts: list[Any] = []
    token = _asking.set(parts)
    try:
        yield parts
    finally:
        _asking.reset(token)


def repeated(times: int) -> Any:
    """A context with the rows so many times over, where a program runs on repeated data."""
    rows = _rows.get()
    return _on(rows.repeat(times) if isinstance(rows, Tensor) else rows)
