"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.annealing.chains import Annealing
from pyrovae.evidence.annealing.schedules import Adaptive, Linear, Sigmoid
from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.marginal import EvidenceWarning, log_marginal
from pyrovae.evidence.result import Draws, Evidence
from pyrovae.evidence.sandwich import Sandwich, sandwich
from pyrovae.evidence.weights.expectations import Expectation

__all__ = [
    "Adaptive",
    "Annealing",
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "Expectation",
    "Linear",
    "Sandwich",
    "Sigmoid",
    "compare",
    "log_marginal",
    "sandwich",
]
