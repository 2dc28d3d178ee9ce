"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.calibration import Calibration, calibration
from pyrovae.evidence.chains import Annealing
from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.expectations import Expectation
from pyrovae.evidence.marginal import EvidenceWarning, log_marginal
from pyrovae.evidence.predictive import PredictiveCheck, predictive_check
from pyrovae.evidence.result import Draws, Evidence
from pyrovae.evidence.sandwich import Sandwich, sandwich
from pyrovae.evidence.schedules import Adaptive, Linear, Sigmoid

__all__ = [
    "Adaptive",
    "Annealing",
    "Calibration",
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "Expectation",
    "Linear",
    "PredictiveCheck",
    "Sandwich",
    "Sigmoid",
    "calibration",
    "compare",
    "log_marginal",
    "predictive_check",
    "sandwich",
]
