"""Priors that are mixtures: of learned components, and of the encoder's posteriors at learned inputs."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import nn

from pyrovae import distributions, trees
from pyrovae.distributions import mixture
from pyrovae.errors import PyrovaeError
from pyrovae.families import inverse_positive, positive
from pyrovae.families.normals import triangular
from pyrovae.priors.base import Prior, check_latent


class NormalMixture(Prior):
    """p(z) = sum_k w_k prod_d Normal(z_d; m_kd, s_kd), all learned.

    Args:
        latent: the dimension of z.
        num_components: K.
        spread: standard deviation of the components' initial locations.
    """

    def __init__(self, latent: int, num_components: int, *, spread: float = 1.0) -> None:
        super().__init__()
        check_latent(latent)
        _check_components(num_components)
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(spread * torch.randn(num_components, latent))
        self.raw_scale = nn.Parameter(torch.full((num_components, latent), inverse_positive(1.0)))

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        return mixture(self.logits, dist.Normal(self.loc, positive(self.raw_scale)).to_event(1))


class FullNormalMixture(Prior):
    """p(z) = sum_k w_k Normal(z; m_k, L_k L_k^T), all learned: full covariances, which start at the identity.

    Args: as ``NormalMixture``.
    """

    def __init__(self, latent: int, num_components: int, *, spread: float = 1.0) -> None:
        super().__init__()
        check_latent(latent)
        _check_components(num_components)
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(spread * torch.randn(num_components, latent))
        self.raw_diagonal = nn.Parameter(torch.full((num_components, latent), inverse_positive(1.0)))
        self.below = nn.Parameter(torch.zeros(num_components, latent * (latent - 1) // 2))

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        scale_tril = triangular(self.raw_diagonal, self.below)
        return distributions.FullNormalMixture(self.logits, self.loc, scale_tril)


def _check_components(num_components: int) -> None:
    if num_components < 1:
        raise PyrovaeError(f"a mixture needs at least one component; got {num_components}")


class VampPrior(Prior):
    """p(z) = 1/K sum_k q(z | u_k): a mixture of the encoder's posteriors at learned pseudo-inputs.

    Args:
        encoder: the program's own encoder; the weights are shared, in memory and in training.
        pseudo_inputs: the u_k to start from, (K, *event_shape), for instance training data; they are copied. With a
            conditional encoder a tuple (x, *given): the pseudo-inputs then have pseudo-labels, learned too. What is
            missing of them (NaN, which the encoder has to read) stays missing: fill it in, as ``recipes.Vamp`` does
            with the data's mean, where it is to be learned.

    Tomczak & Welling 2018, "VAE with a VampPrior".
    """

    def __init__(self, encoder: nn.Module, pseudo_inputs: trees.Tree) -> None:
        super().__init__()
        self.encoder = encoder
        parents = pseudo_inputs if isinstance(pseudo_inputs, tuple) else (pseudo_inputs,)
        trees.num_data(*parents)
        self.pseudo_inputs = nn.ParameterList(p.detach().to(torch.get_default_dtype(), copy=True) for p in parents)

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        components = self.encoder(*self.pseudo_inputs)  # batch shape (K,)
        count = components.batch_shape[0]
        return mixture(self.pseudo_inputs[0].new_zeros(count), components)
