"""The variational autoencoder as a Pyro program."""

from __future__ import annotations

from typing import Any

import pyro
from torch import nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.observations import incomplete, observe, propose
from pyrovae.parameters import expose
from pyrovae.programs.compatible import check_parts
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree


class VAE(Recorded, nn.Module):
    """p(z | given) p(x | z, given) with the guide q(z | x, given) (Kingma & Welling 2014; Rezende et al. 2014).

    Each slot takes any module that maps its parents to a distribution::

        z ~ prior(*given)         x ~ decoder(z, *given)         guide: z ~ encoder(x, *given)

    Args:
        prior: p(z | given); batch shape () or (N,), event shape (latent,).
        decoder: p(x | z, given), the likelihood; a tree of distributions where ``x`` is a tree.
        encoder: q(z | x, given), the posterior family.

    Raises:
        PyrovaeError: parts that cannot be combined: latents of different shape or support in prior and encoder (a
            relaxed posterior needs a relaxed prior), a decoder's network for latents of another shape, networks that
            disagree about what is given, a flow without an inverse where a density of given points is needed.

    ``x`` and ``given`` are tensors, or trees of them, with one leading dimension N. Site names are ``z`` and ``x``
    (``x.key`` for the entries of a tree). Stock Pyro takes ``vae.model`` and ``vae.guide`` as they are.

    Example:
        >>> import torch, pyrovae as pv
        >>> encoder = pv.Conditional(pv.networks.MLP(6, 16, 4), pv.families.normal)
        >>> decoder = pv.Conditional(pv.networks.MLP(2, 16, 6), pv.families.bernoulli)
        >>> vae = pv.VAE(pv.priors.StandardNormal(2), decoder, encoder)
        >>> pv.log_terms(vae, torch.ones(5, 6), num_particles=3).log_px_z.shape
        torch.Size([3, 5])
    """

    def __init__(self, prior: nn.Module, decoder: nn.Module, encoder: nn.Module) -> None:
        check_parts(prior, decoder, encoder)
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.encoder = encoder

    @property
    def missing_values(self) -> tuple[str, ...]:
        """Where missing values are declared: names of leaves of x, or what such names begin with."""
        return tuple(incomplete(self.decoder, "x"))

    def model(self, x: Tree = None, *given: Tree, num_data: int | None = None) -> Tree:
        """The joint p(x, z | given); samples ``num_data`` new rows where ``x`` is None. Returns x."""
        expose(self)
        size = num_data if num_data is not None else trees.num_data(x, *given)
        with pyro.plate("data", size, dim=-1):
            z = pyro.sample("z", _checked("prior", self.prior(*given), size))
            return observe(self.decoder, "x", self.decoder(z, *given), x)

    def guide(self, x: Tree, *given: Tree) -> Any:
        """The amortized posterior q(z | x, given). Returns z."""
        expose(self)
        size = trees.num_data(x, *given)
        with pyro.plate("data", size, dim=-1):
            q = _checked("encoder", self.encoder(x, *given), size)
            z = pyro.sample("z", q, infer=_enumerated(q))
            propose(self.decoder, "x", x, z, *given)
            return z


def _enumerated(distribution: Any) -> Any:
    """Discrete latents are summed over, not sampled, wherever that is asked for."""
    discrete = not distribution.has_rsample and distribution.has_enumerate_support
    return {"enumerate": "parallel"} if discrete else {}


def _checked(part: str, distribution: Any, size: int) -> Any:
    """The distribution of z, whose batch shape must end in the data; shapes only, so nothing is looked at."""
    batch = tuple(distribution.batch_shape)
    if batch and batch[-1] not in (1, size):
        raise PyrovaeError(
            f"the {part} gives batch shape {batch} and event shape {tuple(distribution.event_shape)} for {size} data: "
            "its batch shape must be () or (N,), so declare the latent dimensions as the event, with .to_event(1)"
        )
    return distribution
