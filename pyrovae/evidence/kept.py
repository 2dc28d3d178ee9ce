"""Evidence as tensors and JSON, and back: what of it is kept on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from pyrovae.evidence.plan import Plan
from pyrovae.evidence.result import Evidence

FACTS = ("num_particles", "num_dimensions", "method", "num_steps", "start", "seed", "log_jacobian")
OF_PLAN = ("tolerance", "start", "refusal")


def tensors(evidence: Evidence) -> dict[str, Tensor]:
    """What it holds per datum, each tensor ending in N; neither draws nor expectations."""
    plan = {} if evidence.plan is None else _tensors(evidence.plan)
    return _tensors(evidence) | {f"plan.{name}": value for name, value in plan.items()}


def restored(record: Mapping[str, Any], kept: Mapping[str, Tensor]) -> Evidence:
    """The evidence of which these are the ``record()`` and the ``tensors``.

    Raises:
        KeyError, TypeError: something is missing, or too much.
    """
    own: dict[str, Any] = {name: value for name, value in kept.items() if not name.startswith("plan.")}
    of_plan: dict[str, Any] = {name.removeprefix("plan."): value for name, value in kept.items() if name not in own}
    facts: dict[str, Any] = {name: record[name] for name in FACTS}
    facts["data_digest"] = record.get("data_digest", "")  # which older records lack
    plan = Plan(**of_plan, **{name: record[name] for name in OF_PLAN}) if of_plan else None
    return Evidence(**own, **facts, is_bound=record["kind"] == "lower bound", plan=plan)


def _tensors(holder: Any) -> dict[str, Tensor]:
    return {f.name: value for f in fields(holder) if isinstance(value := getattr(holder, f.name), Tensor)}
