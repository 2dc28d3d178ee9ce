"""Fixtures for the tests of training; pytest puts this folder on the path, so that they can import ``small``."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def everywhere(empty_store: None) -> Iterator[None]:
    """An empty parameter store, a seed, and one thread: for tensors this small more only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
