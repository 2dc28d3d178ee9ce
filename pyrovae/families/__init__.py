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

=======================  =====================================================================================
x                        families
=======================  =====================================================================================
bits                     bernoulli
real numbers             normal, ``FixedScaleNormal``, ``SharedScaleNormal``, laplace,
                         ``OptimalScaleNormal``, ``StudentT``
vectors                  full_normal, ``LowRankNormal``, ``NormalMixture``
one of D                 ``OneHotCategorical``, ``RelaxedOneHotCategorical``
positive numbers         log_normal, gamma
between 0 and 1          continuous_bernoulli, beta, logit_normal
grey levels k / (L - 1)  ``DiscretizedLogistic`` and its mixture, ``DiscretizedNormal``, ``CategoricalLevels``;
                         any density by ``pyrovae.Dequantized``
angles                   von_mises
categories               ``Categorical``; ordered ones ``Ordinal``
counts                   poisson, negative_binomial, zero_inflated_negative_binomial
bags of words            ``Multinomial``
tables of all of these   ``Mixed``
=======================  =====================================================================================

The decoder's family is the likelihood, the encoder's the posterior; ``pyrovae.priors.Learned`` makes a prior of one.
"""

from pyrovae.families.angles import VonMises
from pyrovae.families.bag_of_words import Multinomial
from pyrovae.families.base import (
    MIN_RATE,
    MIN_SCALE,
    Family,
    VectorFamily,
    concentration,
    inverse_positive,
    inverse_softplus,
    location,
    num_params,
    out_shape,
    positive,
)
from pyrovae.families.categorical_levels import CategoricalLevels
from pyrovae.families.counts import NegativeBinomial, ZeroInflatedNegativeBinomial
from pyrovae.families.discretized import DiscretizedLogistic, DiscretizedLogisticMixture, DiscretizedNormal
from pyrovae.families.elementwise import (
    Bernoulli,
    Categorical,
    FixedScaleNormal,
    Normal,
    Poisson,
    SharedScaleNormal,
)
from pyrovae.families.flow import Flow
from pyrovae.families.half_line import Gamma, LogNormal
from pyrovae.families.mixed import Mixed
from pyrovae.families.normals import FullNormal, LowRankNormal, NormalMixture
from pyrovae.families.optimal import OptimalScaleNormal
from pyrovae.families.ordinal import Ordinal
from pyrovae.families.real import Laplace, StudentT
from pyrovae.families.relaxed import RelaxedOneHotCategorical
from pyrovae.families.unit_interval import Beta, ContinuousBernoulli, LogitNormal
from pyrovae.families.vector import OneHotCategorical

# Without parameters of their own, so that one object can serve everywhere.
bernoulli = Bernoulli()
beta = Beta()
continuous_bernoulli = ContinuousBernoulli()
full_normal = FullNormal()
gamma = Gamma()
laplace = Laplace()
log_normal = LogNormal()
logit_normal = LogitNormal()
negative_binomial = NegativeBinomial()
normal = Normal()
poisson = Poisson()
von_mises = VonMises()
zero_inflated_negative_binomial = ZeroInflatedNegativeBinomial()

__all__ = [
    "MIN_RATE",
    "MIN_SCALE",
    "Bernoulli",
    "Beta",
    "Categorical",
    "CategoricalLevels",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "DiscretizedNormal",
    "Family",
    "FixedScaleNormal",
    "Flow",
    "FullNormal",
    "Gamma",
    "Laplace",
    "LogNormal",
    "LogitNormal",
    "LowRankNormal",
    "Mixed",
    "Multinomial",
    "NegativeBinomial",
    "Normal",
    "NormalMixture",
    "OneHotCategorical",
    "OptimalScaleNormal",
    "Ordinal",
    "Poisson",
    "RelaxedOneHotCategorical",
    "SharedScaleNormal",
    "StudentT",
    "VectorFamily",
    "VonMises",
    "ZeroInflatedNegativeBinomial",
    "bernoulli",
    "beta",
    "concentration",
    "continuous_bernoulli",
    "full_normal",
    "gamma",
    "inverse_positive",
    "inverse_softplus",
    "laplace",
    "location",
    "log_normal",
    "logit_normal",
    "negative_binomial",
    "normal",
    "num_params",
    "out_shape",
    "poisson",
    "positive",
    "von_mises",
    "zero_inflated_negative_binomial",
]
