"""Simulated latents are exact draws from p(z | x): for these, and no others, E[q(z | x) / p(x, z)] = 1 / p(x)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian, assert_mean, program
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.evidence import simulated
from pyrovae.evidence.simulated import simulate
from pyrovae.placed import placed

SCALE = 0.5


def dequantized(family: Any, loc: float) -> pv.VAE:
    """One z, one x of three levels, a density N(z / 2 + loc, 0.5^2) of v or of its logit, which slopes in its cells."""
    net, encoder = nn.Linear(1, 1), nn.Linear(1, 2)
    with torch.no_grad():
        net.bias.fill_(loc)
        net.weight.fill_(0.5)
        encoder.bias.copy_(torch.tensor([0.1, pv.families.inverse_positive(0.6)]))
        encoder.weight.zero_()
    decoder = pv.Dequantized(pv.Conditional(net, family), num_levels=3)
    return pv.VAE(pv.priors.StandardNormal(1), decoder, pv.Conditional(encoder, pv.families.normal))


def fixed_logit_normal(loc: Tensor) -> Any:
    return dist.TransformedDistribution(dist.Normal(loc, SCALE), dist.transforms.SigmoidTransform()).to_event(1)


def log_mass(edges: Tensor) -> Tensor:
    """log P(k): of v, or of its logit, between edges (4,), by the trapezoid rule over z."""
    z = torch.linspace(-10, 10, 4001)
    cdf = dist.Normal(0.5 * z[:, None] + 0.8, SCALE).cdf(edges)
    return torch.trapezoid(dist.Normal(0.0, 1.0).log_prob(z).exp()[:, None] * cdf.diff(), z, dim=0).log()


CELLS = torch.tensor([0, 1 / 3, 2 / 3, 1], dtype=torch.float64)


@pytest.mark.parametrize(
    ("family", "edges"),
    [
        (fixed_logit_normal, CELLS.logit()),
        (pv.families.FixedScaleNormal(SCALE), CELLS),  # much of whose mass is lost outside of [0, 1]
    ],
)
def test_the_noise_of_a_dequantization_is_that_of_the_level(double: None, family: Any, edges: Tensor) -> None:
    """Noise drawn by itself, or mass put into the outermost cells, would fail."""
    vae = dequantized(family, 0.8)
    torch.manual_seed(0)
    x, latents, auxiliary, valid = simulate(vae, 20_000)
    assert auxiliary == {"x.noise"} and valid.all()
    right, wrong = ({**latents, "x.noise": noise} for noise in (latents["x.noise"], torch.rand(len(x), 1)))
    check(vae, x, right, edges)
    with pytest.raises(AssertionError, match="standard errors"):
        check(vae, x, wrong, edges)


def check(vae: pv.VAE, x: Tensor, latents: dict[str, Tensor], edges: Tensor) -> None:
    for level, log_p in zip((0.0, 0.5, 1.0), log_mass(edges), strict=True):
        assert_mean(inverse_weights(vae, x, latents, level) * log_p.exp(), 1.0)


def inverse_weights(vae: pv.VAE, x: Tensor, latents: dict[str, Tensor], level: float) -> Tensor:
    rows = (x == level)[:, 0]
    values = {name: value[rows] for name, value in latents.items()}
    return (-pv.log_terms(placed(vae, values), x[rows]).log_weight[0].detach()).exp()


def test_draws_that_are_hardly_ever_data_are_refused() -> None:
    vae = dequantized(pv.families.FixedScaleNormal(0.1), 9.0)
    with pytest.raises(pv.PyrovaeError, match=r"10 data 10 could not be drawn.* 1,010 draws 100.0% were.*logit_normal"):
        simulate(vae, 10)


def test_the_share_of_draws_that_are_lost_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single row that is lost to the end says little of the program; all of its draws do."""
    monkeypatch.setattr(simulated, "TRIES", 1)
    torch.manual_seed(0)
    with pytest.raises(pv.PyrovaeError, match=r"of 100 data \d+ .* of all 1\d\d draws [3-6]\d\.\d% were lost"):
        simulate(dequantized(pv.families.FixedScaleNormal(SCALE), 0.8), 100)


