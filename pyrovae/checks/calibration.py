"""Simulation-based calibration: whether a guide is the posterior, on data drawn from the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyro.poutine as poutine
import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.arguments import whole
from pyrovae.checks import uniformity
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.blocks import Data, Setting, most_rows
from pyrovae.evidence.simulated import Simulated, simulate
from pyrovae.lines import aligned
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.placed import placed
from pyrovae.precision import float32_matmul
from pyrovae.randomness import seeded
from pyrovae.terms import LogTerms, terms_for
from pyrovae.trees import Tree
from pyrovae.validation import validating

LEVEL = 0.01  # of the verdict
LOG_JOINT = "log p(x, z)"
HEADER = ["", "dimensions", "smallest p", "at", "mean rank", "spread"]
Quantities = Mapping[str, Callable[[Mapping[str, Tensor]], Tensor]]


class Worst(NamedTuple):
    """A dimension by the p-value of its ranks: whose it is, its number there, and the p-value."""

    name: str
    dimension: int
    p_value: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of the true latents of N simulated data among L draws of the guide; uniform where the guide is exact.

    Attributes:
        ranks: by name of a latent or quantity, (N, D), whole numbers 0 .. L; a latent's event is flattened to D.
        num_draws: L.
        seed: the seed it was computed with, or None.
    """

    ranks: Mapping[str, Tensor]
    num_draws: int
    seed: int | None = None

    @property
    def num_data(self) -> int:
        """N."""
        return len(next(iter(self.ranks.values())))

    @cached_property
    def p_values(self) -> Mapping[str, Tensor]:
        """By name, the p-value of each dimension's ranks, (D,), not corrected; see ``evidence.uniformity``."""
        return {name: uniformity.p_values(ranks, self.num_draws) for name, ranks in self.ranks.items()}

    @property
    def p_value(self) -> float:
        """Of all ranks together: the smallest p-value times their number (Bonferroni: dimensions may depend)."""
        every = torch.cat(list(self.p_values.values()))
        return min(1.0, every.min().item() * len(every))

    @property
    def least_p_value(self) -> float:
        """The smallest ``p_value`` that so many data, draws and dimensions can give, where all ranks are 0."""
        zeros = torch.zeros(self.num_data, 1, dtype=torch.long)
        number = sum(ranks.shape[1] for ranks in self.ranks.values())
        return min(1.0, uniformity.p_values(zeros, self.num_draws).item() * number)

    def passed(self, level: float = LEVEL) -> bool:
        """Whether the ranks show no fault: an exact guide fails with probability ``level`` at most."""
        return self.p_value >= level

    def worst(self, number: int) -> list[Worst]:
        """The dimensions with the smallest p-values, the smallest first."""
        every = [Worst(name, d, p) for name, ps in self.p_values.items() for d, p in enumerate(ps.tolist())]
        return sorted(every, key=lambda each: each.p_value)[:number]

    def summary(self) -> str:
        """A readable table: the verdict, then for each latent and quantity its worst dimension."""
        head = f"ranks of {self.num_data:,} simulated data among {self.num_draws:,} draws of the guide"
        head = f"{head}; p = {self.p_value:.2g}: {self._verdict}"
        lines = aligned([HEADER, *map(self._row, self.ranks)], right=range(1, 6))
        notes = [
            "smallest p: of the dimensions by themselves; that of the verdict is corrected for their number",
            "mean rank: 0.5 if calibrated; a latent above it: the guide lies too low",
            "spread: of the ranks, 1 if calibrated; a latent above it: the guide is too narrow, below it: too wide",
        ]
        return "\n".join([head, *lines, *notes])

    @property
    def _verdict(self) -> str:
        if not self.passed():
            return "the guide is not the posterior"
        if self.least_p_value >= LEVEL:
            return f"too few data and draws to find any fault; p is {self.least_p_value:.2g} at least"
        return "no fault found"

    def _row(self, name: str) -> list[str]:
        p, worst = self.p_values[name].min(0)
        u = (self.ranks[name][:, worst].double() + 0.5) / (self.num_draws + 1)
        size = len(self.p_values[name])
        spread = (12 * (u - 0.5).square().mean()).sqrt()
        return [name, str(size), f"{p:.2g}", str(worst.item()), f"{u.mean():.3f}", f"{spread:.3f}"]

    def __repr__(self) -> str:
        return self.summary()


