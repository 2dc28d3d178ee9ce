"""Fixtures for all tests; pytest puts this folder on the path, so that tests can import ``exact``."""

from collections.abc import Iterator

import pyro
import pytest
import torch


@pytest.fixture
def double() -> Iterator[None]:
    """Everything in float64 while the test runs."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def empty_store() -> Iterator[None]:
    """Pyro's global parameter store empty at the start, and put back as it was at the end."""
    store = pyro.get_param_store()
    with store.scope({"params": {}, "constraints": {}}):
        yield
