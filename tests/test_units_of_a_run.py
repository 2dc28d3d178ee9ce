"""A run on a table of one's own, from its config: what evaluate reports is in the table's own units."""

import warnings
from pathlib import Path

import pytest
import torch

import pyrovae as pv
from pyrovae.cli.config import trusting
from pyrovae.cli.experiment import Experiment

CONFIG = """
data: {{name: {path}, label: kind, validation: 0.2, test: 8}}
program: {{class_path: pyrovae.recipes.Dense, init_args: {{latent: 2, hidden: [4]}}}}
fit: {{epochs: 1}}
evaluate: {{num_particles: 20}}
"""


@pytest.mark.parametrize("standardize", [True, False])
def test_evaluate_reports_own_units(tmp_path: Path, standardize: bool) -> None:
    torch.manual_seed(0)
    rows = [f"{a},{b},{'xy'[i % 2]}" for i, (a, b) in enumerate((7 * torch.randn(40, 2)).tolist())]
    (tmp_path / "mine.csv").write_text("a,b,kind\n" + "\n".join(rows) + "\n")
    (tmp_path / "run.yaml").write_text(CONFIG.format(path=tmp_path / "mine.csv"))
    with trusting([]), warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        experiment = Experiment(tmp_path / "run.yaml", [f"--data.standardize={str(standardize).lower()}"])
        data = experiment.data()
        program = experiment.program(data)
        found = experiment.evaluate(program, data.test)
        plain = pv.log_marginal(program, data.test.x, num_particles=20, seed=0)
    assert len(data.test.x) == 8 and data.classes == ("x", "y")
    assert (data.log_jacobian == 0) is (not standardize) and found.log_jacobian == data.log_jacobian
    torch.testing.assert_close(found.log_prob, plain.log_prob + data.log_jacobian)
