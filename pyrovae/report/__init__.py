"""Reports: what a program draws and reconstructs, and how its training went, as figures."""

from pyrovae.report.figures import evidence, images, learning_curve, reconstructions, samples

__all__ = ["evidence", "images", "learning_curve", "reconstructions", "samples"]
