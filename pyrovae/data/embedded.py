"""The digits that come with scikit-learn: nothing to download."""

import torch
from torch import Tensor

from pyrovae.data.binarization import check_binarization
from pyrovae.data.files import Root
from pyrovae.data.partition import Share, shuffled
from pyrovae.data.pixels import digest, image_data
from pyrovae.data.splits import Data


def digits(
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: Share = 200,
    test: Share = 400,
    root: Root = None,
    download: bool = True,
) -> Data:
    """1,797 handwritten digits, x of shape (N, 1, 8, 8), split by a seeded permutation into 1,197/200/400.

    The pixel values 0..16 are divided by 16. ``root`` and ``download`` are accepted, so that every data set is called
    alike, and not used. Source: Alpaydin and Kaynak (1998), "Optical recognition of handwritten digits", its test
    set, as embedded in scikit-learn.

    Args:
        validation, test: how many are held out; a float is a fraction of all. The test split is the same whatever is
            held out for validation.

    Raises:
        PyrovaeError: an unknown binarization; a split that would be empty.
    """
    check_binarization(binarization)
    pixels, labels = _read()
    generator = torch.Generator("cpu").manual_seed(seed)
    parts = shuffled(len(pixels), validation=validation, test=test, generator=generator)
    return image_data(
        "digits", [pixels[part].float() / 16 for part in parts], [labels[part].long() for part in parts],
        binarization=binarization, seed=seed, generator=generator, classes=[str(i) for i in range(10)],
        fingerprint=digest(pixels, labels),
    )  # fmt: skip


def _read() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 1, 8, 8) and labels (1797,), both uint8: the dtypes of scikit-learn's depend on the platform."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.images.astype("uint8")).unsqueeze(1), torch.from_numpy(bunch.target.astype("uint8"))
