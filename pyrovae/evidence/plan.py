"""By which method, and how dearly, each datum was estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyrovae.lines import aligned

Row = tuple[str, str, str]


class Choice(NamedTuple):
    """A method with its budget."""

    by_annealing: bool
    num_particles: int
    num_steps: int

    def __str__(self) -> str:
        return f"{self.num_steps:,} steps" if self.by_annealing else f"{self.num_particles:,} particles"


@dataclass(frozen=True, eq=False)
class Plan:
    """The method and budget of each datum under ``log_marginal(..., tolerance=...)``, as a pilot decided.

    Costs are passes through the decoder, of one datum at one z: one for each particle, and two, forward and back, for
    each step of a chain. Those of annealing hold the search for its step sizes.

    Attributes:
        tolerance: the standard error asked for, nats.
        by_annealing: (N,) bool; the others by importance sampling.
        num_particles: particles, or chains, (N,).
        num_steps: of annealing, (N,); 1 for importance sampling.
        budget: what the estimate of a datum cost, (N,), passes.
        pilot: what it cost to decide, (N,), passes.
        start: where chains begin, "guide" or "prior".
        refusal: why annealing was not possible, where it was not.
    """

    tolerance: float
    by_annealing: Tensor
    num_particles: Tensor
    num_steps: Tensor
    budget: Tensor
    pilot: Tensor
    start: str = "guide"
    refusal: str = ""

    def groups(self) -> dict[Choice, Tensor]:
        """Which data have the same method and budget, as indices."""
        columns = (self.by_annealing, self.num_particles, self.num_steps)
        chosen = [Choice(*choice) for choice in zip(*(column.tolist() for column in columns), strict=True)]
        return {
            choice: torch.tensor([n for n, own in enumerate(chosen) if own == choice]) for choice in sorted(set(chosen))
        }

    @property
    def cost(self) -> int:
        """Of all data, the pilot included, passes."""
        return int((self.budget + self.pilot).sum())

    @property
    def uniform_cost(self) -> int:
        """Had every datum been given the largest budget that any was given, without a pilot, passes."""
        return int(self.budget.max()) * len(self.budget)

    def rows(self) -> list[Row]:
        """For a summary."""
        pilot, share = self.pilot.sum().item() / self.cost, self.cost / self.uniform_cost
        sampled, annealed = ~self.by_annealing, self.by_annealing
        particles, chains = _span(self.num_particles[sampled]), _span(self.num_particles[annealed])
        steps = _span(self.num_steps[annealed])
        by_each = [
            ("  by importance sampling", f"{int(sampled.sum()):,}", f"of the data, {particles} particles each"),
            ("  by annealing", f"{int(annealed.sum()):,}", f"of the data, {chains} chains of {steps} steps each"),
        ]
        return [
            *(row for row in by_each if row[1] != "0"),
            (
                "passes through the decoder",
                f"{self.cost:.3g}",
                f"{share:.2f} of the largest budget for every datum; {100 * pilot:.0f} % for the pilot",
            ),
        ]

    def __repr__(self) -> str:
        return "\n".join([f"Plan to {self.tolerance:g} nats", *aligned(self.rows(), right=[1])])

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tolerance": self.tolerance,
            "num_annealed": int(self.by_annealing.sum()),
            "cost": self.cost,
            "cost_of_pilot": int(self.pilot.sum()),
            "uniform_cost": self.uniform_cost,
            "refusal": self.refusal,
        }


def _span(numbers: Tensor) -> str:
    if not len(numbers):
        return "no"
    low, high = torch.aminmax(numbers)
    return f"{low.item():,}" if low == high else f"{low.item():,} to {high.item():,}"
