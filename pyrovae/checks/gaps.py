"""How far a guide's ELBO is from log p(x), and why: amortization, the family, and what a flow would recover."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyrovae import trees
from pyrovae.arguments import whole
from pyrovae.checks.local import Local
from pyrovae.checks.local_flow import LocalFlow
from pyrovae.checks.refinement import (
    Block,
    Weights,
    check_refinable,
    copied,
    evaluated,
    fresh_seed,
    keep_better,
    put,
    refine,
)
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.identity import identity
from pyrovae.evidence.result import Evidence
from pyrovae.evidence.weights.streaming import Accumulator
from pyrovae.lines import aligned
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.precision import float32_matmul
from pyrovae.randomness import seeded
from pyrovae.terms import log_terms, terms_for
from pyrovae.trees import Tree
from pyrovae.validation import validating

BLOCK = 64  # data refined together
PILOT = 128  # particles from which a flow learns where the refined guide lies


class PerDatum(NamedTuple):
    """One number per datum and its Monte Carlo standard error, both (N,) float64, nats."""

    value: Tensor
    standard_error: Tensor

    @property
    def mean(self) -> float:
        """Over the data."""
        return self.value.mean().item()

    @property
    def mean_standard_error(self) -> float:
        """Monte Carlo standard error of the mean: sqrt(sum_n se_n^2) / N."""
        return self.standard_error.square().mean().div(len(self.value) or math.nan).sqrt().item()

    @property
    def mean_sampling_error(self) -> float:
        """Standard error of the mean for the population the data come from: sd / sqrt N; nan for one datum."""
        return self.value.std().item() / math.sqrt(len(self.value)) if len(self.value) > 1 else math.nan

    def of(self, where: Tensor) -> PerDatum:
        """The same of the data ``where`` it is True, (N,) bool."""
        return PerDatum(self.value[where], self.standard_error[where])


@dataclass(frozen=True, eq=False)
class InferenceGaps:
    """The parts of log p(x) - L[q], per datum, in nats; see ``inference_gaps``.

    Attributes:
        evidence: the log p(x) that was used.
        guide: L[q], the ELBO of the guide as it is.
        refined: L[q*], each datum's parameters of the guide's family being its own.
        flow: L[q_flow*], with a flow of each datum's own behind them; None if it was not asked for.
        amortization: L[q*] - L[q], what sharing one network costs.
        approximation: log p(x) - L[q*], what the family costs.
        beyond_flow: log p(x) - L[q_flow*], what the flow leaves; None without a flow.
        total: log p(x) - L[q].
        late, late_flow: what the second half of the steps added to L[q*] and L[q_flow*]: near 0 where converged, nan
            where the result was put back.
        unimproved: the data whose refinement did not help, and which keep the guide's own parameters, (N,) bool.
        unimproved_flow: those whose flow did not help, and which keep the refined guide; None without a flow.
        num_steps, num_particles, seed: as asked for.
    """

    evidence: Evidence
    guide: PerDatum
    refined: PerDatum
    flow: PerDatum | None
    amortization: PerDatum
    approximation: PerDatum
    beyond_flow: PerDatum | None
    total: PerDatum
    late: PerDatum
    late_flow: PerDatum | None
    unimproved: Tensor = field(repr=False)
    unimproved_flow: Tensor | None = field(repr=False)
    num_steps: int
    num_particles: int
    seed: int | None

    @property
    def num_data(self) -> int:
        """N."""
        return len(self.guide.value)

    def summary(self) -> str:
        """A readable table: bounds, gaps, convergence, then what to doubt."""
        rows = {
            "log p(x)": PerDatum(self.evidence.log_prob, self.evidence.standard_error),
            "ELBO of the guide": self.guide,
            "ELBO, refined per datum": self.refined,
            "ELBO, refined with a flow": self.flow,
            "total gap": self.total,
            "  amortization gap": self.amortization,
            "  approximation gap": self.approximation,
            "  of it, left by the flow": self.beyond_flow,
            "second half of the steps": self.late.of(~self.unimproved),
            "  with a flow": self._late_flow,
        }
        seed = "not set" if self.seed is None else self.seed
        lines = aligned(
            [["", "mean", "Monte Carlo", "sampling"], *(_row(name, it) for name, it in rows.items() if it is not None)],
            right=range(1, 4),
        )
        heading = (
            f"Inference gaps of {self.num_data:,} data, nats per datum: {self.num_steps:,} steps, "
            f"{self.num_particles:,} particles, seed {seed}"
        )
        return "\n".join([heading, *lines, *self._doubts()])

    def _doubts(self) -> list[str]:
        doubts = []
        if share := self.evidence.share_unreliable:
            doubts.append(
                f"log p(x) is not reliable for {100 * share:.1f} % of the data: there it is a lower bound, and so are "
                "the gaps to it."
            )
        doubts += _put_back("Refinement", self.unimproved, "the guide's own")
        doubts += _unconverged("L[q*]", self.late.of(~self.unimproved), "part of the approximation gap is amortization")
        if self._late_flow is not None and self.unimproved_flow is not None:
            doubts += _put_back("The flow", self.unimproved_flow, "the refined guide's")
            doubts += _unconverged("L[q_flow*]", self._late_flow, "a flow leaves less than it seems")
        return doubts

    @property
    def _late_flow(self) -> PerDatum | None:
        """Of the data that keep what the flow's search found."""
        if self.late_flow is None or self.unimproved_flow is None:
            return None
        return self.late_flow.of(~self.unimproved_flow)

    def __repr__(self) -> str:
        return self.summary()


