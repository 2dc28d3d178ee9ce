"""Tables of ADBench, for the detection of anomalies."""

import numpy as np

from pyrovae.data import files
from pyrovae.data.files import Root
from pyrovae.data.npy import check_array, parse_npz
from pyrovae.data.partition import Share
from pyrovae.data.pixels import digest
from pyrovae.data.splits import Data
from pyrovae.data.tables import TEST, VALIDATION, split_table

ADBENCH = {  # name: (file, N, D, sha256)
    "annthyroid": ("2_annthyroid", 7200, 6, "e738f7c58a8740d2c4aac4c71ff49ce5e1d1aa16f44178135fc9c09df05fad1b"),
    "breastw": ("4_breastw", 683, 9, "4f37ce07dbc25ddad8178fdc6d664ab46d2d0000ee28c2787c3c7ff3c03ef9f6"),
    "cardio": ("6_cardio", 1831, 21, "bc5009bde6930b4d298b594f31b34485a9a17210cff0e8fb00a8c3068b885a2d"),
    "ionosphere": ("18_Ionosphere", 351, 32, "bca46cb0cfd1bf9ddef6cde5ad2215d54fb0189508d0d4c4eb98e788cad69001"),
    "mammography": ("23_mammography", 11183, 6, "a0308ac9712d78321073b1c2dc98dc37665c0f35c1cc33019416fe8f8d7de7ea"),
    "satellite": ("30_satellite", 6435, 36, "1f048f5686f1b8c16a227fdfa3c81a62cd9a92715714a6b24c69b1c5ad96b46e"),
    "shuttle": ("32_shuttle", 49097, 9, "26900b0f6be45d9ddb7a402c9b2f956ceda42d23a8ca4cf4406b8bc1352823d1"),
    "thyroid": ("38_thyroid", 3772, 6, "8de161b3f235b7647bb0b39a836d983ff61d67bf234edac461da2d71e889cb87"),
    "wdbc": ("43_WDBC", 367, 30, "78d4606a1ab516f5b60b00c196497f3bbd6bd5e4548fd04cf5f2475209b34b85"),
}


def adbench_file(name: str) -> files.Published:
    """The file of a set of ADBench."""
    stem, _, _, checksum = ADBENCH[name]
    address = f"https://raw.githubusercontent.com/Minqi824/ADBench/main/adbench/datasets/Classical/{stem}.npz"
    return files.Published(f"adbench/{name}", (f"adbench/{stem}.npz",), (address,), f"sha256:{checksum}")


def adbench(
    name: str,
    *,
    standardize: bool = True,
    seed: int = 0,
    validation: Share = VALIDATION,
    test: Share = TEST,
    root: Root = None,
    download: bool = True,
) -> Data:
    """A table for the detection of anomalies: x (N, D), the label 1 where a row is an anomaly.

    All splits hold normal rows and anomalies. Source: Han, Hu, Huang, Jiang and Zhao (2022), "ADBench: anomaly
    detection benchmark".

    Args:
        name: annthyroid, breastw, cardio, ionosphere, mammography, satellite, shuttle, thyroid or wdbc.
        standardize, seed, validation, test, download: as for :func:`uci`.
        root: a folder with ``adbench/*.npz``; else that of PYROVAE_DATA.

    Raises:
        PyrovaeError: as :func:`uci`.
    """
    file, (_, count, width, _) = adbench_file(name), ADBENCH[name]
    raw = files.read(file, root=root, download=download)
    arrays = parse_npz(raw, name=file.name)
    x, y = (arrays.get(key, np.empty(0)) for key in "Xy")
    check_array(arrays, "X", (count, width), x.dtype.name, name=file.name)
    check_array(arrays, "y", (count,), y.dtype.name, name=file.name)
    return split_table(
        f"adbench/{name}", x, y, columns=[f"x{i}" for i in range(width)], classes=("normal", "anomaly"),
        standardize=standardize, seed=seed, validation=validation, test=test, fingerprint=digest(raw),
    )  # fmt: skip
