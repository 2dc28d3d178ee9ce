"""Configs: YAML and overrides, read by jsonargparse against the signatures of what they configure.

The keys are ``seed``; ``data``, the arguments of ``pyrovae.data.load``; ``conditional``; ``program``, a recipe by its
import path; ``fit`` and ``evaluate``, the options of ``pyrovae.fit`` and ``pyrovae.log_marginal``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from pyrovae.cli.imports import check
from pyrovae.data import load
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import log_marginal
from pyrovae.recipes import Recipe
from pyrovae.training import fit

NOT_FIT: set[str | int] = {"program", "data", "validation", "callbacks", "directory", "seed", "draw", "progress"}
NOT_EVALUATE: set[str | int] = {"program", "x", "given", "num_draws", "progress"}


def parser() -> ArgumentParser:
    """The parser of a config; its groups are the signatures of the functions they go to."""
    made = ArgumentParser(prog="pyrovae train", exit_on_error=False, allow_abbrev=False)
    made.add_argument("--config", action="config", help="a YAML file")
    made.add_argument("--seed", type=int, default=0, help="of the initial weights, and of training")
    made.add_function_arguments(load, "data", skip={"root", "download"})
    made.add_argument("--conditional", type=bool, default=False, help="whether the labels are given to the program")
    made.add_subclass_arguments(Recipe, "program", required=True)
    made.add_function_arguments(fit, "fit", skip=NOT_FIT)
    made.add_function_arguments(log_marginal, "evaluate", skip=NOT_EVALUATE)
    made.set_defaults({"fit.optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}})
    return made


def parse(path: Path, overrides: Sequence[str] = (), trust: tuple[str, ...] = ()) -> tuple[ArgumentParser, Namespace]:
    """The config at ``path`` with ``--key value`` put in, checked; nothing is built yet.

    Raises:
        PyrovaeError: no such file; not YAML; an import path that is unknown or not trusted (refused before import);
            a key that is unknown, missing or of the wrong type, with its path.
    """
    for value in [*_texts(_read(path)), *_values(overrides)]:
        if DOTTED.fullmatch(value):
            check(value, trust)
    made = parser()
    try:
        return made, made.parse_args([f"--config={path}", *overrides])
    except argparse.ArgumentError as error:
        raise PyrovaeError(_one_line(str(error))) from error


def dump(made: ArgumentParser, config: Namespace) -> str:
    """The config as YAML, every default written out; it repeats the run."""
    shown = config.clone()
    shown.pop("config", None)
    return made.dump(shown, skip_none=True)


DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")  # what may be an import path


def _read(path: Path) -> Any:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PyrovaeError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise PyrovaeError(f"{path} is not YAML: {_one_line(str(error))}") from error
    if not isinstance(tree, dict):
        raise PyrovaeError(f"{path}: a config is a mapping with keys such as data, program and fit")
    return tree


def _texts(tree: Any) -> Iterator[str]:
    """Every text in a tree of YAML."""
    if isinstance(tree, str):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _texts(part)


def _values(overrides: Sequence[str]) -> Iterator[str]:
    """Every text in the values of overrides, which may be YAML themselves."""
    for word in overrides:
        value = word.partition("=")[2] if word.startswith("--") else word
        try:
            yield from _texts(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise PyrovaeError(f"{word}: not YAML: {_one_line(str(error))}") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())
