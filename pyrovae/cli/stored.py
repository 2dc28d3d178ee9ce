"""A run's directory, opened: what evaluate, sample, reconstruct and report have in common."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from pyrovae import trees
from pyrovae.cli.directory import opened
from pyrovae.cli.experiment import Experiment
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.parameters import adopt
from pyrovae.saving import load
from pyrovae.training.device import resolve_device


@dataclass(frozen=True)
class Stored:
    """A run as its directory and its data hold it; each part is read when it is asked for.

    Attributes:
        path: of the directory.
        experiment: its config.
        trust: packages whose code may be run besides pyrovae, torch.nn and torch.optim.
    """

    path: Path
    experiment: Experiment
    trust: tuple[str, ...]

    @classmethod
    def at(cls, directory: str, trust: tuple[str, ...] = ()) -> Stored:
        """Raises PyrovaeError: no directory of a run; one with a link that leads outside; a config that is spoilt."""
        path = opened(directory)
        return cls(path, Experiment(path / "config.yaml", trust=trust), trust)

    @property
    def seed(self) -> int:
        """That of the run."""
        return int(self.experiment.config.seed)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Where and how the run was made."""
        try:
            return dict(json.loads((self.path / "manifest.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise PyrovaeError(f"{self.path / 'manifest.json'} is no manifest of a run: {error}") from error

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """A record per epoch; a last line that was cut short is left out."""
        try:
            lines = (self.path / "history.jsonl").read_text(encoding="utf-8").split("\n")
            return [json.loads(line) for line in lines[:-1]]
        except (OSError, ValueError) as error:
            raise PyrovaeError(f"{self.path / 'history.jsonl'} is no history of a run: {error}") from error

    @cached_property
    def data(self) -> Data:
        """The data of the run; PyrovaeError where those found now are others."""
        data = self.experiment.data()
        trained_on, found = self.manifest.get("data") or {}, data.describe()
        about = [key for key in trained_on if key != "name"]  # which may be a path
        if differing := [key for key in about if trained_on[key] != found.get(key)]:
            raise PyrovaeError(
                f"the data are not those of the run, they differ in {', '.join(differing)}: set PYROVAE_DATA to where "
                "those of the run are, or put the files back that it was trained on"
            )
        return data

    def program(self, device: str = "auto") -> nn.Module:
        """The program as its file describes it; where the file holds weights alone, as the config builds it."""
        path = self.path / "program.safetensors"
        if not path.is_file():
            raise PyrovaeError(f"{self.path} holds no weights: its training ended, or is still, in the first epoch")
        return self._loaded(path).to(resolve_device(device))

    def _loaded(self, path: Path) -> nn.Module:
        try:
            return load(path, trust=self.trust)
        except PyrovaeError as error:
            first = error
        try:
            rows = (trees.rows(tree, slice(0, 2)) for tree in (self.data.test.x, *self.data.test.given))
            return load(path, program=adopt(self.experiment.program(self.data), *rows))
        except PyrovaeError as second:
            raise first if str(first) == str(second) else PyrovaeError(f"{second}; and {first}") from second
