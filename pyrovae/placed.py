"""Latents at given values."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor


class Placed(Messenger):
    """Gives latent sites fixed values and leaves them latent, where ``poutine.condition`` would observe them.

    What is marked for enumeration stays enumerated.

    Args:
        values: by site name.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.values and not msg["is_observed"] and not msg["infer"].get("enumerate"):
            msg["value"], msg["done"] = self.values[msg["name"]], True


def placed(program: Any, values: Mapping[str, Tensor]) -> Any:
    """``program`` with a guide that draws these values, of which it scores the densities."""

    def guide(*args: Any) -> Any:
        with Placed(values):
            return program.guide(*args)

    return SimpleNamespace(model=program.model, guide=guide)
