"""No test here uses the network, a cache of this machine's, or its PYROVAE_DATA, except those that say so."""

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision import datasets

from pyrovae.data import mnist

PREFIXES = {"train": 30, "t10k": 10}


def idx(values: torch.Tensor) -> bytes:
    """An IDX file of a uint8 tensor, written independently of the parser."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.numpy().tobytes()


def small_files(*, labels: dict[str, int] | None = None) -> dict[str, bytes]:
    """MNIST's four files with 30 and 10 images of 28 x 28; ``labels`` overrides the number of labels of a split."""
    generator, files = torch.Generator().manual_seed(7), {}
    for prefix, n in PREFIXES.items():
        images = torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8)
        numbers = torch.arange((labels or {}).get(prefix, n), dtype=torch.uint8) // 4  # 0 0 0 0 1 1 ...: no period
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(idx(images), mtime=0)
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(idx(numbers), mtime=0)
    return files


@pytest.fixture
def write() -> Callable[[Path, dict[str, bytes]], Path]:
    """Write files by name into a folder, which is returned."""

    def into(folder: Path, files: dict[str, bytes]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, raw in files.items():
            (folder / name).write_bytes(raw)
        return folder

    return into


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, where downloads go; there is no PYROVAE_DATA and no network."""

    def no_network(url: str, *args: Any, **kwargs: Any) -> None:
        raise URLError("no network in the tests")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PYROVAE_DATA", raising=False)
    monkeypatch.setattr("torchvision.datasets.utils.download_url", no_network)
    return tmp_path / "cache" / "pyrovae"


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, bytes]]:
    """Make small files the published MNIST: their checksums replace torchvision's; 10 images are for validation."""

    def of(**kwargs: Any) -> dict[str, bytes]:
        files = small_files(**kwargs)
        table = [(name, hashlib.md5(raw).hexdigest()) for name, raw in files.items()]
        monkeypatch.setattr(datasets.MNIST, "resources", table)
        monkeypatch.setitem(mnist.__kwdefaults__, "validation", 10)
        return files

    return of


@pytest.fixture
def published(publish: Callable[..., dict[str, bytes]]) -> dict[str, bytes]:
    return publish()
