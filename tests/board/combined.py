"""Programs made of any parts of the board, and data that suit them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import board

N, WIDTH = 12, 2  # data and columns
VALUES: dict[str, Callable[[], Tensor]] = {  # what a likelihood's x may be
    "bits": lambda: torch.rand(N, WIDTH).round(),
    "reals": lambda: torch.randn(N, WIDTH),
    "counts": lambda: torch.randint(5, (N, WIDTH)).float(),
    "categories": lambda: torch.randint(4, (N, WIDTH)).float(),
    "levels": lambda: torch.randint(8, (N, WIDTH)) / 7,
}


def program(prior: str, likelihood: str, posterior: str, x: Tensor, latent: int = 2) -> pv.VAE:
    """The VAE of three parts of the board.

    Raises:
        PyrovaeError: where they cannot be combined.
    """
    encoder: nn.Module = board.POSTERIORS[posterior].make(WIDTH, latent)
    decoder = board.LIKELIHOODS[likelihood].make(latent, WIDTH)
    return pv.VAE(board.PRIORS[prior].make(encoder, x, latent), decoder, encoder)
