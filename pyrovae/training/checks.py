"""What is checked once, before the first step, so that no step need branch on a value."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.readers import check_values
from pyrovae.readings import Reading
from pyrovae.rows import unnumbered
from pyrovae.supports import outside
from pyrovae.terms import LogTerms, log_terms
from pyrovae.training.batches import Batch
from pyrovae.training.missing import announced
from pyrovae.training.sources import Resident, Source
from pyrovae.training.streams import Streamed
from pyrovae.trees import Tree
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


def check_rows(parts: Iterable[nn.Module], data: Source) -> None:
    """Refuse data whose rows have no numbers, or others, for ``parts`` that asked for them; see ``pyrovae.rows``.

    Raises:
        PyrovaeError: a stream; rows that are not those that a part was made for.
    """
    for part in dict.fromkeys(parts):
        if isinstance(data, Streamed):
            raise PyrovaeError(unnumbered(part))
        if check := getattr(part, "check_rows", None):
            check(data.num_data or 0, data.take)


def check_data(data: Source, missing: Collection[str] = ()) -> None:
    """Refuse values that are not finite; of streamed data only the first rows are looked at.

    Args:
        data: what the program is to be trained or validated on.
        missing: the leaves of x in which NaN is announced; see ``announced``.

    Raises:
        PyrovaeError: with the first index of a bad value, and what would mend it.
    """
    rows = data.rows if isinstance(data, Resident) else data.head(CHUNK)
    for name, leaf in _named(rows).items():
        check_finite(name, leaf, missing=announced(name, missing))


def check_readings(program: nn.Module, data: Source) -> None:
    """Refuse labels and tokens that their reader does not take; of streamed data only the first rows are looked at.

    Raises:
        PyrovaeError: with the name of the data, the value, and what the reader takes.
    """
    readers = _readers(program, data.probe(2))
    for batch in _batches(data) if readers else ():
        leaves = _named(batch)
        for name, reader in readers:
            check_values(reader, leaves[name], name)


def _readers(program: nn.Module, probe: Batch) -> list[tuple[str, nn.Module]]:
    """The readers of data, with the name of what each reads: met in a run on ``probe``, known by identity."""
    names = {id(leaf): name for name, leaf in _named(probe).items()}
    found: list[tuple[str, nn.Module]] = []

    def note(reading: Any, parents: tuple[Tree, ...]) -> None:
        pairs = zip(reading.readers, parents, strict=False)
        found.extend((names[id(parent)], reader) for reader, parent in pairs if id(parent) in names)

    handles = [m.register_forward_pre_hook(note) for m in program.modules() if isinstance(m, Reading)]
    try:
        if handles:
            with torch.no_grad(), validating(True):
                log_terms(program, *probe)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _named(batch: Iterable[Tree]) -> dict[str, Any]:
    """The leaves of (x, *given) by name."""
    named = (trees.named("x" if i == 0 else f"given[{i - 1}]", tree) for i, tree in enumerate(batch))
    return {name: leaf for leaves in named for name, leaf in leaves.items()}


def _batches(data: Source) -> Iterable[Batch]:
    """All rows, as a step sees them; of streamed data the first."""
    resident = isinstance(data, Resident)
    return map(data.observe, data.feeds(CHUNK, shuffle=False)) if resident else [data.probe(CHUNK)]


def check_observations(data: Source, terms: LogTerms) -> None:
    """Refuse observations outside the likelihood's support; of streamed data only the first rows are looked at.

    Raises:
        PyrovaeError: with the name of the site, and what would mend it.
    """
    for batch in _batches(data):
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
    if text := outside(name, x, support):
        raise PyrovaeError(text)
