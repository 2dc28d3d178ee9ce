"""Splits, binarization and seeds (FAULTS 37), on the digits."""

import dataclasses
import json

import pytest
import torch
from torch.distributions import constraints

from pyrovae.data import Data, Split, load
from pyrovae.data.binarization import BINARIZATIONS
from pyrovae.errors import PyrovaeError

SPLITS = ("train", "validation", "test")


def bits(data: Data) -> list[torch.Tensor]:
    return [value for key in SPLITS for value in getattr(data, key)[:2]]


def is_binary(x: torch.Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


@pytest.mark.parametrize("binarization", BINARIZATIONS)
def test_same_seed_same_bits(binarization: str) -> None:
    first = load("digits", binarization=binarization, seed=3)
    torch.manual_seed(99)  # the global state is of no account
    again, other = (load("digits", binarization=binarization, seed=seed) for seed in (3, 4))
    assert all(map(torch.equal, bits(first), bits(again)))
    assert not any(map(torch.equal, bits(first), bits(other)))


@pytest.mark.parametrize("binarization", BINARIZATIONS)
def test_global_random_state_is_untouched(binarization: str) -> None:
    before = torch.get_rng_state()
    load("digits", binarization=binarization).conditional()
    assert torch.equal(torch.get_rng_state(), before)


def test_splits_are_disjoint_and_complete() -> None:
    from sklearn.datasets import load_digits

    data, source = load("digits", binarization="none"), load_digits()
    splits = [getattr(data, key) for key in SPLITS]
    x, labels = torch.cat([split.x for split in splits]), torch.cat([split.labels for split in splits])
    rows = [(*row, label) for row, label in zip(x.flatten(1).tolist(), labels.tolist(), strict=True)]
    expected = [(*row, int(label)) for row, label in zip((source.data / 16).tolist(), source.target, strict=True)]
    assert [len(getattr(data, key).x) for key in SPLITS] == [1197, 200, 400]
    assert len(set(expected)) == len(expected)  # so that equal lists of rows mean disjoint splits
    assert sorted(rows) == sorted(expected)
    assert rows != expected  # permuted


def test_what_each_binarization_holds() -> None:
    dynamic, static, grey = (load("digits", binarization=name, seed=1) for name in ("dynamic", "static", "none"))
    assert torch.equal(dynamic.train.x, grey.train.x) and not is_binary(grey.train.x)
    assert not is_binary(grey.validation.x) and not is_binary(grey.test.x)
    assert is_binary(static.train.x)
    for key in ("validation", "test"):
        assert is_binary(getattr(dynamic, key).x)
        assert torch.equal(getattr(dynamic, key).x, getattr(static, key).x)
    for key in SPLITS:
        p, x = getattr(grey, key).x, getattr(static, key).x
        assert (x[p == 0] == 0).all() and (x[p == 1] == 1).all()
        assert abs((x - p).sum()) < 5 * (p * (1 - p)).sum().sqrt()
    assert dynamic.support is static.support is constraints.boolean
    assert grey.support is constraints.unit_interval


def test_shapes_and_values() -> None:
    data = load("digits", binarization="none")
    assert data.event_shape == torch.Size([1, 8, 8]) == data.mean.shape
    assert data.num_classes == 10
    for key in SPLITS:
        split = getattr(data, key)
        assert split.x.dtype == torch.float32 and split.x.shape[1:] == data.event_shape
        assert split.labels.dtype == torch.int64 and split.labels.shape == split.x.shape[:1]
        assert split.labels.unique().tolist() == list(range(10))
        assert split.x.min() == 0 and split.x.max() == 1
    assert torch.allclose(data.mean, data.train.x.double().sum(0).float() / 1197)


def test_dynamic_draws_have_the_right_mean() -> None:
    torch.manual_seed(0)
    data, draws = load("digits"), 200
    x = data.train.x[:50]
    total = sum(data.draw(x) for _ in range(draws))
    assert isinstance(total, torch.Tensor)
    standard_error = (x * (1 - x) / draws).sqrt()
    assert ((total / draws - x).abs() <= 5 * standard_error).all()  # exact where x is 0 or 1
    assert is_binary(data.draw(x)) and not torch.equal(data.draw(x), data.draw(x))


def test_black_stays_black(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uniform draw is exactly 0 about twice per epoch of MNIST; a pixel of probability 0 must be 0 even then."""
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    grey, dynamic, static = (load("digits", binarization=name) for name in ("none", "dynamic", "static"))
    expected = (grey.train.x > 0).float()
    assert torch.equal(static.train.x, expected) and torch.equal(dynamic.draw(grey.train.x), expected)


@pytest.mark.parametrize("binarization", ["static", "none"])
def test_draw_is_else_the_identity(binarization: str) -> None:
    data = load("digits", binarization=binarization)
    x = data.train.x[:5]
    assert data.draw(x) is x


def test_draw_keeps_device_and_dtype_and_traces() -> None:
    data = load("digits")
    assert data.draw(data.train.x.to("meta")).device.type == "meta"
    assert data.draw(data.train.x.double()).dtype == torch.float64
    compiled = torch.compile(data.draw, backend="eager", fullgraph=True)
    torch.manual_seed(5)
    drawn = compiled(data.train.x)
    torch.manual_seed(5)
    assert torch.equal(drawn, data.draw(data.train.x))


def test_conditional_gives_the_labels() -> None:
    data = load("digits")
    conditional = data.conditional()
    for key in SPLITS:
        plain, split = getattr(data, key), getattr(conditional, key)
        (given,) = split.given
        assert plain.given == () and split.x is plain.x and split.labels is plain.labels
        assert given.dtype == torch.float32 and given.shape == (len(plain.x), 10)
        assert torch.equal(given.argmax(-1), plain.labels) and torch.equal(given.sum(-1), torch.ones(len(plain.x)))
    assert conditional.describe() == data.describe()
    assert len(conditional.conditional().train.given) == 1


@pytest.mark.parametrize("binarization", ["dynamic", "static", "none"])
def test_validation_is_taken_from_the_training_images_alone(binarization: str) -> None:
    usual, small = (load("digits", binarization=binarization, validation=n) for n in (200, 50))
    assert [len(split.x) for split in (small.train, small.validation, small.test)] == [1347, 50, 400]
    assert torch.equal(small.test.x, usual.test.x) and torch.equal(small.test.labels, usual.test.labels)
    labels = [torch.cat([data.train.labels, data.validation.labels]) for data in (usual, small)]
    assert torch.equal(*labels)


@pytest.mark.parametrize("size", [-1, 0, 1397])
def test_a_validation_split_needs_images_and_leaves_some(size: int) -> None:
    with pytest.raises(PyrovaeError, match=f"validation={size}: hold out at least 1 and at most 1396 of 1397"):
        load("digits", validation=size)


def test_description_is_json_and_tells_data_sets_apart() -> None:
    described = load("digits", seed=2).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["splits"] == {"train": 1197, "validation": 200, "test": 400}
    assert (described["name"], described["event_shape"], described["seed"]) == ("digits", [1, 8, 8], 2)
    assert described["binarization"] == "dynamic" and len(described["fingerprint"]) == 64


def test_default_device_and_dtype_are_of_no_account() -> None:
    expected = bits(load("digits", binarization="static"))
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            found = bits(load("digits", binarization="static"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))


def split_of(n: int, *, labels: torch.Tensor) -> Split:
    return Split(torch.zeros(n, 1, 8, 8), labels)


@pytest.mark.parametrize("key", SPLITS)
@pytest.mark.parametrize(
    ("labels", "message"),
    [(torch.zeros(3).long(), "4 images but 3 labels"), (torch.tensor([0, 1, 10, 2]), "outside"),
     (torch.tensor([0, -1, 1, 2]), "outside")],
)  # fmt: skip
def test_inconsistent_splits_are_refused(key: str, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(PyrovaeError, match=f"{key}.*{message}"):
        dataclasses.replace(load("digits"), **{key: split_of(4, labels=labels)})  # type: ignore[arg-type]
