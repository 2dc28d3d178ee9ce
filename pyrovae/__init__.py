"""pyrovae: variational autoencoders as Pyro programs."""

from pyrovae import (
    board,
    data,
    evidence,
    families,
    flows,
    gradients,
    networks,
    objectives,
    observations,
    priors,
    readings,
    recipes,
    rows,
)
from pyrovae.autoregressive import Autoregressive
from pyrovae.checks import (
    Calibration,
    Chains,
    InferenceGaps,
    PredictiveCheck,
    calibration,
    inference_gaps,
    nuts,
    predictive_check,
)
from pyrovae.conditional import Conditional, Product
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import (
    Annealing,
    Comparison,
    Evidence,
    EvidenceWarning,
    Sandwich,
    compare,
    log_marginal,
    sandwich,
)
from pyrovae.latent import Activity, activity
from pyrovae.observations import Dequantized, Missing, MissingNotAtRandom, Observation, SelfMasking
from pyrovae.parameters import adopt
from pyrovae.programs import VAE
from pyrovae.recipes import conv_vae, text_vae, vae
from pyrovae.sampling import encode, reconstruct, sample
from pyrovae.saving import load, save
from pyrovae.terms import LogTerms, Site, log_terms
from pyrovae.training import Run, fit, schedules

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "Activity",
    "Annealing",
    "Autoregressive",
    "Calibration",
    "Chains",
    "Comparison",
    "Conditional",
    "Dequantized",
    "Evidence",
    "EvidenceWarning",
    "InferenceGaps",
    "LogTerms",
    "Missing",
    "MissingNotAtRandom",
    "Observation",
    "PredictiveCheck",
    "Product",
    "PyrovaeError",
    "Run",
    "Sandwich",
    "SelfMasking",
    "Site",
    "activity",
    "adopt",
    "board",
    "calibration",
    "compare",
    "conv_vae",
    "data",
    "encode",
    "evidence",
    "families",
    "fit",
    "flows",
    "gradients",
    "inference_gaps",
    "load",
    "log_marginal",
    "log_terms",
    "networks",
    "nuts",
    "objectives",
    "observations",
    "predictive_check",
    "priors",
    "readings",
    "recipes",
    "reconstruct",
    "rows",
    "sample",
    "sandwich",
    "save",
    "schedules",
    "text_vae",
    "vae",
]
