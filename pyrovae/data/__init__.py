"""The data sets: digits (embedded in scikit-learn, the default), mnist and fashion_mnist."""

from pyrovae.data.catalogue import load, names
from pyrovae.data.embedded import digits
from pyrovae.data.idx_images import fashion_mnist, mnist
from pyrovae.data.splits import Data, Split

__all__ = ["Data", "Split", "digits", "fashion_mnist", "load", "mnist", "names"]
