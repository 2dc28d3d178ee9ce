"""Which rows are held out: disjoint, complete, and a test split that does not depend on the validation split."""

from typing import Any

import pytest
import torch

from pyrovae.data.partition import completed, held_out, rows, shuffled, sizes
from pyrovae.errors import PyrovaeError


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_a_float_is_a_fraction_and_an_int_a_number() -> None:
    assert rows("test", 7, 100) == rows("test", 0.07, 100) == 7 and rows("test", 0.001, 100) == 1
    assert sizes(200, validation=0.1, test=30) == (150, 20, 30)


@pytest.mark.parametrize("validation", [1, 20, 0.3])
def test_shuffled_is_a_partition_whose_test_rows_stay(validation: Any) -> None:
    train, held, test = shuffled(50, validation=validation, test=10, generator=generator())
    assert sorted(torch.cat([train, held, test]).tolist()) == list(range(50))
    assert torch.equal(test, shuffled(50, validation=5, test=10, generator=generator())[2])
    assert test.tolist() != list(range(40, 50))


@pytest.mark.parametrize(
    ("validation", "test"),
    [(0, 5), (5, 0), (-1, 5), (0.0, 5), (45, 5), (5, 49), (1.0, 5), (0.5, 0.5), (2.5, 5)],
)
def test_an_empty_split_is_refused(validation: Any, test: Any) -> None:
    with pytest.raises(PyrovaeError, match="hold out at least 1 and at most"):
        sizes(50, validation=validation, test=test)


def test_held_out_of_an_official_split() -> None:
    train, held = held_out(10, 3)
    assert train.tolist() == list(range(7)) and held.tolist() == [7, 8, 9]
    train, held = held_out(10, 0.3, generator=generator())
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(10)) and held.tolist() != [7, 8, 9]
    with pytest.raises(PyrovaeError, match="validation=10: hold out at least 1 and at most 9 of 10"):
        held_out(10, 10)


@pytest.mark.parametrize("given", [(), ("test",), ("validation",), ("validation", "test")])
def test_splits_that_are_given_stay(given: tuple[str, ...]) -> None:
    x = {name: torch.arange(i, i + n) for name, i, n in (("train", 0, 40), ("validation", 100, 7), ("test", 200, 9))
         if name in ("train", *given)}  # fmt: skip
    labels = {name: 2 * part for name, part in x.items()}
    parts, found = completed(x, labels, validation=None, test=None, generator=generator())
    assert all(torch.equal(label, 2 * part) for part, label in zip(parts, found, strict=True))
    assert sorted(torch.cat(parts).tolist()) == sorted(torch.cat(list(x.values())).tolist())
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        assert (name in given) == torch.equal(part, x.get(name, torch.tensor([])))  # the training rows are permuted
    if given:
        with pytest.raises(PyrovaeError, match=f"{given[0]}.*already"):
            completed(x, labels, **{**{"validation": None, "test": None}, given[0]: 3}, generator=generator())


def test_the_test_split_of_own_data_does_not_depend_on_validation() -> None:
    x, labels = {"train": torch.arange(50)}, {"train": None}
    tests = [completed(x, labels, validation=share, test=None, generator=generator())[0][2] for share in (None, 3, 0.5)]
    assert all(torch.equal(test, tests[0]) for test in tests)