def test_what_a_drawn_mask_hides_is_latent() -> None:
    decoder = pv.MissingNotAtRandom(pv.Conditional(nn.Linear(2, 6), pv.families.normal), pv.SelfMasking(3, sign=1))
    net = pv.readings.Reading(pv.networks.MLP(6, 8, 4), pv.readings.ValuesAndMask())
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, pv.Conditional(net, pv.families.normal))
    torch.manual_seed(0)
    found = simulate(vae, 200)
    assert found.latents.keys() == {"z", "x.missing"} and found.auxiliary == {"x.missing"}
    hidden = found.x.isnan()
    assert 0.2 < hidden.double().mean() < 0.8
    assert not found.latents["x.missing"].isnan().any()
    values = found.latents["x.missing"]
    torch.testing.assert_close(found.x[~hidden], values[~hidden])
    assert values[hidden].mean() > values[~hidden].mean() + 0.3  # larger ones are missing more often
    assert pv.log_terms(placed(vae, found.latents), found.x).log_weight.isfinite().all()


def test_conditions_and_their_rows_are_kept() -> None:
    given = torch.linspace(-50, 50, 7)[:, None]
    decoder = pv.Conditional(pv.networks.MLP([2, 1], 4, 6), pv.families.normal)
    encoder = pv.Conditional(pv.networks.MLP([3, 1], 4, 4), pv.families.normal)
    prior = pv.Conditional(nn.Linear(1, 4), pv.families.normal)
    with torch.no_grad():
        prior.net.weight[:2], prior.net.bias[:] = 1, 0
        prior.net.weight[2:] = 0
    found = simulate(pv.VAE(prior, decoder, encoder), 7, given)
    assert ((found.latents["z"] - given).abs() < 10).all()
    with pytest.raises(pv.PyrovaeError, match="one row per sample"):
        simulate(pv.VAE(prior, decoder, encoder), 8, given)


# ------------------------------------------------------------------------------------------- models that need an x


def needs_x(model: Any) -> Any:
    def guide(x: Any) -> None:
        pass

    return program(model, guide)


