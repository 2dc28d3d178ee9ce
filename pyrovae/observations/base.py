"""How a program's model states what it observes, and its guide what an observation adds to the latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyro
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyrovae.conditional import Product
from pyrovae.errors import PyrovaeError
from pyrovae.recorded import Recorded
from pyrovae.trees import Tree


class Observation(Recorded, nn.Module):
    """Base: a decoder p(v | parents) of which an x is seen.

    Args:
        decoder: any module that maps its parents to a distribution, or to a tree of them.

    A subclass defines ``observe``, the model's statements, and ``propose``, the guide's, where it adds sites that have
    to be integrated out. Such sites belong to the bookkeeping of x and are no representation of it: they are sampled
    by ``auxiliary``, which keeps them out of what ``pyrovae.encode`` and figures show.
    """

    missing_values = False  # whether values of x may be missing

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *parents: Tree) -> Any:
        return self.decoder(*parents)

    def example(self) -> Any:
        """See ``pyrovae.Conditional.example``."""
        return example(self.decoder)

    def described(self, mean: Tensor) -> Tensor:
        """The mean of what the decoder describes, where ``mean`` is that of x: where a decoder should start."""
        return self.decoder.described(mean) if isinstance(self.decoder, Observation) else mean

    def observe(self, name: str, likelihood: Any, x: Tree) -> Tree:
        """The sites of x, inside the data plate of the model; ``x`` is None where it is drawn. Returns x."""
        raise TypeError(f"{type(self).__name__} must define observe(name, likelihood, x)")

    def propose(self, name: str, x: Tree, *parents: Tree) -> None:
        """The sites that are added, inside the data plate of the guide, after z is drawn."""


def auxiliary(name: str, distribution: TorchDistribution) -> Tensor:
    """A sample site that is integrated out and is not a representation of x."""
    mark: Any = {"auxiliary": True}
    value: Tensor = pyro.sample(name, distribution, infer=mark)
    return value


def observe(part: nn.Module, name: str, likelihood: Any, x: Tree) -> Tree:
    """A sample site per leaf of the likelihood, observed where ``x`` is there, in the structure of the likelihood."""
    if isinstance(part, Observation):
        return part.observe(name, likelihood, x)
    if isinstance(likelihood, TorchDistributionMixin):
        return pyro.sample(name, likelihood, obs=x)
    keys = list(likelihood) if isinstance(likelihood, dict) else range(len(likelihood))
    if x is not None and (not isinstance(x, dict | tuple | list) or len(x) != len(keys)):
        raise PyrovaeError(f"the decoder gives {len(keys)} distributions, and x at {name!r} is not a tree of as many")
    values = [
        observe(_factor(part, key), f"{name}.{key}", likelihood[key], None if x is None else x[key]) for key in keys
    ]
    return dict(zip(likelihood, values, strict=True)) if isinstance(likelihood, dict) else tuple(values)


def propose(part: nn.Module, name: str, x: Tree, *parents: Tree) -> None:
    """What the observations in ``part`` add to the guide."""
    if isinstance(part, Observation):
        part.propose(name, x, *parents)
    elif isinstance(part, Product):
        for key, factor in factors(part):
            propose(factor, f"{name}.{key}", x[key], *parents)


def factors(part: Product) -> Iterator[tuple[Any, nn.Module]]:
    """The conditionals of a product, with the keys of their entries of x."""
    yield from part.factors.items() if isinstance(part.factors, nn.ModuleDict) else enumerate(part.factors)


def _factor(part: nn.Module, key: Any) -> nn.Module:
    return part.factors[key] if isinstance(part, Product) else part  # a decoder of the user's own: nothing is wrapped


def example(part: Any) -> Any:
    """What ``part.example()`` says; None where it has no such method."""
    return part.example() if hasattr(part, "example") else None
