"""From grey values to bits."""

import torch
from torch import Tensor

from pyrovae.nearest import check_known

BINARIZATIONS = ("dynamic", "static", "none")


def check_binarization(name: str) -> None:
    """Raise PyrovaeError, with the nearest names, unless the name is one of BINARIZATIONS."""
    check_known("binarization", name, BINARIZATIONS)


def bernoulli(x: Tensor, *, generator: torch.Generator) -> Tensor:
    """One draw from Bernoulli(x), elementwise, in x's shape, dtype and device; NaN, a missing value, stays so.

    The uniform lies in [0, 1), so that a pixel of probability 0 is never drawn and one of probability 1 always is.
    """
    uniform = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return torch.where(x.isnan(), x, (uniform < x).to(x.dtype))


def binarize(
    train: Tensor, validation: Tensor, test: Tensor, *, binarization: str, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The three splits as :class:`~pyrovae.data.splits.Data` holds them under a binarization."""
    if binarization == "none":
        return train, validation, test
    # The test split comes first and the training split last: with one seed, the test bits are then the same whatever is
    # held out for validation, and "dynamic" and "static" are evaluated on the same bits.
    test, validation = bernoulli(test, generator=generator), bernoulli(validation, generator=generator)
    return bernoulli(train, generator=generator) if binarization == "static" else train, validation, test
