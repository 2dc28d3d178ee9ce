"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.calibration import Calibration, calibration
from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.importance import EvidenceWarning, log_marginal
from pyrovae.evidence.result import Draws, Evidence
from pyrovae.evidence.sandwich import Sandwich, sandwich

__all__ = [
    "Calibration",
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "Sandwich",
    "calibration",
    "compare",
    "log_marginal",
    "sandwich",
]
