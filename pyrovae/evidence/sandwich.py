"""Lower and upper bounds on log p(x) of data simulated from the program: bidirectional Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.blocks import Data, Setting, most_rows, sizes
from pyrovae.evidence.importance import _check_density as check_density
from pyrovae.evidence.simulated import simulate
from pyrovae.lines import aligned
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.placed import placed
from pyrovae.precision import float32_matmul
from pyrovae.randomness import seeded
from pyrovae.terms import LogTerms, terms_for
from pyrovae.trees import Tree
from pyrovae.validation import validating

TOGETHER = 16  # data at once: many particles of few data keep the guide's share small
METHODS = {"importance": "importance sampling", "annealed": "annealed importance sampling"}


@dataclass(frozen=True, eq=False)
class Sandwich:
    """Bounds on log p(x | given) of N simulated data: E[lower] <= log p(x) <= E[upper], nats.

    Attributes:
        lower: log 1/S sum_s w_s over particles, or chains, (N,) float64.
        upper: the same with the weight of the true latents, or of chains from these, among the S, (N,).
        upper_reverse: -log of the mean 1 / w over these alone, the bound of Grosse et al., (N,); wider, as a rule.
        x, given: the simulated data, and under what.
        method: "importance" or "annealed".
        num_particles: S.
        num_steps: of each chain; None for importance sampling.
        seed: the seed it was computed with, or None.
    """

    lower: Tensor
    upper: Tensor
    upper_reverse: Tensor
    x: Tree
    given: tuple[Tree, ...]
    method: str
    num_particles: int
    num_steps: int | None = None
    seed: int | None = None

    @property
    def num_data(self) -> int:
        """N."""
        return len(self.lower)

    @property
    def gap(self) -> Tensor:
        """upper - lower, (N,), nats; below 0 for single data by chance."""
        return self.upper - self.lower

    @property
    def gap_mean(self) -> float:
        """The mean gap, nats: in expectation, what the lower bound misses of log p(x) is no more."""
        return self.gap.mean().item()

    @property
    def gap_standard_error(self) -> float:
        """Of the mean gap, over data and particles: sd / sqrt N; nan for one datum."""
        return _error(self.gap)

    def summary(self) -> str:
        """A readable table."""
        steps = f" of {self.num_steps:,} steps" if self.num_steps else ""
        kind = "chains" if self.num_steps else "particles"
        rows = [
            ["mean lower bound", f"{self.lower.mean():.3f}", f"{_error(self.lower):.3f}", ""],
            ["mean upper bound", f"{self.upper.mean():.3f}", f"{_error(self.upper):.3f}", ""],
            ["mean gap", f"{self.gap_mean:.3f}", f"{self.gap_standard_error:.3f}",
             f"largest {self.gap.max():.3f}, of one datum"],
        ]  # fmt: skip
        head = f"log p(x) of {self.num_data:,} simulated data by {METHODS[self.method]}, {self.num_particles:,} {kind}"
        seed = "not set" if self.seed is None else self.seed
        head = f"{head}{steps}, seed {seed}"
        return "\n".join([head, *aligned([["nats per datum", "", "error", ""], *rows], right=[1, 2])])

    def __repr__(self) -> str:
        return self.summary()


def _error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def sandwich(
    program: Any,
    *given: Tree,
    num_data: int = 100,
    method: Literal["importance"] = "importance",
    num_particles: int = 5000,
    seed: int | None = None,
    like: Tree = None,
) -> Sandwich:
    """Lower and upper bounds on log p(x | given) of data drawn from the program itself (bidirectional Monte Carlo).

    The program draws (z*, x) ~ p(z, x), so z* is an exact draw from p(z | x). With weights w of particles z ~ q(z | x),
    w = p(x, z) / q(z | x), or of annealed chains from there, and the weight w* of z*, or of a chain walked back from it,

        E[log 1/S sum_{s=1}^S w_s]  <=  log p(x)  <=  E[log 1/S (w* + sum_{s=1}^{S-1} w_s)].

    On these data the gap bounds the error of ``log_marginal`` by the same method with as many particles. On real data
    it says as much as the program is like them.

    Args:
        program: any program. Its latents are drawn from its model, and all but those enumerated must be scored by its
            guide at given values.
        given: conditioning variables with ``num_data`` rows.
        num_data: N.
        method: "importance".
        num_particles: S, for every datum.
        seed: makes the result repeatable; the global generator is left as it was. None draws from the global generator.
        like: data of the right structure and shape, for programs whose model needs an ``x`` to run.

    Returns:
        Sandwich: ``lower``, ``upper`` and ``gap``, each (N,) float64 on the CPU, in nats; ``gap_mean``.

    Raises:
        PyrovaeError: a number below 1, an unknown method; a guide that gives points, or cannot score given values; data
            that cannot be simulated, see ``pyrovae.sample``; see also ``pyrovae.log_marginal``.

    References:
        Grosse, Ghahramani & Adams 2015, "Sandwiching the marginal likelihood using bidirectional Monte Carlo"; Wu,
        Burda, Salakhutdinov & Grosse 2017; the upper bound: Sobolev & Vetrov 2019, Brekelmans et al. 2022.

    Example:
        >>> import pyrovae as pv
        >>> vae = pv.vae(pv.data.load("digits"), latent=2)
        >>> bounds = pv.sandwich(vae, num_data=20, num_particles=100, seed=0)
        >>> bounds.gap.shape
        torch.Size([20])
    """
    if method not in METHODS:
        raise PyrovaeError(f"method must be one of {list(METHODS)}; got {method!r}")
    for name, value in (("num_data", num_data), ("num_particles", num_particles)):
        if value < 1:
            raise PyrovaeError(f"{name} must be at least 1; got {value}")
    with frozen(program) as device, seeded(seed, device), float32_matmul(device):
        truth = simulate(program, num_data, *given, like=like)
        data = Data((truth.x, *given), floating_dtype(program), device)
        probe = data.rows(slice(0, 3))
        check_density(program, probe)
        setting = Setting(program, terms_for(program, *probe), data, probe, None, False)
        weights = _Importance(setting, num_particles)
        parts = []
        for start in range(0, num_data, weights.block):
            part = slice(start, start + weights.block)
            with validating(start == 0):
                parts.append(bounds(*weights(data.rows(part), trees.rows(truth.latents, part))))
    lower, upper, reverse = torch.cat(parts, -1).cpu()
    return Sandwich(lower, upper, reverse, truth.x, given, method, num_particles, seed=seed)


class _Importance:
    """Log-weights of particles from the guide, and of the true latents."""

    def __init__(self, setting: Setting, num_particles: int) -> None:
        self.setting, self.num_particles = setting, num_particles
        self.block, self.chunk = sizes(setting.data.size, num_particles, most_rows(setting, self._run), TOGETHER)

    def __call__(self, rows: list[Tree], latents: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(S, n) and (1, n), nats."""
        starts = range(0, self.num_particles, self.chunk)
        counts = [min(self.chunk, self.num_particles - start) for start in starts]
        log_w = [self._run(count, rows) for count in counts]
        true = self.setting.terms(placed(self.setting.program, latents), *rows)
        return torch.cat(log_w), _log_weights(true)

    def _run(self, count: int, rows: list[Tree]) -> Tensor:
        return _log_weights(self.setting.terms(self.setting.program, *rows, num_particles=count))


