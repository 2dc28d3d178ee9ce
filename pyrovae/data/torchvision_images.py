"""CIFAR-10, SVHN and CelebA, through torchvision's own loaders."""

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrovae.data.binarization import check_binarization
from pyrovae.data.download import FAILURES, WAY_OUT, make_folder
from pyrovae.data.files import Root, cache, roots
from pyrovae.data.image_files import as_size, fitted, stacked
from pyrovae.data.partition import Share, held_out
from pyrovae.data.pixels import as_grey, digest, image_data
from pyrovae.data.splits import Data
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import check_known

UNREADABLE = (*FAILURES, ValueError, LookupError, TypeError, EOFError, ImportError, pickle.UnpicklingError)
PROBES = {"CIFAR10": "cifar-10-batches-py", "SVHN": "train_32x32.mat", "CelebA": "celeba"}  # whether it is there


def cifar10(
    *,
    binarization: str = "none",
    seed: int = 0,
    validation: Share = 5_000,
    root: Root = None,
    download: bool = True,
) -> Data:
    """CIFAR-10, x of shape (N, 3, 32, 32) in [0, 1], split 45,000/5,000/10,000.

    The validation split is the last images of the official training set. torchvision reads the published files, which
    are pickles, and does so only after their checksums were found right. Source: Krizhevsky (2009), "Learning
    multiple layers of features from tiny images".

    Args:
        validation: how many of the 50,000 official training images are held out; a float is a fraction of them.
        binarization, seed, download: as for :func:`mnist`.
        root: a folder with ``cifar-10-batches-py`` or ``torchvision/cifar-10-batches-py``; else that of PYROVAE_DATA.

    Raises:
        PyrovaeError: as :func:`mnist`.
    """

    def read(dataset: Any) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)

    train = _opened("CIFAR10", root, download, train=True)
    test = _opened("CIFAR10", root, download, train=False)
    return _official("cifar10", read(train), read(test), train.classes, binarization, seed, validation)


def svhn(
    *,
    binarization: str = "none",
    seed: int = 0,
    validation: Share = 7_000,
    root: Root = None,
    download: bool = True,
) -> Data:
    """Street View House Numbers, cropped digits, x of shape (N, 3, 32, 32) in [0, 1], split 66,257/7,000/26,032.

    The validation split is the last images of the official training set; the "extra" images are not used. Source:
    Netzer, Wang, Coates, Bissacco, Wu and Ng (2011), "Reading digits in natural images with unsupervised feature
    learning".

    Args:
        validation: how many of the 73,257 official training images are held out; a float is a fraction of them.
        binarization, seed, download: as for :func:`mnist`.
        root: a folder with ``train_32x32.mat`` and ``test_32x32.mat``, or with them in ``torchvision``; else that of
            PYROVAE_DATA.

    Raises:
        PyrovaeError: as :func:`mnist`.
    """

    def read(dataset: Any) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(dataset.data).contiguous(), torch.from_numpy(dataset.labels)

    train, test = (_opened("SVHN", root, download, split=split) for split in ("train", "test"))
    return _official("svhn", read(train), read(test), [str(i) for i in range(10)], binarization, seed, validation)


