"""Missing values: what is not seen of x is integrated out, exactly, where the elements of x are independent given z."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.util import sum_rightmost
from torch import Tensor, nn
from torch.distributions import Independent, constraints

from pyrovae import trees
from pyrovae.conditional import Product
from pyrovae.errors import PyrovaeError
from pyrovae.observations.base import Observation, example, factors, observe
from pyrovae.trees import Tree


class Missing(Observation):
    """Values of x may be missing, at random: log p(x_seen | z) = sum of log p(x_j | z) over the elements j seen.

    A missing element is NaN in floating-point x, and equals ``sentinel`` in integer x. The elements of x are
    independent given z, so leaving out a factor integrates its element out: ``log_marginal`` gives log p(x_seen), and a
    datum of which nothing is seen has log p = 0. The encoder must read missing values too, for instance by
    ``pyrovae.readings.ValuesAndMask``. With the objective ``iwae`` this is MIWAE.

    Args:
        decoder: p(x | z), whose elements are independent given z; a tree of such where x is a tree.
        sentinel: what stands for a missing element of integer x, outside the likelihood's support.

    Raises:
        PyrovaeError: a decoder whose elements are not independent given z; a sentinel that is a possible value.

    Mattei & Frellsen 2019, "MIWAE"; Nazabal et al. 2020, "Handling incomplete heterogeneous data using VAEs".

    Example:
        >>> import torch, pyrovae as pv
        >>> decoder = pv.Missing(pv.Conditional(pv.networks.MLP(2, 16, 6), pv.families.normal))
        >>> decoder(torch.zeros(1, 2)).log_prob(torch.tensor([[0.3, torch.nan, torch.nan]])).isfinite()
        tensor([True])
    """

    missing_values = True

    def __init__(self, decoder: nn.Module, *, sentinel: int | None = None) -> None:
        for distribution in examples(decoder):
            elementwise(distribution)
            _check_sentinel(sentinel, distribution)
        super().__init__(decoder)
        self.sentinel = sentinel

    def forward(self, *parents: Tree) -> Any:
        return self._incomplete(self.decoder(*parents))

    def example(self) -> Any:
        shown = example(self.decoder)
        return None if shown is None else self._incomplete(shown)

    def observe(self, name: str, likelihood: Any, x: Tree) -> Tree:
        return observe(self.decoder, name, likelihood, x)

    def _incomplete(self, likelihood: Any) -> Any:
        return trees.tree_map(lambda leaf: Incomplete(leaf, self.sentinel), likelihood)


class Incomplete(TorchDistribution):
    """The distribution of the elements of x that are seen: log_prob(x) is the sum of log p(x_j) over these.

    Draws are complete. A Pyro model of your own says ``pyro.sample("x", Incomplete(normal.to_event(1)), obs=x)``, and
    tells ``pyrovae.fit`` of it by the attribute ``missing_values = ("x",)``.

    Args:
        base: a distribution with independent elements: ``.to_event`` of one without event dimensions.
        sentinel: what stands for a missing element of integer x; NaN does in floating-point x.

    Raises:
        PyrovaeError: a base whose elements are not independent.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, base: TorchDistribution, sentinel: int | None = None) -> None:
        self.base, self.sentinel, self._element = base, sentinel, elementwise(base)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        support: Any = self.base.support
        return InOrMissing(support, self.sentinel)

    def missing(self, x: Tensor) -> Tensor:
        """Which elements of x are missing, bool, in the shape of x."""
        return is_missing(x, self.sentinel)

    def unseen(self, x: Tensor) -> TorchDistribution:
        """The distribution of what is missing of x: draws are complete, log_prob is of the missing elements alone."""
        distribution: TorchDistribution = self._element.mask(self.missing(x)).to_event(self.event_dim)
        return distribution

    def log_prob(self, x: Tensor) -> Tensor:
        # Replaced first: a density outside its support gives NaN gradients even where its value is not used.
        values = filled(x, self._element.support, self.sentinel)
        return sum_rightmost(self._element.mask(~self.missing(x)).log_prob(values), self.event_dim)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Incomplete:
        return Incomplete(self.base.expand(batch_shape), self.sentinel)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base.rsample(torch.Size(sample_shape))

    @property
    def mean(self) -> Tensor:
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        return self.base.variance

    @property
    def mode(self) -> Tensor:
        return self.base.mode