def _put_back(what: str, unimproved: Tensor, own: str) -> list[str]:
    count, size = int(unimproved.sum()), len(unimproved)
    return [f"{what} did not help {count:,} of {size:,} data, which keep {own}."] if count else []


def _unconverged(bound: str, late: PerDatum, so: str) -> list[str]:
    doubts = []
    known = late.value.isfinite() & late.standard_error.isfinite()
    if count := int((~known).sum()):
        doubts.append(f"What the second half of the steps added to {bound} is not finite for {count:,} data.")
    late = late.of(known)
    if late.mean > 0.01 + 2 * late.mean_standard_error:
        doubts.append(
            f"Not converged: the second half of the steps still added {late.mean:.3f} nats to {bound}; {so}. Take more "
            "steps."
        )
    return doubts


def _row(name: str, it: PerDatum) -> list[str]:
    return [name, *(f"{figure:.3f}" for figure in (it.mean, it.mean_standard_error, it.mean_sampling_error))]


def inference_gaps(
    program: Any,
    x: Tree,
    *given: Tree,
    evidence: Evidence | None = None,
    flow: bool = True,
    num_steps: int = 1000,
    num_particles: int = 2000,
    learning_rate: float = 0.03,
    seed: int | None = None,
    progress: bool | None = None,
) -> InferenceGaps:
    """Why the ELBO is below log p(x): log p - L[q] = (log p - L[q*]) + (L[q*] - L[q]), per datum.

    L[q] is the ELBO of the guide; L[q*] the best that local refinement finds in the guide's own family, each datum
    having parameters of its own (offsets in the unconstrained space, on top of what the network gives, at every latent
    site; see ``arg_constraints``); L[q_flow*] the same with a flow of each datum's own behind all continuous latents.
    Hence amortization gap L[q*] - L[q], approximation gap log p - L[q*], and log p - L[q_flow*]. All bounds are
    evaluated with the same fresh noise after refinement, so that differences are paired.

    Refinement finds a local optimum at best: L[q*] is a lower bound on the best of the family, the approximation gap
    an upper one. A flow in the guide is refined by its base distribution only.

    Args:
        program: any program whose guide's latents are reparameterised, or enumerated.
        x, given: tensors or arrays, or trees of them, with N rows.
        evidence: log p(x) of the same data, the best at hand, as from ``log_marginal``; None takes importance sampling
            from the best refined guide, with the particles of the evaluation.
        flow: whether to refine a flow too.
        num_steps: of Adam, 16 particles each, for the family and again for the flow.
        num_particles: S, fresh ones, by which the bounds are evaluated; again as many choose between before and after.
        learning_rate: of the first step; it falls to zero as a cosine. In units of a distribution's scale.
        seed: makes the result repeatable; the global generator is left as it was. None draws from the global one.
        progress: a progress bar; by default where standard error is a terminal.

    Returns:
        InferenceGaps: ``amortization``, ``approximation``, ``beyond_flow``, ``total``, each with ``value`` and
        ``standard_error``, (N,) float64 on the CPU, in nats.

    Raises:
        PyrovaeError: a latent that is neither reparameterised nor enumerated, or a point; a distribution that cannot
            be rebuilt from its parameters; evidence of other data, or in the data's own units; see also ``log_terms``.

    References:
        Cremer, Li & Duvenaud 2018, "Inference Suboptimality in Variational Autoencoders".

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> gaps = pv.inference_gaps(pv.vae(data, latent=2), data.test.x[:4], num_steps=5, num_particles=20, seed=0)
        >>> gaps.amortization.value.shape
        torch.Size([4])
    """
    size = _checked(x, given, evidence, num_steps, num_particles, learning_rate)
    with frozen(program) as device, seeded(seed, device), float32_matmul(device):
        data = [trees.to(trees.as_tensors(tree, floating_dtype(program)), device) for tree in (x, *given)]
        terms = terms_for(program, *trees.rows(data, slice(0, 3)))
        check_refinable(log_terms(program, *data))
        starts = range(0, size, BLOCK)
        total = len(starts) * num_steps * (1 + flow)
        bar = tqdm(total=total, desc="inference_gaps", unit="step", disable=None if progress is None else not progress)
        with validating(False), bar:
            search = _Search(flow, num_steps, num_particles, learning_rate, bar)
            parts = []
            for start in starts:
                rows = trees.rows(data, slice(start, start + BLOCK))
                block = Block(terms, rows, trees.num_data(*rows), device)
                parts.append(_figures(search(program, block), _part(evidence, start)))
    gaps = _gathered(parts, evidence, num_steps, num_particles, seed)
    if evidence is None:
        gaps = replace(gaps, evidence=replace(gaps.evidence, data_digest=identity(x, *given)))
    return gaps


