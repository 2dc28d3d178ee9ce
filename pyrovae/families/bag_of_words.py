"""Bags of words: how often each word of a vocabulary occurs in a document."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from pyrovae.errors import PyrovaeError
from pyrovae.families.base import VectorFamily
from pyrovae.precision import float64

RARE = 1e-6  # of all words: a word that no training document holds may yet occur


class Multinomial(VectorFamily):
    """P(x | n) = n! / prod_d x_d! prod_d softmax(logits)_d^x_d with n = sum_d x_d, the document's own length; nats.

    It sums to one over all bags of the length n, for every n: how long documents are is not modelled, and figures are
    comparable with those of likelihoods that condition on n too (Miao, Yu & Blunsom 2016). D logits. A document of
    counts of one word has the same length whatever the word, so single missing counts cannot be left out.

    Args:
        total_count: the length of the documents that are drawn; nothing else depends on it.
    """

    def __init__(self, total_count: int = 100) -> None:
        super().__init__()
        if total_count < 0:
            raise PyrovaeError(f"a document cannot have {total_count} words")
        self.total_count = total_count

    def forward(self, logits: Tensor) -> TorchDistribution:
        return BagOfWords(self.total_count, logits=logits.log_softmax(-1))

    def out_shape(self, event_shape: Sequence[int]) -> Size:
        return Size((self.width(event_shape),))

    def params_at(self, mean: Tensor) -> Tensor:
        """The logarithm of each word's share."""
        return (mean / mean.sum().clamp(min=RARE) + RARE).log()


class BagOfWords(dist.Multinomial):
    """Torch's, of any length, scored in float64: ``total_count`` is that of what is drawn."""

    support = constraints.independent(constraints.nonnegative_integer, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        x = float64(value)
        orders = (x.sum(-1) + 1).lgamma() - (x + 1).lgamma().sum(-1)
        return (orders + (x * float64(self.logits)).sum(-1)).to(self.logits)
