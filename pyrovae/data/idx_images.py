"""MNIST and Fashion-MNIST, from the IDX files that torchvision knows."""

import hashlib
import os

import torch

from pyrovae.data import files
from pyrovae.data.binarization import binarize, check_binarization
from pyrovae.data.idx import parse_gz
from pyrovae.data.splits import Data, Split, check_counts, check_validation


def mnist(
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: int = 10_000,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Data:
    """MNIST, x of shape (N, 1, 28, 28), split 50,000/10,000/10,000.

    The pixel values 0..255 are divided by 255; the validation split is the last images of the official training set.
    Source: LeCun, Bottou, Bengio and Haffner (1998), "Gradient-based learning applied to document recognition".

    Args:
        binarization: "dynamic", "static" or "none"; see :class:`Data`.
        seed: of the bits drawn at loading. The global random state is not touched.
        validation: how many of the 60,000 official training images are held out. The test split does not depend on it.
        root: a folder with ``MNIST/raw/*.gz`` or ``torchvision/MNIST/raw/*.gz``, only read; else that of the
            environment variable PYROVAE_DATA.
        download: whether files that are neither there nor in the cache may be downloaded into the cache.

    Raises:
        PyrovaeError: an unknown binarization; a validation split that is empty or leaves nothing to train on; a file
            that is absent, altered or malformed.
    """
    return _load("mnist", "MNIST", binarization, seed, validation, root=root, download=download)


def fashion_mnist(
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: int = 10_000,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Data:
    """Fashion-MNIST: shapes, splits, options and errors as for :func:`mnist`.

    Source: Xiao, Rasul and Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms", arXiv:1708.07747.
    """
    return _load("fashion_mnist", "FashionMNIST", binarization, seed, validation, root=root, download=download)


def _load(
    name: str,
    dataset: str,
    binarization: str,
    seed: int,
    validation: int,
    *,
    root: str | os.PathLike[str] | None,
    download: bool,
) -> Data:
    check_binarization(binarization)
    raw = {key: files.read(file, root=root, download=download) for key, file in _published(dataset).items()}
    official, test = _split(raw, "train"), _split(raw, "t10k")
    check_validation(validation, len(official.x))
    grey = official.x[:-validation], official.x[-validation:], test.x
    x = binarize(*grey, binarization=binarization, generator=torch.Generator("cpu").manual_seed(seed))
    labels = official.labels[:-validation], official.labels[-validation:], test.labels
    fingerprint = hashlib.sha256(b"".join(raw.values())).hexdigest()
    return Data(name, *map(Split, x, labels), binarization, seed, 10, fingerprint)


def _published(dataset: str) -> dict[str, files.Published]:
    """The four files by name, with torchvision's mirrors and checksums."""
    from torchvision import datasets  # here, as it takes a second to import and the digits need none of it

    source = getattr(datasets, dataset)
    return {name: files.Published(dataset, name, md5, tuple(source.mirrors)) for name, md5 in source.resources}


def _split(raw: dict[str, bytes], prefix: str) -> Split:
    """An official split, as grey values in [0, 1] with their labels."""
    images_name, labels_name = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
    images = parse_gz(raw[images_name], dims=3, name=images_name)
    labels = parse_gz(raw[labels_name], dims=1, name=labels_name)
    check_counts(f"{images_name} and {labels_name}", images=len(images), labels=len(labels))
    return Split(images.unsqueeze(1).float() / 255, labels.long())
