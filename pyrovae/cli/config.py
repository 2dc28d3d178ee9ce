"""Configs: YAML and overrides, read by jsonargparse against the signatures of what they configure.

The keys are ``seed``; ``data``, the arguments of ``pyrovae.data.load``; ``conditional``; ``program``, a recipe by its
import path; ``fit`` and ``evaluate``, the options of ``pyrovae.fit`` and ``pyrovae.log_marginal``.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from pyrovae.data import load
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import log_marginal
from pyrovae.imports import TRUSTED, find
from pyrovae.recipes import Recipe
from pyrovae.training import fit

NOT_FIT: set[str | int] = {"program", "data", "validation", "callbacks", "directory", "seed", "draw", "progress"}
NOT_EVALUATE: set[str | int] = {"program", "x", "given", "num_draws", "log_jacobian", "progress"}


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
            find(value, (*TRUSTED, *trust))
    made = parser()
    try:
        config = made.parse_args([f"--config={path}", *overrides])
    except argparse.ArgumentError as error:
        raise PyrovaeError(_told(str(error), made)) from error
    _check_classes(config, trust)
    return made, config


def dump(made: ArgumentParser, config: Namespace) -> str:
    """The config as YAML, every default written out; it repeats the run."""
    shown = config.clone()
    shown.pop("config", None)
    return made.dump(shown, skip_unset=True)


def _check_classes(tree: Any, trust: Sequence[str]) -> None:
    """A class_path must name a class: jsonargparse would call any function there, and some of ours write files."""
    tree = tree.as_dict() if isinstance(tree, Namespace) else tree
    path = tree.get("class_path") if isinstance(tree, dict) else None
    if path and not isinstance(find(path, (*TRUSTED, *trust)), type):
        raise PyrovaeError(f"class_path: {path} is not a class; a function stands by its import path alone")
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        _check_classes(part, trust)


@contextmanager
def trusting(packages: Sequence[str]) -> Iterator[None]:
    """Lets jsonargparse import from TRUSTED and ``packages`` only, also what a file named inside a config names.

    It keeps such settings for the whole process, so ``packages`` are struck off again.
    """
    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*TRUSTED, *packages])
    except ValueError as error:
        raise PyrovaeError(f"--trust {' '.join(packages)}: {error}") from error
    try:
        yield
    finally:
        set_parsing_settings(import_path_denylist=[name for name in packages if name not in TRUSTED])


DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")  # what may be an import path


def _read(path: Path) -> Any:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Strict)  # a subclass of SafeLoader
    except OSError as error:
        raise PyrovaeError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise PyrovaeError(f"{path} is not YAML: {_one_line(str(error))}") from error
    if not isinstance(tree, dict):
        raise PyrovaeError(f"{path}: a config is a mapping with keys such as data, program and fit")
    for key in ("data", "fit", "evaluate"):  # jsonargparse would pass over a number, and read a file of that name
        if not isinstance(tree.get(key, {}), dict):
            raise PyrovaeError(f"{path}: {key}: expected a mapping of options, got {tree[key]!r}")
    return tree


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


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


def _told(text: str, made: ArgumentParser) -> str:
    """jsonargparse's message in one line, without the types it tried, and with the nearest keys to an unknown one."""
    line = _one_line(text)
    line = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - ", "", line)
    line = re.sub(r" - Expected a <class 'NoneType'>.*$", "", line)
    unknown = re.search(r"(?:unrecognized arguments: --|[Kk]ey ['\"])([\w.]+)", line)
    known = [action.dest for action in made._actions]
    if unknown and unknown[1] not in known and (near := difflib.get_close_matches(unknown[1], known, n=2)):
        line = f"{line}; did you mean {' or '.join(near)}?"
    return line


def _one_line(text: str) -> str:
    return " ".join(text.split())
