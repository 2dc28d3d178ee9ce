"""The digits that come with scikit-learn: nothing to download."""

import hashlib
import os

import torch
from torch import Tensor

from pyrovae.data.binarization import binarize, check_binarization
from pyrovae.data.splits import Data, Split, check_validation

_TEST = 400  # of the 1,797 digits


def digits(
    *,
    binarization: str = "dynamic",
    seed: int = 0,
    validation: int = 200,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Data:
    """1,797 handwritten digits, x of shape (N, 1, 8, 8), split by a seeded permutation into 1,197/200/400.

    The pixel values 0..16 are divided by 16. ``validation`` of the 1,397 digits that are not for testing are held out.
    ``root`` and ``download`` are accepted, so that every data set is called alike, and not used. Source: Alpaydin and
    Kaynak (1998), "Optical recognition of handwritten digits", its test set, as embedded in scikit-learn.

    Raises:
        PyrovaeError: an unknown binarization; a validation split that is empty or leaves nothing to train on.
    """
    check_binarization(binarization)
    pixels, labels = _read()
    generator = torch.Generator("cpu").manual_seed(seed)
    check_validation(validation, len(pixels) - _TEST)
    sizes = (len(pixels) - _TEST - validation, validation, _TEST)
    parts = torch.randperm(len(pixels), generator=generator, device="cpu").split(sizes)
    x = binarize(*(pixels[part].float() / 16 for part in parts), binarization=binarization, generator=generator)
    splits = (Split(x_part, labels[part].long()) for x_part, part in zip(x, parts, strict=True))
    return Data("digits", *splits, binarization, seed, 10, _fingerprint(pixels, labels))


def _read() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 1, 8, 8) and labels (1797,), both uint8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.images.astype("uint8")).unsqueeze(1), torch.from_numpy(bunch.target.astype("uint8"))


def _fingerprint(pixels: Tensor, labels: Tensor) -> str:
    # scikit-learn hands over arrays whose dtypes depend on the platform; their values as bytes do not.
    return hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
