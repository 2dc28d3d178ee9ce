"""Functions of tensors, traced once through whatever Python they are made of and run as one flat graph.

``Fast`` is what training and evaluation use: training gives it a step, evaluation a chunk of particles.
"""

from pyrovae.compiled.fast import CompileWarning, Fast
from pyrovae.compiled.function import Compiled
from pyrovae.compiled.trace import UntraceableError

__all__ = ["CompileWarning", "Compiled", "Fast", "UntraceableError"]
