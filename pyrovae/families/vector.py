"""Families of a whole vector, whose elements are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Size, Tensor

from pyrovae.families.base import VectorFamily


class OneHotCategorical(VectorFamily):
    """One of D categories as a one-hot vector z (D,): P(z) = prod_d softmax(logits)_d^z_d.

    As a latent it is enumerated: every term is summed over its D values, with no sampling. The network of the decoder
    reads the one-hot vector as any other.
    """

    def forward(self, logits: Tensor) -> TorchDistribution:
        return dist.OneHotCategorical(logits=logits.log_softmax(-1))  # as in ``Categorical``

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        return Size((self.width(event_shape),))