def calibration(
    program: Any,
    *given: Tree,
    num_data: int = 1000,
    num_draws: int = 99,
    quantities: Quantities | None = None,
    seed: int | None = None,
    like: Tree = None,
) -> Calibration:
    """Simulation-based calibration: (z*_n, x_n) ~ p(z, x); r_nd = how many of L draws z ~ q(z | x_n) have z_d < z*_nd.

    Were q(z | x) the posterior p(z | x), then z* and the draws would be exchangeable given x, and every rank uniform on
    0 .. L. Ties, as of discrete latents, are ranked at random. log p(x, z) is ranked too: it finds a guide that is
    right on average over the data but ignores x, as the prior is, which the latents' own ranks cannot.

    A guide that passes may be wrong where N data do not show it; one that fails is not the posterior of this program.

    Args:
        program: any program; its guide's discrete latents are drawn, those of the model alone summed out.
        given: conditioning variables with ``num_data`` rows.
        num_data: N.
        num_draws: L.
        quantities: by name, further functions to rank: of the latents by name, (..., N, *event_shape), to (..., N).
        seed: makes the result repeatable; the global generator is left as it was. None draws from the global generator.
        like: data of the right structure and shape, for programs whose model needs an ``x`` to run.

    Returns:
        Calibration: ``ranks`` and ``p_values`` by name, ``passed()``. ``report.calibration`` draws it.

    Raises:
        PyrovaeError: fewer than two data or no draw; a guide without latents, or whose draws are nan; a quantity of the
            wrong shape; data that cannot be simulated, see ``pyrovae.sample``; see also ``pyrovae.log_terms``.

    References:
        Talts, Betancourt, Simpson, Vehtari & Gelman 2018; Modrak et al. 2023 (log p(x, z) and other quantities);
        Saeilynoja, Buerkner & Vehtari 2022 (the test of uniformity).

    Example:
        >>> import pyrovae as pv
        >>> vae = pv.vae(pv.data.load("digits"), latent=2)
        >>> found = pv.calibration(vae, num_data=50, num_draws=19, seed=0)
        >>> found.ranks["z"].shape, found.passed()
        (torch.Size([50, 2]), False)
    """
    for name, value, least in (("num_data", num_data, 2), ("num_draws", num_draws, 1)):
        whole(name, value, least)
    with frozen(program) as device, seeded(seed, device), float32_matmul(device):
        truth = simulate(program, num_data, *given, like=like)
        data = Data((truth.x, *given), floating_dtype(program), device)
        drawing = _drawing(program)
        probe = data.rows(slice(0, 3))
        setting = Setting(drawing, terms_for(drawing, *probe), data, probe, None, False)
        ranked = _Ranked(setting, num_draws, quantities or {})
        block = max(1, most_rows(setting, ranked.draws) // num_draws)
        parts = []
        for start in range(0, num_data, block):
            part = slice(start, start + block)
            with validating(start == 0):
                parts.append(ranked(data.rows(part), _part(truth, part)))
    return Calibration({name: torch.cat([p[name] for p in parts]) for name in parts[0]}, num_draws, seed)


def _drawing(program: Any) -> Any:
    """The program with a guide that draws its discrete latents too."""
    sampled: Any = {"enumerate": None}
    return SimpleNamespace(model=program.model, guide=poutine.infer_config(program.guide, lambda site: sampled))


def _part(truth: Simulated, part: slice) -> Simulated:
    return truth._replace(latents=trees.rows(truth.latents, part))


class _Ranked:
    """Ranks of a block of data."""

    def __init__(self, setting: Setting, num_draws: int, quantities: Quantities) -> None:
        self.setting, self.num_draws, self.quantities = setting, num_draws, quantities

    def __call__(self, rows: list[Tree], truth: Simulated) -> dict[str, Tensor]:
        true = self.setting.terms(placed(self.setting.program, truth.latents), *rows)
        size = trees.num_data(*rows)
        those, this = (self._quantities(t, truth, size) for t in (self.draws(self.num_draws, rows), true))
        return {name: _ranks(name, those[name], this[name][0]).cpu() for name in those}

    def draws(self, count: int, rows: list[Tree]) -> LogTerms:
        return self.setting.terms(self.setting.program, *rows, num_particles=count)

    def _quantities(self, t: LogTerms, truth: Simulated, size: int) -> dict[str, Tensor]:
        """What is ranked, by name, (S, n, D)."""
        latents = {
            name: site.value.reshape(-1, *truth.latents[name].shape)
            for name, site in t.latents.items()
            if name not in truth.auxiliary
        }
        joint = (t.log_px_z + t.log_pz).reshape(-1, size)
        own = {name: _checked(name, quantity(latents), joint.shape) for name, quantity in self.quantities.items()}
        every = latents | {LOG_JOINT: joint} | own
        return {name: value.reshape(*joint.shape, -1) for name, value in every.items()}


def _checked(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    if value.shape != shape:
        raise PyrovaeError(
            f"the quantity {name!r} must give one number for each point and datum, {tuple(shape)}; got "
            f"{tuple(value.shape)}"
        )
    return value


def _ranks(name: str, draws: Tensor, true: Tensor) -> Tensor:
    """How many draws (L, n, D) lie below the true value (n, D), and of those that equal it a random number."""
    if draws.isnan().any() or true.isnan().any():
        raise PyrovaeError(f"{name} is nan for some draws of the guide or true values, so that it has no rank")
    below, ties = (draws < true).sum(0), (draws == true).sum(0)
    return below + (torch.rand(ties.shape, device=ties.device) * (ties + 1)).long().clamp(max=ties)
