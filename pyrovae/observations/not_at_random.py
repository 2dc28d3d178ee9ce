"""Values missing not at random: whether a value is seen depends on the value, so the mask is modelled too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae.conditional import Product
from pyrovae.errors import PyrovaeError
from pyrovae.families import inverse_positive, positive
from pyrovae.observations.base import Observation, auxiliary
from pyrovae.observations.missing import Incomplete, elementwise, examples, is_missing
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree

TREE = "a mask model reads one tensor, and this decoder gives a tree: wrap the conditional of a leaf"


class MissingNotAtRandom(Observation):
    """Which values are seen depends on the values: p(x_seen, s) = E_{p(z)} int p(x | z) p(s | x) dx_missing.

    The mask s (1 where seen) is the observed site ``x.seen``. Values for the missing elements are drawn from the
    decoder, in the guide at the guide's z, so that their density cancels in the weight p / q; they are the site
    ``x.missing``, of which only the elements that are missing are scored and read. ``log_marginal`` gives
    log p(x_seen, s), nats: the mask has bits of its own, so there are none per dimension, and the figure is not to be
    compared with that of ``pyrovae.Missing``. With the objective ``iwae`` this is not-MIWAE. Missing elements are NaN.

    Args:
        decoder: p(x | z), with independent, reparameterised elements.
        mask_model: p(s | x), any module from a complete x to a distribution of a mask of its shape, such as
            ``SelfMasking`` or ``Conditional(MLP(D, 32, D), families.bernoulli)``. What is missing is not seen, so what
            a mask model assumes decides what is imputed.

    Raises:
        PyrovaeError: a decoder whose elements are not independent given z, or cannot be drawn with a gradient.

    Ipsen, Mattei & Frellsen 2021, "not-MIWAE".

    Example:
        >>> import torch, pyrovae as pv
        >>> decoder = pv.Conditional(pv.networks.MLP(2, 16, 6), pv.families.normal)
        >>> net = pv.readings.Reading(pv.networks.MLP(6, 16, 4), pv.readings.ValuesAndMask())
        >>> encoder = pv.Conditional(net, pv.families.normal)
        >>> observed = pv.MissingNotAtRandom(decoder, pv.SelfMasking(3, sign=1))
        >>> vae = pv.VAE(pv.priors.StandardNormal(2), observed, encoder)
        >>> list(pv.log_terms(vae, torch.tensor([[0.3, 1.2, torch.nan]])).sites)
        ['z', 'x.missing', 'x', 'x.seen']
    """

    missing_values = True

    def __init__(self, decoder: nn.Module, mask_model: nn.Module) -> None:
        if isinstance(decoder, Product):
            raise PyrovaeError(TREE)
        for distribution in examples(decoder):
            _check_drawn(distribution)
        super().__init__(decoder)
        self.mask_model = mask_model

    def forward(self, *parents: Tree) -> Any:
        return Incomplete(self.decoder(*parents))

    def observe(self, name: str, likelihood: Any, x: Tree) -> Tree:
        if x is None:
            complete = value = pyro.sample(name, likelihood)
            seen = None
        else:
            drawn = auxiliary(f"{name}.missing", likelihood.unseen(x))
            value = pyro.sample(name, likelihood, obs=x)
            complete, seen = torch.where(is_missing(x), drawn, x), (~is_missing(x)).to(x)
        pyro.sample(f"{name}.seen", self.mask_model(complete), obs=seen, infer=_mask_of(name))
        return value

    def propose(self, name: str, x: Tree, *parents: Tree) -> None:
        likelihood = self.decoder(*parents)
        _check_drawn(likelihood)
        auxiliary(f"{name}.missing", Incomplete(likelihood).unseen(x))


class SelfMasking(Recorded, nn.Module):
    """P(s_d = 1 | x_d) = sigmoid(a_d - w_d x_d): each element is seen or not by its own value (a learned, w learned).

    Args:
        shape: of x, an int for columns.
        sign: 1 where larger values are missing more often (w > 0), -1 where smaller ones are, None where that is to be
            learned. A sign that is known helps much: without it the data can often be explained either way.

    Ipsen, Mattei & Frellsen 2021.
    """

    def __init__(self, shape: int | Sequence[int], *, sign: int | None = None) -> None:
        super().__init__()
        if sign not in (1, -1, None):
            raise PyrovaeError(f"sign must be 1 (larger values are missing), -1 (smaller ones) or None; got {sign!r}")
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        self.sign = sign
        self.offset = nn.Parameter(torch.zeros(size))
        self.raw_weight = nn.Parameter(torch.full(size, inverse_positive(1.0) if sign else 0.0))

    @property
    def weight(self) -> Tensor:
        """w: how fast the log-odds of being seen fall as a value grows."""
        return self.sign * positive(self.raw_weight) if self.sign else self.raw_weight

    def forward(self, x: Tensor) -> TorchDistribution:
        return dist.Bernoulli(logits=self.offset - self.weight * x).to_event(self.offset.dim())


def _mask_of(name: str) -> Any:
    """A mask is no part of x: figures and ``reconstruct`` leave it out. What it hides of a drawn x is latent."""
    return {"auxiliary": True, "hides": (name, f"{name}.missing")}


def _check_drawn(likelihood: Any) -> None:
    if isinstance(likelihood, dict | tuple | list):
        raise PyrovaeError(TREE)
    if not getattr(elementwise(likelihood), "has_rsample", False):
        raise PyrovaeError(
            f"missing values of a {type(elementwise(likelihood)).__name__} cannot be drawn with a gradient, which the "
            "mask model needs: use a reparameterised likelihood such as pyrovae.families.normal, or pyrovae.Missing, "
            "which takes them as missing at random"
        )
