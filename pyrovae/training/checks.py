"""What is checked once, before the first step, so that no step need branch on a value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.utils import _pytree as pytree

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.sampling import guided
from pyrovae.terms import LogTerms
from pyrovae.training.batches import Batch
from pyrovae.training.sources import Resident, Source
from pyrovae.validation import validating

CHUNK = 8192  # rows looked at together
DECLARE = (
    "missing values are not announced for this program: pyrovae.Missing(decoder) does so, with an encoder that reads "
    "them (pyrovae.readings.ValuesAndMask). Or remove or impute such rows"
)


def check_modules(program: Any) -> None:
    """Refuse batch normalisation in training: row i's terms would depend on the other rows."""
    for name, module in program.named_modules() if isinstance(program, nn.Module) else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise PyrovaeError(
                f"{name} is a batch normalisation: each datum's terms would depend on the rest of its batch, and the "
                "objective would be no bound. Use LayerNorm or GroupNorm, or freeze it with .eval()"
            )


def check_data(data: Source, missing: Collection[str] = ()) -> None:
    """Refuse values that are not finite; of streamed data only the first rows are looked at.

    Args:
        data: what the program is to be trained or validated on.
        missing: the leaves of x in which NaN is announced, by names or what these begin with.

    Raises:
        PyrovaeError: with the first index of a bad value, and what would mend it.
    """
    rows = data.rows if isinstance(data, Resident) else data.head(CHUNK)
    for position, tree in enumerate(rows):
        for name, leaf in trees.named("x" if position == 0 else f"given[{position - 1}]", tree).items():
            check_finite(name, leaf, missing=announced(name, missing))


def announced(name: str, missing: Collection[str]) -> bool:
    """Whether missing values are announced for the leaf ``name``: for it, or for a tree that it belongs to."""
    return any(name == part or name.startswith(f"{part}.") for part in missing)


def check_never_seen(data: Source, missing: Collection[str]) -> None:
    """Warn of elements of which no value is seen in training; of streamed data nothing is known."""
    for name, leaf in trees.named("x", data.rows[0]).items() if isinstance(data, Resident) and missing else ():
        if len(never := leaf.isnan().all(0).nonzero()):
            warnings.warn(
                f"{len(never)} of the {leaf[0].numel()} elements of {name} are missing in all training data, the first "
                f"at {never[0].tolist()}: nothing is learned about them",
                stacklevel=3,
            )


def check_reads_missing(program: Any, missing: Collection[str], probe: Batch) -> None:
    """Refuse a program that announces missing values and whose guide gives NaN where all are missing.

    Raises:
        PyrovaeError: so it does: it takes NaN for a number.
    """
    if not missing:
        return
    x, *given = probe
    emptied = [
        torch.full_like(leaf, math.nan) if leaf.is_floating_point() and announced(name, missing) else leaf
        for name, leaf in trees.named("x", x).items()
    ]
    with torch.no_grad(), validating(False):
        latents = guided(program, pytree.tree_unflatten(emptied, pytree.tree_structure(x)), *given)
    if any(site["value"].isnan().any() for site in latents.values()):
        raise PyrovaeError(
            "the program announces missing values, and its guide gives NaN where x is missing: the encoder must read "
            "them, as Conditional(pyrovae.readings.ValuesAndMask(net), family) does"
        )


def check_observations(data: Source, terms: LogTerms) -> None:
    """Refuse observations outside the likelihood's support; of streamed data only the first rows are looked at.

    Raises:
        PyrovaeError: with the name of the site, and what would mend it.
    """
    resident = isinstance(data, Resident)
    batches = map(data.observe, data.feeds(CHUNK, shuffle=False)) if resident else [data.probe(CHUNK)]
    for batch in batches:
        observed = trees.named("x", batch[0])
        for name, site in terms.observed.items():
            if name in observed and site.p is not None:
                check_support(name, observed[name], site.p.support)


def check_finite(name: str, leaf: Tensor, *, missing: bool = False) -> None:
    """Raises PyrovaeError with the first index of an infinity, or of a NaN unless it stands for a ``missing`` value."""
    for start in range(0, leaf.shape[0], CHUNK):
        part = leaf[start : start + CHUNK]
        bad = part.isinf() if missing else ~part.isfinite()
        if bad.any():
            index = bad.nonzero()[0].tolist()
            value = part[tuple(index)].item()
            raise PyrovaeError(
                f"{name} holds {value} at index {[start + index[0], *index[1:]]}: data must be finite; "
                + (DECLARE if math.isnan(value) and not name.startswith("given") else "remove or impute such rows")
            )


def check_support(name: str, x: Tensor, support: constraints.Constraint | None) -> None:
    """Raises PyrovaeError where x lies outside ``support``, with the likely remedy."""
    try:
        inside = torch.ones(()).bool() if support is None else support.check(x)
    except RuntimeError:  # a support with parameters of its own, per batch: Pyro's validation has seen the probe
        return
    if not inside.all():
        raise PyrovaeError(f"{name} lies outside the likelihood's support ({support}): {_remedy(x)}")


def _remedy(x: Tensor) -> str:
    seen = x[~x.isnan()]
    low, high = seen.min().item(), seen.max().item()
    if low >= 0 and 1 < high <= 255:
        return f"its values reach {high:g}; divide images of 0..255 by 255"
    if low >= 0 and high <= 1:
        return (
            "its values are grey, in [0, 1]; binarize them (pyrovae.data.load(..., binarization='dynamic'), or "
            "fit(..., draw=torch.bernoulli)), or use a likelihood for grey values such as pyrovae.families.normal"
        )
    return f"its values range from {low:g} to {high:g}; use a likelihood for such data, or transform them"
