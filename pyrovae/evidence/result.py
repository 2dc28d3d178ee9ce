"""What an estimate of log p(x) says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.plan import Plan
from pyrovae.evidence.weights.expectations import Expectation
from pyrovae.evidence.weights.pareto import threshold
from pyrovae.lines import counted

# k-hat and the standard error come from the same draws: where many data are flagged, the others are not safe either.
FEW = 64  # chains, below which k-hat says nothing
SPREAD = 0.1  # nats, between runs
VERIFIED = "log p(x, z) is quadratic in z by its operations, and at the points tried"
DOUBT = "no coverage is claimed: errors understate there, and may elsewhere"


@dataclass(frozen=True, eq=False)
class Draws:
    """R draws per datum from the posterior, resampled with replacement by importance weight.

    It is ``log_marginal(..., num_draws=R).draws``: what ``Evidence.to_arviz`` shows and ``predictive_check`` uses.
    Where k-hat is above its threshold they are hardly of the posterior; where all weights are zero they are nan.

    Attributes:
        posterior, posterior_predictive: by site name, (R, N, *event_shape).
        log_likelihood: by observed site, (R, N), nats.
        observed: by observed site, (N, *event_shape).
    """

    posterior: Mapping[str, Tensor]
    posterior_predictive: Mapping[str, Tensor]
    log_likelihood: Mapping[str, Tensor]
    observed: Mapping[str, Tensor]

    @classmethod
    def joined(cls, parts: Sequence[Draws]) -> Draws:
        """Those of several blocks as those of all data."""

        def along(name: str, dim: int) -> dict[str, Tensor]:
            groups = [getattr(part, name) for part in parts]
            return {key: torch.cat([group[key].cpu() for group in groups], dim) for key in groups[0]}

        return cls(
            along("posterior", 1), along("posterior_predictive", 1), along("log_likelihood", 1), along("observed", 0)
        )

    def taken(self, index: Tensor) -> Draws:
        """Those of some of the data."""

        def of(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[:, index] for name, value in values.items()}

        observed = {name: value[index] for name, value in self.observed.items()}
        return Draws(of(self.posterior), of(self.posterior_predictive), of(self.log_likelihood), observed)

    def __repr__(self) -> str:
        shapes = {name: tuple(value.shape) for name, value in self.posterior.items()}
        return f"Draws(posterior={shapes})"


@dataclass(frozen=True, eq=False)
class Evidence:
    """Per-datum estimates of log p(x | given), with the diagnostics that say how far to trust them.

    Attributes:
        log_prob: log 1/S sum_s w_s, (N,) float64, nats. In expectation a lower bound on log p(x).
        standard_error: its Monte Carlo standard error by the delta method, (N,), nats. It understates where k-hat is
            above the threshold.
        ess: effective sample size (sum w)^2 / sum w^2, (N,); by annealing of chains, which are few.
        pareto_k: k-hat of the weights' tail, (N,); nan where all weights are equal (an exact guide). By annealing of
            the chains' weights, and judged from 64 chains on.
        num_particles: S: particles, or chains.
        method: "importance", "annealed", "exact", or, to a tolerance, "mixed".
        num_steps: of annealing; 1 for importance sampling.
        start: where chains begin, "guide" or "prior".
        acceptance: the mean acceptance rate of a datum's chains, (N,); by annealing alone, else nan, or None.
        runs: log p-hat of each of R independent groups of chains, (R, N), nats; by annealing alone, else nan, or None.
        num_dimensions: how many numbers make up one datum, those that are missing not counted (then in the mean over
            the data); 0 if unknown, or where ``log_prob`` is of more than these, as of a mask under
            ``pyrovae.MissingNotAtRandom``: the mask's bits are not those of the numbers.
        is_bound: whether ``log_prob`` is a lower bound in expectation.
        seed: the seed it was computed with, or None.
        log_jacobian: what was added to every ``log_prob``, in the mean over the data, nats: by it they are densities
            in the data's own units. 0 where x was in these.
        draws: posterior draws, where they were asked for.
        jackknife: log p(x) from the same weights by the jackknife, (N,), nats: bias of order 1 / S^2 in place of 1 / S,
            where the weights have the moments for it. No bound: it may be too high. None where there is none.
        truncated: log 1/S sum_s min(w_s, sqrt(S) mean w), (N,), nats: of less variance, and never above ``log_prob``.
            So where that is a lower bound in expectation, this is a looser one: not to be quoted in its place. None
            where there is none.
        expectations: posterior expectations by name, where they were asked for.
        plan: the method and budget of each datum, where a tolerance was asked for; ``num_particles`` and ``num_steps``
            are then the largest.
        data_digest: of the values of x, and behind a dash of what was given, hexadecimal; "" if unknown. By it
            ``compare`` and ``inference_gaps`` refuse evidence of other data.
    """

    log_prob: Tensor
    standard_error: Tensor
    ess: Tensor
    pareto_k: Tensor
    num_particles: int
    num_dimensions: float
    method: str = "importance"
    num_steps: int = 1
    start: str = "guide"
    acceptance: Tensor | None = None
    runs: Tensor | None = None
    is_bound: bool = True
    seed: int | None = None
    log_jacobian: float = 0.0
    draws: Draws | None = field(default=None, repr=False)
    jackknife: Tensor | None = None
    truncated: Tensor | None = None
    expectations: Mapping[str, Expectation] = field(default_factory=dict, repr=False)
    plan: Plan | None = field(default=None, repr=False)
    data_digest: str = ""

    @property
    def num_data(self) -> int:
        """N."""
        return self.log_prob.shape[0]

    @property
    def threshold(self) -> float:
        """The k-hat above which an estimate is not reliable: min(1 - 1 / log10 S, 0.7); of the largest S."""
        return threshold(self.num_particles)

    @property
    def by_annealing(self) -> Tensor:
        """Which data were estimated by annealing, (N,) bool."""
        all_or_none = torch.full(self.log_prob.shape, self.method == "annealed")
        return all_or_none if self.plan is None else self.plan.by_annealing

    @property
    def _thresholds(self) -> Tensor:
        numbers = self._num_particles.tolist()
        return torch.tensor([threshold(number) for number in numbers], dtype=torch.float64)

    @property
    def judged_by_runs(self) -> Tensor:
        """Which data have too few chains for k-hat, so that the spread of independent runs stands for it, (N,) bool."""
        return self.by_annealing & (self._num_particles < FEW)

    @property
    def _num_particles(self) -> Tensor:
        return torch.full(self.log_prob.shape, self.num_particles) if self.plan is None else self.plan.num_particles

    @property
    def spread(self) -> Tensor:
        """By how much another run would differ, (N,), nats: the larger of two estimates; nan for fewer than two groups.

        They are sd / sqrt R of the groups' estimates, which has only R - 1 degrees of freedom, and the
        ``standard_error`` over all chains.
        """
        runs = self.log_prob[None] if self.runs is None else self.runs
        if len(runs) < 2:
            return torch.full_like(self.log_prob, math.nan)
        return (runs.std(0) / math.sqrt(len(runs))).maximum(self.standard_error)

    @cached_property
    def unreliable(self) -> Tensor:
        """Of which data no error can be trusted, (N,) bool: whose k-hat is above the threshold, or, of fewer than 64
        chains, whose runs spread by more than 0.1 nats; or that have no finite estimate or error at all."""
        heavy = self.pareto_k > self._thresholds
        bad = torch.where(self.judged_by_runs, ~(self.spread <= SPREAD), heavy)
        return bad | ~self.log_prob.isfinite() | self.standard_error.isnan()

    @cached_property
    def reached(self) -> Tensor:
        """For which data the tolerance was reached, (N,) bool: whose error can be trusted and is not above it.

        For chains that is ``spread``.

        Raises:
            PyrovaeError: no tolerance was asked for.
        """
        if self.plan is None:
            raise PyrovaeError("no tolerance was asked for: call log_marginal(..., tolerance=0.1)")
        error = torch.where(self.by_annealing, self.spread, self.standard_error)
        return ~self.unreliable & (error <= self.plan.tolerance)

    @property
    def share_reached(self) -> float:
        """The share of data for which the tolerance was ``reached``."""
        return self.reached.double().mean().item()

    @property
    def doubt(self) -> str:
        """What makes data ``unreliable``, in words."""
        if self._too_few:
            return f"{self._too_few},"
        return f"{self._sign('k-hat is above', 'independent runs differ by more than')}, or no error can be given,"

    @property
    def sign(self) -> str:
        """What data are ``unreliable`` by, in few words."""
        return self._too_few or self._sign("k-hat above", "runs apart by over")

    @property
    def _too_few(self) -> str:
        """Why nothing can be judged at all, in few words."""
        if self.plan is None and self.method == "importance" and self.threshold <= 0:
            return "too few particles for k-hat"
        return "too few chains to compare" if self.method == "annealed" and self.spread.isnan().all() else ""

    @property
    def remedy(self) -> str:
        """What may help where data are ``unreliable`` or a tolerance was not ``reached``, in words."""
        closed = "method='exact' where the program is linear-Gaussian"
        if self.plan is not None:
            most = "a larger num_particles" if self.plan.refusal else "a larger num_steps or num_particles"
            return f"{most}, or {closed}"
        if self.method == "annealed":
            other = "" if self.start == "prior" else ", annealing=Annealing(start='prior')"
            return f"more num_steps or num_particles{other}, or {closed}"
        return f"method='annealed' or tolerance=0.1, more num_particles, or {closed}"

    def _sign(self, of_k: str, of_runs: str) -> str:
        signs = [f"{of_k} {' to '.join(f'{limit:.2f}' for limit in self._limits)}"] if self._limits else []
        signs += [f"{of_runs} {SPREAD} nats"] if self.judged_by_runs.any() else []
        return " or ".join(signs)

    @property
    def _limits(self) -> list[float]:
        """Of k-hat, for the data that it judges: the least and the largest, where a tolerance has S differ."""
        limits = sorted(set(self._thresholds[~self.judged_by_runs].tolist()))
        return [*limits[:1], *limits[1:][-1:]]

    @property
    def share_unreliable(self) -> float:
        """The share of data that are ``unreliable``."""
        return self.unreliable.double().mean().item()

    @property
    def mean(self) -> float:
        """The mean of ``log_prob`` over the data, nats."""
        return self.log_prob.mean().item()

    @property
    def mean_standard_error(self) -> float:
        """Monte Carlo standard error of the mean, nats: sqrt(sum_n se_n^2) / N."""
        return self.standard_error.square().sum().sqrt().item() / self.num_data

    @property
    def mean_sampling_error(self) -> float:
        """Standard error of the mean as an estimate for the population the data come from: sd / sqrt N; nan for one."""
        return self.log_prob.std().item() / math.sqrt(self.num_data) if self.num_data > 1 else math.nan

    @property
    def bits_per_dim(self) -> float:
        """-mean / (D log 2), D the number of dimensions of one datum: bits per number that is seen; nan for D = 0."""
        return -self.mean / (self.num_dimensions * math.log(2)) if self.num_dimensions else math.nan

    def summary(self) -> str:
        """A readable table; the share of data that are ``unreliable`` comes first."""
        trust = [] if self.method == "exact" else self._trust_rows()
        rows = [*trust, *self._figure_rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [f"{name:<{widths[0]}}  {value:>{widths[1]}}  {note}" for name, value, note in rows]
        seed = "" if self.method == "exact" else ", seed not set" if self.seed is None else f", seed {self.seed}"
        return "\n".join([f"log p(x) by {self.procedure}{seed}", *lines])

    @property
    def kind(self) -> str:
        """What ``log_prob`` is of log p(x): "exact", a "lower bound" in expectation, or an "estimate"."""
        return "exact" if self.method == "exact" else "lower bound" if self.is_bound else "estimate"

    @property
    def procedure(self) -> str:
        """How it was estimated, in words."""
        if self.plan is not None:
            return f"importance sampling or annealing, to a tolerance of {self.plan.tolerance:g} nats"
        if self.method == "annealed":
            chains, steps = counted(self.num_particles, "chain"), counted(self.num_steps, "step")
            return f"annealing from the {self.start}, {chains} of {steps}"
        if self.method == "exact":
            return "integration in closed form"
        return f"importance sampling, {counted(self.num_particles, 'particle')}"

    def _trust_rows(self) -> list[tuple[str, str, str]]:
        percent = f"{100 * self.share_unreliable:.1f} %"
        trust = DOUBT if self.unreliable.any() else "no sign of errors too small"
        few, middle = torch.quantile(self.ess, torch.tensor([0.05, 0.5], dtype=self.ess.dtype)).tolist()
        return [
            (self.sign, percent, f"of {self.num_data:,} data: {trust}"),
            *([] if self.plan is None else self._plan_rows(self.plan)),
            *([("  what may help", "", self.remedy)] if self._wanting else []),
            *([] if self.acceptance is None else [self._acceptance_row(self.acceptance)]),
            ("effective sample size", f"{middle:,.1f}", f"in the median; below {few:,.1f} for 5 % of the data"),
        ]

    @property
    def _wanting(self) -> bool:
        return bool((self.unreliable if self.plan is None else ~self.reached).any())

    def _plan_rows(self, plan: Plan) -> list[tuple[str, str, str]]:
        share = f"{100 * self.share_reached:.1f} %"
        told = f"of {self.num_data:,} data: an error of {plan.tolerance:g} nats at most, none with {self.sign}"
        return [
            ("tolerance reached", share, told),
            *([("  not reached", f"{int((~self.reached).sum()):,}", self.missed)] if not self.reached.all() else []),
            *plan.rows(),
        ]

    @property
    def missed(self) -> str:
        """Why data did not reach the tolerance, in words."""
        doubtful = int(self.unreliable.sum())
        return f"{int((~self.reached).sum()) - doubtful:,} for their error, {doubtful:,} with {self.sign}"

    def _acceptance_row(self, rates: Tensor) -> tuple[str, str, str]:
        low = rates[~rates.isnan()].min().item()
        return "acceptance", f"{rates.nanmean().item():.2f}", f"of transitions; at least {low:.2f} for every datum"

    def _figure_rows(self) -> list[tuple[str, str, str]]:
        kind = {"exact": f"exact: {VERIFIED}", "lower bound": "lower bound, in expectation"}.get(
            self.kind, "estimate, not a bound"
        )
        particles, data = self.mean_standard_error, self.mean_sampling_error
        units = ("  of it, log-Jacobian", f"{self.log_jacobian:.3f}", "nats: the density is in the data's own units")
        return [
            ("mean log p(x)", f"{self.mean:.3f}", f"nats; {kind}"),
            *([units] if self.log_jacobian else []),
            ("  Monte Carlo error", f"{particles:.3f}", "nats, of the mean over these data"),
            ("  sampling error", f"{data:.3f}", "nats, of the mean over the population of data"),
            *([self._bits_row()] if self.num_dimensions else []),
            *self._other_rows(),
        ]

    def _other_rows(self) -> list[tuple[str, str, str]]:
        """Further estimates from the same weights."""
        named = (
            ("jackknife, mean", self.jackknife, "nats; no bound, not to be quoted as one"),
            ("truncated, mean", self.truncated, "nats; weights cut off, not to be quoted as a bound"),
        )
        return [(name, f"{value.mean().item():.3f}", note) for name, value, note in named if value is not None]

    def _bits_row(self) -> tuple[str, str, str]:
        errors = (self.mean_standard_error, self.mean_sampling_error)
        bits = [f"{error / (self.num_dimensions * math.log(2)):.4f}" for error in errors]
        return "bits per dimension", f"{self.bits_per_dim:.4f}", f"errors {' and '.join(bits)}"

    def record(self) -> dict[str, Any]:
        """The figures of ``summary`` as JSON types; None for one that is not finite, for which JSON has no number."""
        return {name: _finite(value) for name, value in self._record().items()}

    def _record(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "num_data": self.num_data,
            "method": self.method,
            "num_particles": self.num_particles,
            "num_steps": self.num_steps,
            "start": self.start,
            "acceptance": None if self.acceptance is None else self.acceptance.nanmean().item(),
            "num_dimensions": self.num_dimensions,
            "data_digest": self.data_digest,
            "seed": self.seed,
            "procedure": self.procedure,
            "pareto_k_threshold": self.threshold,
            "sign": self.sign,
            "doubt": self.doubt,
            "share_unreliable": self.share_unreliable,
            "mean": self.mean,
            "log_jacobian": self.log_jacobian,
            "mean_standard_error": self.mean_standard_error,
            "mean_sampling_error": self.mean_sampling_error,
            "bits_per_dim": self.bits_per_dim,
            "ess_median": self.ess.median().item(),
            **({} if self.jackknife is None else {"mean_jackknife": self.jackknife.mean().item()}),
            **({} if self.truncated is None else {"mean_truncated": self.truncated.mean().item()}),
            **({} if self.plan is None else self._record_of(self.plan)),
        }

    def _record_of(self, plan: Plan) -> dict[str, Any]:
        return plan.record() | {"share_reached": self.share_reached, "pareto_k_thresholds": self._limits}

    def to_arviz(self) -> Any:
        """ArviZ data: an InferenceData under ArviZ 0.23, a DataTree under 1.x.

        Groups: posterior (importance-resampled draws, one chain), posterior_predictive, log_likelihood, observed_data.
        The draws are no Markov chain, and repeat where weights are large: R-hat and ESS of ``arviz.summary`` mean
        nothing for them; ``ess`` and ``pareto_k`` say how far to trust them.

        Raises:
            PyrovaeError: no draws were kept.
        """
        if self.draws is None:
            raise PyrovaeError("no draws were kept: call log_marginal(..., num_draws=400) for a few data first")
        from pyrovae.evidence.arviz_adapter import to_arviz  # ArviZ takes seconds to import

        numpy = {name: trees.tree_map(lambda t: t.cpu().numpy(), dict(getattr(self.draws, name)))
                 for name in ("posterior", "posterior_predictive", "log_likelihood")}  # fmt: skip
        observed = {name: value.cpu().numpy() for name, value in self.draws.observed.items()}
        attrs = {"procedure": self.procedure, "share_unreliable": self.share_unreliable}
        return to_arviz(**numpy, observed_data=observed, attrs=attrs)

    def __repr__(self) -> str:
        return self.summary()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
