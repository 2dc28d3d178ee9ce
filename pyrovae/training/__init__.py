"""Training: from a program, data and an objective to a run."""

from pyrovae.training import schedules
from pyrovae.training.fit import fit
from pyrovae.training.run import Run

__all__ = ["Run", "fit", "schedules"]
