"""Pyro's and torch's validation of distributions: on where things are tried, off where they run many times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch


@contextmanager
def validating(on: bool) -> Iterator[None]:
    """Validation on or off; both are put back afterwards, which Pyro's own context does for itself only."""
    before = torch.distributions.Distribution._validate_args
    try:
        with pyro.validation_enabled(on):
            yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)
