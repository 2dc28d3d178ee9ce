"""A folder of images of one's own: layouts, formats, sizes, splits, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import constraints

from pyrovae.data import images, load
from pyrovae.data.image_files import ORIENTATION
from pyrovae.errors import PyrovaeError

Paint = Callable[..., Path]


def pixels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def paint(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def flat(folder: Path, count: int = 12, shape: tuple[int, ...] = (6, 4)) -> list[np.ndarray]:
    """So many images in a folder, in the order of their names."""
    arrays = [pixels(shape, seed) for seed in range(count)]
    for i, array in enumerate(arrays):
        paint(folder / f"{i:03}.png", array)
    return arrays


def rows(x: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in x.flatten(1).tolist()}


def test_a_flat_folder(tmp_path: Path) -> None:
    arrays = flat(tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").write_text("no image")
    (tmp_path / "mine" / ".hidden.png").write_text("no image")
    data = load(str(tmp_path / "mine"), validation=3, test=2)
    assert data.name == "mine" and data.event_shape == (1, 6, 4) and data.num_classes == 0
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [7, 3, 2]
    x = torch.cat([split.x for split in (data.train, data.validation, data.test)])
    assert rows(x) == rows(torch.from_numpy(np.stack(arrays)).float() / 255)
    assert data.support is constraints.unit_interval and data.binarization == "none"
    assert torch.equal(data.test.x, load(str(tmp_path / "mine"), validation=0.5, test=2).test.x)
    assert not torch.equal(data.test.x, load(str(tmp_path / "mine"), validation=3, test=2, seed=1).test.x)
    dynamic = load(str(tmp_path / "mine"), binarization="dynamic")
    assert dynamic.support is constraints.boolean and set(dynamic.test.x.unique().tolist()) <= {0.0, 1.0}


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name, value in (("cat", 10), ("dog", 200)):
        for i in range(6):
            paint(tmp_path / name / f"{i}.png", np.full((5, 5), value + i, np.uint8))
    (tmp_path / "empty").mkdir()
    data = load(str(tmp_path))
    assert data.classes == ("cat", "dog")
    for split in (data.train, data.validation, data.test):
        assert split.labels is not None and torch.equal(split.labels, (split.x[:, 0, 0, 0] > 0.5).long())
    assert data.conditional().train.given[0].shape == (len(data.train.x), 2)


def test_official_splits(tmp_path: Path) -> None:
    arrays = {name: flat(tmp_path / name, count) for name, count in (("train", 9), ("validation", 2), ("test", 3))}
    data = load(str(tmp_path))
    for name, expected in arrays.items():
        assert rows(getattr(data, name).x) == rows(torch.from_numpy(np.stack(expected)).float() / 255)
    with pytest.raises(PyrovaeError, match="test: the data have such a split already"):
        load(str(tmp_path), test=2)
    (tmp_path / "validation").rename(tmp_path.parent / "elsewhere")
    fewer = load(str(tmp_path), validation=4)
    assert torch.equal(fewer.test.x, data.test.x) and len(fewer.validation.x) == 4 and len(fewer.train.x) == 5
    (tmp_path / "train").rename(tmp_path / "training")
    with pytest.raises(PyrovaeError, match="no sub-folder train"):
        load(str(tmp_path))


def test_classes_must_agree_between_splits(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "test/c"):
        flat(tmp_path / place, 4)
    with pytest.raises(PyrovaeError, match=r"test: the classes c are not among those of train: a, b"):
        load(str(tmp_path))
    (tmp_path / "test" / "c").rename(tmp_path / "test" / "b")
    assert load(str(tmp_path)).test.labels.tolist() == [1, 1, 1, 1]
    for path in (tmp_path / "test" / "b").iterdir():
        path.rename(tmp_path / "test" / path.name)
    with pytest.raises(PyrovaeError, match="name classes in one split and not in another"):
        load(str(tmp_path))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".PNG", ".ppm"])
def test_lossless_formats(tmp_path: Path, suffix: str) -> None:
    array = pixels((6, 4, 3))
    for i in range(4):
        if suffix == ".webp":
            Image.fromarray(array).save(tmp_path / f"{i}.webp", lossless=True)
        else:
            paint(tmp_path / f"{i}{suffix}", array)
    data = load(str(tmp_path), test=1, validation=1)
    expected = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    assert data.event_shape == (3, 6, 4) and all(torch.equal(x, expected) for x in data.train.x)


def test_channels(tmp_path: Path) -> None:
    flat(tmp_path, 5)
    assert load(str(tmp_path)).event_shape == (1, 6, 4)
    assert load(str(tmp_path), channels=3).event_shape == (3, 6, 4)
    paint(tmp_path / "colour.png", pixels((6, 4, 3)))
    assert load(str(tmp_path)).event_shape == (3, 6, 4)
    assert load(str(tmp_path), channels=1).event_shape == (1, 6, 4)
    with pytest.raises(PyrovaeError, match="channels=2"):
        load(str(tmp_path), channels=2)


def test_sizes(tmp_path: Path) -> None:
    flat(tmp_path, 5, (8, 12))
    paint(tmp_path / "z.png", pixels((20, 10)))
    with pytest.raises(PyrovaeError, match=r"000.png is 8 x 12, z.png is 20 x 10.*pass size="):
        load(str(tmp_path))
    assert load(str(tmp_path), size=7).event_shape == (1, 7, 7)
    assert load(str(tmp_path), size=(5, 9)).event_shape == (1, 5, 9)
    for size in (0, -1, (3, 0), (3, 4, 5)):
        with pytest.raises(PyrovaeError, match="size="):
            load(str(tmp_path), size=size)  # type: ignore[arg-type]


def test_the_crop_is_at_the_centre(tmp_path: Path) -> None:
    """A white square in the middle third of a wide image fills a square crop, and the black sides are gone."""
    array = np.zeros((10, 30), np.uint8)
    array[:, 10:20] = 255
    for i in range(3):
        paint(tmp_path / f"{i}.png", array)
    data = load(str(tmp_path), size=10, test=1, validation=1)
    assert (data.train.x == 1).all() and data.binarization == "static"


def test_black_and_white_pixels_are_bits(tmp_path: Path) -> None:
    for i in range(6):
        Image.fromarray(pixels((4, 4), i) > 127).save(tmp_path / f"{i}.png")
    data = load(str(tmp_path))
    assert data.binarization == "static" and data.support is constraints.boolean
    assert set(data.train.x.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "L"])
def test_what_is_transparent_is_white(tmp_path: Path, kind: str) -> None:
    """Black strokes on nothing: the pixels below transparency are black too, as most programs write them."""
    stroke = np.zeros((4, 4), np.uint8)
    stroke[1] = 255  # opaque
    image, options = Image.new("LA", (4, 4)), {}
    image.putalpha(Image.fromarray(stroke))
    if kind in ("P", "L"):  # 0 stands for nothing, 1 for the stroke
        image, options = Image.fromarray(stroke // 255), {"transparency": 0}
        if kind == "P":
            image.putpalette([0, 0, 0] * 2)
    for i in range(3):
        (image.convert(kind) if kind == "RGBA" else image).save(tmp_path / f"{i}.png", **options)
    expected = torch.from_numpy(1 - stroke / 255).float()
    for x in load(str(tmp_path), channels=1, test=1, validation=1).train.x:
        torch.testing.assert_close(x[0], expected, atol=1 / 255, rtol=0)


def test_a_half_transparent_pixel_is_half_white(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGBA", (2, 2), (200, 0, 0, 128)).save(tmp_path / f"{i}.png")
    x = load(str(tmp_path), test=1, validation=1).train.x[0, :, 0, 0]
    expected = torch.tensor([200, 0, 0]) / 255 * (128 / 255) + 1 - 128 / 255
    torch.testing.assert_close(x, expected, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".h5", ".fits", ".mpg", ".grib"])
def test_only_formats_of_pixels_are_read(tmp_path: Path, suffix: str) -> None:
    flat(tmp_path, 4)
    (tmp_path / f"000{suffix}").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 6\n")
    assert sum(len(split.x) for split in load(str(tmp_path)).splits.values()) == 4
    (tmp_path / f"000{suffix}").rename(tmp_path / "z.png")  # nor by another name: PIL would call Ghostscript
    with pytest.raises(PyrovaeError, match=r"z\.png: not an image"):
        load(str(tmp_path))


def test_a_folder_by_any_path(tmp_path: Path) -> None:
    flat(tmp_path / "mine")
    for place in (str(tmp_path / "mine"), tmp_path / "mine"):
        assert images(place).name == load(place).name == "mine"
    for absent in (str(tmp_path / "absent"), tmp_path / "mine" / "000.png"):
        with pytest.raises(PyrovaeError, match="no such folder"):
            images(absent)


def test_pixels_0_and_1_are_bits(tmp_path: Path) -> None:
    for i in range(6):
        paint(tmp_path / f"{i}.png", pixels((4, 4), i) % 2)
    data = load(str(tmp_path))
    assert data.binarization == "static" and set(data.train.x.unique().tolist()) == {0.0, 1.0}


def test_images_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    array = np.zeros((4, 8), np.uint8)
    array[0] = 255  # the upper edge, which Exif's orientation 6 puts to the right
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for i in range(3):
        Image.fromarray(array).save(tmp_path / f"{i}.png", exif=exif)
    data = load(str(tmp_path), test=1, validation=1)
    assert data.event_shape == (1, 8, 4)
    assert (data.train.x[0, 0, :, 3] == 1).all() and (data.train.x[0, 0, :, :3] == 0).all()


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(PyrovaeError, match="there are no images in it"):
        load(str(tmp_path))
    flat(tmp_path, 4, (40, 40))
    whole = (tmp_path / "000.png").read_bytes()
    for raw in (b"", b"<html></html>", whole[:200], whole[: len(whole) // 2]):
        (tmp_path / "000.png").write_bytes(raw)
        with pytest.raises(PyrovaeError, match=r"000.png: not (a whole|an) image"):
            load(str(tmp_path))
    Image.fromarray(pixels((40, 40)).astype(np.uint16) * 256).save(tmp_path / "000.png")
    with pytest.raises(PyrovaeError, match=r"000.png: pixels deeper than 8 bits"):
        load(str(tmp_path))


def test_images_beside_classes(tmp_path: Path) -> None:
    flat(tmp_path, 2)
    flat(tmp_path / "cat", 2)
    with pytest.raises(PyrovaeError, match=r"holds images, and sub-folders with images \(cat\)"):
        load(str(tmp_path))


def test_too_few_images(tmp_path: Path) -> None:
    flat(tmp_path, 2)
    with pytest.raises(PyrovaeError, match="hold out at least 1"):
        load(str(tmp_path))


def test_the_fingerprint_knows_pixels_and_classes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        flat(tmp_path / name, 4)
    first = load(str(tmp_path)).fingerprint
    assert load(str(tmp_path), seed=5).fingerprint == first
    (tmp_path / "b").rename(tmp_path / "c")
    renamed = load(str(tmp_path)).fingerprint
    paint(tmp_path / "c" / "000.png", pixels((6, 4), 99))
    assert len({first, renamed, load(str(tmp_path)).fingerprint}) == 3
