"""Data of which values are missing: read from files where that is announced, hidden at random where it is not."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import pyrovae as pv
from pyrovae.errors import PyrovaeError

VALUES = np.random.default_rng(0).normal(size=(60, 2)) * [3.0, 0.1] + [5.0, -2.0]
HOLES = VALUES.copy()
HOLES[::3, 0] = HOLES[::7, 1] = np.nan


def csv(path: Path, values: np.ndarray = HOLES, empty: str = "") -> str:
    rows = [",".join(empty if math.isnan(v) else str(v) for v in row) for row in values]
    path.write_text("\n".join(["height,width", *rows]) + "\n")
    return str(path)


def everything(data: pv.data.Data) -> torch.Tensor:
    return torch.cat([split.x for split in data.splits.values()])


@pytest.mark.parametrize("empty", ["", "NA", "nan"])
def test_empty_fields_of_a_table_are_announced(tmp_path: Path, empty: str) -> None:
    path = csv(tmp_path / "t.csv", empty=empty)
    with pytest.raises(PyrovaeError, match=r"no value in row 1 of the column 'height'.*missing=True"):
        pv.data.load(path)
    data = pv.data.load(path, missing=True)
    assert data.missing and data.train.x.isnan().any() and "missing" in data.describe() and "missing" in repr(data)
    torch.testing.assert_close(data.train.x.nanmean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.train.x.square().nanmean(0), torch.ones(2))
    torch.testing.assert_close(data.mean, torch.zeros(2), atol=1e-5, rtol=0)
    raw = everything(pv.data.load(path, missing=True, standardize=False))
    torch.testing.assert_close(data.restore(everything(data)).float(), raw, equal_nan=True)
    assert int(raw.isnan().sum()) == np.isnan(HOLES).sum()


def test_arrays_with_holes_are_announced(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", HOLES)
    with pytest.raises(PyrovaeError, match=r"nan at index \[0, 0\].*missing=True"):
        pv.data.load(tmp_path / "t.npy")
    assert everything(pv.data.load(tmp_path / "t.npy", missing=True)).isnan().sum() == np.isnan(HOLES).sum()
    np.save(tmp_path / "inf.npy", np.where(np.isnan(HOLES), np.inf, HOLES))
    with pytest.raises(PyrovaeError, match=r"inf at index \[0, 0\]; data must be finite: remove such rows$"):
        pv.data.load(tmp_path / "inf.npy", missing=True)
    images = np.where(np.random.default_rng(1).random((20, 4, 4)) < 0.3, np.nan, 1.0)
    np.save(tmp_path / "images.npy", images)
    bits = pv.data.load(tmp_path / "images.npy", missing=True)
    assert bits.binarization == "static" and everything(bits).nanmean() == 1 and bits.missing


@pytest.mark.parametrize(
    ("column", "reason"),
    [(np.full(60, np.nan), "missing everywhere in the training split: width"),
     (np.where(np.arange(60) % 2, 7.0, np.nan), "constant in the training split: width")],
)  # fmt: skip
def test_columns_without_a_scale(tmp_path: Path, column: np.ndarray, reason: str) -> None:
    path = csv(tmp_path / "t.csv", np.stack([VALUES[:, 0], column], 1))
    with pytest.raises(PyrovaeError, match=reason):
        pv.data.load(path, missing=True)
    assert pv.data.load(path, missing=True, standardize=False).mean.isfinite().all()


def test_only_numbers_that_are_seen_have_units(tmp_path: Path) -> None:
    """The density in own units is that of the columns that are seen, each divided by its own scale."""
    data = pv.data.load(csv(tmp_path / "t.csv"), missing=True)
    x = data.test.x
    assert data.standardization is not None
    expected = -((~x.isnan()) * data.standardization.scale.log()).sum(1)
    torch.testing.assert_close(data.log_jacobian_of(x), expected)
    with pytest.raises(PyrovaeError, match="log_jacobian_of"):
        data.log_jacobian  # noqa: B018
    full = pv.data.load(csv(tmp_path / "full.csv", VALUES))
    torch.testing.assert_close(full.log_jacobian_of(full.test.x), torch.full((12,), full.log_jacobian).double())
    raw = pv.data.load(csv(tmp_path / "full.csv", VALUES), standardize=False)
    assert not raw.log_jacobian_of(raw.test.x).any()


def test_hiding_keeps_what_was_hidden() -> None:
    data = pv.data.load("digits", binarization="none")
    half, again, other = (pv.data.hide(data, 0.5, seed=seed) for seed in (1, 1, 2))
    assert half.complete is not None and half.missing and not data.missing
    for name, split in half.splits.items():
        gone = split.x.isnan()
        assert gone.double().mean() == pytest.approx(0.5, abs=0.02)
        assert torch.equal(half.complete[name], data.splits[name].x)
        assert torch.equal(split.x[~gone], data.splits[name].x[~gone])
        assert torch.equal(gone, again.splits[name].x.isnan()) and not torch.equal(gone, other.splits[name].x.isnan())
    only = pv.data.hide(data, {"test": 0.2})
    assert not only.train.x.isnan().any() and only.test.x.isnan().any()
    assert torch.equal(half.mean, half.train.x.nanmean(0))
    for rate, message in ((1.0, r"in \[0, 1\); got 1.0"), ({"tests": 0.1}, "tests")):
        with pytest.raises(PyrovaeError, match=message):
            pv.data.hide(data, rate)  # type: ignore[arg-type]


def test_a_missing_bit_stays_missing_when_bits_are_drawn() -> None:
    data = pv.data.hide(pv.data.load("digits", binarization="dynamic"), 0.3)
    torch.manual_seed(0)
    drawn = data.draw(data.train.x)
    assert torch.equal(drawn.isnan(), data.train.x.isnan()) and set(drawn[~drawn.isnan()].tolist()) == {0.0, 1.0}
