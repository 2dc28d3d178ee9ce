"""Data sets by name (FAULTS 32), and the real MNIST and Fashion-MNIST where they are at hand."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import pyrovae.data
from pyrovae.data import load, names
from pyrovae.errors import PyrovaeError

REAL = os.environ.get("PYROVAE_DATA")  # read on import: the tests run without it


def test_every_name_is_a_function() -> None:
    assert names() == ["digits", "fashion_mnist", "mnist"]
    assert all(callable(getattr(pyrovae.data, name)) for name in names())
    assert load().name == load("digits").name == "digits"


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("mnits", "mnist"), ("FashionMNIST", "fashion_mnist"), ("digit", "digits")]
)
def test_unknown_name(wrong: str, nearest: str) -> None:
    with pytest.raises(
        PyrovaeError, match=f"{wrong}.*did you mean.*'{nearest}'.*known names: digits, fashion_mnist, mnist"
    ):
        load(wrong)


def test_unknown_name_that_is_near_to_none() -> None:
    with pytest.raises(PyrovaeError, match="'zzz': known names: digits"):
        load("zzz")


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_unknown_binarization(name: str) -> None:
    with pytest.raises(PyrovaeError, match="'dynamical': did you mean 'dynamic'"):
        load(name, binarization="dynamical")


def test_small_mnist(
    published: dict[str, bytes], write: Callable[[Path, dict[str, bytes]], Path], tmp_path: Path
) -> None:
    write(tmp_path / "MNIST/raw", published)
    grey, static = (load("mnist", root=tmp_path, binarization=name) for name in ("none", "static"))
    assert [len(split.x) for split in (grey.train, grey.validation, grey.test)] == [20, 10, 10]
    assert grey.train.labels.tolist() == [i // 4 for i in range(20)]
    assert grey.validation.labels.tolist() == [i // 4 for i in range(20, 30)]
    assert grey.test.labels.tolist() == [i // 4 for i in range(10)]
    assert grey.num_classes == 10
    generator = torch.Generator().manual_seed(7)
    images = [torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8) for n in (30, 10)]
    x = torch.cat([grey.train.x, grey.validation.x, grey.test.x])
    assert torch.equal(x, torch.cat(images).unsqueeze(1).float() / 255)
    assert load("mnist", root=tmp_path).event_shape == (1, 28, 28)
    fewer = load("mnist", root=tmp_path, binarization="none", validation=4)
    assert torch.equal(torch.cat([fewer.train.x, fewer.validation.x]), x[:30]) and len(fewer.validation.x) == 4
    assert not torch.equal(static.test.x, load("mnist", root=tmp_path, binarization="static", seed=1).test.x)


@pytest.mark.parametrize(
    ("name", "dataset", "fingerprint", "mean"),
    [
        ("mnist", "MNIST", "227111746c1956b229de0ae762b7dbf2885be3ac547ca613501aaed94e0a39d0", 0.1310),
        ("fashion_mnist", "FashionMNIST", "1ad69a47dbce37a98443e5e5628a031b5910be879d3589e945a1519f805aa28c", 0.2855),
    ],
)
def test_real_images(name: str, dataset: str, fingerprint: str, mean: float) -> None:
    if not REAL or not list(Path(REAL).glob(f"**/{dataset}/raw/*.gz")):
        pytest.skip(f"{dataset} is not in PYROVAE_DATA ({REAL or 'not set'})")
    before = torch.get_rng_state()
    data = load(name, root=REAL, download=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(split.x) for split in (data.train, data.validation, data.test)] == [50_000, 10_000, 10_000]
    assert data.event_shape == (1, 28, 28) and data.mean.mean().item() == pytest.approx(mean, abs=1e-4)
    assert data.test.labels.bincount().sum() == 10_000 and len(data.test.labels.bincount()) == 10
    assert data.fingerprint == fingerprint
