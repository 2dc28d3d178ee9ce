"""Posterior predictive checks: whether data look like what the program draws in their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.result import Evidence
from pyrovae.lines import aligned
from pyrovae.trees import Tree

Statistic = Callable[[Tree], Tensor]  # of x with M rows, to (M,)
HEADS = ["", "of the data", "of replicates", "sd", "p", "outer 5 %"]


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """Statistics T of the data x and of R replicates x_rep of each datum; nan for data without draws.

    Attributes:
        observed: T(x_n) by the name of the statistic, (N,) float64.
        replicated: T(x_rep) by name, (R, N) float64.
        posterior: whether the replicates were drawn at the posterior's z of the same data.
        share_unreliable: the share of data whose draws are hardly of the posterior: with k-hat above its threshold. 0
            for replicates of another source.
    """

    observed: Mapping[str, Tensor]
    replicated: Mapping[str, Tensor]
    posterior: bool = True
    share_unreliable: float = 0.0

    @cached_property
    def p_values(self) -> dict[str, Tensor]:
        """P(T(x_rep) > T(x_n)) + P(T(x_rep) = T(x_n)) / 2 of each datum by name, (N,): 0 where T(x_n) is highest."""
        return {name: _rank(self.replicated[name], value) for name, value in self.observed.items()}

    @cached_property
    def means(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By name, the mean of T over the data, (), and over each of the R replicate data sets, (R,)."""
        return {name: self._mean(name) for name in self.observed}

    @cached_property
    def pooled(self) -> dict[str, float]:
        """The p-value of the mean of T over the data among those of the R replicate data sets, by name."""
        return {name: _rank(replicated, mean).item() for name, (mean, replicated) in self.means.items()}

    @property
    def num_draws(self) -> int:
        """R."""
        return next(iter(self.replicated.values())).shape[0]

    @property
    def num_data(self) -> int:
        """N."""
        return next(iter(self.observed.values())).shape[0]

    def _mean(self, name: str) -> tuple[Tensor, Tensor]:
        known = ~self.p_values[name].isnan()
        both = torch.cat([self.observed[name][None], self.replicated[name]])[:, known].mean(1)  # equal rows stay equal
        return both[0], both[1:]

    def summary(self) -> str:
        """A row per statistic: its means over data and replicates, the pooled p-value, the share of extreme data."""
        source = "of the posterior" if self.posterior else "as given"
        return "\n".join([
            f"{self.num_data:,} data and {self.num_draws:,} replicates of each, {source}",
            *self._doubts(),
            *aligned([HEADS, *map(self._row, self.observed)], right=range(1, 6)),
        ])  # fmt: skip

    def _row(self, name: str) -> list[str]:
        mean, replicated = self.means[name]
        p = self.p_values[name]
        outer = ((p < 0.025) | (p > 0.975))[~p.isnan()].double().mean().item()
        spread = replicated.std().item() if self.num_draws > 1 else math.nan
        figures = (mean.item(), replicated.mean().item(), spread)
        return [name, *(f"{figure:.4g}" for figure in figures), f"{self.pooled[name]:.3f}", f"{100 * outer:.1f} %"]

    def _doubts(self) -> list[str]:
        absent = max(int(p.isnan().sum()) for p in self.p_values.values())
        share = f"{100 * self.share_unreliable:.1f} %"
        return [
            *([f"for {share} of the data the draws are hardly of the posterior"] if self.share_unreliable else []),
            *([f"{absent:,} data have no draws or no value of a statistic and are left out"] if absent else []),
        ]

    def __repr__(self) -> str:
        return self.summary()


