"""Lower and upper bounds on log p(x) of data simulated from the program: bidirectional Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pyrovae.arguments import whole
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.annealing.annealed import Annealed
from pyrovae.evidence.annealing.chains import Annealing
from pyrovae.evidence.blocks import Block, Data
from pyrovae.evidence.importance import Importance
from pyrovae.evidence.marginal import setting_of
from pyrovae.evidence.options import asked
from pyrovae.evidence.running import Passes
from pyrovae.evidence.simulated import simulate
from pyrovae.lines import aligned, counted
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.precision import float32_matmul
from pyrovae.randomness import seeded
from pyrovae.trees import Tree

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

    @property
    def procedure(self) -> str:
        """How it was estimated, in words."""
        steps = f" of {counted(self.num_steps, 'step')}" if self.num_steps else ""
        return f"{METHODS[self.method]}, {counted(self.num_particles, 'chain' if steps else 'particle')}{steps}"

    def record(self) -> dict[str, Any]:
        """The figures of ``summary`` as JSON types; None for an error of one datum."""
        figures = {
            "mean_lower": self.lower.mean().item(),
            "mean_upper": self.upper.mean().item(),
            "mean_lower_error": _error(self.lower),
            "mean_upper_error": _error(self.upper),
            "gap_mean": self.gap_mean,
            "gap_standard_error": self.gap_standard_error,
            "gap_largest": self.gap.max().item(),
        }
        return {
            "num_data": self.num_data,
            "method": self.method,
            "procedure": self.procedure,
            "num_particles": self.num_particles,
            "num_steps": self.num_steps,
            "seed": self.seed,
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
        }

    def summary(self) -> str:
        """A readable table."""
        rows = [
            ["mean lower bound", f"{self.lower.mean():.3f}", f"{_error(self.lower):.3f}", ""],
            ["mean upper bound", f"{self.upper.mean():.3f}", f"{_error(self.upper):.3f}", ""],
            ["mean gap", f"{self.gap_mean:.3f}", f"{self.gap_standard_error:.3f}",
             f"largest {self.gap.max():.3f}, of one datum{self._doubt}"],
        ]  # fmt: skip
        seed = "not set" if self.seed is None else self.seed
        head = f"log p(x) of {self.num_data:,} simulated data by {self.procedure}, seed {seed}"
        return "\n".join([head, *aligned([["nats per datum", "", "error", ""], *rows], right=[1, 2])])

    @property
    def _doubt(self) -> str:
        alone = self.num_data > 1 and self.gap.max() > self.gap.sum() / 2 > 0
        return ": over half of the sum, so that the error of the mean says nothing; take more data" if alone else ""

    def __repr__(self) -> str:
        return self.summary()


def _error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def sandwich(
    program: Any,
    *given: Tree,
    num_data: int = 100,
    method: Literal["annealed", "importance"] = "annealed",
    num_particles: int | None = None,
    num_steps: int | None = None,
    annealing: Annealing | None = None,
    seed: int | None = None,
    like: Tree = None,
    compile: bool | Literal["auto"] = "auto",
    progress: bool | None = None,
) -> Sandwich:
    """Lower and upper bounds on log p(x | given) of data drawn from the program itself (bidirectional Monte Carlo).

    The program draws (z*, x) ~ p(z, x), so z* is an exact draw from p(z | x). With weights
    w = p(x, z) / q(z | x) of particles z ~ q(z | x), or those of annealed chains from there, and the weight w* of z*,
    or of a chain walked back from it,

        E[log 1/S sum_{s=1}^S w_s]  <=  log p(x)  <=  E[log 1/S (w* + sum_{s=1}^{S-1} w_s)].

    On these data the gap bounds the error of ``log_marginal`` by the same method with as many particles. On real data
    it says as much as the program is like them. The bounds share their particles, so that the gap is far less noisy
    than either.

    Args:
        program: any program. Its latents are drawn from its model, and all but those enumerated must be scored by its
            guide at given values.
        given: conditioning variables with ``num_data`` rows.
        num_data: N.
        method: "annealed" or "importance".
        num_particles, num_steps, annealing, compile, progress: as for ``pyrovae.log_marginal``; of annealed chains as
            many are walked back from z* as forwards.
        seed: makes the result repeatable; the global generator is left as it was. None draws from the global generator.
        like: data of the right structure and shape, for programs whose model needs an ``x`` to run.

    Returns:
        Sandwich: ``lower``, ``upper`` and ``gap``, each (N,) float64 on the CPU, in nats; ``gap_mean``.

    Raises:
        PyrovaeError: a number below 1, an unknown method, options of another; a guide that gives points, or, for
            importance sampling, cannot score given values; data that cannot be simulated, see ``pyrovae.sample``; see
            also ``pyrovae.log_marginal``.

    References:
        Grosse, Ghahramani & Adams 2015, "Sandwiching the marginal likelihood using bidirectional Monte Carlo"; Wu,
        Burda, Salakhutdinov & Grosse 2017; the upper bound: Sobolev & Vetrov 2019, Brekelmans et al. 2022.

    Example:
        >>> import pyrovae as pv
        >>> vae = pv.vae(pv.data.load("digits"), latent=2)
        >>> rough = pv.sandwich(vae, num_data=20, method="importance", num_particles=100, seed=0)
        >>> fine = pv.sandwich(vae, num_data=20, num_particles=4, num_steps=30, seed=0)
        >>> rough.gap.shape, fine.gap.shape
        (torch.Size([20]), torch.Size([20]))
    """
    if method not in METHODS:
        raise PyrovaeError(f"method must be {' or '.join(map(repr, METHODS))}; got {method!r}")
    whole("num_data", num_data)
    options = asked(method, num_particles=num_particles, num_steps=num_steps, annealing=annealing, seed=seed)
    with frozen(program) as device, seeded(seed, device), float32_matmul(device):
        truth = simulate(program, num_data, *given, like=like)
        data = Data((truth.x, *given), floating_dtype(program), device)
        setting = setting_of(program, data, None, compile, options.start)
        with seeded(0, device):  # what is tried out leaves the generators alone
            estimator = options.estimator(setting)
        assert isinstance(estimator, Importance | Annealed)
        pairs = setting._replace(data=data._replace(columns=(*data.columns, truth.latents)))
        blocks = Passes(pairs, seed, progress=progress, title="sandwich")("bounds", _BothWays(estimator))
    found = Block.joined(blocks).figures
    steps = estimator.num_steps if isinstance(estimator, Annealed) else None
    return Sandwich(**found, x=truth.x, given=given, method=method, num_particles=estimator.num_particles,
                    num_steps=steps, seed=seed)  # fmt: skip


class _BothWays:
    """Bounds of a block of rows (x, *given, latents of the posterior), by an estimator that goes both ways."""

    def __init__(self, estimator: Importance | Annealed) -> None:
        self.estimator, self.sizes, self.begin = estimator, estimator.sizes, estimator.begin
        self.start = estimator.start

    @property
    def compiled(self) -> bool:
        return self.estimator.compiled

    def block(self, rows: list[Tree]) -> Block:
        *own, latents = rows
        found = bounds(*self.estimator.both_ways(own, latents)).cpu()
        return Block(dict(zip(("lower", "upper", "upper_reverse"), found, strict=True)))


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
