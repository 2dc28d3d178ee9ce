"""Who takes part: each lives in a module named ``with_...``, and one that cannot be imported is left out by name."""

import importlib
from functools import partial
from typing import NamedTuple


class Contestant(NamedTuple):
    """A function of a module ``with_...``, with its options."""

    name: str
    module: str
    function: str = "train"
    options: dict = {}  # noqa: RUF012

    def load(self):
        """The function, or ImportError where its package is not installed."""
        return partial(getattr(importlib.import_module(self.module), self.function), **self.options)


HAND = "PyTorch by hand"
TRAINING = (
    Contestant("pyrovae compiled", "with_pyrovae", options={"compile": True}),
    Contestant("pyrovae compiled, bf16", "with_pyrovae", options={"compile": True, "precision": "bf16"}),
    Contestant("pyrovae eager", "with_pyrovae", options={"compile": False}),
    Contestant(HAND, "with_torch"),
    Contestant("PyTorch by hand, tuned", "with_torch", options={"tuned": True}),
    Contestant("Pyro SVI", "with_pyro"),
    Contestant("NumPyro", "with_numpyro"),
    Contestant("pythae", "with_pythae"),
)
EVALUATION = (
    Contestant("pyrovae compiled", "with_pyrovae", "evaluate", {"compile": True}),
    Contestant("pyrovae eager", "with_pyrovae", "evaluate", {"compile": False}),
    Contestant(HAND, "with_torch", "evaluate"),
    Contestant("pythae", "with_pythae", "evaluate"),
    Contestant("floor", "with_torch", "floor"),
)
ANNEALING = (
    Contestant("pyrovae compiled", "with_pyrovae", "evaluate", {"compile": True}),
    Contestant("pyrovae eager", "with_pyrovae", "evaluate", {"compile": False}),
    Contestant(HAND, "with_torch_annealed", "anneal"),
    Contestant("floor", "with_torch_annealed", "floor"),
    Contestant("floor, compiled", "with_torch_annealed", "floor", {"compile": True}),
)
WEIGHTED = ("pyrovae compiled", "pyrovae eager", HAND, "Pyro SVI", "NumPyro")  # in the cells of IWAE
SCALED = ("pyrovae compiled", HAND, "Pyro SVI", "NumPyro")  # in the scaling curves


def present(contestants):
    """The functions of those that can run, by name, and why the others cannot, by name."""
    functions, absent = {}, {}
    for contestant in contestants:
        try:
            functions[contestant.name] = contestant.load()
        except ImportError as error:
            absent[contestant.name] = str(error)
    return functions, absent


def named(contestants, names):
    """Those with these names."""
    return tuple(contestant for contestant in contestants if contestant.name in names)
