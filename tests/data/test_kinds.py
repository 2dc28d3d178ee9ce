"""What Data says of each kind: images, tables, tokens, counts."""

import dataclasses
import json
import math

import pytest
import torch
from torch.distributions import constraints

from pyrovae.data import Data, Split, load
from pyrovae.data.standardization import standardization
from pyrovae.errors import PyrovaeError


def made(x: torch.Tensor, labels: torch.Tensor | None = None, **options: object) -> Data:
    """Three splits that are the same."""
    return Data("mine", *[Split(x, labels)] * 3, "none", 0, "f" * 64, **options)  # type: ignore[arg-type]


TABLE = torch.tensor([[1.0, -20.0], [2.0, 0.0], [4.0, 50.0]])
TOKENS = torch.tensor([[0, 2, 1], [2, 2, 0]])
KINDS = {
    "images": (made(torch.rand(3, 1, 4, 4)), constraints.unit_interval),
    "table": (made(TABLE, kind="table", columns=("a", "b")), constraints.real),
    "tokens": (made(TOKENS, kind="tokens", levels=("x", "y", "\n")), None),
    "counts": (
        made(torch.tensor([[0.0, 3.0]]), kind="counts", columns=("who", "out")),
        constraints.nonnegative_integer,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_support_mean_draw_and_description(kind: str) -> None:
    data, support = KINDS[kind]
    assert data.support is support or kind == "tokens"
    assert data.support.check(data.train.x).all()
    outside = {"images": 1.5, "table": math.nan, "tokens": 3, "counts": -1.0}[kind]
    assert not data.support.check(torch.full_like(data.train.x, outside)).any()
    assert data.mean.shape == data.event_shape and torch.allclose(data.mean, data.train.x.float().mean(0))
    assert data.draw(data.train.x) is data.train.x and data.restore(data.train.x) is data.train.x
    assert data.log_jacobian == 0.0 and data.num_classes == 0
    described = data.describe()
    assert json.loads(json.dumps(described)) == described and described["kind"] == kind
    with pytest.raises(PyrovaeError, match=r"mine has no labels.*label="):
        data.conditional()


def test_tokens_have_levels() -> None:
    tokens = KINDS["tokens"][0]
    assert tokens.num_levels == 3 and KINDS["table"][0].num_levels is None
    assert tokens.support.check(torch.tensor([0, 2])).all() and not tokens.support.check(torch.tensor([3, -1])).any()


def test_one_line_for_each_thing_a_reader_wants() -> None:
    assert repr(KINDS["table"][0]).splitlines() == [
        "mine", "  x       2 columns: a, b", "  splits  train 3 | validation 3 | test 3", "  labels  none"
    ]  # fmt: skip
    assert "sequences of 3 tokens with 3 levels: x, y, '\\n'" in repr(KINDS["tokens"][0])
    assert "counts of 2: who, out" in repr(KINDS["counts"][0])
    assert "images 1 x 4 x 4, values in [0, 1]" in repr(KINDS["images"][0])
    labelled = made(TABLE, torch.tensor([0, 1, 1]), kind="table", columns=("a", "b"), classes=("no", "yes"))
    assert "labels  2 classes: no, yes" in repr(labelled) and "(given)" in repr(labelled.conditional())


@pytest.mark.parametrize("kind", ["table", "tokens"])
def test_labels_of_any_kind_can_be_given(kind: str) -> None:
    x = TABLE if kind == "table" else TOKENS
    labels = torch.tensor([1, 0, 1])[: len(x)]
    data = made(x, labels, kind=kind, classes=("no", "yes"), levels=("a", "b", "c")).conditional()
    assert data.test.given[0].dtype == torch.float32
    assert torch.equal(data.test.given[0].argmax(-1), labels)


def test_inconsistent_data_are_refused() -> None:
    with pytest.raises(PyrovaeError, match="labels and names of classes"):
        made(TABLE, torch.zeros(3).long(), kind="table")
    with pytest.raises(PyrovaeError, match="labels and names of classes"):
        made(TABLE, kind="table", classes=("a",))
    with pytest.raises(PyrovaeError, match="'tabel'; did you mean 'table'"):
        made(TABLE, kind="tabel")
    with pytest.raises(PyrovaeError, match="labels and names of classes"):
        dataclasses.replace(load("digits"), test=Split(load("digits").test.x))


# -------------------------------------------------------------------------------------------------- standardisation


def test_standardisation_is_that_of_the_training_split() -> None:
    units = standardization(TABLE, ["a", "b"])
    expected = torch.tensor([math.sqrt(14 / 9), math.sqrt(2600 / 3)], dtype=torch.float64)
    torch.testing.assert_close(units.scale, torch.tensor([TABLE[:, i].double().std(correction=0) for i in (0, 1)]))
    assert units.loc.tolist() == pytest.approx([7 / 3, 10.0])
    assert units.scale[0] == pytest.approx(expected[0].item())
    assert units.log_jacobian == pytest.approx(-math.log(units.scale[0]) - math.log(units.scale[1]))
    model = units.apply(TABLE)
    torch.testing.assert_close(model.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.square().mean(0), torch.ones(2))
    torch.testing.assert_close(units.restore(model), TABLE.double(), rtol=1e-6, atol=1e-5)


def test_restore_takes_samples_of_any_shape_and_dtype() -> None:
    data = dataclasses.replace(KINDS["table"][0], standardization=standardization(TABLE, ["a", "b"]))
    samples = torch.zeros(5, 7, 2)
    assert torch.allclose(data.restore(samples), torch.tensor([7 / 3, 10.0], dtype=torch.float64))
    assert data.restore(samples).dtype == torch.float64
    assert "standardised, log-Jacobian" in repr(data) and data.describe()["standardized"] is True


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("other", [torch.zeros(3, 1, 4, 5), torch.zeros(3, 16), torch.zeros(3, 1, 4, 4).double()])
def test_splits_must_be_alike(part: str, other: torch.Tensor) -> None:
    with pytest.raises(PyrovaeError, match=rf"mine: a datum is float32 \(1, 4, 4\) in train and .* in {part}"):
        dataclasses.replace(KINDS["images"][0], **{part: Split(other)})  # type: ignore[arg-type]


def test_restore_keeps_what_float32_would_round() -> None:
    """A minute of seconds since 1970, which in float32 come in steps of 128."""
    times = 1.6e9 + torch.arange(60.0).double()[:, None]
    data = dataclasses.replace(
        made(torch.zeros(60, 1), kind="table", columns=("t",)), standardization=standardization(times, ["t"])
    )
    model = data.standardization.apply(times).float()  # type: ignore[union-attr]
    torch.testing.assert_close(data.restore(model), times, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 + 0.1])
def test_a_constant_column_is_refused_by_name(value: float) -> None:
    table = torch.stack([torch.arange(7.0), torch.zeros(7)], 1).double()
    table[:, 1] = value
    with pytest.raises(PyrovaeError, match=r"constant in the training split: b;.*Leave such columns out"):
        standardization(table, ["a", "b"])
    with pytest.raises(PyrovaeError, match="constant in the training split: b;"):
        standardization(torch.full((1000, 1), value, dtype=torch.float64), ["b"])  # whose mean may be rounded
