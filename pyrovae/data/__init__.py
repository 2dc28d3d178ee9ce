"""The data sets by name, and data of one's own.

``load`` reads either, ``names`` and ``listing`` say what there is, ``verify`` compares files with their checksums.
"""

from pyrovae.data.adbench_tables import adbench
from pyrovae.data.catalogue import names
from pyrovae.data.embedded import digits
from pyrovae.data.file_images import binarized_mnist, freyfaces, omniglot28
from pyrovae.data.hiding import hide
from pyrovae.data.idx_images import fashion_mnist, mnist
from pyrovae.data.inventory import Listed, listing, verify
from pyrovae.data.loading import load
from pyrovae.data.own_arrays import arrays
from pyrovae.data.own_images import images
from pyrovae.data.own_tables import table
from pyrovae.data.splits import Data, Split
from pyrovae.data.standardization import Standardization
from pyrovae.data.text import newsgroups, tiny_shakespeare
from pyrovae.data.torchvision_images import celeba, cifar10, svhn
from pyrovae.data.uci_tables import uci

__all__ = [
    "Data",
    "Listed",
    "Split",
    "Standardization",
    "adbench",
    "arrays",
    "binarized_mnist",
    "celeba",
    "cifar10",
    "digits",
    "fashion_mnist",
    "freyfaces",
    "hide",
    "images",
    "listing",
    "load",
    "mnist",
    "names",
    "newsgroups",
    "omniglot28",
    "svhn",
    "table",
    "tiny_shakespeare",
    "uci",
    "verify",
]
