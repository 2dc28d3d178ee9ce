"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.expectations import Expectation
from pyrovae.evidence.importance import EvidenceWarning, log_marginal
from pyrovae.evidence.predictive import PredictiveCheck, predictive_check
from pyrovae.evidence.result import Draws, Evidence

__all__ = [
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "Expectation",
    "PredictiveCheck",
    "compare",
    "log_marginal",
    "predictive_check",
]