def _log_weights(t: LogTerms) -> Tensor:
    """log p(x, z) - log q(z | x) of each particle, with what is enumerated summed over, (S, n) float64."""
    log_w = t.log_point_weight
    log_w = log_w.logsumexp(tuple(range(log_w.dim() - 2))) if log_w.dim() > 2 else log_w
    return log_w + math.log(len(log_w))


def bounds(log_w: Tensor, log_w_true: Tensor) -> Tensor:
    """Lower, upper and reverse bound from log-weights (S, n) of q and (R, n) of the posterior, (3, n) float64.

    Any S - 1 of the S weights go with any one of the R to the upper bound, and so their mean over all choices does.
    """
    total = log_w.logsumexp(0)
    others = _without_each(log_w, total)  # (S, n)
    upper = torch.logaddexp(others, log_w_true[:, None]).mean((0, 1)) - math.log(len(log_w))
    reverse = math.log(len(log_w_true)) - (-log_w_true).logsumexp(0)
    return torch.stack([total - math.log(len(log_w)), upper, reverse])


def _without_each(log_w: Tensor, total: Tensor) -> Tensor:
    """log of the sum of all weights but one, for each one, (S, n)."""
    largest = log_w.argmax(0, keepdim=True)
    rest = log_w.scatter(0, largest, -math.inf).logsumexp(0, keepdim=True)  # which a difference would lose
    share = torch.where(total.isfinite(), (log_w - total).exp(), 0).scatter(0, largest, 0)
    return (total + (-share).log1p()).scatter(0, largest, rest)
