"""Reports: what a program draws, where its latents lie, how its training went and how far its figures can be trusted.

Each function takes what it shows and returns a matplotlib ``Figure`` at paper size, which a notebook shows and
``figure.savefig("samples.png", dpi=200)`` writes. Nothing here touches pyplot or its global state. Figures are light;
``with report.theme("dark"):`` makes dark ones. ``html`` puts a run's figures and numbers on one page.
"""

from pyrovae.report.calibration import calibration
from pyrovae.report.checks import predictive_check
from pyrovae.report.inference import gaps, posterior
from pyrovae.report.likelihoods import comparison, evidence, weights
from pyrovae.report.page import html
from pyrovae.report.pictures import conditional_grid, images, reconstructions, samples
from pyrovae.report.sandwich import sandwich
from pyrovae.report.scatter import active_units, latents, prior_density
from pyrovae.report.tables import marginals
from pyrovae.report.theme import theme
from pyrovae.report.training import learning_curve, rate_distortion
from pyrovae.report.walks import interpolation, manifold, traversals

__all__ = [
    "active_units",
    "calibration",
    "comparison",
    "conditional_grid",
    "evidence",
    "gaps",
    "html",
    "images",
    "interpolation",
    "latents",
    "learning_curve",
    "manifold",
    "marginals",
    "posterior",
    "predictive_check",
    "prior_density",
    "rate_distortion",
    "reconstructions",
    "samples",
    "sandwich",
    "theme",
    "traversals",
    "weights",
]