def test_x_is_put_together_from_what_is_drawn() -> None:
    """Slices and views of leaves, integers, several leaves: each draw lands where its observation stands in x."""

    def model(x: Any) -> None:
        with pyro.plate("data", len(x["a"]), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("left", dist.Normal(z, 0.001), obs=x["a"][:, 0])
            pyro.sample("rest", dist.Normal(10 + z[:, None], 0.001).expand([len(z), 3]).to_event(1),
                        obs=x["a"][:, 1:].reshape(len(z), 3))  # fmt: skip
            pyro.sample("b", dist.Categorical(logits=torch.tensor([-99.0, -99.0, 0.0])), obs=x["b"][1])

    like = {"a": torch.zeros(2, 4), "b": (torch.zeros(2, 0), torch.zeros(2, dtype=torch.long))}
    found = simulate(needs_x(model), 5, like=like)
    z = found.latents["z"]
    expected = torch.stack([z, 10 + z, 10 + z, 10 + z], -1)
    torch.testing.assert_close(found.x["a"], expected, rtol=0, atol=0.02)
    assert found.x["b"][1].tolist() == [2] * 5 and found.x["b"][1].dtype == torch.long


def test_x_that_is_not_drawn_whole_is_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("left", dist.Normal(x[:, 1], 1.0), obs=x[:, 0])

    with pytest.raises(pv.PyrovaeError, match=r"\(3, 2\)\] cannot be put together .*'left'.*belongs into given"):
        simulate(needs_x(model), 3, like=torch.zeros(1, 2))
    with pytest.raises(pv.PyrovaeError, match="pass like=x"):
        simulate(needs_x(model), 3)


def observing(observed: Any, like: Tensor, density: Any = lambda loc, x: dist.Normal(loc, 0.5)) -> Any:
    """z ~ N(0, 1), three pixels of means z, 2z, 3z of which the model observes ``observed(x)``."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", density(z[:, None] * torch.arange(1.0, 4.0), x).to_event(1), obs=observed(x))

    return simulate(needs_x(model), 20, like=like)


def bernoulli(loc: Tensor, x: Tensor) -> Any:
    return dist.Bernoulli(logits=loc)


@pytest.mark.parametrize(
    ("observed", "like", "density"),
    [
        (lambda x: x[:, [2, 0, 1]], torch.zeros(1, 3), None),
        (lambda x: 2 * x - 1, torch.zeros(1, 3), None),
        (lambda x: 1 - x, torch.zeros(1, 3), bernoulli),
        (lambda x: x.float(), torch.zeros(1, 3, dtype=torch.long), None),  # draws would be cut to whole numbers
        (lambda x: x[:, :3], torch.zeros(1, 6).as_strided((1, 4), (6, 1)), None),
        (lambda x: x, torch.zeros(1, 3), lambda loc, x: dist.Normal(loc + x.roll(1, 1), 0.5)),
        (lambda x: x[:, :1].expand(-1, 3), torch.zeros(1, 3), None),
    ],
)
def test_an_x_that_the_model_would_not_observe_is_refused(observed: Any, like: Tensor, density: Any) -> None:
    """Reordered, rescaled, cast, in part, more than once, or under a density of x itself: bounds would be none."""
    with pytest.raises(pv.PyrovaeError, match=r"cannot be put together .*'x'.* rescaled nor reordered"):
        observing(observed, like, *[density][: density is not None])


@pytest.mark.parametrize(
    ("observed", "like", "density"),
    [
        (lambda x: x.double(), torch.zeros(1, 3), None),
        (lambda x: x.float(), torch.zeros(1, 3, dtype=torch.long), bernoulli),
        (lambda x: x.mT.flatten(1), torch.zeros(1, 1, 3), None),
        (lambda x: x.nan_to_num(), torch.full((1, 3), float("nan")), None),
        (lambda x: x.movedim(1, -1)[:, 0], torch.zeros(1, 3, 1), None),
    ],
)
def test_an_x_that_the_model_observes_as_a_copy(observed: Any, like: Tensor, density: Any) -> None:
    found = observing(observed, like, *[density][: density is not None])
    assert found.x.shape == (20, *like.shape[1:]) and found.x.dtype == like.dtype
    assert torch.corrcoef(torch.stack([found.x.reshape(20, 3)[:, 2].float(), found.latents["z"]]))[0, 1] > 0.5


def test_pictures_seen_transposed() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(torch.arange(6.0).view(2, 3).expand(len(x), 2, 3), 1e-3).to_event(2), obs=x.mT)

    found = simulate(needs_x(model), 4, like=torch.zeros(1, 3, 2))
    torch.testing.assert_close(found.x[0], torch.arange(6.0).view(2, 3).T, rtol=0, atol=0.01)


def test_factors_are_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("tilt", z)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with pytest.raises(pv.PyrovaeError, match=r"\['tilt'\] \(pyro.factor\), which no draw follows"):
        simulate(needs_x(model), 3, like=torch.zeros(1))


def test_noise_that_would_be_drawn_apart_from_x_is_refused() -> None:
    vae = dequantized(fixed_logit_normal, 0.0)
    with pytest.raises(pv.PyrovaeError, match=r"\['x.noise'\].*num_data"):
        simulate(SimpleNamespace(model=lambda x: vae.model(x), guide=vae.guide), 3, like=torch.zeros(1, 1))


def test_latents_and_data_belong_together() -> None:
    model = LinearGaussian(2, 3, sigma=1e-3)
    found = simulate(model.program, 50)
    torch.testing.assert_close(found.x, found.latents["z"] @ model.W.T + model.b, rtol=0, atol=0.01)
