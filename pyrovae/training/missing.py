"""What is checked before the first step of a program that announces missing values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.sampling import guided
from pyrovae.training.sources import Resident, Source
from pyrovae.validation import validating


def announced(name: str, missing: Collection[str]) -> bool:
    """Whether missing values are announced for the leaf ``name``: for it, or for a tree that it belongs to."""
    return any(name == part or name.startswith(f"{part}.") for part in missing)


def check_missing(program: Any, missing: Collection[str], data: Source) -> None:
    """Refuse a guide that gives NaN where x is missing, and warn of elements of which no value is seen.

    Args:
        program: what is to be trained.
        missing: the leaves of x in which missing values are announced.
        data: the training data; of streamed data it is not known what is seen.

    Raises:
        PyrovaeError: a guide that takes NaN for a number.
    """
    if missing:
        _check_guide(program, missing, data)
        _warn_of_never_seen(data)


def _check_guide(program: Any, missing: Collection[str], data: Source) -> None:
    x, *given = data.probe(2)
    emptied = [
        torch.full_like(leaf, math.nan) if leaf.is_floating_point() and announced(name, missing) else leaf
        for name, leaf in trees.named("x", x).items()
    ]
    with torch.no_grad(), validating(False):
        latents = guided(program, pytree.tree_unflatten(emptied, pytree.tree_structure(x)), *given)
    if any(site["value"].isnan().any() for site in latents.values()):
        raise PyrovaeError(
            "the program announces missing values, and its guide gives NaN where x is missing: the encoder must read "
            "them, as Conditional(Reading(net, pyrovae.readings.ValuesAndMask()), family) does"
        )


def _warn_of_never_seen(data: Source) -> None:
    for name, leaf in trees.named("x", data.rows[0]).items() if isinstance(data, Resident) else ():
        if len(never := leaf.isnan().all(0).nonzero()):
            warnings.warn(
                f"{len(never)} of the {leaf[0].numel()} elements of {name} are missing in all training data, the first "
                f"at {never[0].tolist()}: nothing is learned about them",
                stacklevel=4,
            )
