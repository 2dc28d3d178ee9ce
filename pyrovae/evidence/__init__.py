"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.chains import Annealing
from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.gaps import InferenceGaps, PerDatum, inference_gaps
from pyrovae.evidence.marginal import EvidenceWarning, log_marginal
from pyrovae.evidence.nuts import Chains, nuts
from pyrovae.evidence.result import Draws, Evidence
from pyrovae.evidence.schedules import Adaptive, Linear, Sigmoid

__all__ = [
    "Adaptive",
    "Annealing",
    "Chains",
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "InferenceGaps",
    "Linear",
    "PerDatum",
    "Sigmoid",
    "compare",
    "inference_gaps",
    "log_marginal",
    "nuts",
]
