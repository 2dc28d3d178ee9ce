"""The notebooks run from top to bottom, at a small budget, and each is the same as the script it is paired with."""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
import pytest

import pyrovae as pv

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
EVALUATION = {"NUM_PARTICLES": 20, "NUM_TEST": 30}
TINY = {"HIDDEN": (32,), "LATENT": 4, "EPOCHS": 1, "BATCH": 1000, **EVALUATION}
BUDGETS: dict[str, dict[str, Any]] = {
    "1_first_tour": {"HIDDEN": (32,), "EPOCHS": 1, **EVALUATION},
    "2_priors_and_likelihoods": {"NUM_COMPONENTS": 5, **TINY},
    "3_elbo_term_by_term": {"BETAS": (0.5, 2.0), **TINY},
    "4_conditional": TINY,
    "5_bring_your_own": {"EPOCHS": 1, "TABLE_EPOCHS": 2, **EVALUATION},
    "6_new_parts": {"EPOCHS": 1, "NUM_DRAWS": 10_000, **EVALUATION},
    "7_trust": {
        "EPOCHS": 1,
        "NUM_TEST": 10,
        "PARTICLES": (10, 200),
        "STEPS": (2, 5),
        "SIMULATED": 20,
        "NUTS_DRAWS": 10,
    },
}


def read(script: Path) -> Any:
    """The notebook that a script is."""
    return jupytext.read(script, fmt="py:percent")


def first_code_cell(notebook: Any) -> int:
    return next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")


def assigned(source: str) -> dict[str, Any]:
    """The constants of a cell of assignments."""
    statements = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    return {target.id: ast.literal_eval(node.value) for node in statements for target in node.targets}  # type: ignore[attr-defined]


@cache
def image_data() -> str:
    """MNIST where its files are at hand, else scikit-learn's digits."""
    try:
        pv.data.load("mnist", download=False)
    except pv.PyrovaeError:
        return "digits"
    return "mnist"


def test_every_notebook_has_a_budget() -> None:
    assert [script.stem for script in SCRIPTS] == list(BUDGETS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_first_code_cell_holds_the_parameters_that_the_tests_make_small(script: Path) -> None:
    notebook = read(script)
    cell = notebook.cells[first_code_cell(notebook)]
    assert cell.metadata["tags"] == ["parameters"]
    usual = assigned(cell.source)
    for name, value in BUDGETS[script.stem].items():
        assert type(value) is type(usual[name]), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebook_and_script_agree_and_hold_no_outputs(script: Path) -> None:
    paired = nbformat.read(script.with_suffix(".ipynb"), as_version=4)

    def content(notebook: Any) -> list[Any]:
        return [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in notebook.cells]

    assert content(paired) == content(read(script)), "run `make notebooks`"
    code = [cell for cell in paired.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "run `make notebooks`"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebook_runs(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))  # nothing of the user's own Jupyter
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress")  # Pyro looks for widgets, which need a browser
    notebook = read(script)
    at = first_code_cell(notebook)
    budget = dict(BUDGETS[script.stem])
    if "DATA" in assigned(notebook.cells[at].source):
        budget["DATA"] = image_data()
    lines = [f"{name} = {value!r}" for name, value in budget.items()]
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources)
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
