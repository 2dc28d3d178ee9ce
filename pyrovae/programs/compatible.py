"""What parts can be combined: looked at when a program is built, on the distributions that its parts show."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributions import TransformedDistribution

from pyrovae.errors import PyrovaeError
from pyrovae.observations.base import example


def check_parts(prior: nn.Module, decoder: nn.Module, encoder: nn.Module) -> None:
    """Refuse what would fail, or be wrong, at the first datum; parts that show nothing are left to it.

    Raises:
        PyrovaeError: with the reason, and what would work.
    """
    p, q = example(prior), example(encoder)
    for part, distribution in {"prior": p, "decoder": example(decoder)}.items():
        _check_scores(part, distribution)
    if p is not None and q is not None:
        _check_latents(p, q)


def _check_latents(p: Any, q: Any) -> None:
    if p.event_shape != q.event_shape:
        raise PyrovaeError(
            f"the prior is of latents of shape {tuple(p.event_shape)}, the encoder of {tuple(q.event_shape)}: both "
            "must be of one z. Declare its dimensions as the event, with .to_event(1)"
        )
    if _kind(p.support) != _kind(q.support):
        raise PyrovaeError(
            f"the encoder's latents lie in {q.support}, the prior's in {p.support}: the guide must reach "
            "every point that the prior can give, and no other. A relaxed categorical posterior, for instance, needs a "
            "relaxed prior"
        )


def _check_scores(part: str, distribution: Any) -> None:
    """A flow without an inverse can draw, and score what it drew, but not a point that it is given."""
    if not isinstance(distribution, TransformedDistribution):
        return
    with torch.no_grad():
        value = distribution.sample()
        try:
            distribution.log_prob(value.clone())  # a new object: the flow's cache knows the old one
        except (NotImplementedError, KeyError) as error:
            raise PyrovaeError(
                f"the {part} must give the density of points that another part draws, and this flow has no inverse "
                f"({[type(t).__name__ for t in distribution.transforms]}): use coupling or autoregressive transforms; "
                "planar, radial and Sylvester flows serve as posteriors"
            ) from error


def _kind(support: Any) -> Any:
    """Where a support lies, as something that can be compared."""
    while hasattr(support, "base_constraint"):  # independent dimensions, mixtures
        support = support.base_constraint
    bounds = {name: _number(value) for name, value in vars(support).items() if name in ("lower_bound", "upper_bound")}
    same = {"_RealVector": "_Real", "_GreaterThanEq": "_GreaterThan"}
    name = type(support).__name__
    return same.get(name, name), support.is_discrete, tuple(bounds.items())


def _number(bound: Any) -> Any:
    return bound.tolist() if isinstance(bound, torch.Tensor) else bound
