"""Programs compared datum by datum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.evidence.result import Evidence
from pyrovae.lines import aligned

MEANS = ["", "unreliable", "mean", "Monte Carlo", "sampling", "kind", "by"]
PAIRED = ["difference", "standard error", "Monte Carlo", "sampling", "ahead on", "kind"]
BOUNDS = {
    ("exact", "exact"): "exact",
    ("lower bound", "exact"): "lower bound",
    ("exact", "lower bound"): "upper bound",
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Differences in log p(x), each program's minus the first's, datum by datum: (K - 1, N) and (K - 1,), nats.

    Data differ in difficulty far more than two programs differ on one datum, so the standard error of the mean
    difference is several times smaller than that of either mean.

    A difference of two lower bounds bounds nothing: each lacks its own slack, E[log p-hat] - log p(x). Where the guides
    are alike in quality and the particles as many, the slacks cancel in part; where not, they count as a difference.

    Attributes:
        names: of the K programs.
        evidence: theirs, of the same N data in the same order.
    """

    names: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    @cached_property
    def differences(self) -> Tensor:
        """d_kn = log p_k(x_n) - log p_0(x_n), (K - 1, N); above 0 where the program beats the first."""
        first, *others = (each.log_prob for each in self.evidence)
        return torch.stack([other - first for other in others])

    @property
    def differences_standard_error(self) -> Tensor:
        """Monte Carlo standard error of each difference, sqrt(se_kn^2 + se_0n^2), (K - 1, N); as for their mean."""
        first, *others = (each.standard_error.square() for each in self.evidence)
        return torch.stack([other + first for other in others]).sqrt()

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each difference is of the true one, (K - 1,): "exact", of two exact values; of one and a lower bound
        a "lower bound" or an "upper bound" in turn; else an "estimate", as of two lower bounds, which bounds nothing.
        """
        first, *others = (each.kind for each in self.evidence)
        return tuple(BOUNDS.get((other, first), "estimate") for other in others)

    @property
    def num_data(self) -> int:
        """N."""
        return self.evidence[0].num_data

    @property
    def mean(self) -> Tensor:
        """The mean difference, (K - 1,)."""
        return self.differences.mean(-1)

    @property
    def standard_error(self) -> Tensor:
        """Of the mean difference, for the population the data come from: sd(d) / sqrt N, (K - 1,); nan for one datum.

        The particles' noise is in the spread of d, so it is in this figure too.
        """
        if self.num_data == 1:
            return torch.full_like(self.mean, math.nan)
        return self.differences.std(-1) / math.sqrt(self.num_data)

    @property
    def monte_carlo_error(self) -> Tensor:
        """What other particles would change: sqrt(sum_n (se_kn^2 + se_0n^2)) / N, (K - 1,).

        For independent estimates; a seed that the estimates share makes it, if anything, too large.
        """
        return self.differences_standard_error.square().sum(-1).sqrt() / self.num_data

    @property
    def sampling_error(self) -> Tensor:
        """What other data would change: the rest of ``standard_error``, (K - 1,)."""
        return (self.standard_error.square() - self.monte_carlo_error.square()).clamp(min=0).sqrt()

    @property
    def share_ahead(self) -> Tensor:
        """The share of data on which the program beats the first, (K - 1,)."""
        return (self.differences > 0).double().mean(-1)

    @property
    def share_unreliable(self) -> float:
        """The share of data that are unreliable, with k-hat above its threshold for one, in one program at least."""
        return torch.stack([each.unreliable for each in self.evidence]).any(0).double().mean().item()

    def summary(self) -> str:
        """How far to trust the comparison, then two readable tables: means, and paired differences."""
        return "\n".join([
            f"log p(x) of {self.num_data:,} data, nats per datum", "",
            *self._doubts(),
            *aligned([MEANS, *self._mean_rows()], right=range(1, 5)), "",
            *aligned([[f"against {self.names[0]}", *PAIRED], *self._difference_rows()], right=range(1, 6)),
        ])  # fmt: skip

    def _mean_rows(self) -> list[list[str]]:
        return [
            [name, f"{100 * e.share_unreliable:.1f} %", f"{e.mean:.3f}", f"{e.mean_standard_error:.3f}",
             f"{e.mean_sampling_error:.3f}", e.kind, e.procedure]
            for name, e in zip(self.names, self.evidence, strict=True)
        ]  # fmt: skip

    def _difference_rows(self) -> list[list[str]]:
        columns = (self.mean, self.standard_error, self.monte_carlo_error, self.sampling_error, self.share_ahead)
        figures = zip(*(column.tolist() for column in columns), strict=True)
        return [
            [name, f"{mean:+.3f}", *(f"{error:.3f}" for error in errors), f"{100 * ahead:.1f} %", kind]
            for name, kind, (mean, *errors, ahead) in zip(self.names[1:], self.kinds, figures, strict=True)
        ]

    def _doubts(self) -> list[str]:
        bounds = [each for each in self.evidence if each.kind == "lower bound"]
        absent = int((~torch.stack([each.log_prob.isfinite() for each in self.evidence])).any(0).sum())
        share = f"{100 * self.share_unreliable:.1f} %"
        doubts = [
            *([f"For {share} of the data k-hat is above its threshold, or runs differ, in one of them at least. There",
               "the figures are lower bounds of unknown slack, and the Monte Carlo error understates."]
              if self.share_unreliable else []),
            *([f"For {absent:,} data log p(x) is not finite in one of them: no mean is defined."] if absent else []),
            *(["The lower bounds come by different methods or numbers of particles: what is looser looks worse."]
              if len({each.procedure for each in bounds}) > 1 else []),
        ]  # fmt: skip
        return [*doubts, ""] if doubts else []

    def __repr__(self) -> str:
        return self.summary()


def compare(*evidence: Evidence, names: Sequence[str] | None = None, own_units: bool = False) -> Comparison:
    """Compare programs on the same data, each against the first: paired differences with their standard errors.

    Args:
        evidence: of two programs or more, or of one by several methods, from ``log_marginal`` on the same data in the
            same order.
        names: of the programs; by default "1", "2" and so on.
        own_units: that x was in the data's own units where nothing was added for them, so that all figures are
            densities in these.

    Raises:
        PyrovaeError: fewer than two, or what is no evidence; of different numbers of data or of dimensions; of
            different data, unless a log-Jacobian, or ``own_units``, says that the units of x differ (where only some
            have something given, x is compared); a log-Jacobian in some but not in all, unless ``own_units``; names
            that are not one each, or not different.

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> x = data.test.x[:8]
        >>> small, large = (pv.log_marginal(pv.vae(data, latent=size), x, num_particles=50) for size in (2, 8))
        >>> pv.compare(small, large, names=["small", "large"]).differences.shape
        torch.Size([1, 8])
    """
    for each in evidence:
        if not isinstance(each, Evidence):
            raise PyrovaeError(
                f"evidence is what log_marginal returns; got a {type(each).__name__}. Pass each by itself, "
                "compare(first, second), or compare(*several)"
            )
    if len(evidence) < 2:
        raise PyrovaeError(f"a comparison needs the evidence of at least two programs; got {len(evidence)}")
    if len(counts := {each.num_data for each in evidence}) > 1:
        raise PyrovaeError(f"the evidence is of different numbers of data, {sorted(counts)}: evaluate on the same data")
    _check_units(evidence, own_units)
    if not own_units and len({each.log_jacobian for each in evidence}) == 1:  # else x may be in different units
        _check_data(evidence)
    names = [str(number + 1) for number in range(len(evidence))] if names is None else list(names)
    if len(names) != len(evidence) or len(set(names)) < len(names):
        raise PyrovaeError(f"{len(evidence)} programs need as many different names; got {names}")
    return Comparison(tuple(names), evidence)


def _check_data(evidence: Sequence[Evidence]) -> None:
    pairs = [each.data_digest.partition("-")[::2] for each in evidence]
    for what, digests in zip(("x", "what is given"), zip(*pairs, strict=True), strict=True):
        if len(set(digests) - {""}) > 1:
            raise PyrovaeError(
                f"the evidence is of different data: the values of {what}, or their order, differ. Evaluate on "
                "the same data; where but their units differ, pass log_jacobian= to log_marginal, or own_units=True"
            )


def _check_units(evidence: Sequence[Evidence], own_units: bool) -> None:
    """log p(x) are differences in nats only between densities of the same numbers in the same units."""
    if len(sizes := {each.num_dimensions for each in evidence if each.num_dimensions}) > 1:
        raise PyrovaeError(f"a datum has different numbers of dimensions, {sorted(sizes)}: evaluate on the same data")
    if not own_units and len({each.log_jacobian == 0 for each in evidence}) > 1:
        raise PyrovaeError(
            "some of the evidence has a log-Jacobian and some has none: evaluate all with log_marginal(..., "
            "log_jacobian=data.log_jacobian), or pass own_units=True if x was in the data's own units where none was "
            "added"
        )
