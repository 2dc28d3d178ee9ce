"""Marginal likelihoods, with the diagnostics that say how far to trust them."""

from pyrovae.evidence.importance import EvidenceWarning, log_marginal
from pyrovae.evidence.result import Draws, Evidence

__all__ = ["Draws", "Evidence", "EvidenceWarning", "log_marginal"]
