"""Observations: what is seen of the data that a decoder describes.

A decoder says how x arises. Where what is seen is less than that (levels instead of real numbers, a table with holes)
a wrapper around the decoder says so::

    pv.VAE(prior, pv.Dequantized(decoder, num_levels=256), encoder)

and adds what has to be integrated out as a site that model and guide both have.
"""

from pyrovae.observations.base import Observation, auxiliary, observe, propose
from pyrovae.observations.dequantized import Dequantized
from pyrovae.observations.missing import Incomplete, Missing, incomplete
from pyrovae.observations.not_at_random import MissingNotAtRandom, SelfMasking

__all__ = [
    "Dequantized",
    "Incomplete",
    "Missing",
    "MissingNotAtRandom",
    "Observation",
    "SelfMasking",
    "auxiliary",
    "incomplete",
    "observe",
    "propose",
]