class InOrMissing(constraints.Constraint):
    """The seen elements lie in a support."""

    def __init__(self, support: constraints.Constraint, sentinel: int | None) -> None:
        self.base_constraint, self.sentinel = support, sentinel
        self.is_discrete, self.event_dim = support.is_discrete, support.event_dim

    def filled(self, value: Tensor) -> Tensor:
        """The value with what is missing replaced by what lies inside."""
        return filled(value, self.base_constraint, self.sentinel)

    def check(self, value: Tensor) -> Tensor:
        return self.base_constraint.check(self.filled(value))

    def __repr__(self) -> str:
        return f"{self.base_constraint}, or missing"


def is_missing(x: Tensor, sentinel: int | None = None) -> Tensor:
    """Which elements of x are missing: NaN (an infinity is no missing value), or in integer x the sentinel."""
    if x.is_floating_point():
        return x.isnan()
    return torch.zeros_like(x, dtype=torch.bool) if sentinel is None else x == sentinel


def filled(x: Tensor, support: constraints.Constraint, sentinel: int | None = None) -> Tensor:
    """x with each missing element replaced by a value inside the support."""
    return torch.where(is_missing(x, sentinel), _inside(support, torch.zeros_like(x)), x)


def _inside(support: Any, zeros: Tensor) -> Tensor:
    """A point of the support: real 0, positive 1, unit interval 1/2; the least of whole numbers."""
    if hasattr(support, "base_constraint"):  # of independent elements, of a mixture
        return _inside(support.base_constraint, zeros)
    if isinstance(support, constraints.stack):  # columns of different kinds
        columns = zip(support.cseq, zeros.unbind(support.dim), strict=True)
        return torch.stack([_inside(*column) for column in columns], support.dim)
    step = 0 if support.is_discrete else 1  # a real bound may be excluded, and densities infinite there
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if low is None:
        return zeros if high is None else zeros + (high - step)
    if high is None or support.is_discrete:
        return zeros + (low + step)
    return zeros + (low + high) / 2


def elementwise(distribution: Any) -> Any:
    """The distribution of single elements, of which ``distribution`` is the product.

    Raises:
        PyrovaeError: its elements are not independent.
    """
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if not hasattr(base, "event_shape") or base.event_shape:
        raise PyrovaeError(
            f"missing values are integrated out by leaving out their factors, and the elements of x under a "
            f"{type(base).__name__} are not independent given z: use a family of single elements such as "
            "pyrovae.families.normal (dependence between them comes from z), or a decoder of the user's own that "
            "declares them, with .to_event"
        )
    return base


def examples(decoder: nn.Module) -> list[Any]:
    """What the decoder shows before there are data: a distribution for each leaf of x, as far as it shows them.

    Raises:
        PyrovaeError: an observation inside, which has sites of its own.
    """
    if isinstance(decoder, Observation):
        raise PyrovaeError(
            f"missing values belong to the decoder inside: {type(decoder).__name__}(Missing(decoder)) instead of "
            f"Missing({type(decoder).__name__}(decoder))"
        )
    if isinstance(decoder, Product):
        return [shown for _, factor in factors(decoder) for shown in examples(factor)]
    return [leaf for leaf in trees.leaves(example(decoder)) if leaf is not None]


def _check_sentinel(sentinel: int | None, distribution: Any) -> None:
    if sentinel is None or not distribution.support.is_discrete:  # real numbers are missing where they are NaN
        return
    value = torch.full(distribution.event_shape, sentinel)
    if distribution.support.check(value).all():
        raise PyrovaeError(
            f"the sentinel {sentinel} is a possible value of x, which lies in {distribution.support}: mark missing "
            "values by an integer outside, such as -1"
        )


def incomplete(decoder: nn.Module, name: str) -> Iterator[str]:
    """The names of the sites of x, or what they begin with, where missing values are declared."""
    if isinstance(decoder, Product):
        for key, factor in factors(decoder):
            yield from incomplete(factor, f"{name}.{key}")
    elif isinstance(decoder, Observation):
        yield from [name] if decoder.missing_values else incomplete(decoder.decoder, name)
