"""Fixtures for all tests; pytest puts this folder on the path, so that tests can import ``exact``."""

from collections.abc import Iterator

import pyro
import pytest
import torch

torch.set_num_threads(1)  # tensors this small gain nothing from more, and on a busy machine threads wait for each other


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inductor-all", action="store_true", help="compile every case of the contract (many minutes)")
    parser.addoption("--all-triples", action="store_true", help="every legal prior x likelihood x posterior (an hour)")


@pytest.fixture(autouse=True)
def validation() -> Iterator[None]:
    """Distributions are validated in every test, whatever the one before it left."""
    pyro.enable_validation(True)
    yield


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
    with pyro.get_param_store().scope():
        yield
