"""Gradient estimators: how an objective's gradient is taken, apart from what the objective is.

``plain`` differentiates what was computed. ``path`` and ``doubly_reparameterised`` give the guide's parameters a
gradient of lower variance and the same mean. They follow one rule. Each role gets its own leaf copy of the parameters:
the guide runs with phi, the model with theta, and the guide with phi held fixed scores the values that were drawn.
Write F(a) for the objective as a function of the log-probs a, v = dF/da. Then

    model:  grad_theta sum v a            guide:  grad_phi sum u a,   u_k = v_k + d2F / (d log q_s  d a_k,s)

because E_q[g(z) d/dphi log q(z)] is, for a reparameterised z, the path derivative of g: the score term that is
dropped comes back as the curvature of F. For an F linear in the log-weights, as the ELBO, the curvature is zero
(Roeder, Wu & Duvenaud 2017); for the IWAE it turns the weights w into w^2 (Tucker et al. 2019). Parameters that both
roles share, as a VampPrior's encoder, get the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyrovae.errors import PyrovaeError
from pyrovae.objectives import Objective
from pyrovae.parameters import bound
from pyrovae.rows import on_other_data
from pyrovae.terms import LogTerms, Site, Terms, log_terms
from pyrovae.trees import Tree


class Estimate(NamedTuple):
    """What one batch gives: the objective per datum (N,), its terms, and d mean(value) / d parameter by name."""

    value: Tensor
    terms: LogTerms
    gradients: dict[str, Tensor]


Estimator = Callable[..., Estimate]


def plain(
    program: nn.Module, objective: Objective, x: Tree, *given: Tree, num_particles: int = 1, terms: Terms = log_terms
) -> Estimate:
    """The gradient of the objective as computed: reparameterised where the guide is.

    Args:
        program: a module with ``model`` and ``guide``.
        objective: a function of ``LogTerms``, (N,).
        x, given: the batch.
        num_particles: S.
        terms: how the terms are computed (``log_terms``, or ``repeated_log_terms`` for networks without batch freedom).
    """
    parameters = trainable(program)
    t = terms(program, x, *given, num_particles=num_particles)
    _refuse_without_score(t, objective)
    value = _valued(objective, t)
    gradients = _grad(value.mean(), list(parameters.values()))
    return Estimate(value, t, dict(zip(parameters, gradients, strict=True)))


def path(
    program: nn.Module, objective: Objective, x: Tree, *given: Tree, num_particles: int = 1, terms: Terms = log_terms
) -> Estimate:
    """The path derivative (sticking the landing), for objectives linear in the log-probs such as ``elbo``.

    Raises:
        PyrovaeError: the objective is not linear in the log-probs, where dropping the score alone would be biased;
            or the guide cannot score given values.
    """
    _refuse_repeated(terms)
    return _two_roles(program, objective, x, given, num_particles, curved=False)


def doubly_reparameterised(
    program: nn.Module, objective: Objective, x: Tree, *given: Tree, num_particles: int = 1, terms: Terms = log_terms
) -> Estimate:
    """The doubly reparameterised gradient, for any objective of the log-weights (``iwae``, ``elbo``, yours).

    The objective must be a function of log p(x, z) - log q(z | x), or linear in the log-probs; all latents of the
    guide must be reparameterised. Shapes and errors as for ``plain``.
    """
    _refuse_repeated(terms)
    return _two_roles(program, objective, x, given, num_particles, curved=True)


class _Roles(NamedTuple):
    model: Callable[..., Any]
    guide: Callable[..., Any]


def _two_roles(
    program: nn.Module, objective: Objective, x: Tree, given: tuple[Tree, ...], num_particles: int, *, curved: bool
) -> Estimate:
    parameters = trainable(program)
    theta, phi = _leaves(parameters), _leaves(parameters)
    fixed = _leaves(parameters)  # never differentiated; pyro.module warns of leaves that require no grad
    roles = _Roles(bound(program, "model", theta), bound(program, "guide", phi))
    t = log_terms(roles, x, *given, num_particles=num_particles, scorer=bound(program, "guide", fixed))
    _refuse_unreparameterised(t)

    log_probs = _log_probs(t)
    value, v, u = _weights(objective, t, log_probs, curved=curved)
    if u is None:  # both roles have the same weights: one pass
        both = _grad(_inner(v, log_probs), [*theta.values(), *phi.values()])
        model_side, guide_side = both[: len(theta)], both[len(theta) :]
    else:
        model_side = _grad(_inner(v, log_probs), list(theta.values()), retain_graph=True)
        guide_side = _grad(_inner(u, log_probs), list(phi.values()))
    gradients = {n: a + b for n, a, b in zip(parameters, model_side, guide_side, strict=True)}
    return Estimate(value, t, gradients)


def _weights(
    objective: Objective, t: LogTerms, log_probs: Sequence[Tensor], *, curved: bool
) -> tuple[Tensor, list[Tensor], list[Tensor] | None]:
    """The objective, v = d mean(F) / da and u (None where u = v), all detached from the program's graph."""
    leaves = [a.detach().requires_grad_() for a in log_probs]
    with torch.enable_grad():
        value = _valued(objective, _with_log_probs(t, leaves))
        v = torch.autograd.grad(value.mean(), leaves, create_graph=True, materialize_grads=True)
    fixed = [w.detach() for w in v]
    if not any(w.requires_grad for w in v):  # structure, not values: F is linear, its curvature is zero
        return value.detach(), fixed, None
    if not curved:
        raise PyrovaeError(
            "the path gradient is unbiased only for objectives linear in the log-probs, such as elbo; use "
            "pyrovae.gradients.doubly_reparameterised for this one"
        )
    log_q = len(leaves) - 1  # any latent's log q: F depends on them through their sum only
    corrections = _curvature(v, leaves, log_q)
    return value.detach(), fixed, [w + c for w, c in zip(fixed, corrections, strict=True)]


