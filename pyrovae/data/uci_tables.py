"""Tables of the UCI machine learning repository."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

from pyrovae.data import files
from pyrovae.data.files import Root
from pyrovae.data.partition import Share
from pyrovae.data.pixels import digest
from pyrovae.data.splits import Data
from pyrovae.data.tables import TEST, VALIDATION, split_table
from pyrovae.errors import PyrovaeError


class Uci(NamedTuple):
    """How a UCI set is published."""

    title: str
    file: files.Published
    columns: tuple[str, ...]  # of the numbers
    classes: tuple[str, ...]  # of the label, as the file writes them; none where there is no label
    read: Callable[[bytes], Any]  # to a pandas data frame: the numbers, then the label where there is one
    num_data: int
    names: tuple[str, ...] = ()  # of the classes, where the file's are not readable


def _csv(**options: Any) -> Callable[[bytes], Any]:
    def read(raw: bytes) -> Any:
        import pandas

        return pandas.read_csv(io.BytesIO(raw), **options)

    return read


def _xls(raw: bytes) -> Any:
    """By xlrd itself, which pandas no longer wants to call."""
    import pandas

    try:
        import xlrd
    except ImportError as error:
        raise PyrovaeError(
            "uci/concrete is published as .xls, which needs xlrd to be read: pip install 'pyrovae[xls]'"
        ) from error
    sheet = xlrd.open_workbook(file_contents=raw).sheet_by_index(0)
    return pandas.DataFrame([sheet.row_values(i) for i in range(1, sheet.nrows)], dtype=float)


def _file(name: str, folder: str, published: str, checksum: str) -> files.Published:
    address = f"https://archive.ics.uci.edu/ml/machine-learning-databases/{published}"
    place = f"uci/{folder}/{published.rsplit('/')[-1]}"
    return files.Published(f"uci/{name}", (place,), (address,), f"sha256:{checksum}")


MEASURED = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip
WINE = (
    "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
    "total sulfur dioxide", "density", "pH", "sulphates", "alcohol",
)  # fmt: skip
UCI = {
    "banknote": Uci(
        "banknote authentication: wavelet features of photographs",
        _file("banknote", "banknote", "00267/data_banknote_authentication.txt",
              "d0539aaed2139ba7a587b3e34fb345ce503ff7d5d33dbf9912d8e195ce425cb9"),
        ("variance", "skewness", "curtosis", "entropy"), ("0", "1"), _csv(header=None), 1372,
    ),
    "breast_cancer": Uci(
        "breast cancer Wisconsin (diagnostic): measures of cell nuclei",
        _file("breast_cancer", "breast_cancer_diagnostic", "breast-cancer-wisconsin/wdbc.data",
              "d606af411f3e5be8a317a5a8b652b425aaf0ff38ca683d5327ffff94c3695f4a"),
        tuple(f"{kind} {name}" for kind in ("mean", "error of", "worst") for name in MEASURED),
        ("B", "M"), lambda raw: _csv(header=None)(raw)[[*range(2, 32), 1]], 569, ("benign", "malignant"),
    ),
    "concrete": Uci(
        "concrete compressive strength: ingredients, age and strength",
        _file("concrete", "concrete_compression", "concrete/compressive/Concrete_Data.xls",
              "710076c66b9ca3f8050e7942f3dcbdbe04013534daeb0077ffd3079a52d8e0c4"),
        ("cement", "slag", "fly ash", "water", "superplasticizer", "coarse aggregate", "fine aggregate", "age",
         "strength"), (), _xls, 1030,
    ),
    "wine_red": Uci(
        "wine quality, red vinho verde",
        _file("wine_red", "wine_quality_red", "wine-quality/winequality-red.csv",
              "4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e"),
        WINE, tuple("345678"), _csv(sep=";"), 1599,
    ),
    "wine_white": Uci(
        "wine quality, white vinho verde",
        _file("wine_white", "wine_quality_white", "wine-quality/winequality-white.csv",
              "76c3f809815c17c07212622f776311faeb31e87610d52c26d87d6e361b169836"),
        WINE, tuple("3456789"), _csv(sep=";"), 4898,
    ),
    "yeast": Uci(
        "yeast: where proteins are localised in a cell",
        _file("yeast", "yeast", "yeast/yeast.data",
              "7cf61776fc04f527f93bf57a327b863893a1225d82df02d457e8950173218258"),
        ("mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc"),
        ("CYT", "ERL", "EXC", "ME1", "ME2", "ME3", "MIT", "NUC", "POX", "VAC"),
        lambda raw: _csv(sep=r"\s+", header=None)(raw)[list(range(1, 10))], 1484,
    ),
}  # fmt: skip


def uci(
    name: str,
    *,
    standardize: bool = True,
    seed: int = 0,
    validation: Share = VALIDATION,
    test: Share = TEST,
    root: Root = None,
    download: bool = True,
) -> Data:
    """A table of the UCI machine learning repository: x (N, D), split by a seeded permutation.

    The class of a row, or a wine's quality, is its label; all other numbers are columns, concrete's strength too.

    Args:
        name: banknote, breast_cancer, concrete, wine_red, wine_white or yeast.
        standardize: whether each column is shifted and scaled by the training split's mean and standard deviation;
            see ``Data.log_jacobian``.
        seed: of the permutation.
        validation, test: how many rows are held out; a float is a fraction of all.
        root: a folder with ``uci/...`` as `pyrovae data` shows; else that of PYROVAE_DATA.
        download: whether a file that is neither there nor in the cache may be downloaded into the cache.

    Raises:
        PyrovaeError: a split that would be empty; a file that is absent, altered or malformed; concrete without xlrd.
    """
    source = UCI[name]
    raw = files.read(source.file, root=root, download=download)
    frame = source.read(raw)
    width = len(source.columns)
    if frame.shape != (source.num_data, width + bool(source.classes)):
        raise PyrovaeError(f"uci/{name}: read a table of {frame.shape}, expected {source.num_data} rows")
    labels = frame.iloc[:, width].astype(str).map(list(source.classes).index) if source.classes else None
    return split_table(
        f"uci/{name}", frame.iloc[:, :width].to_numpy(), None if labels is None else labels.to_numpy(),
        columns=source.columns, classes=source.names or source.classes, standardize=standardize, seed=seed,
        validation=validation, test=test, fingerprint=digest(raw),
    )  # fmt: skip
