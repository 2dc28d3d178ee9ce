"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.comparison import Comparison, compare
from pyrovae.evidence.gaps import InferenceGaps, PerDatum, inference_gaps
from pyrovae.evidence.importance import EvidenceWarning, log_marginal
from pyrovae.evidence.nuts import Chains, nuts
from pyrovae.evidence.result import Draws, Evidence

__all__ = [
    "Chains",
    "Comparison",
    "Draws",
    "Evidence",
    "EvidenceWarning",
    "InferenceGaps",
    "PerDatum",
    "compare",
    "inference_gaps",
    "log_marginal",
    "nuts",
]
