"""Maps from the real numbers to where a latent lies, and which latents have none."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch.distributions import biject_to
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from pyrovae.errors import PyrovaeError
from pyrovae.supports import of_distribution


def innermost(distribution: Any) -> Any:
    """What is left of a distribution without what masks, expands or transforms it."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def unconstraining(name: str, distribution: Any, *, use: str, instead: str) -> Any:
    """The bijection from vectors of real numbers to the support of a latent's distribution.

    Args:
        use: what is done in the space of real numbers, for the refusal: "annealing moves in".
        instead: what to do where there is none.

    Raises:
        PyrovaeError: a latent on a circle or on a surface, which torch may call real; a support without ``biject_to``.
    """
    inner = innermost(distribution)
    if isinstance(inner, dist.VonMises | dist.SineBivariateVonMises):
        raise PyrovaeError(f"latent {name!r} lives on a circle, not in the real numbers that {use}: {instead}")
    if isinstance(inner, ExpRelaxedCategorical):
        raise PyrovaeError(
            f"latent {name!r} lies on a surface (a log-simplex), not in the real numbers that {use}: {instead}"
        )
    support = of_distribution(distribution)
    try:
        return biject_to(support)
    except NotImplementedError as error:
        raise PyrovaeError(
            f"the support of latent {name!r}, {support}, has no map from the real numbers that {use} "
            f"(torch.distributions.biject_to): {instead}"
        ) from error
