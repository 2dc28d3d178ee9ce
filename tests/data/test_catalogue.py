"""Data sets by name (FAULTS 32), and the real MNIST and Fashion-MNIST where they are at hand."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

import pyrovae.data
from pyrovae.data import Data, listing, load, names, verify
from pyrovae.errors import PyrovaeError

REAL = os.environ.get("PYROVAE_DATA")  # read on import: the tests run without it


def test_every_name_is_a_function() -> None:
    known = names()
    assert known == sorted(known) and {"digits", "mnist", "uci/banknote", "adbench/thyroid", "20newsgroups"} < set(
        known
    )
    functions = [name.split("/")[0].removeprefix("20") for name in known]
    assert all(callable(getattr(pyrovae.data, name)) for name in functions)
    assert load().name == load("digits").name == "digits"


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("mnits", "mnist"),
        ("FashionMNIST", "fashion_mnist"),
        ("digit", "digits"),
        ("uci/wine", "uci/wine_red"),
        ("adbench/tyroid", "adbench/thyroid"),
        ("20newsgroup", "20newsgroups"),
    ],
)
def test_unknown_name(wrong: str, nearest: str) -> None:
    with pytest.raises(
        PyrovaeError,
        match=f"{wrong}.*did you mean.*'{nearest}'.*known names: .*digits, fashion_mnist, freyfaces, mnist",
    ):
        load(wrong)


def test_unknown_name_that_is_near_to_none() -> None:
    with pytest.raises(PyrovaeError, match="'zzz'; known names: 20newsgroups, adbench"):
        load("zzz")


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_unknown_binarization(name: str) -> None:
    with pytest.raises(PyrovaeError, match="'dynamical'; did you mean 'dynamic'"):
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


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_an_option_that_a_set_has_no_use_for(name: str) -> None:
    with pytest.raises(
        PyrovaeError, match=f"{name} has no use for the option standardize; it takes binarization, vali"
    ):
        load(name, standardize=True)


@pytest.mark.parametrize("path", ["./absent", "absent.csv", "/no/such/folder", "absent.npz"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    with pytest.raises(PyrovaeError, match="there is no such file or folder"):
        load(path)


def test_a_file_of_a_kind_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").touch()
    with pytest.raises(PyrovaeError, match=r"a folder of images, or a file \.csv.*this is a file \.parquet"):
        load(str(tmp_path / "mine.parquet"))


# What is usual for each set, on the published files: (event shape, splits, labels, kind, binarization).
USUAL: dict[str, tuple[tuple[int, ...], tuple[int, int, int], int, str, str]] = {
    "binarized_mnist": ((1, 28, 28), (50_000, 10_000, 10_000), 0, "images", "static"),
    "freyfaces": ((1, 28, 20), (1565, 200, 200), 0, "images", "none"),
    "omniglot28": ((1, 28, 28), (23_000, 1_345, 8_070), 50, "images", "dynamic"),
    "tiny_shakespeare": ((64,), (15_686, 871, 871), 0, "tokens", "none"),
    "20newsgroups": ((2000,), (10_268, 1_000, 7_505), 20, "counts", "none"),
    "uci/banknote": ((4,), (961, 137, 274), 2, "table", "none"),
    "uci/breast_cancer": ((30,), (398, 57, 114), 2, "table", "none"),
    "uci/concrete": ((9,), (721, 103, 206), 0, "table", "none"),
    "uci/wine_red": ((11,), (1119, 160, 320), 6, "table", "none"),
    "uci/wine_white": ((11,), (3428, 490, 980), 7, "table", "none"),
    "uci/yeast": ((8,), (1039, 148, 297), 10, "table", "none"),
    "adbench/annthyroid": ((6,), (5040, 720, 1440), 2, "table", "none"),
    "adbench/breastw": ((9,), (478, 68, 137), 2, "table", "none"),
    "adbench/cardio": ((21,), (1282, 183, 366), 2, "table", "none"),
    "adbench/ionosphere": ((32,), (246, 35, 70), 2, "table", "none"),
    "adbench/mammography": ((6,), (7828, 1118, 2237), 2, "table", "none"),
    "adbench/satellite": ((36,), (4504, 644, 1287), 2, "table", "none"),
    "adbench/shuttle": ((9,), (34_368, 4_910, 9_819), 2, "table", "none"),
    "adbench/thyroid": ((6,), (2641, 377, 754), 2, "table", "none"),
    "adbench/wdbc": ((30,), (257, 37, 73), 2, "table", "none"),
}

NAMES = {"omniglot28": "OMNIGLOT-28 (reconstructed)"}  # as it must always be called


@cache
def real(name: str) -> Data:
    """A set from the published files; skips with the reason where they are absent."""
    entry = next(entry for entry in listing(root=REAL) if entry.name == name) if REAL else None
    if entry is None or entry.found is None:
        pytest.skip(f"{name} is not in PYROVAE_DATA ({REAL or 'not set'})")
    if name == "uci/concrete":
        pytest.importorskip("xlrd", reason="xlrd is not installed: pip install 'pyrovae[xls]'")
    return load(name, root=REAL, download=False)


@pytest.mark.parametrize("name", USUAL)
def test_real_sets(name: str) -> None:
    data = real(name)
    shape, sizes, classes, kind, binarization = USUAL[name]
    assert data.name == NAMES.get(name, name) and tuple(data.event_shape) == shape
    assert tuple(len(split.x) for split in data.splits.values()) == sizes
    assert (data.num_classes, data.kind, data.binarization) == (classes, kind, binarization)
    for split in data.splits.values():
        assert data.support.check(data.draw(split.x)).all() and split.x.isfinite().all()
        if classes:
            assert split.labels is not None and split.labels.dtype == torch.int64
    if classes:
        labels = torch.cat([split.labels for split in data.splits.values() if split.labels is not None])
        assert len(labels.bincount()) == classes and (labels.bincount() > 0).all()
    entry = next(entry for entry in listing(root=REAL) if entry.name == name)
    assert (entry.event_shape, tuple(entry.splits.values()), entry.binarization) == (shape, sizes, binarization)
    assert verify(name, root=REAL)


def test_the_list_tells_the_truth_about_the_embedded_digits() -> None:
    entry = next(entry for entry in listing() if entry.name == "digits")
    data = load("digits")
    assert entry.event_shape == tuple(data.event_shape) and entry.binarization == data.binarization
    assert entry.splits == {key: len(split.x) for key, split in data.splits.items()} and entry.embedded


@pytest.mark.parametrize("name", [name for name in USUAL if "/" in name])
def test_real_tables_are_standardised(name: str) -> None:
    data = real(name)
    torch.testing.assert_close(data.train.x.mean(0), torch.zeros(data.event_shape), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.train.x.square().mean(0), torch.ones(data.event_shape), atol=1e-3, rtol=0)
    assert data.log_jacobian != 0 and len(data.columns) == data.event_shape[0]


def test_real_facts() -> None:
    """What is known of the sets from elsewhere: a text, words, classes, a mean."""
    shakespeare = real("tiny_shakespeare")
    assert shakespeare.num_levels == 65
    assert "".join(shakespeare.levels[i] for i in shakespeare.train.x[0].tolist()).startswith(
        "First Citizen:\nBefore we"
    )
    news = real("20newsgroups")
    assert news.columns[:3] == ("who", "out", "which") and len(news.columns) == 2000
    assert news.test.x.min() == 0 and news.test.x.max() == 506 and (news.test.x.sum(1) > 0).all()
    train = torch.cat([split.labels for split in (news.train, news.validation) if split.labels is not None])
    assert train.bincount()[:4].tolist() == [480, 581, 572, 587]
    total = sum(split.x.sum(0)[0].item() for split in (news.train, news.validation))
    assert total == 6494  # "who", by the vocabulary's own count
    assert real("binarized_mnist").mean.mean().item() == pytest.approx(0.13, abs=0.01)
    cancer = real("uci/breast_cancer")
    assert cancer.classes == ("benign", "malignant")
    assert sum(int((split.labels == 1).sum()) for split in cancer.splits.values()) == 212
