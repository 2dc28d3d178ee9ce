"""NUTS on a datum's latents against exact posteriors, and what the comparison says of right and wrong guides."""

from typing import Any

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, program
from matplotlib import pyplot as plt
from torch import Tensor

import pyrovae as pv
from pyrovae.checks import Chains

pytestmark = pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
QUICK: dict[str, Any] = {"seed": 0, "progress": False, "num_chains": 2}
SHORT = {**QUICK, "num_draws": 8, "num_warmup": 8, "num_guide": 300}


def linear(**options: float) -> LinearGaussian:
    return LinearGaussian(2, 4, **options)


@pytest.fixture(scope="module")
def narrow() -> Chains:
    exact = linear(spread=0.6)
    return pv.nuts(exact.program, exact.data(2), num_draws=150, num_warmup=80, num_guide=2000, **QUICK)


def test_the_posterior_is_found(narrow: Chains) -> None:
    exact = linear()
    posterior, found = exact.posterior(exact.data(2)), narrow.figures
    assert narrow.posterior["z"].shape == (2, 150, 2, 2) and narrow.names == ("z[0]", "z[1]")
    assert ((found["mean"] - posterior.mean).abs() < 4 * found["mean_error"]).all()
    assert ((found["sd"] - posterior.stddev).abs() < 4 * found["sd_error"]).all()
    assert (found["r_hat"] < 1.05).all() and (found["ess"] > 60).all()


def test_a_narrowed_guide_differs_in_its_spread(narrow: Chains) -> None:
    found = narrow.figures
    assert (found["sd_z"] < -4).all() and (found["mean_z"].abs() < 4).all() and narrow.differs.all()
    ratio = found["guide_sd"] / found["sd"]
    assert ((ratio - 0.6).abs() < 0.12).all()
    assert ((found["resampled_sd"] / found["sd"] - 1).abs() < 0.2).all()
    lines = narrow.summary().splitlines()
    assert "2 data, 2 chains of 150 draws" in lines[0]
    assert lines[2].split()[-3] == f"{found['sd_z'].min():+.1f}"
    assert any("in 4 of 4" in line for line in lines)
    assert ("k-hat is too high" in narrow.summary()) == bool(narrow.evidence.unreliable.any())


def test_an_exact_guide_does_not_differ() -> None:
    exact = linear()
    found = pv.nuts(exact.program, exact.data(1), num_draws=100, num_warmup=80, num_guide=2000, **QUICK)
    assert not found.differs.any()


def test_arviz_takes_the_chains(narrow: Chains) -> None:
    data = narrow.to_arviz()
    z = data["posterior"]["z"]
    assert z.dims == ("chain", "draw", "datum", "z_dim_0") and z.shape == (2, 150, 2, 2)
    assert "importance" not in str(data["posterior"].attrs) and data["posterior"].attrs["num_warmup"] == 80
    table = arviz.summary(data, round_to="none")
    assert table.loc["z[1, 0]", "mean"] == pytest.approx(narrow.figures["mean"][1, 0].item(), rel=1e-4)
    assert table.loc["z[1, 0]", "r_hat"] == pytest.approx(narrow.figures["r_hat"][1, 0].item(), abs=1e-4)
    arviz.plot_rank(data)
    assert len([axes for axes in plt.gcf().axes if axes.lines or axes.collections or axes.patches]) >= 4
    plt.close("all")