def celeba(
    *,
    binarization: str = "none",
    seed: int = 0,
    size: int | tuple[int, int] = 64,
    label: str | None = None,
    root: Root = None,
    download: bool = True,
) -> Data:
    """CelebA, aligned faces, x of shape (N, 3, *size) in [0, 1], split 162,770/19,867/19,962 as published.

    Each image is resized so that ``size`` fits into it and cropped at the centre. All are held in memory, as float32:
    10 GB at 64 x 64. Source: Liu, Luo, Wang and Tang (2015), "Deep learning face attributes in the wild".

    Args:
        size: of the images, an int or (H, W).
        label: one of the 40 attributes, such as "Smiling"; no labels where None.
        binarization, seed, download: as for :func:`mnist`.
        root: a folder with ``celeba`` or ``torchvision/celeba``; else that of PYROVAE_DATA.

    Raises:
        PyrovaeError: as :func:`mnist`; an unknown attribute.
    """
    check_binarization(binarization)
    shape = as_size(size)
    parts = [_opened("CelebA", root, download, split=split) for split in ("train", "valid", "test")]
    names = [name for name in parts[0].attr_names if name]  # torchvision takes the space at the end for a name
    if label is not None:
        check_known("attribute of CelebA", label, names)

    def read(part: Any) -> Tensor:
        return stacked(fitted(part[i][0], shape, 3) for i in range(len(part)))

    x = [_read(partial(read, part)) for part in parts]
    labels = [None if label is None else part.attr[:, names.index(label)].long() for part in parts]
    return image_data(
        "celeba", [as_grey(part) for part in x], labels, binarization=binarization, seed=seed,
        classes=() if label is None else (f"not {label}", label), fingerprint=digest(*x, *labels),
    )  # fmt: skip


def _official(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    classes: Sequence[str],
    binarization: str,
    seed: int,
    validation: Share,
) -> Data:
    (x, labels), (test_x, test_labels) = train, test
    kept, held = held_out(len(x), validation)
    return image_data(
        name,
        [as_grey(part) for part in (x[kept], x[held], test_x)],
        [labels[kept], labels[held], test_labels],
        binarization=binarization, seed=seed, classes=classes, fingerprint=digest(x, labels, test_x, test_labels),
    )  # fmt: skip


def _opened(name: str, root: Root, download: bool, **options: Any) -> Any:
    """torchvision's data set, from where it is, or downloaded into the cache; torchvision verifies the checksums."""
    from torchvision import datasets

    source, where = getattr(datasets, name), found(name, root=root)
    local = cache() / "torchvision"
    if where is not None and where != local:
        return _read(lambda: source(str(where), download=False, **options), at=where / PROBES[name])
    if not download and where is None:
        searched = ", ".join(str(folder / PROBES[name]) for folder in _folders(root))
        raise PyrovaeError(f"{name} is at none of {searched}, and download=False: allow the download, {WAY_OUT}")
    make_folder(local)
    # In the cache torchvision looks for itself what is there and whole, and downloads the rest.
    return _read(lambda: source(str(local), download=download, **options), at=local / PROBES[name])


def found(name: str, *, root: Root = None) -> Path | None:
    """torchvision's root of a data set; None where it is absent. Nothing is read."""
    return next((folder for folder in _folders(root) if (folder / PROBES[name]).exists()), None)


def _folders(root: Root) -> list[Path]:
    *local, own = roots(root)
    return [*(folder / part for folder in local for part in ("torchvision", "")), own / "torchvision"]


def _read(make: Callable[[], Any], *, at: Path | None = None) -> Any:
    try:
        return make()
    except UNREADABLE as error:
        where = f"{at}: " if at else ""
        raise PyrovaeError(
            f"{where}torchvision cannot read or download it ({error}); delete what is truncated or altered, {WAY_OUT}"
        ) from error


def checksums(name: str) -> dict[str, str]:
    """The checksums that torchvision verifies, by place below its root."""
    from torchvision import datasets

    if name == "CIFAR10":
        cifar = datasets.CIFAR10
        listed = [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]
        return {f"{cifar.base_folder}/{file}": f"md5:{md5}" for file, md5 in listed}
    if name == "SVHN":
        return {file: f"md5:{md5}" for key, (_, file, md5) in datasets.SVHN.split_list.items() if key != "extra"}
    texts = [(file, md5) for _, md5, file in datasets.CelebA.file_list if not file.endswith(".zip")]
    return {f"{datasets.CelebA.base_folder}/{file}": f"md5:{md5}" for file, md5 in texts}


def source_page(name: str) -> str:
    """Where torchvision downloads a data set from."""
    return {
        "CIFAR10": "https://www.cs.toronto.edu/~kriz/cifar.html",
        "SVHN": "http://ufldl.stanford.edu/housenumbers/",
        "CelebA": "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    }[name]
