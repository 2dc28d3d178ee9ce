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
from pyrovae.nearest import meant

# Of torch only what describes networks and optimizers: torch.load or torch.hub.load would run a stranger's code.
TRUSTED = ("pyrovae", "torch.nn", "torch.optim")

# Where a name without its path, or with a wrong one, may have been meant.
PLACES = ("data", "recipes", "objectives", "gradients", "priors", "families", "networks", "readings", "schedules")


def find(path: str, trusted: Sequence[str] | None) -> Any:
    """The class, function or instance at ``package.module.name``, or at ``package.module:name``.

    A colon says where the module ends, so a name behind it may be private; without one, the path is a person's.
    ``trusted=None`` is for paths that this process wrote itself.

    Raises:
        PyrovaeError: outside ``trusted`` (nothing is imported then), or defined outside though it can be reached from
            inside (``pyrovae.saving.os.system``); no such name, with the nearest ones; not an import path at all.
    """
    module, colon, name = path.partition(":")
    names = name.split(".") if colon else module.split(".")[1:]
    _check_form(path, [*module.split("."), *names], private=bool(colon))
    _check(path, path.replace(":", "."), trusted)
    at = module if colon else module.split(".")[0]
    found: Any = _module(at)
    for part in names:
        at = f"{at}.{part}"
        found = _member(found, part, at)
    if inspect.ismodule(found):
        raise PyrovaeError(f"{path} is a module: name a class or a function in it")
    _check(path, _origin(found), trusted)
    return found


def _elsewhere(name: str) -> list[str]:
    """Import paths of pyrovae's public objects, and torch's optimizers, whose names are nearest to ``name``."""
    pyrovae = _module("pyrovae")
    places = [pyrovae, *(getattr(pyrovae, place) for place in PLACES), importlib.import_module("torch.optim")]
    names = {n.lower(): f"{p.__name__}.{n}" for p in reversed(places) for n in _public(p) if callable(getattr(p, n, 0))}
    return [names[near] for near in difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.7)]


def _check_form(path: str, parts: Sequence[str], *, private: bool) -> None:
    if len(parts) < 2 or not all(part.isidentifier() and (private or not part.startswith("_")) for part in parts):
        raise PyrovaeError(f"{path!r} is no import path such as pyrovae.recipes.Dense{meant(_elsewhere(parts[-1]))}")


def _check(path: str, origin: str, trusted: Sequence[str] | None) -> None:
    if trusted is not None and not any(origin == package or origin.startswith(f"{package}.") for package in trusted):
        defined = "" if origin == path.replace(":", ".") else f", defined in {origin},"
        package = origin.split(".")[0]
        advice = f". If you trust that code, pass --trust {package}, or trust=({package!r},) in Python"
        roots = [name.split(".")[0] for name in trusted]
        if package not in roots and (near := difflib.get_close_matches(package, roots, n=1, cutoff=0.8)):
            advice = meant([near[0] + path.removeprefix(package)])  # a slip of the pen wants no trust
        raise PyrovaeError(f"{path}{defined} is outside {', '.join(trusted)}: refused before import{advice}")


def _origin(value: Any) -> str:
    """Where a class or function was defined; of an instance, where its class was."""
    definite = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    return f"{definite.__module__}.{definite.__qualname__}" if getattr(definite, "__module__", None) else "builtins"


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PyrovaeError(f"{name} cannot be imported: {error}") from error


def _member(parent: Any, name: str, path: str) -> Any:
    """An attribute, or a submodule that was not imported yet."""
    if hasattr(parent, name):
        return getattr(parent, name)
    if name in _submodules(parent):
        return _module(path)
    above = path.rpartition(".")[0]
    near = [f"{above}.{n}" for n in difflib.get_close_matches(name, [*_public(parent), *_submodules(parent)], n=2)]
    raise PyrovaeError(f"there is no {path}{meant(near or _elsewhere(name))}")


def _submodules(parent: Any) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))]


def _public(parent: Any) -> list[str]:
    return [name for name in dir(parent) if not name.startswith("_")]
