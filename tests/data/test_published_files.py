"""The sets that lie in single files, on small files of their formats, whose checksums replace the published ones."""

import gzip
import hashlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch.distributions import constraints

from pyrovae.data import file_images, listing, load, text, uci_tables, verify
from pyrovae.errors import PyrovaeError

RNG = np.random.default_rng(0)
FACES = RNG.integers(0, 256, (30, 28, 20), dtype=np.uint8)


def sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def write(path: Path, raw: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


# ------------------------------------------------------------------------------------------------- binarized MNIST


@pytest.fixture
def bits(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray[Any, Any]]:
    """Small splits whose texts are the published ones."""
    parts = {part: RNG.integers(0, 2, (n, 784)) for part, n in (("train", 5), ("valid", 3), ("test", 2))}
    for part, values in parts.items():
        file = file_images.BITS_FILES[part]._replace(checksum=sha256(amat(values)))
        monkeypatch.setitem(file_images.BITS_FILES, part, file)
    return parts


def amat(values: np.ndarray[Any, Any]) -> bytes:
    return "".join(" ".join(map(str, row)) + "\n" for row in values.tolist()).encode()


@pytest.mark.parametrize("compressed", [True, False])
def test_binarized_mnist(bits: dict[str, np.ndarray[Any, Any]], tmp_path: Path, compressed: bool) -> None:
    for part, values in bits.items():
        raw, name = amat(values), f"binarized_mnist/binarized_mnist_{part}.amat"
        write(tmp_path / (name + ".gz" if compressed else name), gzip.compress(raw) if compressed else raw)
    data = load("binarized_mnist", root=tmp_path, download=False)
    for split, values in zip(data.splits.values(), bits.values(), strict=True):
        assert torch.equal(split.x, torch.from_numpy(values).float().reshape(-1, 1, 28, 28)) and split.labels is None
    assert data.support is constraints.boolean and data.binarization == "static"
    assert torch.equal(load("binarized_mnist", root=tmp_path, seed=9).train.x, data.train.x)
    assert len(verify("binarized_mnist", root=tmp_path)) == 3
    with pytest.raises(PyrovaeError, match="no use for the option binarization; it takes none"):
        load("binarized_mnist", binarization="static")


def test_binarized_mnist_altered(bits: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    for part, values in bits.items():
        path = write(tmp_path / f"binarized_mnist/binarized_mnist_{part}.amat.gz", gzip.compress(amat(values)))
    for raw in (path.read_bytes()[:-4], gzip.compress(amat(1 - bits["test"])), b""):
        path.write_bytes(raw)
        with pytest.raises(PyrovaeError, match=r"amat\.gz.*delete it to download it again"):
            load("binarized_mnist", root=tmp_path)


# ---------------------------------------------------------------------------------------------------- Frey faces


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_images, "FACES_FILE", file_images.FACES_FILE._replace(checksum=sha256(FACES.tobytes())))


def mat(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    savemat(stream, arrays)
    return stream.getvalue()


def test_frey_faces_from_the_published_file(faces: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloaded, the pixels checked as read by scipy, and kept in the cache."""
    asked = []

    def download(url: str, root: str, filename: str) -> None:
        asked.append(url)
        raw = b"<html>" if len(asked) == 1 else mat(ff=FACES.reshape(30, -1).T)
        Path(root, filename).write_bytes(raw)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    data = load("freyfaces", validation=6, test=4)
    assert len(asked) == 2 and [path.name for path in (cache / "freyfaces").iterdir()] == ["frey_rawface.mat"]
    assert [len(split.x) for split in data.splits.values()] == [20, 6, 4]
    found = {tuple(row) for split in data.splits.values() for row in split.x.flatten(1).tolist()}
    assert found == {tuple(row) for row in (torch.from_numpy(FACES).float() / 255).flatten(1).tolist()}
    again = load("freyfaces", validation=6, test=4, download=False)
    assert again.fingerprint == data.fingerprint and torch.equal(again.test.x, data.test.x)


@pytest.mark.parametrize("raw", [b"", b"<html>", mat(gg=FACES), mat(ff=255 - FACES.reshape(30, -1).T)])
def test_frey_faces_that_are_others(faces: None, tmp_path: Path, raw: bytes) -> None:
    write(tmp_path / "freyfaces/frey_rawface.mat", raw)
    with pytest.raises(PyrovaeError, match=r"frey_rawface\.mat.*truncated or altered"):
        load("freyfaces", root=tmp_path)


# -------------------------------------------------------------------------------------- OMNIGLOT-28 (reconstructed)


def test_omniglot_absent(tmp_path: Path) -> None:
    with pytest.raises(
        PyrovaeError, match=r"OMNIGLOT-28 \(reconstructed\) has no public download: put omniglot28.npz.*PYROVAE_DATA"
    ):
        load("omniglot28", root=tmp_path)
    write(tmp_path / "omniglot28/omniglot28.npz", b"other")
    with pytest.raises(PyrovaeError, match=r"omniglot28\.npz: sha256.*altered: put omniglot28.npz"):
        load("omniglot28", root=tmp_path)


# ----------------------------------------------------------------------------------------------------------- tables


@pytest.fixture
def banknote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    lines = [f"{i},{i % 7},{-i},{i * i},{i % 2}\r\n" for i in range(30)]
    raw = "".join(lines).encode()
    source = uci_tables.UCI["banknote"]
    small = source._replace(file=source.file._replace(checksum=sha256(raw)), num_data=30)
    monkeypatch.setitem(uci_tables.UCI, "banknote", small)
    return write(tmp_path / "uci/banknote/data_banknote_authentication.txt", raw)


def test_a_uci_table(banknote: Path, tmp_path: Path) -> None:
    data = load("uci/banknote", root=tmp_path, standardize=False, validation=5, test=0.2)
    assert data.columns == ("variance", "skewness", "curtosis", "entropy") and data.classes == ("0", "1")
    assert [len(split.x) for split in data.splits.values()] == [19, 5, 6]
    for split in data.splits.values():
        i = split.x[:, 0]
        assert torch.equal(split.x, torch.stack([i, i % 7, -i, i * i], 1)) and torch.equal(split.labels, (i % 2).long())
    standard = load("uci/banknote", root=tmp_path)
    torch.testing.assert_close(
        standard.restore(standard.test.x).float(), load("uci/banknote", root=tmp_path, standardize=False).test.x
    )
    assert verify("uci/banknote", root=tmp_path) == {str(banknote): uci_tables.UCI["banknote"].file.checksum}


def test_a_table_that_was_altered(banknote: Path, tmp_path: Path) -> None:
    banknote.write_bytes(banknote.read_bytes().replace(b"29,1,", b"29,2,"))
    with pytest.raises(PyrovaeError, match=f"{banknote}: sha256.*delete it"):
        load("uci/banknote", root=tmp_path)


def test_a_table_is_downloaded_into_the_cache(banknote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, root: str, filename: str) -> None:
        asked.append(url)
        Path(root, filename).write_bytes(banknote.read_bytes())

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    assert load("uci/banknote").fingerprint == load("uci/banknote", download=False).fingerprint
    assert asked == list(uci_tables.UCI["banknote"].file.addresses)
    assert (cache / "uci/banknote/data_banknote_authentication.txt").is_file()


def test_concrete_without_xlrd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 41."""
    source = uci_tables.UCI["concrete"]
    small = source._replace(file=source.file._replace(checksum=sha256(b"\xd0\xcf\x11\xe0")))
    monkeypatch.setitem(uci_tables.UCI, "concrete", small)
    write(tmp_path / "uci/concrete_compression/Concrete_Data.xls", b"\xd0\xcf\x11\xe0")
    monkeypatch.setitem(sys.modules, "xlrd", None)
    with pytest.raises(PyrovaeError, match=r"pip install 'pyrovae\[xls\]'"):
        load("uci/concrete", root=tmp_path)


# ------------------------------------------------------------------------------------------------------------- text


@pytest.fixture
def shakespeare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    letters = "".join("abc\n"[i * i % 7 % 4] for i in range(1003))
    file = text.SHAKESPEARE_FILE._replace(checksum=sha256(letters.encode()))
    monkeypatch.setattr(text, "SHAKESPEARE_FILE", file)
    write(tmp_path / "text/tinyshakespeare.txt", letters.encode())
    return letters


def test_shakespeare_is_cut_by_position(shakespeare: str, tmp_path: Path) -> None:
    data = load("tiny_shakespeare", root=tmp_path, size=10)
    assert data.levels == tuple(sorted(set(shakespeare))) and data.num_levels == len(data.levels)
    assert [len(split.x) for split in data.splits.values()] == [90, 5, 5] and data.train.x.dtype == torch.int64
    read = "".join(data.levels[i] for split in data.splits.values() for i in split.x.flatten().tolist())
    assert read == shakespeare[:1000]
    assert [len(s.x) for s in load("tiny_shakespeare", root=tmp_path, size=10, test=7).splits.values()] == [88, 5, 7]
    for size in (0, -1, 1004, (8, 8)):
        with pytest.raises(PyrovaeError, match="the length of a sequence"):
            load("tiny_shakespeare", root=tmp_path, size=size)


# ---------------------------------------------------------------------------------------------------------- listing


def test_the_list_says_what_is_there_and_reads_nothing(
    banknote: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read"))
    by_name = {entry.name: entry for entry in listing(root=tmp_path)}
    assert by_name["uci/banknote"].found == banknote.parent
    assert by_name["uci/yeast"].found is None and by_name["uci/yeast"].obtain.endswith("yeast/yeast.data")
    assert by_name["digits"].embedded and not by_name["mnist"].embedded
    assert "PYROVAE_DATA" in by_name["omniglot28"].obtain and by_name["omniglot28"].title.endswith("(reconstructed)")
    assert sum(by_name["adbench/cardio"].splits.values()) == 1831
    for entry in by_name.values():
        assert entry.embedded or entry.checksums
        assert all(checksum.startswith(("md5:", "sha256:")) for checksum in entry.checksums.values())
    assert not cache.exists()


def test_verify(banknote: Path, tmp_path: Path) -> None:
    with pytest.raises(PyrovaeError, match="'uci/banknot'; did you mean 'uci/banknote'"):
        verify("uci/banknot")
    with pytest.raises(PyrovaeError, match="download=False"):
        verify("uci/yeast", root=tmp_path)
    banknote.write_bytes(b"")
    with pytest.raises(PyrovaeError, match="sha256"):
        verify("uci/banknote", root=tmp_path)


def test_layouts(publish: Callable[..., dict[str, bytes]], tmp_path: Path) -> None:
    """Each set is found in the layout of a data folder and in that of the cache."""
    for name in ("mnist", "fashion_mnist"):
        entry = next(entry for entry in listing(root=tmp_path) if entry.name == name)
        assert entry.found is None
    files = publish()
    for place in ("torchvision/MNIST/raw", "MNIST/raw"):
        for name, raw in files.items():
            write(tmp_path / "root" / place / name, raw)
        found = next(entry for entry in listing(root=tmp_path / "root") if entry.name == "mnist").found
        assert found == tmp_path / "root" / "torchvision/MNIST/raw"