def _valued(objective: Objective, t: LogTerms) -> Tensor:
    """The objective's value; whatever data it runs the program on itself, they are not the batch's rows."""
    with on_other_data():
        return objective(t)


def _curvature(v: Sequence[Tensor], leaves: Sequence[Tensor], log_q: int) -> list[Tensor]:
    """d2F / (d log q_s d a_k,s), the diagonal over points: one backward pass per point through F alone."""
    direction = v[log_q]  # dF / d log q, (*points, N)
    points = direction.flatten(0, -2)
    diagonals = [torch.zeros_like(leaf) for leaf in leaves]
    for s in range(points.shape[0]):
        rows = torch.autograd.grad(points[s].sum(), leaves, retain_graph=True, materialize_grads=True)
        for diagonal, row in zip(diagonals, rows, strict=True):
            diagonal.flatten(0, -2)[s] = row.flatten(0, -2)[s]
    return diagonals


def _log_probs(t: LogTerms) -> list[Tensor]:
    """log p of every site, then log q of every latent one, each broadcast to (*points, N)."""
    log_qs = [site.log_q for site in t.sites.values() if site.log_q is not None]
    return list(torch.broadcast_tensors(*(site.log_p for site in t.sites.values()), *log_qs))


def _with_log_probs(t: LogTerms, values: Sequence[Tensor]) -> LogTerms:
    """The terms with other log-probs, in the order of ``_log_probs``, and nothing else to differentiate."""
    log_p, log_q = iter(values[: len(t.sites)]), iter(values[len(t.sites) :])
    sites = {
        name: Site(None, None, site.value.detach(), next(log_p), None if site.log_q is None else next(log_q))
        for name, site in t.sites.items()
    }
    return t._replace(sites=sites)


def _refuse_repeated(terms: Terms) -> None:
    if terms is not log_terms:
        raise PyrovaeError(
            "this program's networks cannot take several particles at once, which path gradients need: use "
            "pyrovae.gradients.plain, or networks that keep any leading dimensions"
        )


def _refuse_without_score(t: LogTerms, objective: Objective) -> None:
    """Differentiating a value that carries no gradient would leave out the guide's score, silently."""
    function = objective.func if isinstance(objective, partial) else objective
    if t.unreparameterised and not getattr(function, "score_function", False):
        raise PyrovaeError(
            f"the guide samples {list(t.unreparameterised)} without reparameterisation, so the gradient would lack its "
            'score. Mark a discrete one infer={"enumerate": "parallel"} in the guide, or leave it out of the guide: '
            "the model's is then summed out. For others use an objective that holds the score term and says so "
            "(score_function = True)"
        )


def _refuse_unreparameterised(t: LogTerms) -> None:
    for name, site in t.latents.items():
        if not getattr(site.q, "has_rsample", False):
            raise PyrovaeError(
                f"site {name!r} is not reparameterised in the guide ({type(site.q).__name__}), so there is no path to "
                "differentiate along; enumerate it, or use pyrovae.gradients.plain with an objective that has the score"
            )


def trainable(program: nn.Module) -> dict[str, Tensor]:
    """The parameters to train, by name; a shared one once."""
    return {name: p for name, p in program.named_parameters() if p.requires_grad}


def _leaves(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach().requires_grad_() for name, p in parameters.items()}


def _inner(weights: Sequence[Tensor], log_probs: Sequence[Tensor]) -> Tensor:
    return sum(((w * a).sum() for w, a in zip(weights, log_probs, strict=True)), start=torch.zeros(()))


def _grad(output: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool = False) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, retain_graph=retain_graph, materialize_grads=True, allow_unused=True)
