"""Values missing not at random: whether a value is seen depends on the value, so the mask is modelled too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae.conditional import Conditional
from pyrovae.errors import PyrovaeError
from pyrovae.families import inverse_positive, positive
from pyrovae.observations.base import Observation, auxiliary, example
from pyrovae.observations.missing import Incomplete, elementwise, examples, is_missing
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree


class MissingNotAtRandom(Observation):
    """Which values are seen depends on the values: p(x_seen, s) = E_{p(z)} int p(x | z) p(s | x) dx_missing.

    The mask s (1 where seen) is the observed site ``x.seen``. Values for the missing elements are drawn from the
    decoder, in the guide at the guide's z, so that their density cancels in the weight p / q; they are the site
    ``x.missing``, of which only the elements that are missing are read. ``log_marginal`` gives log p(x_seen, s), nats.
    With the objective ``iwae`` this is not-MIWAE. Missing elements are NaN.

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
        >>> encoder = pv.Conditional(pv.readings.ValuesAndMask(pv.networks.MLP(6, 16, 4)), pv.families.normal)
        >>> observed = pv.MissingNotAtRandom(decoder, pv.SelfMasking(3, sign=1))
        >>> vae = pv.VAE(pv.priors.StandardNormal(2), observed, encoder)
        >>> list(pv.log_terms(vae, torch.tensor([[0.3, 1.2, torch.nan]])).sites)
        ['z', 'x.missing', 'x', 'x.seen']
    """

    missing_values = True

    def __init__(self, decoder: nn.Module, mask_model: nn.Module) -> None:
        for distribution in examples(decoder):
            _check_drawn(distribution)
        super().__init__(decoder)
        self.mask_model = mask_model

    def observe(self, name: str, likelihood: Any, x: Tree) -> Tree:
        if x is None:
            x = pyro.sample(name, likelihood)
            pyro.sample(f"{name}.seen", self.mask_model(x), infer=_MARK)
            return x
        drawn = auxiliary(f"{name}.missing", likelihood)
        seen = pyro.sample(name, Incomplete(likelihood), obs=x)
        missing = is_missing(x)
        pyro.sample(f"{name}.seen", self.mask_model(torch.where(missing, drawn, x)), obs=(~missing).to(x), infer=_MARK)
        return seen

    def propose(self, name: str, x: Tree, *parents: Tree) -> None:
        likelihood = self.decoder(*parents)
        _check_drawn(likelihood)
        auxiliary(f"{name}.missing", likelihood)
