"""The two columns meet only in Pyro's trace: no module of one imports one of the other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyrovae

ROOT = Path(pyrovae.__file__).parent
PROGRAMS = ["autoregressive", "conditional", "families", "flows", "networks", "observations", "priors", "programs"]
INFERENCE = ["checks", "evidence", "gradients", "objectives", "terms"]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("part", "others"), [(p, INFERENCE) for p in PROGRAMS] + [(p, PROGRAMS) for p in INFERENCE], ids=str
)
def test_a_column_does_not_import_the_other(part: str, others: list[str]) -> None:
    files = [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else list((ROOT / part).rglob("*.py"))
    names = {name.split(".")[1] for file in files for name in imported(file) if name.startswith("pyrovae.")}
    assert files and not names & set(others)


def test_checks_stand_on_evidence() -> None:
    """Evidence knows nothing of the checks, which use it."""
    names = {name.split(".")[1] for file in (ROOT / "evidence").rglob("*.py") for name in imported(file)
             if name.startswith("pyrovae.")}  # fmt: skip
    assert "checks" not in names
