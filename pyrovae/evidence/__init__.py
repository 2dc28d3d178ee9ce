"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.chains import Annealing
from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.marginal import EvidenceWarning, log_marginal
from pyrovae.evidence.result import Draws, Evidence
from pyrovae.evidence.schedules import Adaptive, Linear, Sigmoid

__all__ = [
    "Adaptive",
    "Annealing",
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "Linear",
    "Sigmoid",
    "compare",
    "log_marginal",
]
