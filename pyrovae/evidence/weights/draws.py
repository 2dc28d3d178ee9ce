"""Posterior draws and expectations: what a draw consists of, what the model predicts from it, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from pyrovae import trees
from pyrovae.evidence.blocks import Block
from pyrovae.evidence.result import Draws
from pyrovae.evidence.weights.expectations import Function, Weighted, evaluated
from pyrovae.evidence.weights.streaming import Reservoir, blank
from pyrovae.sampling import observed_values
from pyrovae.terms import LogTerms, Site, log_terms
from pyrovae.trees import Tree


class Wanted(NamedTuple):
    """What is wanted of the posterior: so many draws per datum, and expectations of functions by name."""

    num_draws: int = 0
    functions: Mapping[str, Function] = {}

    @property
    def anything(self) -> bool:
        return bool(self.num_draws or self.functions)

    def values(self, t: LogTerms, log_weight: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """What it needs of every point: ``point_values`` where draws are wanted, and the functions' values."""
        if not self.anything:
            return (), {}
        values = point_values(t, log_weight)
        return values if self.num_draws else (), evaluated(self.functions, values["latents"])


NOTHING = Wanted()


class Kept:
    """What is ``wanted`` of a block of data, from weighted points that stream by."""

    def __init__(self, wanted: Wanted) -> None:
        self.reservoir = Reservoir(wanted.num_draws) if wanted.num_draws else None
        self.weighted = {name: Weighted() for name in wanted.functions}

    def add(self, log_weight: Tensor, values: tuple[Any, dict[str, Tensor]]) -> None:
        """Take in points of log-weights (*points, n), with their ``Wanted.values``."""
        if self.reservoir is not None:
            self.reservoir.add(log_weight.flatten(0, -2), values[0])
        for name, weighted in self.weighted.items():
            weighted.add(log_weight, values[1][name])

    def block(self, figures: dict[str, Tensor], program: Any, rows: list[Tree]) -> Block:
        """With the figures, all that is found of these data."""
        draws = None if self.reservoir is None else draws_of(program, self.reservoir, rows)
        return Block(figures, draws, {name: weighted.result for name, weighted in self.weighted.items()})


def point_values(t: LogTerms, log_weight: Tensor) -> dict[str, dict[str, Tensor]]:
    """What a draw consists of: the latents, and log p(x | z) of each observed site; (points, n, *event)."""

    def spread(tensor: Tensor, event_dim: int) -> Tensor:
        shape = [*log_weight.shape, *tensor.shape[tensor.dim() - event_dim :]]
        return tensor.expand(shape).flatten(0, log_weight.dim() - 2)

    def event_dim(site: Site) -> int:
        return site.q.event_dim if site.q is not None else site.value.dim() - log_weight.dim()

    latents = {name: spread(site.value, event_dim(site)) for name, site in t.latents.items()}
    return {"latents": latents, "log_px_z": {name: spread(site.log_p, 0) for name, site in t.observed.items()}}


def draws_of(program: Any, reservoir: Reservoir, rows: list[Tree]) -> Draws:
    """The draws that a reservoir of ``point_values`` kept of a block of data, and what the model predicts from them."""
    kept = reservoir.values
    predictive = _predict(program, reservoir.slots["latents"], reservoir.num_draws, rows)  # a model need not take nan
    predictive = trees.tree_map(lambda leaf: blank(leaf, reservoir.valid), predictive)
    seen = {name: site.value for name, site in log_terms(program, *rows).observed.items()}
    by_name = predictive if isinstance(predictive, dict) else {next(iter(seen)): predictive}
    return Draws(kept["latents"], by_name, kept["log_px_z"], seen)


def _predict(program: Any, latents: dict[str, Tensor], draws: int, rows: list[Tree]) -> Any:
    """x ~ p(x | z) at every draw, on repeated rows, which every program can do."""
    size, device = trees.num_data(*rows), trees.leaves(rows)[0].device
    flat = {name: value.flatten(0, 1).to(device) for name, value in latents.items()}
    values = observed_values(program, flat, *(trees.repeat(tree, draws) for tree in rows))
    return trees.tree_map(lambda v: v.unflatten(0, (draws, size)), values)
