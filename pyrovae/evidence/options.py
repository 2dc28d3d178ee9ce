"""What ``log_marginal`` was asked for, checked, and the estimator that does it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

import pyrovae
from pyrovae.arguments import whole
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.annealing.annealed import Annealed
from pyrovae.evidence.annealing.chains import Annealing
from pyrovae.evidence.blocks import Estimator, Setting
from pyrovae.evidence.checkpoint import digest_of_data, digest_of_program
from pyrovae.evidence.importance import Importance
from pyrovae.evidence.tolerance import Request, pilot_of
from pyrovae.evidence.weights.draws import NOTHING, Wanted

METHODS = ("importance", "annealed", "exact")
NUM_PARTICLES = {"importance": 5000, "annealed": 16, "exact": 0, "mixed": 50_000}
NUM_STEPS = {"importance": 1, "annealed": 100, "exact": 0, "mixed": 1000}


class Options(NamedTuple):
    """What was asked for, with defaults; ``method`` is "mixed" where a tolerance decides on it."""

    method: str
    num_particles: int
    num_steps: int
    annealing: Annealing
    wanted: Wanted
    seed: int | None
    tolerance: float | None

    @property
    def request(self) -> Request | None:
        """Of a tolerance."""
        if self.tolerance is None:
            return None
        return Request(self.tolerance, self.num_particles, self.num_steps, self.annealing, self.wanted)

    @property
    def start(self) -> str:
        """Where all samples start: "guide" or, where all are of chains, what these say."""
        return self.annealing.start if self.method == "annealed" else "guide"

    def estimator(self, setting: Setting) -> Estimator:
        """Of all data; to a tolerance, of the pilot."""
        if self.request:
            return pilot_of(setting)
        if self.method == "importance":
            return Importance(setting, self.num_particles, wanted=self.wanted)
        return Annealed(setting, self.num_particles, self.num_steps, annealing=self.annealing, wanted=self.wanted)

    def about(self, setting: Setting) -> dict[str, Any]:
        """What an estimate depends on, but for what each pass over the data decides."""
        asked = {name: value for name, value in self._asdict().items() if name not in ("annealing", "wanted")}
        return {
            **asked,
            "annealing": repr(self.annealing) if self.method in ("annealed", "mixed") else None,
            "num_data": setting.data.size,
            "program": digest_of_program(setting),
            "data": digest_of_data(setting.data),
            "pyrovae": pyrovae.__version__,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": setting.device.type,
        }

    def check_running(self, memory: int | None, path: str | Path | None) -> None:
        """Refuse a checkpoint of what it cannot keep, and what the exact method has no use for."""
        if self.method == "exact" and (memory is not None or path is not None):
            raise PyrovaeError("method='exact' is one computation without particles: leave out memory and checkpoint")
        if path is not None and self.wanted.anything:
            raise PyrovaeError(
                "a checkpoint keeps neither draws nor expectations: take these of a few data, without a checkpoint"
            )
        if path is not None and self.seed is None:
            raise PyrovaeError("a checkpoint needs a seed to go on with: pass seed=0, or any other")


def asked(
    method: str | None,
    *,
    tolerance: float | None = None,
    num_particles: int | None = None,
    num_steps: int | None = None,
    annealing: Annealing | None = None,
    wanted: Wanted = NOTHING,
    seed: int | None = None,
) -> Options:
    """Options with their defaults; refuses what cannot be, and what the method has no use for."""
    if method not in (None, *METHODS):
        raise PyrovaeError(f"method must be one of {', '.join(map(repr, METHODS))}; got {method!r}")
    if tolerance is not None and method is not None:
        raise PyrovaeError(f"a tolerance decides on the method of each datum: leave out method={method!r}")
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise PyrovaeError(f"tolerance must be a positive number of nats; got {tolerance}")
    method = method or ("importance" if tolerance is None else "mixed")
    if method in ("importance", "exact") and (num_steps is not None or annealing is not None):
        raise PyrovaeError(f"num_steps and annealing are for method='annealed', or a tolerance, not for {method!r}")
    if method == "exact" and (num_particles is not None or wanted.anything):
        raise PyrovaeError("method='exact' has no particles: leave out num_particles, draws and expectations")
    _check_wanted(wanted)
    if not isinstance(annealing, Annealing | None):
        raise PyrovaeError(f"annealing must be pyrovae.Annealing(num_leapfrog=..., ...); got {annealing!r}")
    number = NUM_PARTICLES[method] if num_particles is None else whole("num_particles", num_particles)
    steps = NUM_STEPS[method] if num_steps is None else whole("num_steps", num_steps)
    return Options(method, number, steps, annealing or Annealing(), wanted, seed, tolerance)


def _check_wanted(wanted: Wanted) -> None:
    whole("num_draws", wanted.num_draws, 0)
    functions: Any = wanted.functions
    if not isinstance(functions, Mapping) or not all(map(callable, functions.values())):
        raise PyrovaeError(
            'expectations are functions by name, as {"mean": lambda latents: latents["z"]}; got '
            f"{'a function' if callable(functions) else repr(functions)}"
        )
