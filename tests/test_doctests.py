"""The examples in the docstrings of every module run and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import pyrovae


def modules() -> list[str]:
    found = pkgutil.walk_packages(pyrovae.__path__, "pyrovae.")
    return ["pyrovae", *(module.name for module in found if not module.name.endswith("__main__"))]


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
@pytest.mark.parametrize("name", modules())
def test_examples(name: str) -> None:
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert not result.failed


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) > 5
