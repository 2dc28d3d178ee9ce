"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.calibration import Calibration, calibration
from pyrovae.evidence.chains import Annealing
from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.expectations import Expectation
from pyrovae.evidence.gaps import InferenceGaps, PerDatum, inference_gaps
from pyrovae.evidence.marginal import EvidenceWarning, log_marginal
from pyrovae.evidence.nuts import Chains, nuts
from pyrovae.evidence.predictive import PredictiveCheck, predictive_check
from pyrovae.evidence.result import Draws, Evidence
from pyrovae.evidence.sandwich import Sandwich, sandwich
from pyrovae.evidence.schedules import Adaptive, Linear, Sigmoid

__all__ = [
    "Adaptive",
    "Annealing",
    "Calibration",
    "Chains",
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "Expectation",
    "InferenceGaps",
    "Linear",
    "PerDatum",
    "PredictiveCheck",
    "Sandwich",
    "Sigmoid",
    "calibration",
    "compare",
    "inference_gaps",
    "log_marginal",
    "nuts",
    "predictive_check",
    "sandwich",
]
