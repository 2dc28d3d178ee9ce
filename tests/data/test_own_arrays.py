"""A NumPy file of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import constraints

from pyrovae.data import arrays, load
from pyrovae.errors import PyrovaeError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 5, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (20, 3, 5, 4), dtype=np.uint8)


def npy(path: Path, array: Any) -> str:
    np.save(path / "mine.npy", array)
    return str(path / "mine.npy")


def npz(path: Path, **found: Any) -> str:
    np.savez(path / "mine.npz", **found)
    return str(path / "mine.npz")


@pytest.mark.parametrize(
    ("array", "shape"),
    [(GREY, (1, 5, 4)), (GREY[:, None], (1, 5, 4)), (COLOUR, (3, 5, 4)), (np.moveaxis(COLOUR, 1, -1), (3, 5, 4)),
     (GREY / 255, (1, 5, 4)), (np.asfortranarray(COLOUR), (3, 5, 4)), ((GREY / 255).astype(">f4"), (1, 5, 4))],
)  # fmt: skip
def test_images_of_every_form(tmp_path: Path, array: Any, shape: tuple[int, ...]) -> None:
    data = load(npy(tmp_path, array))
    assert data.event_shape == shape and data.kind == "images" and data.support is constraints.unit_interval
    assert [len(split.x) for split in data.splits.values()] == [16, 2, 2]
    found = torch.cat([split.x for split in data.splits.values()]).double().sum()
    expected = (COLOUR if shape[0] == 3 else GREY).sum() / 255
    assert found.item() == pytest.approx(float(expected), rel=1e-6) and data.train.x.dtype == torch.float32


def test_pixels_are_at_their_places(tmp_path: Path) -> None:
    data = load(npy(tmp_path, np.moveaxis(COLOUR, 1, -1)))
    expected = {tuple(row) for row in (torch.from_numpy(COLOUR).float() / 255).flatten(1).tolist()}
    assert {tuple(row) for split in data.splits.values() for row in split.x.flatten(1).tolist()} == expected


@pytest.mark.parametrize(
    "array", [GREY > 127, *((GREY > 127).astype(kind) for kind in (np.float64, np.int64, np.uint8))]
)
def test_bits_are_bits(tmp_path: Path, array: Any) -> None:
    data = load(npy(tmp_path, array))
    assert data.binarization == "static" and data.support is constraints.boolean
    assert sum(split.x.sum() for split in data.splits.values()) == (GREY > 127).sum()
    assert load(npy(tmp_path, GREY), binarization="dynamic").binarization == "dynamic"


def test_a_table(tmp_path: Path) -> None:
    table = RNG.normal(size=(20, 3)) * 7
    data = load(npy(tmp_path, table))
    assert data.kind == "table" and data.columns == ("x0", "x1", "x2") and data.log_jacobian != 0
    torch.testing.assert_close(data.train.x.square().mean(0), torch.ones(3))
    assert load(npy(tmp_path, table), standardize=False).log_jacobian == 0


def test_labels_and_official_splits(tmp_path: Path) -> None:
    x, y = np.arange(20.0)[:, None] * [1, -1], np.arange(20) % 3 * 5
    data = load(npz(tmp_path, x=x, y=y), standardize=False)
    assert data.classes == ("0", "5", "10")
    for split in data.splits.values():
        assert torch.equal(split.labels, split.x[:, 0].long() % 3)
    official = load(npz(tmp_path, x_train=x[:12], x_test=x[12:], labels_train=y[:12], labels_test=y[12:]), validation=2)
    torch.testing.assert_close(official.restore(official.test.x), torch.from_numpy(x[12:]), rtol=1e-6, atol=1e-5)
    assert len(official.train.x) == 10 and len(official.validation.x) == 2
    assert torch.equal(official.test.labels, torch.from_numpy(y[12:] // 5))
    parts = {"x_train": x[:12], "x_validation": x[12:15], "x_test": x[15:]}
    three = load(npz(tmp_path, **parts), standardize=False)
    assert torch.equal(three.train.x[:, 0].sort().values, torch.arange(12.0))
    assert torch.equal(three.test.x, torch.from_numpy(x[15:]).float()) and three.train.labels is None
    assert not torch.equal(three.train.x, torch.from_numpy(x[:12]).float())  # the file may hold class after class


def test_a_path_of_any_kind(tmp_path: Path) -> None:
    path = npy(tmp_path, GREY)
    assert arrays(path).fingerprint == arrays(Path(path)).fingerprint == load(Path(path)).fingerprint


def test_a_split_of_pixels_that_are_all_dark_are_no_bits(tmp_path: Path) -> None:
    data = load(npz(tmp_path, x_train=GREY, x_test=GREY[:3] % 2))
    assert data.binarization == "none" and data.test.x.max() == torch.tensor(1 / 255)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"X": GREY}, "holds X; expected x, or x_train"),
        ({"x": GREY, "x_train": GREY}, "no use for the array 'x'; expected x, or x_train"),
        ({"x": GREY, "labels_train": np.zeros(20)}, "no use for the array 'labels_train'; did you mean labels"),
        ({"x_train": GREY, "y": np.zeros(20)}, "no use for the array 'y'; expected x"),
        ({"x_train": GREY, "x_val": GREY}, "no use for the array 'x_val'; did you mean x_validation"),
        ({"x": GREY, "y": np.zeros(20), "labels": np.zeros(20)}, "no use for the array 'y'"),
        ({"x_train": GREY, "x_test": GREY[:, :4]}, r"uint8 \(1, 5, 4\) in train and uint8 \(1, 4, 4\) in test"),
        ({"x_train": GREY, "x_test": GREY / 255}, r"uint8 \(1, 5, 4\) in train and float32 \(1, 5, 4\) in test"),
        ({"x_train": GREY[:, 0] / 7, "x_test": GREY[:, 0, :3] / 7}, r"float64 \(4,\) in train and float64 \(3,\) in"),
        ({"x": GREY, "y": np.array([0.0, np.nan] * 10)}, "mine.npz, y: no label in row 2, and in 10 places"),
        ({"x": GREY, "y": np.array(["a", "b", "", "c"] * 5)}, "no label in row 3, and in 5 places"),
        ({"x": GREY, "y": np.array([0.0, np.inf] * 10)}, "real numbers"),
        ({"x": GREY, "y": np.array(["2020-01-01"] * 20, "datetime64[D]")}, "labels are datetime64"),
        ({"x_test": GREY}, "expected x, or x_train"),
        ({"x": GREY, "y": np.zeros(3)}, "20 data but 3 labels"),
        ({"x": GREY, "y": np.zeros((20, 1))}, "labels must be"),
        ({"x_train": GREY, "x_test": GREY, "y_train": np.zeros(20)}, "in every split"),
        ({"x": GREY, "y": np.linspace(0, 1, 20)}, "real numbers"),
        ({"x": np.zeros(20)}, "expected numbers, a table"),
        ({"x": np.zeros((0, 3))}, "expected numbers, a table"),
        ({"x": np.array([["a", "b"]] * 20)}, "expected numbers, a table"),
        ({"x": COLOUR[:, :2]}, "1 or 3 channels"),
        ({"x": GREY.astype(np.int64)}, r"values from 0 to 255; images are uint8.*astype\(\"uint8\"\)"),
        ({"x": GREY / 255 - 0.5}, "images are uint8, or floats in"),
        ({"x": np.full((20, 2), np.nan)}, r"nan at index \[0, 0\]"),
    ],
)
def test_arrays_of_another_form(tmp_path: Path, found: dict[str, Any], message: str) -> None:
    with pytest.raises(PyrovaeError, match=message):
        load(npz(tmp_path, **found))


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    """FAULTS 1 and 33: no pickle runs, nothing cut or left over is read."""
    path = Path(npy(tmp_path, GREY))
    whole = path.read_bytes()
    for raw in (whole[:-1], whole + b"\0", b"", b"<html>"):
        path.write_bytes(raw)
        with pytest.raises(PyrovaeError, match=r"mine\.npy"):
            load(str(path))
    with pytest.raises(PyrovaeError, match="holds Python objects"):
        load(npy(tmp_path, np.array([[print]], dtype=object)))


def test_options_that_the_array_has_no_use_for(tmp_path: Path) -> None:
    with pytest.raises(PyrovaeError, match="a table has no use for the option binarization"):
        load(npy(tmp_path, GREY[:, 0] / 7), binarization="none")
    with pytest.raises(PyrovaeError, match="array of images has no use for the option standardize"):
        load(npy(tmp_path, GREY), standardize=True)
