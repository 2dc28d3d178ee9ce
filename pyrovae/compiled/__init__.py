"""Functions of tensors, traced once through whatever Python they are made of and run as one flat graph.

``Compiled`` is the whole interface: training gives it a step, evaluation a chunk of particles.
"""

from pyrovae.compiled.function import Compiled, CompileWarning, UntraceableError, said_once

__all__ = ["CompileWarning", "Compiled", "UntraceableError", "said_once"]
