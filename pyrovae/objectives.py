"""Objectives: pure functions of ``LogTerms``, (N,) in nats, to be maximised.

A new objective is a function. Keyword arguments such as ``beta`` may be tensors, so that a schedule changes them
without a new trace.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyrovae.errors import PyrovaeError
from pyrovae.terms import LogTerms

Objective = Callable[..., Tensor]


def expectation(t: LogTerms, values: Tensor) -> Tensor:
    """sum over the points of exp(log_w) * values: (*points, N) to (N,)."""
    return (t.log_w.exp() * values).flatten(0, -2).sum(0)


def sampled_kl(t: LogTerms) -> Tensor:
    """log q(z | x) - log p(z) at each point, (*points, N): unbiased for any pair of distributions."""
    return t.log_qz_x - t.log_pz


def closed_form_kl(t: LogTerms) -> Tensor:
    """sum over the latent sites of KL(q || p) at each point, (*points, N), by torch's registered formulas.

    Raises:
        PyrovaeError: the guide samples the latents in another order than the model, in which case the sum of the
            sites' closed forms is not the KL; or torch has no formula for the pair; or the terms carry no
            distributions (under the path gradients).
    """
    latents = t.latents
    if tuple(latents) != t.guide_order:
        raise PyrovaeError(
            f"closed-form KL: the model samples {list(latents)}, the guide {list(t.guide_order)}; the sum over sites "
            "is the KL only where the orders agree. Use sampled_kl"
        )
    terms = [_closed_form(name, site.q, site.p) for name, site in latents.items()]
    return sum(terms, start=torch.zeros_like(t.log_w))


def _closed_form(name: str, q: object, p: object) -> Tensor:
    if q is None or p is None:
        raise PyrovaeError(
            f"closed-form KL of site {name!r} needs the plain gradient estimator and vectorized particles"
        )
    try:
        return kl_divergence(q, p)  # type: ignore[arg-type]
    except NotImplementedError as error:
        raise PyrovaeError(
            f"no closed-form KL for site {name!r}, {type(q).__name__} against {type(p).__name__}. Use sampled_kl"
        ) from error


def elbo(t: LogTerms, beta: Tensor | float = 1.0, kl: Callable[[LogTerms], Tensor] = sampled_kl) -> Tensor:
    """E_q[log p(x | z)] - beta KL(q(z | x) || p(z)), (N,) nats; beta = 1 is the evidence lower bound.

    Args:
        t: the terms of a program.
        beta: weight of the KL; a tensor where a schedule drives it (Higgins et al. 2017; Bowman et al. 2016).
        kl: ``sampled_kl`` or ``closed_form_kl``, by explicit choice.
    """
    _check_beta(beta)
    return expectation(t, t.log_px_z - beta * kl(t)) - t.penalty


def iwae(t: LogTerms, beta: Tensor | float = 1.0) -> Tensor:
    """log 1/S sum_s p(x, z_s) / q(z_s | x), (N,) nats: the importance-weighted bound (Burda et al. 2016).

    Args:
        beta: tempers p(z) / q(z | x) inside the weights while a schedule warms up; 1 is the bound.
    """
    _check_beta(beta)
    log_weight = t.log_px_z + beta * (t.log_pz - t.log_qz_x)
    return (t.log_w + log_weight).flatten(0, -2).logsumexp(0) - t.penalty


def _check_beta(beta: Tensor | float) -> None:
    """Refuses a negative number; a tensor is a schedule's, and looking at its value would synchronise."""
    if isinstance(beta, int | float) and not beta >= 0:
        raise PyrovaeError(f"beta, the weight of the KL, must be at least 0; got {beta}")
