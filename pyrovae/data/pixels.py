"""From pixels to a data set of images."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from pyrovae.data.binarization import binarize, check_binarization
from pyrovae.data.splits import Data, Split

Triple = Sequence[Tensor]  # of the training, validation and test split


def as_grey(pixels: Tensor) -> Tensor:
    """uint8 pixels 0..255 as float32 in [0, 1]."""
    return pixels.float() / 255


def in_unit_interval(parts: Sequence[Tensor]) -> list[Tensor]:
    """Pixels as float32 in [0, 1]: floats as they are, uint8 divided by 255, or as bits where no part exceeds 1."""
    bits = not any((part > 1).any() for part in parts)  # 1 of 255 is no grey anybody sees: it stands for white
    return [part.float() if bits else as_grey(part) for part in parts]


def image_data(
    name: str,
    x: Triple,
    labels: Sequence[Tensor | None],
    *,
    binarization: str,
    seed: int,
    fingerprint: str,
    classes: Sequence[str] = (),
    missing: bool = False,
    generator: torch.Generator | None = None,
) -> Data:
    """Grey values x in [0, 1], each (N, C, H, W), under a binarization; its bits come from ``seed``.

    Args:
        missing: whether values are missing, NaN.
        generator: the source of the bits, where the seed has served for the split already.
    """
    check_binarization(binarization)
    drawn = binarize(*x, binarization=binarization, generator=generator or torch.Generator("cpu").manual_seed(seed))
    train, validation, test = map(Split, drawn, labels)
    return Data(name, train, validation, test, binarization, seed, fingerprint, classes=tuple(classes), missing=missing)


def digest(*parts: Tensor | bytes | None) -> str:
    """sha256 over bytes and the values of tensors."""
    found = hashlib.sha256()
    for part in parts:
        if part is not None:
            found.update(part if isinstance(part, bytes) else part.contiguous().numpy().tobytes())
    return found.hexdigest()


def is_bits(x: Tensor) -> bool:
    """Whether every value that is seen is 0 or 1."""
    return bool(((x == 0) | (x == 1) | x.isnan()).all())
