"""Families: from the numbers a network gives to a distribution.

A family is any callable ``family(*params) -> Distribution``, elementwise in its parameters; it says with
``num_params`` how many numbers it wants per element (one where it says nothing). ``Conditional`` splits the network's
output into that many tensors along the first event dimension and declares the result's event, so that a family need
not know whether it serves a vector or an image::

    laplace = lambda loc: dist.Laplace(loc, 1.0)           # a family in one line

    class Laplace(pv.families.Family):                     # one with two parameters per element
        num_params = 2
        def forward(self, loc, raw_scale):
            return dist.Laplace(loc, pv.families.positive(raw_scale))

A ``VectorFamily`` gets the network's whole output and gives a distribution of a whole vector, whose elements need not
be independent: a full covariance, a flow, a bag of words.

The decoder's family is the likelihood, the encoder's the posterior; ``pyrovae.priors.Learned`` makes a prior of one.
"""

from pyrovae.families.base import (
    MIN_RATE,
    MIN_SCALE,
    Family,
    VectorFamily,
    inverse_positive,
    num_params,
    out_shape,
    positive,
)
from pyrovae.families.elementwise import (
    Bernoulli,
    Categorical,
    FixedScaleNormal,
    Normal,
    Poisson,
    SharedScaleNormal,
)
from pyrovae.families.normals import FullNormal, LowRankNormal, NormalMixture
from pyrovae.families.relaxed import RelaxedOneHotCategorical
from pyrovae.families.vector import OneHotCategorical

bernoulli = Bernoulli()
full_normal = FullNormal()
normal = Normal()
poisson = Poisson()

__all__ = [
    "MIN_RATE",
    "MIN_SCALE",
    "Bernoulli",
    "Categorical",
    "Family",
    "FixedScaleNormal",
    "FullNormal",
    "LowRankNormal",
    "Normal",
    "NormalMixture",
    "OneHotCategorical",
    "Poisson",
    "RelaxedOneHotCategorical",
    "SharedScaleNormal",
    "VectorFamily",
    "bernoulli",
    "full_normal",
    "inverse_positive",
    "normal",
    "num_params",
    "out_shape",
    "poisson",
    "positive",
]
