"""Objects by import path, refused before import where their origin is not trusted."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from pyrovae.errors import PyrovaeError

# Of torch only what describes networks and optimizers: torch.load or torch.hub.load would run a stranger's code.
TRUSTED = ("pyrovae", "torch.nn", "torch.optim")

# Where a name without its path, or with a wrong one, may have been meant.
PLACES = ("data", "recipes", "objectives", "gradients", "priors", "families", "networks", "schedules")


def is_trusted(path: str, trusted: Sequence[str]) -> bool:
    """Whether ``path`` is one of ``trusted``, or inside one."""
    return any(path == package or path.startswith(f"{package}.") for package in trusted)


def check(path: str, trust: Sequence[str]) -> None:
    """Raise PyrovaeError unless ``path`` leads to something inside pyrovae, torch.nn, torch.optim or ``trust``."""
    find(path, (*TRUSTED, *trust))


def find(path: str, trusted: Sequence[str]) -> Any:
    """The class, function or instance at a dotted path such as ``pyrovae.recipes.Vamp``.

    Raises:
        PyrovaeError: outside ``trusted`` (nothing is imported then), or defined outside though it can be reached from
            inside (``pyrovae.saving.os.system``); no such name, with the nearest ones; not an import path at all.
    """
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() and not part.startswith("_") for part in parts):
        raise PyrovaeError(f"{path!r} is no import path such as pyrovae.recipes.Dense{_meant(elsewhere(parts[-1]))}")
    _check(path, path, trusted)
    found: Any = _package(parts[0])
    for depth, part in enumerate(parts[1:], 1):
        found = _member(found, part, ".".join(parts[: depth + 1]))
    if inspect.ismodule(found):
        raise PyrovaeError(f"{path} is a module: name a class or a function in it")
    _check(path, _origin(found), trusted)
    return found


def elsewhere(name: str) -> list[str]:
    """Import paths of pyrovae's public objects, and torch's optimizers, whose names are nearest to ``name``."""
    pyrovae = _package("pyrovae")
    places = [pyrovae, *(getattr(pyrovae, place) for place in PLACES), importlib.import_module("torch.optim")]
    names = {n.lower(): f"{p.__name__}.{n}" for p in reversed(places) for n in _public(p) if callable(getattr(p, n, 0))}
    return [names[near] for near in difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.7)]


def _check(path: str, origin: str, trusted: Sequence[str]) -> None:
    if not is_trusted(origin, trusted):
        defined = "" if origin == path else f", defined in {origin},"
        raise PyrovaeError(
            f"{path}{defined} is outside {', '.join(trusted)}: refused before import. If you trust that code, pass "
            f"--trust {origin.split('.')[0]}"
        )


def _origin(value: Any) -> str:
    """Where a class or function was defined; of an instance, where its class was."""
    definite = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    return f"{definite.__module__}.{definite.__qualname__}" if getattr(definite, "__module__", None) else "builtins"


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise PyrovaeError(f"the package {name} cannot be imported: {error}") from error


def _member(parent: Any, name: str, path: str) -> Any:
    """An attribute, or a submodule that was not imported yet."""
    if hasattr(parent, name):
        return getattr(parent, name)
    if name in _submodules(parent):
        return importlib.import_module(path)
    above = path.rpartition(".")[0]
    near = [f"{above}.{n}" for n in difflib.get_close_matches(name, [*_public(parent), *_submodules(parent)], n=2)]
    raise PyrovaeError(f"there is no {path}{_meant(near or elsewhere(name))}")


def _submodules(parent: Any) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))]


def _public(parent: Any) -> list[str]:
    return [name for name in dir(parent) if not name.startswith("_")]


def _meant(paths: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(paths)}?" if paths else ""