def _checked(
    x: Tree, given: tuple[Tree, ...], evidence: Evidence | None, num_steps: int, num_particles: int, rate: float
) -> int:
    size = trees.num_data(x, *given)
    whole("num_steps", num_steps, 2)
    whole("num_particles", num_particles, 2)
    if not 0 < rate < math.inf:
        raise PyrovaeError(f"learning_rate must be positive and finite; got {rate}")
    if evidence is not None and evidence.num_data != size:
        raise PyrovaeError(f"the evidence is of {evidence.num_data} data, x of {size}: evaluate on the same data")
    if evidence is not None and evidence.log_jacobian:
        raise PyrovaeError(
            "the evidence has a log-Jacobian, the ELBO has none: evaluate log_marginal without log_jacobian"
        )
    if evidence is not None and evidence.data_digest not in ("", identity(x, *given)):
        raise PyrovaeError(
            "the evidence is of other data: the values of x or of what is given, or their order, differ. Pass "
            "log_marginal of these, or leave evidence out"
        )
    return size


class _Refined(NamedTuple):
    """Weights of a refined guide, halfway and as it is kept; and whose result was put back, (N,) bool."""

    half: Weights
    kept: Weights
    unimproved: Tensor

    @property
    def late(self) -> PerDatum:
        """What the second half of the search added; where its result was put back, what is kept is not of it."""
        added = _bound(self.kept) - _bound(self.half)
        return PerDatum(*(figure.masked_fill(self.unimproved, math.nan) for figure in added))


class _Found(NamedTuple):
    """What a block of data gives with the same noise under each guide."""

    guide: Weights
    refined: _Refined
    flow: _Refined | None


