"""Configs: a tree of YAML and overrides, checked by jsonargparse against the signatures of what it configures.

The keys are ``seed``; ``data``, the arguments of ``pyrovae.data.load`` or of a function of the user's; ``conditional``;
``program``, a recipe by its import path; ``fit`` and ``evaluate``, the options of ``pyrovae.fit`` and
``pyrovae.log_marginal``.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from pyrovae import flows
from pyrovae.cli import tree as trees
from pyrovae.cli.tree import DOTTED, FIT, Tree
from pyrovae.data import load, names
from pyrovae.data.own import READERS
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import log_marginal
from pyrovae.evidence.schedules import Schedule
from pyrovae.imports import TRUSTED, find
from pyrovae.nearest import nearest
from pyrovae.objectives import Objective
from pyrovae.recipes import Recipe
from pyrovae.training import fit

# Which arguments of the three functions are no keys of a config.
NOT_DATA: set[str | int] = {"root", "download"}
NOT_FIT: set[str | int] = {"program", "data", "validation", "callbacks", "directory", "seed", "draw", "progress"}
NOT_EVALUATE: set[str | int] = {
    "program", "x", "given", "num_draws", "expectations", "log_jacobian", "checkpoint", "progress"
}  # fmt: skip


@dataclass(frozen=True)
class Parsed:
    """A config, checked.

    Attributes:
        parser, values: of jsonargparse; nothing is built yet.
        load: what the section ``data`` holds the arguments of.
        objective: options of the objective, where it is a function: their parser, and they.
    """

    parser: ArgumentParser
    values: Namespace
    load: Callable[..., Any]
    objective: tuple[ArgumentParser, Namespace] | None

    @property
    def text(self) -> str:
        """The config as YAML, every default written out; it repeats the run."""
        whole = yaml.safe_load(_dumped(self.parser, self.values))
        if self.objective:
            options = yaml.safe_load(_dumped(*self.objective))
            whole["fit"]["objective"] = {"class_path": whole["fit"]["objective"], "init_args": options}
        return yaml.safe_dump(whole, sort_keys=False)

    def objective_of(self, function: Objective) -> Objective:
        """``function`` with its options."""
        if self.objective is None:
            return function
        made, options = self.objective
        return partial(function, **vars(made.instantiate(options)))


def parse(path: Path, overrides: Sequence[str] = (), trust: tuple[str, ...] = ()) -> Parsed:
    """The config at ``path`` with ``--key value`` put in.

    Raises:
        PyrovaeError: no such file; not YAML; an import path that is unknown or not trusted (refused before import);
            a key that is unknown, missing or of the wrong type, with its path.
    """
    trusted = (*TRUSTED, *trust)
    tree = trees.read(path, overrides, trusted)
    source = _source(tree, trust)
    _check_keys(tree, source, trusted)
    _place(tree)
    options = _taken_out(tree, trusted)
    made = parser(source)
    with _told([tree, options], trusted):
        values = made.parse_object(tree)
        objective = None
        if options:
            taking = _options(find(tree["fit"]["objective"], trusted))
            objective = taking, taking.parse_object(options)
    _check_classes(values.as_dict(), trusted)
    return Parsed(made, values, source, objective)


def parser(source: Callable[..., Any] = load) -> ArgumentParser:
    """The parser of a config; its groups are the signatures of the functions they go to."""
    made = ArgumentParser(prog="pyrovae train", exit_on_error=False, allow_abbrev=False)
    made.add_argument("--seed", type=int, default=0, help="of the initial weights, and of training")
    if source is not load:
        made.add_argument("--data.name", type=str, help="the function's import path")
    made.add_function_arguments(source, "data", skip=NOT_DATA if source is load else {"name"})
    made.add_argument("--conditional", type=bool, default=False, help="whether the labels are given to the program")
    made.add_subclass_arguments(Recipe, "program", required=True)
    made.add_function_arguments(fit, "fit", skip=NOT_FIT)
    made.add_function_arguments(log_marginal, "evaluate", skip=NOT_EVALUATE)
    made.set_defaults({"fit.optimizer": FIT["optimizer"]})
    return made


def _source(tree: Tree, trust: Sequence[str]) -> Callable[..., Any]:
    """``pyrovae.data.load``, or the function of a trusted package that ``data.name`` names."""
    data = tree.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not DOTTED.fullmatch(name) or name in names() or _is_file(name):
        return load
    if (package := name.split(".")[0]) not in trust:
        raise PyrovaeError(f"there is no data set, file or folder {name}; a function of yours needs --trust {package}")
    function: Callable[..., Any] = find(name, trust)
    return function


def _is_file(name: str) -> bool:
    return Path(name).exists() or Path(name).suffix.lower() in READERS


def _place(tree: Tree) -> None:
    """A path of data that is there is written whole, so that a run can be evaluated from any other folder."""
    name = tree.get("data", {}).get("name")
    if isinstance(name, str) and name not in names() and Path(name).expanduser().exists():
        tree["data"]["name"] = str(Path(name).expanduser().resolve())


def _taken_out(tree: Tree, trusted: Sequence[str]) -> Tree:
    """The options of an objective that is a function: jsonargparse knows arguments of classes only."""
    objective = tree["fit"].get("objective")
    if not isinstance(objective, dict) or inspect.isclass(find(str(objective.get("class_path")), trusted)):
        return {}
    tree["fit"]["objective"] = objective["class_path"]
    options: Tree = objective.get("init_args") or {}
    return options


def _dumped(made: ArgumentParser, values: Namespace) -> str:
    return str(made.dump(values, skip_unset=True))


def _options(function: Callable[..., Any]) -> ArgumentParser:
    made = ArgumentParser(prog="objective", exit_on_error=False, allow_abbrev=False)
    made.add_function_arguments(function, skip={1})  # the terms
    return made


def _check_keys(tree: Tree, source: Callable[..., Any], trusted: Sequence[str]) -> None:
    """Refuse unknown keys, at any depth, with the nearest known ones."""
    sections = {
        "data": ["name", *_parameters(source, NOT_DATA)],
        "fit": _parameters(fit, NOT_FIT),
        "evaluate": _parameters(log_marginal, NOT_EVALUATE),
    }
    _check_known("", tree, ["seed", "data", "conditional", "program", "fit", "evaluate"])
    for section, known in sections.items():
        options = tree.get(section, {})
        if not isinstance(options, dict):
            raise PyrovaeError(f"{section}: expected a mapping of options, got {options!r}")
        _check_known(f"{section}.", options, known)
    if isinstance(program := tree.get("program"), str) and not DOTTED.fullmatch(program):
        raise PyrovaeError(f"program: {program} is no import path such as pyrovae.recipes.Dense")
    _check_arguments("", tree, trusted)


def _check_arguments(where: str, tree: Any, trusted: Sequence[str]) -> None:
    """Refuse arguments that a class or function does not have."""
    if isinstance(tree, dict) and isinstance(path := tree.get("class_path"), str):
        _check_known(f"{where}.", tree, ["class_path", "init_args"])
        function, arguments = find(path, trusted), tree.get("init_args") or {}
        if not isinstance(arguments, dict):
            raise PyrovaeError(f"{where}.init_args: expected a mapping of arguments, got {arguments!r}")
        if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
            _check_known(f"{where}.", arguments, _parameters(function), of=path)
    parts = tree if isinstance(tree, dict) else dict(enumerate(tree)) if isinstance(tree, list) else {}
    for key, part in parts.items():
        below = where if key == "init_args" else f"{where}.{key}".lstrip(".")
        _check_arguments(below, part, trusted)


def _check_known(where: str, tree: Tree, known: Sequence[str], of: str = "") -> None:
    for key in tree:
        if key not in known:
            kind = f"no argument of {of}" if of else "no key of a config"
            hint = nearest(str(key), known, where=where) or f"; there are {', '.join(known)}"
            raise PyrovaeError(f"{where}{key} is {kind}{hint}")


def _parameters(function: Callable[..., Any], skip: Collection[str | int] = ()) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in skip]


def _check_classes(tree: Any, trusted: Sequence[str]) -> None:
    """A class_path must name a class, or a function of ``pyrovae.flows``, which makes layers: jsonargparse would call
    any function there, and some of ours write files."""
    path = tree.get("class_path") if isinstance(tree, dict) else None
    found = find(path, trusted) if path else None
    if path and not isinstance(found, type) and getattr(found, "__module__", "") != flows.__name__:
        raise PyrovaeError(f"class_path: {path} is not a class; a function stands by its import path alone")
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        _check_classes(part, trusted)


@contextmanager
def trusting(packages: Sequence[str]) -> Iterator[None]:
    """Lets jsonargparse import from TRUSTED and ``packages`` only, also what a file named inside a config names.

    It keeps such settings for the whole process, so ``packages`` are struck off again.
    """
    try:
        set_parsing_settings(
            import_path_denylist=["*"],
            import_path_allowlist=[*TRUSTED, *packages],
            subclasses_enabled=list(get_args(Schedule)),  # else a dataclass would be written without its class
        )
    except ValueError as error:
        raise PyrovaeError(f"--trust {' '.join(packages)}: {error}") from error
    try:
        yield
    finally:
        set_parsing_settings(import_path_denylist=[name for name in packages if name not in TRUSTED])


@contextmanager
def _told(tree: Any, trusted: Sequence[str]) -> Iterator[None]:
    """jsonargparse's errors in one line; where an import path is the cause, what ``find`` says of it."""
    try:
        yield
    except argparse.ArgumentError as error:
        for text in trees.texts(tree):
            if DOTTED.fullmatch(text) and text in str(error):
                find(text, trusted)
        line = " ".join(str(error).split())
        line = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - ", "", line)
        raise PyrovaeError(re.sub(r" - Expected a <class 'NoneType'>.*$", "", line)) from error
