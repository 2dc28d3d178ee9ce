"""CIFAR-10, SVHN and CelebA through torchvision's real loaders, on small files of their formats written here."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from pyrovae.data import Data, load, verify
from pyrovae.errors import PyrovaeError

RNG = np.random.default_rng(0)
SMALL: dict[str, dict[str, object]] = {"cifar10": {"validation": 5}, "svhn": {"validation": 3}, "celeba": {"size": 8}}
CIFAR = RNG.integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)  # five batches of four, and four for testing
SVHN = {"train": RNG.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8),
        "test": RNG.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)}  # fmt: skip
PARTITION = [0, 0, 0, 1, 1, 2, 2]  # two of each: torchvision cannot read a split of one


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        rows = CIFAR[4 * i : 4 * i + 4].reshape(4, -1)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [(4 * i + j) % 10 for j in range(4)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    listed = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[5:])
    meta = {**datasets.CIFAR10.meta, "md5": md5(folder / "batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return folder / "data_batch_3"


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    listed = dict(datasets.SVHN.split_list)
    for part, x in SVHN.items():
        path = root / f"{part}_32x32.mat"
        labels = np.arange(1, len(x) + 1)[:, None]  # 1 .. 10, where 10 is the digit 0
        savemat(path, {"X": x.transpose(2, 3, 1, 0), "y": labels})
        listed[part] = [listed[part][0], path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    return root / "train_32x32.mat"


def write_celeba(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(len(PARTITION))]
    for i, name in enumerate(names):
        Image.new("RGB", (178, 218), (36 * i, 255 - 36 * i, 7)).save(folder / "img_align_celeba" / name, quality=95)
    attributes = " ".join(f"Attribute{i}" for i in range(39)) + " Smiling "
    text = {
        "list_attr_celeba.txt": [str(len(names)), attributes,
                                 *(f"{n} {'-1 ' * 39}{1 if i % 2 else -1}" for i, n in enumerate(names))],
        "identity_CelebA.txt": [f"{n} {i}" for i, n in enumerate(names)],
        "list_bbox_celeba.txt": [str(len(names)), "image_id x_1 y_1 width height", *(f"{n} 1 2 3 4" for n in names)],
        "list_landmarks_align_celeba.txt": [str(len(names)), " ".join(f"p{i}" for i in range(10)),
                                            *(f"{n} {'1 ' * 9}1" for n in names)],
        "list_eval_partition.txt": [f"{n} {p}" for n, p in zip(names, PARTITION, strict=True)],
    }  # fmt: skip
    for name, lines in text.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    listed = [(key, md5(folder / name) if name in text else old, name) for key, old, name in datasets.CelebA.file_list]
    monkeypatch.setattr(datasets.CelebA, "file_list", listed)
    return folder / "list_attr_celeba.txt"


WRITE: dict[str, Callable[[Path, pytest.MonkeyPatch], Path]] = {
    "cifar10": write_cifar10, "svhn": write_svhn, "celeba": write_celeba
}  # fmt: skip


def loaded(name: str, **options: object) -> Data:
    return load(name, **{**SMALL[name], **options})  # type: ignore[arg-type]


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    data = loaded("cifar10", root=tmp_path)
    assert [len(split.x) for split in data.splits.values()] == [15, 5, 4] and data.classes[3] == "class 3"
    x = torch.cat([split.x for split in data.splits.values()])
    assert torch.equal(x, torch.from_numpy(CIFAR).float() / 255)
    labels = torch.cat([split.labels for split in data.splits.values()])
    assert labels.tolist() == [i % 10 for i in range(24)]


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path, monkeypatch)
    data = loaded("svhn", root=tmp_path)
    assert [len(split.x) for split in data.splits.values()] == [6, 3, 4]
    x = torch.cat([data.train.x, data.validation.x])
    assert torch.equal(x, torch.from_numpy(SVHN["train"]).float() / 255)
    assert torch.equal(data.test.x, torch.from_numpy(SVHN["test"]).float() / 255)
    assert data.test.labels.tolist() == [1, 2, 3, 4] and data.num_classes == 10


def test_celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_celeba(tmp_path, monkeypatch)
    data = loaded("celeba", root=tmp_path, label="Smiling")
    assert [len(split.x) for split in data.splits.values()] == [3, 2, 2] and data.event_shape == (3, 8, 8)
    assert data.classes == ("not Smiling", "Smiling")
    assert [split.labels.tolist() for split in data.splits.values()] == [[0, 1, 0], [1, 0], [1, 0]]
    x = torch.cat([split.x for split in data.splits.values()])[:, :, 4, 4]
    expected = torch.tensor([[36.0 * i, 255 - 36 * i, 7] for i in range(7)]) / 255
    torch.testing.assert_close(x, expected, atol=3 / 255, rtol=0)  # a .jpg is not exact
    assert loaded("celeba", root=tmp_path).num_classes == 0
    assert loaded("celeba", root=tmp_path, size=(5, 4)).event_shape == (3, 5, 4)
    with pytest.raises(PyrovaeError, match="attribute of CelebA 'Smilin'; did you mean 'Smiling'"):
        loaded("celeba", root=tmp_path, label="Smilin")


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("place", ["", "torchvision"])
def test_where_they_are_found(name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITE[name](tmp_path / place, monkeypatch)
    monkeypatch.setenv("PYROVAE_DATA", str(tmp_path))
    assert loaded(name, download=False).name == name
    assert verify(name)


@pytest.mark.parametrize("name", WRITE)
def test_what_is_in_the_cache_is_used(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITE[name](cache / "torchvision", monkeypatch)
    assert loaded(name).fingerprint == loaded(name, download=False).fingerprint


@pytest.mark.parametrize("name", WRITE)
def test_altered_files_are_refused_before_they_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = WRITE[name](tmp_path, monkeypatch)
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("read"))
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("read"))
    for raw in (path.read_bytes()[:-1], b"<html>", path.read_bytes() + b"\0"):
        path.write_bytes(raw)
        with pytest.raises(PyrovaeError, match="delete what is truncated or altered"):
            loaded(name, root=tmp_path)
        with pytest.raises(PyrovaeError, match=f"{path.name}: absent, truncated or altered"):
            verify(name, root=tmp_path)


def test_a_face_that_is_cut_short_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_celeba(tmp_path, monkeypatch)
    face = tmp_path / "celeba" / "img_align_celeba" / "000002.jpg"
    face.write_bytes(face.read_bytes()[:400])
    with pytest.raises(PyrovaeError, match="truncated"):
        loaded("celeba", root=tmp_path)
    face.unlink()
    with pytest.raises(PyrovaeError, match=r"000002\.jpg"):
        loaded("celeba", root=tmp_path)


@pytest.mark.parametrize("name", WRITE)
def test_absent_and_no_network(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PyrovaeError, match=r"download=False.*PYROVAE_DATA"):
        loaded(name, download=False)
    for module in ("cifar", "svhn", "celeba"):
        for helper in ("download_url", "download_and_extract_archive", "download_file_from_google_drive"):
            monkeypatch.setattr(f"torchvision.datasets.{module}.{helper}", no_network, raising=False)
    with pytest.raises(PyrovaeError, match=r'no network.*pyrovae\.data\.load\("digits"\)'):
        loaded(name)
    with pytest.raises(PyrovaeError, match="neither in PYROVAE_DATA nor in the cache"):
        verify(name)


def no_network(*args: object, **kwargs: object) -> None:
    raise OSError("no network in the tests")
