"""A NumPy file of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import constraints

from pyrovae.data import load
from pyrovae.errors import PyrovaeError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 5, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (20, 3, 5, 4), dtype=np.uint8)


def npy(path: Path, array: Any) -> str:
    np.save(path / "mine.npy", array)
    return str(path / "mine.npy")


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path / "mine.npz", **arrays)
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


@pytest.mark.parametrize("array", [(GREY > 127), (GREY > 127).astype(np.float64), (GREY > 127).astype(np.int64)])
def test_bits_are_bits(tmp_path: Path, array: Any) -> None:
    data = load(npy(tmp_path, array))
    assert data.binarization == "static" and data.support is constraints.boolean
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
    assert torch.equal(official.restore(official.test.x), torch.from_numpy(x[12:]).float())
    assert len(official.train.x) == 10 and len(official.validation.x) == 2
    assert torch.equal(official.test.labels, torch.from_numpy(y[12:] // 5))
    three = load(npz(tmp_path, x_train=x[:12], x_validation=x[12:15], x_test=x[15:]), standardize=False)
    assert torch.equal(three.train.x, torch.from_numpy(x[:12]).float()) and three.train.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": GREY}, "holds X; expected x, or x_train"),
        ({"x": GREY, "x_train": GREY}, "expected x, or x_train"),
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
def test_arrays_of_another_form(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(PyrovaeError, match=message):
        load(npz(tmp_path, **arrays))


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
