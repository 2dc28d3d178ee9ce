"""Values removed at random, for experiments in which they are known."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from pyrovae.data.splits import Data
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import check_known


def hide(data: Data, rate: float | Mapping[str, float], *, seed: int = 0) -> Data:
    """``data`` with values missing completely at random: NaN, or -1 in tokens; the complete x is kept aside.

    Args:
        data: a data set.
        rate: the probability that a value is missing, in all splits or by split; 0 where a split is not named.
        seed: of what is removed.

    Returns:
        Data whose ``complete`` holds x by split as it was, to score what is imputed. A datum may lose all its values.

    Raises:
        PyrovaeError: a rate outside [0, 1); an unknown split.

    Example:
        >>> import pyrovae as pv
        >>> holes = pv.data.hide(pv.data.load("digits"), 0.5, seed=1)
        >>> vae = pv.vae(holes, latent=2, observation=pv.Missing)
        >>> holes.complete["test"].isnan().any(), holes.test.x.isnan().any()
        (tensor(False), tensor(True))
    """
    rates = dict(rate) if isinstance(rate, Mapping) else dict.fromkeys(data.splits, rate)
    for name, value in rates.items():
        check_known("split", name, tuple(data.splits))
        if not 0 <= value < 1:
            raise PyrovaeError(f"a rate of missing values is in [0, 1); got {value} for {name}")
    generator = torch.Generator("cpu").manual_seed(seed)
    splits: dict[str, Any] = {}
    for name, split in data.splits.items():
        hidden = torch.rand(split.x.shape, generator=generator).to(split.x.device) < rates.get(name, 0.0)
        gap = torch.nan if split.x.is_floating_point() else -1
        splits[name] = split._replace(x=split.x.masked_fill(hidden, gap))
    complete = {name: split.x for name, split in data.splits.items()}
    return dataclasses.replace(data, **splits, missing=True, complete=complete)
