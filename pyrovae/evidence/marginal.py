"""log p(x), by whichever method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.annealing.chains import Annealing
from pyrovae.evidence.annealing.latents import from_prior, points, starting
from pyrovae.evidence.blocks import Block, Data, Setting
from pyrovae.evidence.checkpoint import Checkpoint
from pyrovae.evidence.exact import exact_block
from pyrovae.evidence.identity import identity
from pyrovae.evidence.options import Options, asked
from pyrovae.evidence.plan import Plan
from pyrovae.evidence.result import Evidence
from pyrovae.evidence.running import Passes
from pyrovae.evidence.tolerance import to_tolerance
from pyrovae.evidence.weights.draws import Wanted
from pyrovae.evidence.weights.expectations import Function
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.precision import float32_matmul
from pyrovae.randomness import seeded
from pyrovae.terms import Site, log_terms, terms_for
from pyrovae.trees import Tree

VALIDATED = 1000  # rows at once


class EvidenceWarning(UserWarning):
    """An estimate of log p(x) that should not be taken at face value."""


def log_marginal(
    program: Any,
    x: Tree,
    *given: Tree,
    method: Literal["importance", "annealed", "exact"] | None = None,
    tolerance: float | None = None,
    num_particles: int | None = None,
    num_steps: int | None = None,
    annealing: Annealing | None = None,
    seed: int | None = None,
    num_draws: int = 0,
    expectations: Mapping[str, Function] | None = None,
    log_jacobian: float | Tensor = 0.0,
    compile: bool | Literal["auto"] = "auto",
    memory: int | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> Evidence:
    """log p(x | given) per datum, with what says how far to trust it: log 1/S sum_s w_s with E[w_s] = p(x | given).

    "importance": w = p(x, z) / q(z | x), z ~ q, one evaluation of the decoder for each particle. "annealed": chains
    that walk from q to p(x, z) in ``num_steps`` steps, each a Hamiltonian transition of ``annealing.num_leapfrog``
    gradients (Neal 2001; Wu et al. 2017); far dearer, and right where the guide is not close to the posterior. It moves
    all continuous latents jointly, constrained ones through ``biject_to``, and sums the discrete ones out. A pilot
    settles step sizes and temperatures; the chains that are reported are fresh. "exact": the integral in closed form,
    where the model is linear-Gaussian given its discrete latents, or has none but those.

    With a ``tolerance`` a pilot decides on the method and the budget of each datum: importance sampling where k-hat
    is low, as many particles as its error needs; annealing elsewhere, as many steps. The estimate is of fresh samples.

    Args:
        program: any object with ``model(x, *given)`` and ``guide(x, *given)``, a data plate at dim -1 and one term per
            datum: ours, or a plain Pyro model and guide (trained by stock SVI too: their parameters are read from
            Pyro's store, which stays as it is). Networks that cannot take a particle dimension run on repeated rows.
        x, given: tensors or arrays, or trees of them, with N rows; observations, not pixel probabilities.
        method: "importance" (the default), "annealed" or "exact".
        tolerance: the standard error wanted for each datum, nats, in place of a method. ``ev.reached`` says for which
            data it was reached, ``ev.plan`` by which method and at what cost.
        num_particles: S, for every datum: particles (5,000 by default), or chains (16); with a tolerance the most
            particles (50,000).
        num_steps: temperatures of each chain after the first (100), by the annealed method alone; with one step it is
            importance sampling. With a tolerance the most steps (1,000).
        annealing: how chains are annealed, see ``Annealing``.
        seed: makes the result repeatable, for the same ``memory`` and ``compile``; the global generator is left as it
            was. None draws from the global generator.
        num_draws: R posterior draws to keep per datum, resampled by weight: ``ev.draws.posterior`` by site name,
            (R, N, *event), and ``ev.draws.posterior_predictive``; for ``ev.to_arviz()`` and ``predictive_check``.
        expectations: functions f by name, for E[f(z) | x] of each datum by self-normalised weights in
            ``ev.expectations[name]``, with its standard error: f takes the latents by site name, each (S, n, *event),
            to a tensor (S, n, *shape). Values that the guide enumerates are further points, weighted as they are.
        log_jacobian: log |det dx/dx_own| of the change of variables from the data's own units to those of x, nats: a
            number, or one per datum (N,). For x = (x_own - loc) / scale it is -sum log scale, ``Data.log_jacobian``.
            As log p_own(x_own) = log p(x) + log |det dx/dx_own|, it is added to every ``log_prob``.
        compile: trace a chunk of particles once (guide, model, log-weights, random numbers) and run it as one compiled
            graph. "auto" does so where there is enough to compute to pay for compiling, about 5 s. A program that
            cannot be traced runs eagerly, with a ``CompileWarning`` that says why.
        memory: bytes of working memory that decide the size of a chunk; memory grows with neither S (but for the
            tail that k-hat needs, about 3 sqrt S weights per datum of a block) nor N.
        checkpoint: a file that keeps what is done, every few seconds: the same call goes on where it was stopped,
            and gives the same bits as one that was not. It needs a seed; folders that it lacks are made.
        progress: a progress bar; by default where standard error is a terminal.

    Returns:
        Evidence: ``log_prob``, ``standard_error``, ``ess``, ``pareto_k``, each (N,) float64 on the CPU, in nats.
        ``log_prob`` is the raw log-mean-exp: E[log p-hat] <= log p(x), a lower bound in expectation. By the annealed
        method also ``acceptance`` and the estimates of four independent groups of chains, ``runs``.

    Raises:
        PyrovaeError: see ``pyrovae.log_terms``; empty data; num_particles or num_steps below 1; options of another
            method; latents that cannot be annealed; a model without a closed form;
            a checkpoint of another estimate, or with draws, or without a seed;
            ``memory`` or a checkpoint of the exact method; a guide that gives points, as an autoencoder's does, which
            have no density; a log-Jacobian that is not finite, or neither a number nor one for each datum; an
            expectation without a value per point and datum.

    Warns:
        EvidenceWarning: data whose k-hat is above the threshold (of fewer than 64 chains: whose runs differ), whose
            weights are all zero, or are no numbers; for which a tolerance was not reached.

    References:
        Burda, Grosse & Salakhutdinov 2016; Vehtari, Simpson, Gelman, Yao & Gabry 2024 (k-hat).

    Example:
        >>> import torch, pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> ev = pv.log_marginal(pv.vae(data, latent=2), data.test.x[:4], num_particles=50, seed=0)
        >>> ev.log_prob.shape
        torch.Size([4])
        >>> pv.log_marginal(pv.vae(data, latent=2), data.test.x[:4], method="annealed", num_steps=10).acceptance.shape
        torch.Size([4])
    """
    if memory is not None and memory < 1:
        raise PyrovaeError(f"memory must be positive; got {memory}")
    options = asked(
        method,
        tolerance=tolerance,
        num_particles=num_particles,
        num_steps=num_steps,
        annealing=annealing,
        wanted=Wanted(num_draws, expectations or {}),
        seed=seed,
    )
    options.check_running(memory, checkpoint)
    estimate = _exact if options.method == "exact" else _estimate
    evidence = estimate(program, (x, *given), options, log_jacobian, Running(compile, memory, checkpoint, progress))
    evidence = replace(evidence, data_digest=identity(x, *given))
    _warn(evidence)
    return evidence


class Running(NamedTuple):
    """How an estimate is run, which does not change what it is of."""

    compile: bool | Literal["auto"]
    memory: int | None
    checkpoint: str | Path | None
    progress: bool | None


def _estimate(
    program: Any, columns: tuple[Tree, ...], options: Options, log_jacobian: float | Tensor, running: Running
) -> Evidence:
    with frozen(program) as device, float32_matmul(device):
        data = Data(columns, floating_dtype(program), device)
        shift = _per_datum(log_jacobian, data.size)
        setting = setting_of(program, data, running.memory, running.compile, options.start)
        with seeded(0, device):  # what is tried out leaves the generators alone
            estimator = options.estimator(setting)
            dimensions = _validate(starting(program, setting.probe, options.start), data)
        kept = Checkpoint(running.checkpoint, options.about(setting)) if running.checkpoint else None
        run = Passes(setting, options.seed, kept, running.progress)
        if options.request is None:
            blocks, plan = run("estimate", estimator), None
        else:
            with seeded(0, device):
                blocks, plan = to_tolerance(setting, options.request, estimator, run)
    return _evidence(blocks, options, estimator.start, dimensions, shift, plan)


def _exact(
    program: Any, columns: tuple[Tree, ...], options: Options, log_jacobian: float | Tensor, running: Running
) -> Evidence:
    block = exact_block(program, *columns)  # not as ``frozen``, which keeps what was computed in the program's dtype
    with frozen(program) as device, seeded(0, device):
        data = Data(columns, floating_dtype(program), device)
        shift, dimensions = _per_datum(log_jacobian, data.size), _validate(from_prior(program), data)
    return _evidence([block], options, "guide", dimensions, shift, None)


def setting_of(
    program: Any, data: Data, memory: int | None, compile: bool | Literal["auto"], start: str = "guide"
) -> Setting:
    """What an estimator works on, where what it starts from has a density."""
    probe = data.rows(slice(0, 3))
    begun = starting(program, probe, start)
    check_density(begun, probe)
    return Setting(program, terms_for(begun, *probe), data, probe, memory, compile)


def check_density(program: Any, probe: list[Tree]) -> None:
    """Refuse a guide that gives points: log q would be infinite, and Delta says 0."""
    if names := points(program, probe):
        raise PyrovaeError(
            f"the guide gives {names} as points (Delta), as an autoencoder does: a point has no density in z: the "
            "ELBO is minus infinity, and no draws of this guide can be weighted. Use a guide with a density, such as "
            "pyrovae.families.normal, or anneal from the prior: method='annealed', annealing=Annealing(start='prior')"
        )


def _validate(program: Any, data: Data) -> float:
    """One particle of every datum under Pyro's validation (unless that is off), of the data too; the others without.

    Returns:
        how many numbers of a datum are seen, in the mean; 0 where a mask is observed too.
    """
    seen = 0
    for start in range(0, data.size, VALIDATED):
        rows = data.rows(slice(start, start + VALIDATED))
        observed = log_terms(program, *rows).observed
        seen += _num_seen(rows[0], observed)
    return seen / data.size


def _num_seen(x: Tree, observed: Mapping[str, Site]) -> int:
    """The numbers of x that log p is of, those that are missing left out; 0 where it is of more than these."""
    leaves = trees.named("x", x)
    if any(name.rpartition(".")[0] in leaves for name in observed):  # a mask "x.seen" has bits of its own
        return 0
    return sum(leaf.numel() for leaf in leaves.values()) - sum(_num_missing(site) for site in observed.values())


def _num_missing(site: Site) -> int:
    count: Any = getattr(site.p, "missing", None)  # of what pyrovae.Missing makes
    return 0 if count is None else int(count(site.value).sum())


def _per_datum(log_jacobian: float | Tensor, size: int) -> Tensor:
    """The log-Jacobian as (N,) float64 on the CPU."""
    value = torch.as_tensor(log_jacobian, dtype=torch.float64, device="cpu")
    if value.shape not in ((), (size,)) or not value.isfinite().all():
        raise PyrovaeError(
            f"log_jacobian must be a finite number, or one for each of the {size} data, (N,); got "
            f"shape {tuple(value.shape)}"
        )
    return value.expand(size)


def _evidence(
    blocks: list[Block],
    options: Options,
    start: str,
    dimensions: float,
    log_jacobian: Tensor,
    plan: Plan | None,
) -> Evidence:
    found = Block.joined(blocks)
    figures: dict[str, Any] = found.figures
    moved = ("log_prob", "runs", "jackknife", "truncated")
    shifted = {name: figures[name] + log_jacobian for name in moved if name in figures}
    return Evidence(
        **figures | shifted,
        method=options.method,
        num_particles=int(plan.num_particles.max()) if plan else options.num_particles,
        num_steps=int(plan.num_steps.max()) if plan else options.num_steps,
        is_bound=options.method != "exact",
        start=plan.start if plan else start,
        num_dimensions=int(dimensions) if dimensions == int(dimensions) else dimensions,
        seed=options.seed,
        log_jacobian=log_jacobian.mean().item(),
        draws=found.draws,
        expectations=found.expectations,
        plan=plan,
    )


def _warn(evidence: Evidence) -> None:
    if share := 100 * evidence.share_unreliable:
        warnings.warn(
            f"{evidence.doubt} for {share:.1f} % of the data: there the estimate is likely too low and its standard "
            f"error understates. What may help: {evidence.remedy}",
            EvidenceWarning,
            stacklevel=3,
        )
    if evidence.plan and (missed := int((~evidence.reached).sum())):
        refusal = f"; annealing was not possible: {evidence.plan.refusal}" if evidence.plan.refusal else ""
        warnings.warn(
            f"the tolerance of {evidence.plan.tolerance:g} nats was not reached for {missed} of {evidence.num_data} "
            f"data, those where Evidence.reached is False ({evidence.missed}){refusal}. What may help: "
            f"{evidence.remedy}",
            EvidenceWarning,
            stacklevel=3,
        )
    if (evidence.log_prob == -math.inf).any():
        count = int((evidence.log_prob == -math.inf).sum())
        warnings.warn(f"all weights are zero for {count} data: their log_prob is -inf", EvidenceWarning, stacklevel=3)
    if count := int((evidence.log_prob.isnan() | (evidence.log_prob == math.inf)).sum()):
        warnings.warn(f"a log-density is nan or infinite for {count} data", EvidenceWarning, stacklevel=3)
