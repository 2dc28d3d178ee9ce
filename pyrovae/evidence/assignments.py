"""The latents of a model one by one: the values of the discrete ones and the components of mixtures, to be fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Independent, MixtureSameFamily, MultivariateNormal, Normal

from pyrovae.distributions import DiagonalNormalMixture, FullNormalMixture
from pyrovae.errors import PyrovaeError
from pyrovae.pathwise import PathwiseNormalMixture
from pyrovae.supports import of_distribution, of_elements

MOST_ASSIGNMENTS = 2**14


class Latent(NamedTuple):
    """A latent site: the values (K, *event_shape) that it takes, or None where it takes all; the shape of one.

    ``number`` is K, or the number of components of its prior.
    """

    values: Tensor | None
    shape: torch.Size
    number: int

    @property
    def size(self) -> int:
        """How many continuous numbers it is."""
        return 0 if self.values is not None else self.shape.numel()


def latent_of(name: str, site: Any) -> Latent:
    """What Pyro's site of a latent is, in the model's trace of a single datum."""
    fn = site["fn"]
    support = of_distribution(fn)
    if site["mask"] is not None or isinstance(fn, dist.MaskedDistribution):
        refuse(f"the latent {name!r} is masked, and its density has no integral")
    if site["value"].shape != (1, *fn.event_shape):
        refuse(
            f"the latent {name!r} has shape {tuple(site['value'].shape)} for one datum: it must be in the data plate"
        )
    if support is not None and support.is_discrete:
        values = _values(name, fn)
        return Latent(values, fn.event_shape, len(values))
    if type(of_elements(support)).__name__ != "_Real":
        refuse(f"the latent {name!r} lies in {support}, not anywhere in R^D")
    mixture = _mixture(fn)
    return Latent(None, fn.event_shape, 1 if mixture is None else mixture[0].shape[-1])


def _values(name: str, fn: Any) -> Tensor:
    """All values of a discrete latent, (K, *event_shape): of several elements, every combination."""
    base = fn
    while isinstance(base, Independent):
        base = base.base_dist
    if not getattr(base, "has_enumerate_support", False):
        refuse(f"the values of the discrete latent {name!r} cannot be enumerated", "importance")
    single = base.enumerate_support(expand=False).reshape(-1, *base.event_shape)
    number = fn.event_shape.numel() // base.event_shape.numel()
    check_count(len(single) ** number)
    combinations = torch.cartesian_prod(*[torch.arange(len(single), device=single.device)] * number)
    return single[combinations.reshape(-1, number)].reshape(-1, *fn.event_shape)


def _mixture(fn: Any) -> tuple[Tensor, Any] | None:
    """Logits (*batch, K) and components, batch shape (*batch, K), of a mixture; None of anything else."""
    if isinstance(fn, MixtureSameFamily):
        return fn.mixture_distribution.logits, fn.component_distribution
    if not isinstance(fn, DiagonalNormalMixture | FullNormalMixture | PathwiseNormalMixture):
        return None
    full = isinstance(fn, FullNormalMixture)
    components = (
        MultivariateNormal(fn.loc, scale_tril=fn.scale_tril) if full else Independent(Normal(fn.loc, fn.scale), 1)
    )
    batch = fn.batch_shape + fn.logits.shape[-1:]
    return fn.logits.expand(batch), components.expand(batch)


class Components(Messenger):
    """Puts one component in the place of each mixture.

    Args:
        index: of the component in every row, (R,), by name.

    Attributes:
        log_weight: log of the product of the components' weights, (R,).
    """

    def __init__(self, index: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.index = index
        self.log_weight: Any = 0.0

    def _pyro_sample(self, msg: Any) -> None:
        mixture = None if msg["is_observed"] or msg["name"] not in self.index else _mixture(msg["fn"])
        if mixture is not None:
            logits, components = mixture
            index = self.index[msg["name"]]
            rows = torch.arange(len(index), device=index.device)
            self.log_weight = self.log_weight + logits.log_softmax(-1)[rows, index]
            msg["fn"] = _component(msg["name"], components, rows, index)


def _component(name: str, components: Any, rows: Tensor, index: Tensor) -> Any:
    """Component ``index`` in each row, batch shape (R,), of ``components`` with batch shape (R, K)."""
    if isinstance(components, Independent):
        inner = _component(name, components.base_dist, rows, index)
        return inner.to_event(components.reinterpreted_batch_ndims)
    if isinstance(components, Normal):
        return dist.Normal(components.loc[rows, index], components.scale[rows, index])
    if isinstance(components, MultivariateNormal):
        return dist.MultivariateNormal(components.loc[rows, index], scale_tril=components.scale_tril[rows, index])
    refuse(f"the latent {name!r} is a mixture of {type(components).__name__}, not of normals")


def check_count(assignments: int) -> None:
    if assignments > MOST_ASSIGNMENTS:
        refuse(
            f"its discrete latents and components of mixtures have {assignments:,} values together, above "
            f"{MOST_ASSIGNMENTS:,}"
        )


def refuse(reason: str, method: str = "annealed") -> NoReturn:
    raise PyrovaeError(f"log p(x) has no closed form that is found here: {reason}. Estimate it by method={method!r}")
