"""A run on a table of one's own, from its config: what evaluate reports is in the table's own units."""

from pathlib import Path

import pyro
import pyro.distributions as dist
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


class Gaussian:
    """x ~ Normal(loc, scale) whatever z is, and the guide is the prior: every particle has the weight p(x)."""

    def __init__(self, loc, scale) -> None:
        self.loc, self.scale = loc, scale

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1))
            pyro.sample("x", dist.Normal(self.loc, self.scale).expand(x.shape[-2:]).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1))


def test_evaluate_reports_own_units(tmp_path: Path) -> None:
    """A normal fitted to the training split by its moments has one exact density, standardised or not."""
    torch.manual_seed(0)
    rows = [f"{a},{b},{'xy'[i % 2]}" for i, (a, b) in enumerate((7 * torch.randn(40, 2)).tolist())]
    (tmp_path / "mine.csv").write_text("a,b,kind\n" + "\n".join(rows) + "\n")
    (tmp_path / "run.yaml").write_text(CONFIG.format(path=tmp_path / "mine.csv"))
    plain = pv.data.load(str(tmp_path / "mine.csv"), label="kind", validation=0.2, test=8, standardize=False)
    loc, scale = plain.train.x.mean(0), plain.train.x.std(0, correction=0)
    exact = torch.distributions.Normal(loc, scale).log_prob(plain.test.x).sum(-1).double()
    standard = Gaussian(torch.zeros(2), torch.ones(2))
    for standardize, program in (("true", standard), ("false", Gaussian(loc, scale))):
        with trusting([]):
            experiment = Experiment(tmp_path / "run.yaml", [f"--data.standardize={standardize}"])
            found = experiment.evaluate(
                program,
                experiment.data().test,
                checkpoint=tmp_path / f"{standardize}.unfinished",
                **experiment.evaluation(),
            )
        assert found.log_jacobian == (pytest.approx(-scale.log().sum().item()) if program is standard else 0)
        torch.testing.assert_close(found.log_prob, exact, rtol=1e-5, atol=1e-5)
