"""Checks of a guide and a model beyond log p(x): gaps of the bound, calibration, NUTS, predictive checks."""

from pyrovae.checks.calibration import Calibration, calibration
from pyrovae.checks.gaps import InferenceGaps, PerDatum, inference_gaps
from pyrovae.checks.nuts import Chains, nuts
from pyrovae.checks.predictive import PredictiveCheck, predictive_check

__all__ = [
    "Calibration",
    "Chains",
    "InferenceGaps",
    "PerDatum",
    "PredictiveCheck",
    "calibration",
    "inference_gaps",
    "nuts",
    "predictive_check",
]
