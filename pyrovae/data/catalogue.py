"""The data sets by name: what each is, and how it is loaded."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from pyrovae.data import file_images, tables, text
from pyrovae.data.embedded import digits
from pyrovae.data.file_images import binarized_mnist, freyfaces, omniglot28
from pyrovae.data.files import Published
from pyrovae.data.idx_images import fashion_mnist, mnist, published
from pyrovae.data.splits import Data
from pyrovae.data.torchvision_images import celeba, cifar10, svhn


class Entry(NamedTuple):
    """A data set of the catalogue."""

    load: Callable[..., Data]
    title: str
    event_shape: tuple[int, ...]
    splits: tuple[int, int, int]  # training, validation, test, as usual for it
    binarization: str = "none"
    files: Callable[[], Sequence[Published]] = tuple  # a function, as torchvision's table takes a second to import
    through: str = ""  # torchvision's class, where that reads the data
    licence: str = "none stated"


def _thirds(total: int) -> tuple[int, int, int]:
    """The usual splits of a table."""
    from pyrovae.data.partition import sizes

    return sizes(total, validation=tables.VALIDATION, test=tables.TEST)


def _uci(name: str) -> Entry:
    source = tables.UCI[name]
    shape, load = (len(source.columns),), partial(tables.uci, name)
    return Entry(
        load, source.title, shape, _thirds(source.num_data), files=lambda: [tables.UCI[name].file], licence="CC BY 4.0"
    )


def _adbench(name: str) -> Entry:
    _, count, width, _ = tables.ADBENCH[name]
    title, load = f"ADBench, {name}: normal data and anomalies", partial(tables.adbench, name)
    return Entry(
        load, title, (width,), _thirds(count), files=lambda: [tables.adbench_file(name)], licence="BSD-2-Clause"
    )


ENTRIES: Mapping[str, Entry] = {
    "20newsgroups": Entry(
        text.newsgroups, "20 newsgroups as counts of 2,000 words", (2000,), (10_268, 1_000, 7_505),
        files=lambda: [text.NEWSGROUPS_FILE], licence="MIT (the repository)",
    ),
    **{f"adbench/{name}": _adbench(name) for name in tables.ADBENCH},
    "binarized_mnist": Entry(
        binarized_mnist, "MNIST with Larochelle and Murray's fixed bits", (1, 28, 28), (50_000, 10_000, 10_000),
        "static", lambda: list(file_images.BITS_FILES.values()),
    ),
    "celeba": Entry(celeba, "CelebA faces", (3, 64, 64), (162_770, 19_867, 19_962), through="CelebA",
                    licence="non-commercial research only"),
    "cifar10": Entry(cifar10, "CIFAR-10", (3, 32, 32), (45_000, 5_000, 10_000), through="CIFAR10"),
    "digits": Entry(digits, "scikit-learn's handwritten digits; nothing to download", (1, 8, 8), (1197, 200, 400),
                    "dynamic", licence="CC BY 4.0"),
    "fashion_mnist": Entry(
        fashion_mnist, "Fashion-MNIST", (1, 28, 28), (50_000, 10_000, 10_000), "dynamic",
        lambda: published("FashionMNIST"), licence="MIT",
    ),
    "freyfaces": Entry(
        freyfaces, "the Frey faces, 1,965 frames of a film", (1, 28, 20), (1565, 200, 200),
        files=lambda: [file_images.FACES_FILE],
    ),
    "mnist": Entry(
        mnist, "MNIST", (1, 28, 28), (50_000, 10_000, 10_000), "dynamic", lambda: published("MNIST"),
    ),
    "omniglot28": Entry(
        omniglot28, "OMNIGLOT-28 (reconstructed)", (1, 28, 28), (23_000, 1_345, 8_070), "dynamic",
        lambda: [file_images.OMNIGLOT_FILE], licence="MIT (OMNIGLOT)",
    ),
    "svhn": Entry(svhn, "Street View House Numbers, cropped digits", (3, 32, 32), (66_257, 7_000, 26_032),
                  through="SVHN", licence="non-commercial use only"),
    "tiny_shakespeare": Entry(
        text.tiny_shakespeare, "Shakespeare in sequences of characters", (64,), (15_686, 871, 871),
        files=lambda: [text.SHAKESPEARE_FILE], licence="MIT (the repository)",
    ),
    **{f"uci/{name}": _uci(name) for name in tables.UCI},
}  # fmt: skip


def names() -> list[str]:
    """The names that :func:`load` knows.

    >>> names()[-3:]
    ['uci/wine_red', 'uci/wine_white', 'uci/yeast']
    """
    return sorted(ENTRIES)