def predictive_check(
    evidence: Evidence, *, statistics: Mapping[str, Statistic], replicates: Tree = None
) -> PredictiveCheck:
    """Compare T(x) with T(x_rep), x_rep ~ p(x | z), z ~ p(z | x): p = P(T(x_rep) >= T(x) | x), ties counted half.

    The statistic is of each datum; pooled, the mean of T over the data is compared with that over replicate data sets.
    A p-value near 0 says that the data's T is higher than the program's replicates, one near 1 that it is lower.

    As z is drawn for the very x it is compared with, the p-values of data from the program itself are not uniform but
    closer to 1/2 (P(p <= a) is at most 2 a): the check is mild on what z can follow, and sees what it cannot. They are
    uniform for ``replicates`` from the prior, z ~ p(z).

    Args:
        evidence: from ``log_marginal(..., num_draws=R)``.
        statistics: by name, T(x) of x with any number M of rows, to (M,). It is given the value of the observed site,
            or a dict of them by name where there are several. Numbers that are missing in x (NaN) are missing in x_rep.
        replicates: (R, N, *event_shape), by name where several sites are observed, in place of the posterior's; for a
            program without ``given`` ``pv.sample(program, R * N).unflatten(0, (R, N))`` is of the prior.

    Raises:
        PyrovaeError: evidence without draws; no statistic, or one that does not give a value per row; replicates of
            other sites or shapes.

    Gelman, Meng & Stern 1996, "Posterior predictive assessment of model fitness"; Meng 1994 (the bound 2 a).

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> vae, x = pv.vae(data, latent=2), data.test.x[:8]
        >>> ev = pv.log_marginal(vae, x, num_particles=200, num_draws=50, seed=0)
        >>> check = pv.predictive_check(ev, statistics={"ink": lambda x: x.flatten(1).mean(1)})
        >>> check.p_values["ink"].shape
        torch.Size([8])
    """
    if evidence.draws is None:
        raise PyrovaeError("no draws were kept: call log_marginal(..., num_draws=400) first")
    if not statistics:
        raise PyrovaeError('a check needs a statistic: statistics={"mean": lambda x: x.flatten(1).mean(1)}')
    x, posterior = dict(evidence.draws.observed), replicates is None
    drawn = dict(evidence.draws.posterior_predictive) if posterior else _by_name(replicates, list(x))
    _check_shapes(x, drawn)
    drawn = {name: _missing_too(value, x[name]) for name, value in drawn.items()}
    found = {name: _statistic(name, function, x, drawn) for name, function in statistics.items()}
    absent = ~evidence.log_prob.isfinite() & posterior  # all weights are zero
    return PredictiveCheck(
        {name: value.masked_fill(absent, math.nan) for name, (value, _) in found.items()},
        {name: of_draws for name, (_, of_draws) in found.items()},
        posterior,
        evidence.share_unreliable if posterior else 0.0,
    )


def _by_name(replicates: Tree, names: list[str]) -> dict[str, Tensor]:
    return dict(replicates) if isinstance(replicates, Mapping) else {names[0]: replicates}


def _check_shapes(x: Mapping[str, Tensor], drawn: Mapping[str, Tensor]) -> None:
    expected = {name: tuple(value.shape) for name, value in x.items()}
    found = {name: tuple(value.shape) for name, value in drawn.items()}
    counts = {shape[:1] for shape in found.values()}
    if {name: shape[1:] for name, shape in found.items()} != expected or len(counts) > 1 or (0,) in counts:
        raise PyrovaeError(f"replicates are (R, N, *event_shape) of the observed sites, {expected}; got {found}")


def _missing_too(drawn: Tensor, x: Tensor) -> Tensor:
    return drawn.masked_fill(x.isnan(), math.nan) if x.is_floating_point() else drawn


def _statistic(name: str, function: Statistic, x: dict[str, Tensor], drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """T of the data, (N,), and of the draws, (R, N)."""
    draws, size = next(iter(drawn.values())).shape[:2]
    rows = {site: value.flatten(0, 1) for site, value in drawn.items()}
    of_draws = _values(name, function(trees.only(rows)), draws * size)
    return _values(name, function(trees.only(x)), size), of_draws.unflatten(0, (draws, size))


def _values(name: str, value: Any, size: int) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != (size,):
        found = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise PyrovaeError(f"statistic {name!r} must give a value per row, here ({size},); got {found}")
    return value.detach().double().cpu()


def _rank(replicated: Tensor, value: Tensor) -> Tensor:
    """The share of replicates above the value, those equal to it counted half; over dim 0. nan where one is nan."""
    rank = (replicated > value).double().mean(0) + (replicated == value).double().mean(0) / 2
    return rank.masked_fill(value.isnan() | replicated.isnan().any(0), math.nan)
