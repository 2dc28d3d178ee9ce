"""A whole run as a config says it: data, program, training, evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from pyrovae import trees
from pyrovae.cli import config as configs
from pyrovae.cli import records
from pyrovae.data import Data, Split, load
from pyrovae.data.observed import observed_digest
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import Evidence, Sandwich, log_marginal, sandwich
from pyrovae.training import Run, fit
from pyrovae.training.trainer import Callback

OF_METHOD = ("method", "tolerance", "num_particles", "num_steps", "annealing")
OF_BOUNDS = ("num_particles", "num_steps", "annealing", "compile")


class Experiment:
    """A config, checked; its parts are built when they are asked for.

    Args:
        path: of the YAML file.
        overrides: ``--key value`` words over it.
        trust: packages whose code may be run besides pyrovae, torch.nn and torch.optim.

    Raises:
        PyrovaeError: see ``pyrovae.cli.config.parse``.
    """

    def __init__(self, path: Path, overrides: Sequence[str] = (), trust: tuple[str, ...] = ()) -> None:
        self._parsed = configs.parse(path, overrides, trust)
        self.config: Namespace = self._parsed.values

    @property
    def text(self) -> str:
        """The whole config as YAML."""
        return self._parsed.text

    def data(self) -> Data:
        """The data set, with its labels given where the program is conditional."""
        return self._data

    @cached_property
    def _data(self) -> Data:
        return self._loaded()

    def _loaded(self, **changes: Any) -> Data:
        options = self.config.data.as_dict() | changes
        if self._parsed.load is not load:
            options.pop("name")
        data = self._parsed.load(**options)
        if not isinstance(data, Data):
            raise PyrovaeError(f"{self.config.data.name} gives a {type(data).__name__}, not a pyrovae.data.Data")
        return data.conditional() if self.config.conditional else data

    def digest(self, split: str) -> str:
        """The digest of a split as observed: that of the same rows whether or not they are standardised."""
        data = self.data()
        if data.standardization is not None and "standardize" in signature(self._parsed.load).parameters:
            with contextlib.suppress(PyrovaeError):  # they can be had standardised only, and are compared so
                data = self._loaded(standardize=False)
        return observed_digest(data, data.splits[split])

    def program(self, data: Data) -> Any:
        """The program, its initial weights from the seed; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return self._parts.program(data)

    def fit(self, program: Any, data: Data, directory: Path, callbacks: Sequence[Callback]) -> Run:
        """``pyrovae.fit`` with the config's options."""
        made = self._parts.fit
        options = {
            **vars(made),
            "objective": self._parsed.objective_of(made.objective),
            "optimizer": _unwrapped(made.optimizer),
        }
        return fit(program, data, directory=directory, callbacks=callbacks, seed=self.config.seed, **options)

    def evaluation(self, **asked: Any) -> dict[str, Any]:
        """The options of ``pyrovae.log_marginal`` that the config gives, and ``asked`` over them.

        Numbers that the config gives for one method are none for another that is asked for.
        """
        own, asked = _known(vars(self._parts.evaluate)), _known(asked)
        if {"method", "tolerance"} & asked.keys() and records.method_of(asked) != records.method_of(own):
            own = {name: value for name, value in own.items() if name not in OF_METHOD}
        return {"seed": self.config.seed, **own, **asked}

    def evaluate(self, program: Any, split: Split, *, checkpoint: Path, **options: Any) -> Evidence:
        """``pyrovae.log_marginal`` of a split, in the data's own units; the exact method keeps no checkpoint."""
        jacobian = self.data().log_jacobian_of(split.x)
        kept = None if options.get("method") == "exact" else checkpoint
        return log_marginal(program, split.x, *split.given, log_jacobian=jacobian, checkpoint=kept, **options)

    def sandwich(self, program: Any, **options: Any) -> Sandwich:
        """``pyrovae.sandwich``, given what test data are given, which are taken in turn.

        Where the config's evaluation is by the same method, what it says of that holds here too.
        """
        if options["num_data"] < 1:
            raise PyrovaeError(f"num_data must be positive; got {options['num_data']}")
        test, rows = self.data().test, torch.arange(options["num_data"]) % len(self.data().test.x)
        given = [trees.rows(tree, rows) for tree in test.given]
        options = {"seed": self.config.seed, **self._evaluated_by(options.get("method", "annealed")), **options}
        return sandwich(program, *given, like=trees.rows(test.x, rows), **options)

    def _evaluated_by(self, method: str) -> dict[str, Any]:
        """What the config's evaluation says of how to carry out this method; nothing where it is of another."""
        own = _known(vars(self._parts.evaluate))
        return {name: own[name] for name in OF_BOUNDS if name in own} if records.method_of(own) == method else {}

    @cached_property
    def _parts(self) -> Namespace:
        try:
            return self._parsed.parser.instantiate(self.config)
        except (TypeError, ValueError) as error:
            raise PyrovaeError(f"the config cannot be built: {error}") from error


def _unwrapped(factory: Any) -> Any:
    """A waiting class as ``partial(class, ...)``, which the manifest can name: jsonargparse wraps it once more."""
    waiting = isinstance(factory, partial) and factory.args and isinstance(factory.args[-1], type)
    return partial(factory.args[-1], **factory.keywords) if waiting else factory


def _known(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
