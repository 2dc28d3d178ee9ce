"""log p(x), by whichever method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.annealed import Annealed
from pyrovae.evidence.blocks import Block, Data, Estimator, Setting
from pyrovae.evidence.chains import Annealing
from pyrovae.evidence.checkpoint import Checkpoint, digest_of_data, digest_of_program, joined
from pyrovae.evidence.draws import joined as joined_draws
from pyrovae.evidence.expectations import Function
from pyrovae.evidence.expectations import joined as joined_expectations
from pyrovae.evidence.importance import Importance
from pyrovae.evidence.latents import is_point
from pyrovae.evidence.result import Evidence
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.precision import float32_matmul
from pyrovae.randomness import reseed, seeded
from pyrovae.terms import Site, log_terms, terms_for
from pyrovae.trees import Tree
from pyrovae.validation import validating

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: seeds of blocks that lie far apart
VALIDATED = 1000  # rows at once

NUM_PARTICLES = {"importance": 5000, "annealed": 16}
NUM_STEPS = 100


class EvidenceWarning(UserWarning):
    """An estimate of log p(x) that should not be taken at face value."""


def log_marginal(
    program: Any,
    x: Tree,
    *given: Tree,
    method: Literal["importance", "annealed"] = "importance",
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
    settles step sizes and temperatures; the chains that are reported are fresh.

    Args:
        program: any object with ``model(x, *given)`` and ``guide(x, *given)``, a data plate at dim -1 and one term per
            datum: ours, or a plain Pyro model and guide (trained by stock SVI too: their parameters are read from
            Pyro's store, which stays as it is). Networks that cannot take a particle dimension run on repeated rows.
        x, given: tensors or arrays, or trees of them, with N rows; observations, not pixel probabilities.
        method: "importance" or "annealed".
        num_particles: S, for every datum: particles (5,000 by default), or chains (16).
        num_steps: temperatures of each chain after the first, 100 by default; by the annealed method alone. With one
            step it is importance sampling.
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
            and gives the same bits as one that was not. It needs a seed.
        progress: a progress bar; by default where standard error is a terminal.

    Returns:
        Evidence: ``log_prob``, ``standard_error``, ``ess``, ``pareto_k``, each (N,) float64 on the CPU, in nats.
        ``log_prob`` is the raw log-mean-exp: E[log p-hat] <= log p(x), a lower bound in expectation. By the annealed
        method also ``acceptance`` and the estimates of four independent groups of chains, ``runs``.

    Raises:
        PyrovaeError: see ``pyrovae.log_terms``; empty data; num_particles or num_steps below 1; options of another
            method; latents that cannot be annealed; a checkpoint of another estimate, or with draws, or without a seed;
            a guide that gives points, as an autoencoder's does, which have no density; a log-Jacobian that is not
            finite, or neither a number nor one for each datum; an expectation without a value per point and datum.

    Warns:
        EvidenceWarning: data whose k-hat is above the threshold (of fewer than 64 chains: whose runs differ), whose
            weights are all zero, or are no numbers.

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
    options = _options(method, num_particles, num_steps, annealing, num_draws, expectations, memory, checkpoint, seed)
    with frozen(program) as device, float32_matmul(device):
        data = Data((x, *given), floating_dtype(program), device)
        shift = _per_datum(log_jacobian, data.size)
        probe = data.rows(slice(0, 3))
        check_density(program, probe)
        setting = Setting(program, terms_for(program, *probe), data, probe, memory, compile)
        with seeded(0, device):  # what is tried out leaves the generators alone
            estimator = options.estimator(setting)
            seen = _validate(program, data)
        kept = Checkpoint(checkpoint, options.about(setting, estimator)) if checkpoint else None
        blocks = estimated(setting, estimator, seed, checkpoint=kept, progress=progress)
    evidence = _evidence(blocks, options, estimator, seen / data.size, shift)
    _warn(evidence)
    return evidence


def estimated(
    setting: Setting,
    estimator: Estimator,
    seed: int | None,
    *,
    checkpoint: Checkpoint | None = None,
    progress: bool | None = None,
) -> list[Block]:
    """Every block of the data, each with random numbers of its own, which the seed and its place decide."""
    size, block = setting.data.size, estimator.sizes.block
    base = int(torch.randint(2**62, ())) if seed is None else seed
    blocks = [Block(figures) for figures in checkpoint.parts] if checkpoint else []
    starts = range((checkpoint.blocks if checkpoint else 0) * block, size, block)
    bar = tqdm(starts, desc="log_marginal", unit="block", disable=None if progress is None else not progress)
    with seeded(base, setting.device), validating(False):
        try:
            for start in bar:
                reseed((base + GOLDEN * (start // block)) % 2**64, setting.device)
                estimator.begin()
                blocks.append(estimator.block(setting.data.rows(slice(start, start + block))))
                if checkpoint:
                    checkpoint.add(blocks[-1])
        finally:  # where it is stopped, too
            if checkpoint:
                checkpoint.write()
    return blocks


class _Options(NamedTuple):
    """What ``log_marginal`` was asked for."""

    method: str
    num_particles: int
    num_steps: int
    annealing: Annealing
    num_draws: int
    expectations: Mapping[str, Function]
    seed: int | None

    def estimator(self, setting: Setting) -> Estimator:
        wanted: Any = {"num_draws": self.num_draws, "expectations": self.expectations}
        if self.method == "importance":
            return Importance(setting, self.num_particles, **wanted)
        return Annealed(setting, self.num_particles, self.num_steps, annealing=self.annealing, **wanted)

    def about(self, setting: Setting, estimator: Estimator) -> dict[str, Any]:
        """What an estimate depends on."""
        apart = ("annealing", "num_draws", "expectations")
        asked = {name: value for name, value in self._asdict().items() if name not in apart}
        return {
            **asked,
            "annealing": repr(self.annealing) if self.method == "annealed" else None,
            "num_data": setting.data.size,
            "at once": list(estimator.sizes),
            "compiled": estimator.compiled,
            "program": digest_of_program(setting),
            "data": digest_of_data(setting.data),
        }


def _options(
    method: str,
    num_particles: int | None,
    num_steps: int | None,
    annealing: Annealing | None,
    num_draws: int,
    expectations: Mapping[str, Function] | None,
    memory: int | None,
    checkpoint: Any,
    seed: int | None,
) -> _Options:
    """Options with their defaults; refuses what cannot be, and what the method has no use for."""
    if method not in NUM_PARTICLES:
        raise PyrovaeError(f"method must be one of {', '.join(map(repr, NUM_PARTICLES))}; got {method!r}")
    if method != "annealed" and (num_steps is not None or annealing is not None):
        raise PyrovaeError(f"num_steps and annealing are for method='annealed'; the method is {method!r}")
    if checkpoint is not None and (num_draws or expectations or seed is None):
        raise PyrovaeError(
            "a checkpoint keeps neither draws nor expectations, and needs a seed to go on with: pass seed=, and take "
            "these of a few data without a checkpoint"
        )
    numbers = {"num_particles": num_particles, "num_draws": num_draws + 1, "memory": memory, "num_steps": num_steps}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise PyrovaeError(f"{name} must be positive; got {value}")
    number = NUM_PARTICLES[method] if num_particles is None else num_particles
    steps = 1 if method != "annealed" else num_steps or NUM_STEPS
    return _Options(method, number, steps, annealing or Annealing(), num_draws, expectations or {}, seed)


def check_density(program: Any, probe: list[Tree]) -> None:
    """Refuse a guide that gives points: log q would be infinite, and Delta says 0."""
    with torch.random.fork_rng():
        latents = log_terms(program, *probe).latents
    if points := [name for name, site in latents.items() if is_point(site.q) and not is_point(site.p)]:
        raise PyrovaeError(
            f"the guide gives {points} as points (Delta), as an autoencoder does: a point has no density in z, so the "
            "ELBO is minus infinity and importance sampling cannot estimate log p(x). Use a guide with a density, such "
            "as pyrovae.families.normal"
        )


def _validate(program: Any, data: Data) -> int:
    """One particle of every datum under Pyro's validation (unless that is off), of the data too; the others without.

    Returns:
        how many numbers of x are seen; 0 where a mask is observed too.
    """
    seen = 0
    for start in range(0, data.size, VALIDATED):
        rows = data.rows(slice(start, start + VALIDATED))
        observed = log_terms(program, *rows).observed
        seen += _num_seen(rows[0], observed)
    return seen


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
    blocks: list[Block], options: _Options, estimator: Estimator, dimensions: float, log_jacobian: Tensor
) -> Evidence:
    figures: dict[str, Any] = joined([block.figures for block in blocks])
    kept = [block.draws for block in blocks if block.draws is not None]
    moved = ("log_prob", "runs", "jackknife", "truncated")
    shifted = {name: figures[name] + log_jacobian for name in moved if name in figures}
    return Evidence(
        **figures | shifted,
        method=options.method,
        num_particles=options.num_particles,
        num_steps=options.num_steps,
        start=getattr(estimator, "start", "guide"),
        num_dimensions=int(dimensions) if dimensions == int(dimensions) else dimensions,
        seed=options.seed,
        log_jacobian=log_jacobian.mean().item(),
        draws=joined_draws(kept) if kept else None,
        expectations=joined_expectations([block.expectations for block in blocks]),
    )


def _warn(evidence: Evidence) -> None:
    if share := 100 * evidence.share_unreliable:
        warnings.warn(
            f"{evidence.doubt} for {share:.1f} % of the data: there the estimate is likely too low and its standard "
            "error understates",
            EvidenceWarning,
            stacklevel=3,
        )
    if (evidence.log_prob == -math.inf).any():
        count = int((evidence.log_prob == -math.inf).sum())
        warnings.warn(f"all weights are zero for {count} data: their log_prob is -inf", EvidenceWarning, stacklevel=3)
    if count := int((evidence.log_prob.isnan() | (evidence.log_prob == math.inf)).sum()):
        warnings.warn(f"a log-density is nan or infinite for {count} data", EvidenceWarning, stacklevel=3)
