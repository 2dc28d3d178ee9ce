"""MNIST and Fashion-MNIST, from the IDX files that torchvision knows."""

from torch import Tensor

from pyrovae.data import files
from pyrovae.data.binarization import check_binarization
from pyrovae.data.files import Root
from pyrovae.data.idx import parse_gz
from pyrovae.data.partition import Share, held_out
from pyrovae.data.pixels import as_grey, digest, image_data
from pyrovae.data.splits import Data, check_counts

GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip
DIGITS = tuple(str(i) for i in range(10))


def mnist(
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: Share = 10_000,
    root: Root = None,
    download: bool = True,
) -> Data:
    """MNIST, x of shape (N, 1, 28, 28), split 50,000/10,000/10,000.

    The pixel values 0..255 are divided by 255; the validation split is the last images of the official training set.
    Source: LeCun, Bottou, Bengio and Haffner (1998), "Gradient-based learning applied to document recognition".

    Args:
        binarization: "dynamic", "static" or "none"; see :class:`Data`.
        seed: of the bits drawn at loading. The global random state is not touched.
        validation: how many of the 60,000 official training images are held out; a float is a fraction of them. The
            test split does not depend on it.
        root: a folder with ``MNIST/raw/*.gz`` or ``torchvision/MNIST/raw/*.gz``, only read; else that of the
            environment variable PYROVAE_DATA.
        download: whether files that are neither there nor in the cache may be downloaded into the cache.

    Raises:
        PyrovaeError: an unknown binarization; a validation split that is empty or leaves nothing to train on; a file
            that is absent, altered or malformed.
    """
    return _load("mnist", "MNIST", DIGITS, binarization, seed, validation, root=root, download=download)


def fashion_mnist(
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: Share = 10_000,
    root: Root = None,
    download: bool = True,
) -> Data:
    """Fashion-MNIST: shapes, splits, options and errors as for :func:`mnist`.

    Source: Xiao, Rasul and Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms", arXiv:1708.07747.
    """
    return _load(
        "fashion_mnist", "FashionMNIST", GARMENTS, binarization, seed, validation, root=root, download=download
    )


def _load(
    name: str,
    dataset: str,
    classes: tuple[str, ...],
    binarization: str,
    seed: int,
    validation: Share,
    *,
    root: Root,
    download: bool,
) -> Data:
    check_binarization(binarization)
    raw = {file.name: files.read(file, root=root, download=download) for file in published(dataset)}
    (x, labels), (test, test_labels) = _split(raw, "train"), _split(raw, "t10k")
    train, validate = held_out(len(x), validation)
    return image_data(
        name, [x[train], x[validate], test], [labels[train], labels[validate], test_labels],
        binarization=binarization, seed=seed, classes=classes, fingerprint=digest(*raw.values()),
    )  # fmt: skip


def published(dataset: str) -> list[files.Published]:
    """The four files, with torchvision's mirrors and checksums."""
    from torchvision import datasets  # here, as it takes a second to import and the digits need none of it

    source = getattr(datasets, dataset)
    return [
        files.Published(
            dataset,
            (f"torchvision/{dataset}/raw/{name}", f"{dataset}/raw/{name}"),
            tuple(mirror + name for mirror in source.mirrors),
            f"md5:{md5}",
        )
        for name, md5 in source.resources
    ]


def _split(raw: dict[str, bytes], prefix: str) -> tuple[Tensor, Tensor]:
    """An official split, as grey values in [0, 1] with their labels."""
    images_name, labels_name = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
    images = parse_gz(raw[images_name], dims=3, name=images_name)
    labels = parse_gz(raw[labels_name], dims=1, name=labels_name)
    check_counts(f"{images_name} and {labels_name}", data=len(images), labels=len(labels))
    return as_grey(images.unsqueeze(1)), labels.long()
