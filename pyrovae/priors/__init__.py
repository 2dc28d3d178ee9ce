"""Priors: modules that map the conditioning variables, or nothing, to a distribution of the latents.

Any ``Conditional`` serves as a prior p(z | given), and any family as one that ignores what is given (``Learned``).
Writing another one takes a ``forward(*given)`` that returns a distribution with event shape (latent,).
"""

from pyrovae.priors.base import Categorical, Laplace, Learned, Normal, Prior, StandardNormal, StudentT
from pyrovae.priors.exemplar import ExemplarPrior
from pyrovae.priors.flow import Flow
from pyrovae.priors.mixtures import FullNormalMixture, NormalMixture, VampPrior

__all__ = [
    "Categorical",
    "ExemplarPrior",
    "Flow",
    "FullNormalMixture",
    "Laplace",
    "Learned",
    "Normal",
    "NormalMixture",
    "Prior",
    "StandardNormal",
    "StudentT",
    "VampPrior",
]