class _Search(NamedTuple):
    """How a block of data is refined."""

    flow: bool
    num_steps: int
    num_particles: int
    learning_rate: float
    bar: Any

    def __call__(self, program: Any, block: Block) -> _Found:
        local = Local(program, block.size)
        block.run(local, 2)  # which makes its parameters
        searched: list[tuple[Local | LocalFlow, dict[str, Tensor], Tensor]] = [(local, *self._refine(local, block))]
        if self.flow:
            with torch.no_grad():
                candidate = LocalFlow(local, lambda it: block.run(it, PILOT))
            searched.append((candidate, *self._refine(candidate, block)))
        seed = fresh_seed()

        def now(candidate: Any) -> Weights:
            return evaluated(candidate, block, self.num_particles, seed)

        def refined(candidate: Any, halfway: dict[str, Tensor], unimproved: Tensor) -> _Refined:
            kept = now(candidate)
            put(candidate, halfway)
            return _Refined(now(candidate), kept, unimproved)

        guide, family, *flow = now(program), *(refined(*each) for each in searched)
        return _Found(guide, family, flow[0] if flow else None)

    def _refine(self, candidate: Any, block: Block) -> tuple[dict[str, Tensor], Tensor]:
        start = copied(candidate)
        halfway = refine(
            candidate, block, num_steps=self.num_steps, learning_rate=self.learning_rate, tick=self.bar.update
        )
        return halfway, keep_better(candidate, start, block, self.num_particles)


class _Figure(NamedTuple):
    """An estimate (n,), how each of S particles moves it (S, n), and the error of what other particles it has, (n,)."""

    value: Tensor
    influence: Tensor
    outside: Tensor | float = 0.0

    @property
    def per_datum(self) -> PerDatum:
        spread = self.influence.var(0) / len(self.influence)
        return PerDatum(self.value, (spread + torch.as_tensor(self.outside) ** 2).sqrt())

    def __sub__(self, other: _Figure) -> PerDatum:
        outside = (torch.as_tensor(self.outside) ** 2 + torch.as_tensor(other.outside) ** 2).sqrt()
        return _Figure(self.value - other.value, self.influence - other.influence, outside).per_datum


def _bound(found: Weights) -> _Figure:
    return _Figure(found.elbo.mean(0), found.elbo)


def _part(evidence: Evidence | None, start: int) -> PerDatum | None:
    if evidence is None:
        return None
    rows = slice(start, start + BLOCK)
    return PerDatum(evidence.log_prob[rows], evidence.standard_error[rows])


def _figures(found: _Found, log_p: PerDatum | None) -> dict[str, Any]:
    """What is reported of a block of data."""
    guide, refined = _bound(found.guide), _bound(found.refined.kept)
    flow = found.flow and _bound(found.flow.kept)
    proposal = (found.flow or found.refined).kept
    own = _sampled(proposal)
    if log_p is None:
        w = (proposal.log_weight - own[0]).exp()  # over its mean
        top = _Figure(own[0], w)
    else:
        top = _Figure(log_p.value, torch.zeros_like(guide.influence), log_p.standard_error)
    return {
        "evidence": own,
        "guide": guide.per_datum,
        "refined": refined.per_datum,
        "flow": flow and flow.per_datum,
        "amortization": refined - guide,
        "approximation": top - refined,
        "beyond_flow": flow and top - flow,
        "total": top - guide,
        "late": found.refined.late,
        "late_flow": found.flow and found.flow.late,
        "unimproved": found.refined.unimproved,
        "unimproved_flow": found.flow and found.flow.unimproved,
    }


def _sampled(found: Weights) -> Tensor:
    """(4, n): log p-hat by these weights, its standard error, effective sample size, k-hat."""
    accumulator = Accumulator(found.log_weight.shape[1], len(found.log_weight))
    accumulator.add(found.log_weight)
    return torch.stack([accumulator.log_mean, accumulator.standard_error, accumulator.ess, accumulator.pareto_k])


def _gathered(
    parts: list[dict[str, Any]], evidence: Evidence | None, num_steps: int, num_particles: int, seed: int | None
) -> InferenceGaps:
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    log_prob, standard_error, ess, pareto_k = torch.cat(columns.pop("evidence"), 1)
    own = Evidence(log_prob, standard_error, ess, pareto_k, num_particles, 0, seed=seed)
    joined: dict[str, Any] = {name: _joined(column) for name, column in columns.items()}
    return InferenceGaps(
        own if evidence is None else evidence,
        **joined,
        num_steps=num_steps,
        num_particles=num_particles,
        seed=seed,
    )


def _joined(column: list[Any]) -> Any:
    """A column of blocks of data as one; None stays None."""
    if isinstance(column[0], PerDatum):
        return PerDatum(*(torch.cat(each) for each in zip(*column, strict=True)))
    return None if column[0] is None else torch.cat(column)