def test_constrained_and_discrete_latents_with_given() -> None:
    """s ~ Gamma, y summed out, and x given y and s: the mean of s by a grid."""
    offset = torch.tensor([0.0, 1.0])

    def model(x: Tensor, shift: Tensor) -> None:
        with pyro.plate("data", len(x)):
            s = pyro.sample("s", dist.Gamma(torch.full((len(x),), 3.0), 2.0))
            y = pyro.sample("y", dist.Categorical(torch.tensor([0.4, 0.6])))
            pyro.sample("x", dist.Normal(s + offset[y] + shift, 0.5), obs=x)

    def guide(x: Tensor, shift: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("s", dist.LogNormal(torch.zeros(len(x)), 1.0))

    x, shift = torch.tensor([2.0]), torch.tensor([0.5])
    found = pv.nuts(program(model, guide), x, shift, num_draws=100, num_warmup=80, num_guide=1000, **QUICK)
    s = torch.linspace(1e-3, 12, 20000).double()
    of_x = dist.Normal(s[:, None] + offset + 0.5, 0.5).log_prob(x).exp() @ torch.tensor([0.4, 0.6]).double()
    weight = of_x * dist.Gamma(3.0, 2.0).log_prob(s).exp()
    mean = (weight * s).sum() / weight.sum()
    assert found.names == ("s",) and (found.posterior["s"] > 0).all()
    assert (found.figures["mean"] - mean).abs() < 4 * found.figures["mean_error"]
    assert (found.figures["resampled_mean"] - mean).abs() < 0.1 and found.differs.all()


def test_draws_of_the_guide_are_joint_over_sites() -> None:
    def chain(x: Tensor) -> Tensor:
        a = pyro.sample("a", dist.Normal(torch.zeros(len(x)), 1.0))
        b = pyro.sample("b", dist.Normal(a, 0.1))
        return b

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(chain(x), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            chain(x)

    found = pv.nuts(program(model, guide), torch.tensor([0.3]), **SHORT)
    a, b = found.guide["a"][:, 0], found.guide["b"][:, 0]
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.95


def test_nothing_outside_changes_and_seeds_repeat() -> None:
    exact, store = linear(), dict(pyro.get_param_store().items())
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, again = (pv.nuts(exact.program, exact.data(1), **SHORT).posterior["z"] for _ in range(2))
    torch.manual_seed(5)
    pv.nuts(exact.program, torch.zeros(1, 4), **SHORT)
    assert torch.equal(state, torch.random.get_rng_state()) and torch.equal(first, again)
    assert dict(pyro.get_param_store().items()) == store


def test_short_chains_are_no_reference() -> None:
    exact = linear()
    assert "NUTS is no reference" in pv.nuts(exact.program, exact.data(1), **SHORT).summary()


def test_noise_that_belongs_to_x_is_no_latent() -> None:
    torch.manual_seed(0)
    decoder = pv.Dequantized(pv.Conditional(pv.networks.MLP(2, 4, 6), pv.families.normal), num_levels=4)
    encoder = pv.Conditional(pv.networks.MLP(3, 4, 4), pv.families.normal)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, encoder)
    found = pv.nuts(vae, torch.tensor([[0.0, 1 / 3, 1.0]]), **SHORT)
    assert found.names == ("z[0]", "z[1]") and found.differs.shape == (1, 2)
    assert list(found.posterior) == list(found.guide) == list(found.resampled) == ["z"]


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        (lambda: dist.VonMises(torch.zeros(1), 1.0), "'z' lives on a circle, .* that NUTS moves in"),
        (lambda: dist.VonMises(torch.zeros(1, 2), 1.0).to_event(1), "'z' lives on a circle"),
        (lambda: pv.families.RelaxedOneHotCategorical(0.5)(torch.zeros(1, 3)), r"'z' lies on a surface"),
        (lambda: dist.ProjectedNormal(torch.ones(1, 3)), "no map from the real numbers that NUTS moves in"),
    ],
)
def test_where_no_chain_can_move(latent: Any, message: str) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", latent())
            pyro.sample("x", dist.Normal(z.reshape(len(x), -1).sum(-1), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", latent())

    with pytest.raises(pv.PyrovaeError, match=message):
        pv.nuts(program(model, guide), torch.zeros(1), **SHORT)


def test_refusals() -> None:
    exact = linear()
    least = {"num_chains": "at least 2", "num_draws": "at least 4", "num_warmup": "positive", "num_guide": "at least 2"}
    for name, words in least.items():
        with pytest.raises(pv.PyrovaeError, match=f"{name} must be {words}; got 0"):
            pv.nuts(exact.program, exact.data(1), **{name: 0})

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.ones(2)))
            pyro.sample("x", dist.Normal(y.float(), 1.0), obs=x)

    with pytest.raises(pv.PyrovaeError, match="no continuous latent"):
        pv.nuts(program(model, lambda x: None), torch.zeros(1), **SHORT)
