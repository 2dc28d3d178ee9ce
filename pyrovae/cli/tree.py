"""A config as a tree: the YAML file with the words of the command line put into it, before anything is interpreted."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from pyrovae.errors import PyrovaeError
from pyrovae.imports import find

Tree = dict[str, Any]

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")  # what may be an import path
FIT = {  # what ``fit`` takes by default, so that an override can set an argument of it
    "objective": "pyrovae.objectives.elbo",
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}},
}


def read(path: Path, overrides: Sequence[str], trusted: Sequence[str]) -> Tree:
    """The file at ``path`` with ``--key value`` put in.

    Args:
        path: of the YAML file.
        overrides: words of the command line, ``--fit.epochs 3`` or ``--fit.epochs=3``; ``init_args`` may be left out.
        trusted: packages from which an exchanged class may come.

    Raises:
        PyrovaeError: no such file; not YAML; a key that stands twice; words that are no ``--key value``.
    """
    tree = _read(path)
    fit = tree.setdefault("fit", {})
    if isinstance(fit, dict):
        tree["fit"] = {**deepcopy(FIT), **fit}
    for keys, value in _pairs(overrides):
        _put(tree, keys, value, trusted)
    return tree


def texts(tree: Any) -> Iterator[str]:
    """Every text in a tree."""
    if isinstance(tree, str):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from texts(part)


def _read(path: Path) -> Tree:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Strict)  # a subclass of SafeLoader
    except OSError as error:
        raise PyrovaeError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise PyrovaeError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise PyrovaeError(f"{path}: a config is a mapping with keys such as data, program and fit")
    return tree


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last; 1e-3 is a number."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Strict.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[list[str], Any]]:
    words = list(overrides)
    while words:
        word = words.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise PyrovaeError(f"{word}: options are written --key value, with the key's path: --fit.epochs 10")
        if not equals and (not words or words[0].startswith("--")):
            raise PyrovaeError(f"{word}: expected a value behind it")
        yield key.split("."), _value(value if equals else words.pop(0))


def _value(word: str) -> Any:
    """A mapping or a list is read here; what another word stands for depends on the type of its key."""
    if not word.startswith(("{", "[")):
        return word
    try:
        return yaml.load(word, _Strict)  # a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise PyrovaeError(f"{word}: not YAML: {error}") from error


def _put(node: Tree, keys: list[str], value: Any, trusted: Sequence[str]) -> None:
    if "class_path" in node and keys[0] not in ("class_path", "init_args"):
        keys = ["init_args", *keys]
    key, *rest = keys
    below = node.get(key)
    if rest:
        node[key] = below if isinstance(below, dict) else {"class_path": below} if _is_path(below) else {}
        _put(node[key], rest, value, trusted)
    elif key == "class_path" and _is_path(value):
        _exchange(node, value, trusted)
    elif isinstance(below, dict) and "class_path" in below and _is_path(value):
        _exchange(below, value, trusted)
    else:
        node[key] = value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and DOTTED.fullmatch(value) is not None


def _exchange(node: Tree, path: str, trusted: Sequence[str]) -> None:
    """Another class in the slot; arguments that it has with the same type are kept."""
    if kept := node.get("init_args"):
        before, now = (_types(find(each, trusted)) for each in (node.get("class_path", path), path))
        node["init_args"] = {k: v for k, v in kept.items() if k in now and before.get(k) == now[k]}
    node["class_path"] = path


def _types(function: Any) -> dict[str, Any]:
    """The parameters of a class or function, with the types they are declared with."""
    return {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}
