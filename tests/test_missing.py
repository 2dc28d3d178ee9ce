"""Missing values: integrated out exactly, under every family with independent elements, at training and at test."""

from __future__ import annotations

import functools
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import families as F
from pyrovae.observations import Incomplete
from pyrovae.observations.missing import elementwise

WIDTH, LATENT = 3, 2
NAN = torch.nan
SEEN = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
FAMILIES = {
    **{name: f for name, f in vars(F).items() if isinstance(f, F.Family) and not isinstance(f, F.VectorFamily)},
    "fixed scale": F.FixedScaleNormal(),
    "shared scale": F.SharedScaleNormal(),
    "optimal scale": F.OptimalScaleNormal(),
    "Student": F.StudentT(),
    "categorical": F.Categorical(3),
    "ordinal": F.Ordinal(4),
    "discretized logistic": F.DiscretizedLogistic(8),
    "discretized normal": F.DiscretizedNormal(8),
    "mixture of logistics": F.DiscretizedLogisticMixture(8, 2),
    "levels": F.CategoricalLevels(8),
    "mixed": F.Mixed([F.normal, F.Categorical(3), F.log_normal]),
}


class SeenGuide(nn.Module):
    """The exact p(z | x_seen) of a ``LinearGaussian``, widened by ``spread``."""

    def __init__(self, exact: LinearGaussian, spread: float = 1.0) -> None:
        super().__init__()
        self.W, self.b, self.sigma, self.spread = exact.W, exact.b, exact.sigma, spread

    def forward(self, x: Tensor) -> Any:
        seen = (~x.isnan()).to(self.W)
        rows = seen[..., None] * self.W  # (N, D, latent), 0 where x is missing
        precision = torch.eye(self.W.shape[1]) + rows.mT @ rows / self.sigma**2
        residual = torch.where(x.isnan(), 0.0, x - self.b)
        V = torch.linalg.inv(precision)
        loc = (V @ (rows.mT @ residual[..., None]) / self.sigma**2).squeeze(-1)
        return dist.MultivariateNormal(loc, scale_tril=self.spread * torch.linalg.cholesky(V))


def linear_gaussian(exact: LinearGaussian, spread: float = 1.0, wrap: Any = pv.Missing) -> pv.VAE:
    return pv.VAE(exact.program.prior, wrap(exact.program.decoder), SeenGuide(exact, spread))


def marginal(exact: LinearGaussian, x: Tensor) -> Tensor:
    """log p(x_seen) row by row, by leaving out what is missing of mean and covariance."""
    full = exact.marginal
    total = []
    for row in x:
        i = (~row.isnan()).nonzero().flatten()
        block = dist.MultivariateNormal(full.loc[i], full.covariance_matrix[i][:, i]) if len(i) else None
        total.append(block.log_prob(row[i]) if block is not None else row.new_zeros(()))
    return torch.stack(total)


def conditional(in_shape: Any, family: Any, out: int = WIDTH, net: Any = pv.networks.MLP) -> pv.Conditional:
    return pv.Conditional(net(in_shape, 8, F.out_shape(family, (out,)), activation=nn.Tanh), family)


def encoder(width: int = WIDTH, **options: Any) -> pv.Conditional:
    net = pv.networks.MLP(2 * width, 8, 2 * LATENT)
    return pv.Conditional(pv.readings.Reading(net, pv.readings.ValuesAndMask(**options)), F.normal)


def small(observation: Any = pv.Missing, family: Any = F.normal) -> pv.VAE:
    return pv.VAE(pv.priors.StandardNormal(LATENT), observation(conditional(LATENT, family)), encoder())


def holes(n: int = 30) -> Tensor:
    x = torch.randn(n, WIDTH)
    return torch.where(torch.rand(n, WIDTH) < 0.4, NAN, x)


# ------------------------------------------------------------------------------------------------------------- exact


def test_what_is_missing_is_integrated_out(double: None) -> None:
    exact = LinearGaussian(LATENT, WIDTH)
    x = exact.data(len(SEEN)).masked_fill(~SEEN, NAN)
    expected = marginal(exact, x)
    ev = pv.log_marginal(linear_gaussian(exact), x, num_particles=7, seed=0)
    torch.testing.assert_close(ev.log_prob, expected)  # the guide is exact, so every weight is p(x_seen)
    assert ev.log_prob[3] == pytest.approx(0.0, abs=1e-12)
    wide = pv.log_marginal(linear_gaussian(exact, 1.3), x, num_particles=20_000, seed=1)
    assert ((wide.log_prob - expected).abs() < 4 * wide.standard_error + 1e-9).all()


def test_bits_are_per_number_that_is_seen(double: None) -> None:
    exact = LinearGaussian(LATENT, WIDTH)
    x = exact.data(len(SEEN)).masked_fill(~SEEN, NAN)
    ev = pv.log_marginal(linear_gaussian(exact), x, num_particles=2, seed=0)
    assert ev.num_dimensions == 6 / 4
    assert ev.bits_per_dim == pytest.approx(-marginal(exact, x).sum().item() / (6 * math.log(2)))
    whole = pv.log_marginal(linear_gaussian(exact), x[:1], num_particles=2, seed=0).num_dimensions
    assert whole == 3 and isinstance(whole, int)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_elements(name: str) -> None:
    """The sum over what is seen, and gradients that do not depend on what stands where nothing is seen."""
    torch.manual_seed(0)
    decoder = pv.Missing(conditional(LATENT, FAMILIES[name])).eval()
    z = torch.randn(len(SEEN), LATENT)
    p = decoder(z)
    with torch.no_grad():
        x = p.sample()
    assert x.shape == SEEN.shape and not x.isnan().any()
    with_holes = x.float().masked_fill(~SEEN, NAN)
    assert p.support.check(with_holes).all()
    found = p.log_prob(with_holes)
    expected = (p.base.base_dist.log_prob(x) * SEEN).sum(-1)
    torch.testing.assert_close(found, expected)
    assert found[3] == 0
    leading = decoder(z.expand(2, *z.shape)).log_prob(with_holes)
    torch.testing.assert_close(leading, expected.expand(2, -1))
    parameters = list(decoder.parameters())
    one, two = (torch.autograd.grad(value.sum(), parameters, retain_graph=True) for value in (found, expected))
    for a, b in zip(one, two, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b)


def test_dependent_supports() -> None:
    low = torch.tensor([1.0, 2.0, -3.0])
    p = Incomplete(dist.Uniform(low, low + 2).to_event(1))
    assert p.log_prob(torch.tensor([[NAN, 3.0, NAN]])).item() == pytest.approx(-math.log(2))
    half = Incomplete(dist.Pareto(torch.ones(3), torch.ones(3)).to_event(1))
    assert half.log_prob(torch.tensor([[NAN, 2.0, NAN]])).item() == pytest.approx(-2 * math.log(2))


def test_integers_have_a_sentinel() -> None:
    torch.manual_seed(0)
    decoder = pv.Missing(conditional(LATENT, F.Categorical(4)), sentinel=-1)
    x = torch.randint(4, SEEN.shape)
    z = torch.randn(len(SEEN), LATENT)
    torch.testing.assert_close(
        decoder(z).log_prob(x.masked_fill(~SEEN, -1)), decoder(z).log_prob(x.float().masked_fill(~SEEN, NAN))
    )
    reader = pv.readings.ValuesAndMask(pv.readings.OneHot(4), sentinel=-1)
    net = pv.readings.Reading(pv.networks.MLP((WIDTH, 5), 8, 2 * LATENT), reader)
    vae = pv.VAE(pv.priors.StandardNormal(LATENT), decoder, pv.Conditional(net, F.normal))
    run = pv.fit(vae, x.masked_fill(~SEEN, -1), epochs=2, compile=False, device="cpu")
    assert math.isfinite(run.history[-1]["objective"])
    ev = pv.log_marginal(vae, x.masked_fill(~SEEN, -1), num_particles=5, seed=0)
    assert ev.num_dimensions == 1.5 and (ev.log_prob[:3] < 0).all()


def test_levels_of_which_some_are_missing(double: None) -> None:
    """Dequantized levels under a density that ignores z: P(k) of those that are seen."""
    torch.manual_seed(0)
    net = nn.Linear(LATENT, 2 * WIDTH)
    nn.init.zeros_(net.weight)
    vae = pv.VAE(
        pv.priors.StandardNormal(LATENT),
        pv.Dequantized(pv.Missing(pv.Conditional(net, F.normal)), num_levels=4),
        encoder(),
    )
    assert vae.missing_values == ("x",)
    level = torch.randint(4, SEEN.shape)
    x = (level / 3).masked_fill(~SEEN, NAN)
    p = vae.decoder(torch.zeros(1, LATENT)).base.base_dist
    cell = p.cdf((level + 1) / 4) - p.cdf(level / 4)
    expected = torch.where(SEEN, cell.log(), 0.0).sum(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        ev = pv.log_marginal(_with_prior_guide(vae), x, num_particles=20_000, seed=0)
    assert ((ev.log_prob - expected).abs() < 4 * ev.standard_error + 1e-9).all()
    assert ev.num_dimensions == 1.5


def _with_prior_guide(vae: pv.VAE) -> pv.VAE:
    class Prior(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return dist.Normal(x.new_zeros(len(x), LATENT), 1.0).to_event(1)

    return pv.VAE(vae.prior, vae.decoder, Prior())


# -------------------------------------------------------------------------------------------------- trees and images


class OfTree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reader, self.net = pv.readings.ValuesAndMask(), pv.networks.MLP([2 * WIDTH, 4], 8, 2 * LATENT)

    def forward(self, x: Any) -> Any:
        loc, raw = self.net(self.reader(x["a"]), self.reader(x["b"])).chunk(2, -1)
        return dist.Normal(loc, F.positive(raw)).to_event(1)


def test_trees_leaf_by_leaf() -> None:
    torch.manual_seed(0)
    real, binary = conditional(LATENT, F.normal), conditional(LATENT, F.bernoulli, 2)
    x = {"a": holes(), "b": torch.rand(30, 2).round()}
    x["b"][::2, 1] = NAN
    prior = pv.priors.StandardNormal(LATENT)
    whole = pv.VAE(prior, pv.Missing(pv.Product({"a": real, "b": binary})), OfTree())
    leaves = pv.VAE(prior, pv.Product({"a": pv.Missing(real), "b": pv.Missing(binary)}), whole.encoder)
    assert whole.missing_values == ("x",) and leaves.missing_values == ("x.a", "x.b")
    terms = []
    for vae in (whole, leaves):
        torch.manual_seed(1)
        terms.append(pv.log_terms(vae, x, num_particles=3))
    assert list(terms[0].observed) == ["x.a", "x.b"]
    torch.testing.assert_close(terms[0].log_weight, terms[1].log_weight)
    assert terms[0].log_weight.isfinite().all()
    assert math.isfinite(pv.fit(leaves, x, epochs=1, compile=False, device="cpu").history[-1]["objective"])
    one = pv.VAE(prior, pv.Product({"a": pv.Missing(real), "b": binary}), whole.encoder)
    with pytest.raises(pv.PyrovaeError, match=r"x\.b holds nan at index \[0, 1\].*pyrovae\.Missing"):
        pv.fit(one, x, epochs=1, device="cpu")


def test_images_and_their_mask_as_channels() -> None:
    torch.manual_seed(0)
    reader = pv.readings.ValuesAndMask(event_dim=3)
    x = torch.rand(6, 1, 5, 4).round()
    x[:, :, 2:] = NAN
    read = reader(x)
    assert read.shape == (6, 2, 5, 4) and torch.equal(read[:, 1:], (~x.isnan()).float())
    assert torch.equal(read[:, :1], x.nan_to_num(0.0))
    sizes: dict[str, Any] = {"channels": (2, 3), "hidden": 5}
    net = pv.readings.Reading(pv.networks.ConvEncoder((2, 5, 4), 2 * LATENT, **sizes), reader)
    decoder = pv.Missing(pv.Conditional(pv.networks.ConvDecoder(LATENT, (1, 5, 4), **sizes), F.bernoulli))
    vae = pv.VAE(pv.priors.StandardNormal(LATENT), decoder, pv.Conditional(net, F.normal))
    assert math.isfinite(pv.fit(vae, x, epochs=1, compile=False, device="cpu").history[-1]["objective"])
    assert pv.log_marginal(vae, x, num_particles=3, seed=0).num_dimensions == 8


def test_readers_of_vectors_per_element() -> None:
    x = torch.tensor([[0, -1, 2]])
    read = pv.readings.ValuesAndMask(pv.readings.OneHot(3), sentinel=-1)(x)
    expected = torch.tensor([[[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]]]).float()
    assert torch.equal(read, expected)
    counts = pv.readings.ValuesAndMask(pv.readings.LogCounts())(torch.tensor([[NAN, 3.0]]))
    torch.testing.assert_close(counts, torch.tensor([[0.0, math.log(4), 0.0, 1.0]]))


# ---------------------------------------------------------------------------------------------------------- refusals


class FullNormal(F.VectorFamily):
    def forward(self, params: Tensor) -> Any:
        return dist.MultivariateNormal(params, torch.eye(params.shape[-1]))

    def out_shape(self, event_shape: Any) -> Any:
        return event_shape


class Bare(nn.Module):
    """A decoder of the user's own, which shows no example."""

    def forward(self, z: Tensor) -> Any:
        return dist.MultivariateNormal(z @ torch.ones(LATENT, WIDTH), torch.eye(WIDTH))


@pytest.mark.parametrize("family", [FullNormal(), F.full_normal, F.OneHotCategorical(), F.Multinomial(4)])
def test_elements_that_depend_on_each_other_are_refused(family: Any) -> None:
    with pytest.raises(pv.PyrovaeError, match="not independent given z: use a family of single elements"):
        pv.Missing(conditional(LATENT, family))
    with pytest.raises(pv.PyrovaeError, match="not independent given z"):
        pv.Missing(pv.Product([conditional(LATENT, F.normal), conditional(LATENT, family)]))


def test_autoregressive_decoders_are_refused() -> None:
    decoder = pv.Autoregressive(pv.networks.MaskedMLP([WIDTH, LATENT], 8, 2 * WIDTH), F.normal)
    with pytest.raises(pv.PyrovaeError, match="not independent given z"):
        pv.Missing(decoder)


def test_decoders_without_an_example_are_refused_at_the_first_trace() -> None:
    vae = pv.VAE(pv.priors.StandardNormal(LATENT), pv.Missing(Bare()), encoder())
    with pytest.raises(pv.PyrovaeError, match="MultivariateNormal are not independent given z"):
        pv.log_terms(vae, holes())


def test_a_possible_value_is_no_sentinel() -> None:
    with pytest.raises(pv.PyrovaeError, match="the sentinel 0 is a possible value"):
        pv.Missing(conditional(LATENT, F.poisson), sentinel=0)


def test_a_sentinel_is_of_whole_numbers_alone() -> None:
    torch.manual_seed(0)
    mixed = pv.Product({"real": conditional(LATENT, F.normal), "class": conditional(LATENT, F.Categorical(5))})
    decoder = pv.Missing(mixed, sentinel=-1)
    p = decoder(torch.zeros(1, LATENT))
    assert p["real"].log_prob(torch.tensor([[-1.0, NAN, NAN]])).item() < 0
    assert p["class"].log_prob(torch.full((1, WIDTH), -1)).item() == 0
    with pytest.raises(pv.PyrovaeError, match="the sentinel 3 is a possible value"):
        pv.Missing(mixed, sentinel=3)


class Marked(nn.Module):
    """A reader that takes whatever there is."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[..., None] == torch.arange(-1, 3)).float()


@pytest.mark.parametrize(
    ("x", "sentinel", "message"),
    [
        (torch.tensor([[0.0, -1.0, 2.0]]), -1, "a missing value is NaN, and the sentinel -1 is a number"),
        (torch.tensor([[0, -1, 2]]), None, r"functools\.partial\(pyrovae\.Missing, sentinel=-1\)"),
    ],
    ids=["real numbers", "whole numbers"],
)
def test_what_stands_for_a_missing_value_is_said(x: Tensor, sentinel: int | None, message: str) -> None:
    vae = pv.VAE(
        pv.priors.StandardNormal(LATENT),
        pv.Missing(conditional(LATENT, F.Categorical(4)), sentinel=sentinel),
        pv.Conditional(pv.readings.Reading(pv.networks.MLP((WIDTH, 4), 2 * LATENT), Marked()), F.normal),
    )
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.fit(vae, x.repeat(4, 1), device="cpu")
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.log_marginal(vae, x.repeat(4, 1))


def test_holes_of_pseudo_inputs_stay() -> None:
    torch.manual_seed(0)
    x = torch.where(torch.rand(30, WIDTH) < 0.4, NAN, torch.randn(30, WIDTH))
    parts = encoder()
    vae = pv.VAE(pv.priors.VampPrior(parts, x[:5]), pv.Missing(conditional(LATENT, F.normal)), parts)
    pv.fit(vae, x, epochs=2, compile=False, device="cpu")
    learned = vae.prior.pseudo_inputs[0]
    assert torch.equal(learned.isnan(), x[:5].isnan()) and (learned != x[:5]).all()
    assert pv.log_terms(vae, x).log_pz.isfinite().all()


def test_an_observation_goes_outside() -> None:
    with pytest.raises(pv.PyrovaeError, match=r"Dequantized\(Missing\(decoder\)\)"):
        pv.Missing(pv.Dequantized(conditional(LATENT, F.normal)))


# ---------------------------------------------------------------------------------------------------------- training


def test_missing_values_are_announced_by_the_program() -> None:
    torch.manual_seed(0)
    x = holes()
    first = x.isnan().nonzero()[0].tolist()
    undeclared = pv.VAE(pv.priors.StandardNormal(LATENT), conditional(LATENT, F.normal), encoder())
    with pytest.raises(pv.PyrovaeError, match=rf"x holds nan at index \[{first[0]}, {first[1]}\].*pyrovae\.Missing"):
        pv.fit(undeclared, x, device="cpu")
    with pytest.raises(pv.PyrovaeError, match=r"NaN is a missing value: declare such by pyrovae\.Missing"):
        pv.log_marginal(undeclared, x)
    with pytest.raises(pv.PyrovaeError, match=r"x holds inf at index"):
        pv.fit(small(), x.masked_fill(x.isnan(), math.inf), device="cpu")
    with pytest.raises(pv.PyrovaeError, match=r"given\[0\] holds nan at index .*remove or impute such rows$"):
        pv.fit(small(), (x, x), device="cpu")


def test_what_is_seen_must_lie_in_the_support() -> None:
    vae = small(family=F.bernoulli)
    x = torch.rand(30, WIDTH).round()
    x[3] = NAN
    pv.fit(vae, x, epochs=1, compile=False, device="cpu")
    x[20, 1] = 0.3
    with pytest.raises(pv.PyrovaeError, match=r"x lies outside the likelihood's support .*grey, in"):
        pv.fit(vae, x, device="cpu")


def test_an_encoder_that_does_not_read_missing_values_is_refused() -> None:
    deaf = conditional(WIDTH, F.normal, LATENT)
    vae = pv.VAE(pv.priors.StandardNormal(LATENT), pv.Missing(conditional(LATENT, F.normal)), deaf)
    x = torch.randn(9, WIDTH)
    for x[0, 1] in (0.3, NAN):  # with and without a hole in the rows that a program is first run on
        with pytest.raises(pv.PyrovaeError, match="the encoder must read them"):
            pv.fit(vae, x, device="cpu")


def test_columns_that_are_never_seen_are_told() -> None:
    torch.manual_seed(0)
    x = holes()
    x[:, 1] = NAN
    with pytest.warns(UserWarning, match=r"1 of the 3 elements of x are missing in all training data.* at \[1\]"):
        run = pv.fit(small(), x, epochs=1, compile=False, device="cpu")
    assert math.isfinite(run.history[-1]["objective"])


def test_a_user_program_announces_by_an_attribute() -> None:
    torch.manual_seed(0)
    net = nn.Linear(2 * WIDTH, LATENT)
    weight = nn.Parameter(torch.randn(LATENT, WIDTH))

    class Own(nn.Module):
        missing_values = ("x",)

        def __init__(self) -> None:
            super().__init__()
            self.net, self.weight = net, weight

        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(x.new_zeros(LATENT), 1.0).to_event(1))
                pyro.sample("x", Incomplete(dist.Normal(z @ self.weight, 1.0).to_event(1)), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                loc = self.net(pv.readings.ValuesAndMask()(x))
                pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    run = pv.fit(Own(), holes(), epochs=2, compile=False, device="cpu")
    assert run.history[-1]["objective"] > run.history[0]["objective"] - 1
    bare = SimpleNamespace(model=Own().model, guide=Own().guide)
    with pytest.raises(pv.PyrovaeError, match="x holds nan"):
        pv.fit(bare, holes(), device="cpu")


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_stock_pyro(elbo: Any, empty_store: None) -> None:
    torch.manual_seed(0)
    vae, x = small(), holes()
    before = [p.detach().clone() for p in vae.parameters()]
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), elbo(num_particles=2, vectorize_particles=True))
    losses = [svi.step(x) for _ in range(3)]
    assert all(map(math.isfinite, losses))
    assert all(p.isfinite().all() and not torch.equal(p, old) for p, old in zip(vae.parameters(), before, strict=True))


def test_draws_and_reconstructions_are_complete() -> None:
    torch.manual_seed(0)
    for vae in (small(), small(functools.partial(pv.MissingNotAtRandom, mask_model=pv.SelfMasking(WIDTH)))):
        assert pv.sample(vae, 5).shape == (5, WIDTH) and not pv.sample(vae, 5).isnan().any()
        reconstruction = pv.reconstruct(vae, holes(4))
        assert reconstruction.mean.shape == (4, WIDTH) and reconstruction.mean.isfinite().all()
        assert reconstruction.sample().isfinite().all()
        assert pv.encode(vae, holes(4)).mean.isfinite().all()


def test_programs_are_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = holes()
    for n, vae in enumerate([small(), small(lambda d: pv.MissingNotAtRandom(d, pv.SelfMasking(WIDTH, sign=-1)))]):
        pv.save(vae, tmp_path / f"{n}")
        again = pv.load(tmp_path / f"{n}")
        one, two = (pv.log_marginal(p, x, num_particles=4, seed=0).log_prob for p in (vae.eval(), again))
        assert torch.equal(one, two)


# ----------------------------------------------------------------------------------------------- not at random


def not_at_random(exact: LinearGaussian, mask_model: nn.Module, spread: float = 1.3) -> pv.VAE:
    return linear_gaussian(exact, spread, lambda decoder: pv.MissingNotAtRandom(decoder, mask_model))


def self_masking(width: int, sign: int | None = 1) -> pv.SelfMasking:
    mask_model = pv.SelfMasking(width, sign=sign)
    with torch.no_grad():
        mask_model.offset.copy_(torch.linspace(-0.5, 0.8, width))
        mask_model.raw_weight.copy_(torch.linspace(0.3, 1.1, width))
    return mask_model


def by_quadrature(exact: LinearGaussian, mask_model: pv.SelfMasking, row: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x_seen, s), and E[x | x_seen, s], of one row of two columns: the integral over what is missing."""
    seen = ~row.isnan()
    axis = torch.arange(-400, 401) * 0.03
    grid = torch.cartesian_prod(*(row[d : d + 1] if seen[d] else axis for d in range(2)))
    log_p = exact.marginal.log_prob(grid) + mask_model(grid).log_prob(seen.to(grid).expand(len(grid), 2))
    cell = math.log(0.03) * int((~seen).sum())
    return log_p.logsumexp(0) + cell, log_p.softmax(0) @ grid


@pytest.mark.parametrize("sign", [1, -1, None])
def test_the_mask_is_one_more_observation(double: None, sign: int | None) -> None:
    """log p(x_seen, s) of a linear-Gaussian program with self-masking, and what is imputed, against quadrature."""
    exact = LinearGaussian(1, 2)
    mask_model = self_masking(2, sign)
    x = torch.tensor([[0.4, -1.0], [NAN, 0.7], [1.5, NAN], [NAN, NAN]])
    rows = [by_quadrature(exact, mask_model, row) for row in x]
    expected, means = (torch.stack(each).detach() for each in zip(*rows, strict=True))
    vae = not_at_random(exact, mask_model)
    ev = pv.log_marginal(vae, x, num_particles=40_000, num_draws=4_000, seed=0)
    assert ((ev.log_prob - expected).abs() < 4 * ev.standard_error + 1e-9).all()
    assert ev.standard_error.max() < 0.02
    assert ev.draws is not None and set(ev.draws.posterior) == {"z", "x.missing"}
    found = ev.draws.posterior["x.missing"]
    error = (found.mean(0) - means).abs()[x.isnan()] / (found.std(0)[x.isnan()] / math.sqrt(4_000))
    assert (error < 5).all()
    at_random = pv.log_marginal(linear_gaussian(exact), x, num_particles=2, seed=0).log_prob
    assert ((ev.log_prob - at_random)[1:] < -0.1).all()  # the mask has a probability of its own


def test_bits_of_a_mask_are_none_of_the_numbers(double: None) -> None:
    """log p(x_seen, s) has bits of the mask, so none are told per number."""
    exact = LinearGaussian(1, 2)
    x = torch.tensor([[0.4, -1.0], [NAN, 0.7]])
    ev = pv.log_marginal(not_at_random(exact, self_masking(2)), x, num_particles=50, seed=0)
    assert ev.num_dimensions == 0 and math.isnan(ev.bits_per_dim) and ev.record()["bits_per_dim"] is None
    assert "bits per dimension" not in ev.summary()
    at_random = pv.log_marginal(linear_gaussian(exact), x, num_particles=50, seed=0)
    assert "bits per dimension" in at_random.summary() and at_random.num_dimensions == 1.5


def test_one_column_by_quadrature(double: None) -> None:
    exact, mask_model = LinearGaussian(1, 1), self_masking(1)
    axis = (torch.arange(-400, 401) * 0.03)[:, None]
    gone = (exact.marginal.log_prob(axis) + mask_model(axis).log_prob(torch.zeros(801, 1))).logsumexp(0)
    x = torch.tensor([[NAN], [0.9]])
    seen = exact.marginal.log_prob(x[1:]) + mask_model(x[1:]).log_prob(torch.ones(1, 1))
    expected = torch.cat([gone[None] + math.log(0.03), seen]).detach()
    ev = pv.log_marginal(not_at_random(exact, mask_model), x, num_particles=40_000, seed=0)
    assert ((ev.log_prob - expected).abs() < 4 * ev.standard_error + 1e-9).all()


def test_imputed_values_cancel_in_the_weight() -> None:
    torch.manual_seed(0)
    vae = small(lambda d: pv.MissingNotAtRandom(d, pv.Conditional(pv.networks.MLP(WIDTH, 4, WIDTH), F.bernoulli)))
    t = pv.log_terms(vae, holes(), num_particles=3)
    assert list(t.sites) == ["z", "x.missing", "x", "x.seen"]
    site = t.sites["x.missing"]
    assert site.log_q is not None
    torch.testing.assert_close(site.log_p, site.log_q)


def test_only_what_is_missing_is_scored(double: None) -> None:
    """Also where the decoder gives other numbers in the guide than in the model, as with dropout in training."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(LATENT, 8), nn.Dropout(0.5), nn.Linear(8, 2 * WIDTH))
    decoder = pv.MissingNotAtRandom(pv.Conditional(net, F.normal), self_masking(WIDTH))
    vae = pv.VAE(pv.priors.StandardNormal(LATENT), decoder, encoder()).double().train()
    x = torch.randn(len(SEEN), WIDTH).masked_fill(~SEEN, NAN)
    site = pv.log_terms(vae, x, num_particles=5).sites["x.missing"]
    assert site.p is not None and site.q is not None and site.log_q is not None
    for distribution, log_p in ((site.p, site.log_p), (site.q, site.log_q)):
        each = elementwise(distribution).base_dist.log_prob(site.value)
        torch.testing.assert_close(log_p, (each * ~SEEN).sum(-1))
    assert not site.log_p[:, 0].any() and not site.log_q[:, 0].any()  # nothing of the first row is missing
    assert not torch.allclose(site.log_p[:, 3], site.log_q[:, 3])


def with_masks(seed: int = 0) -> pv.VAE:
    torch.manual_seed(seed)
    return small(lambda d: pv.MissingNotAtRandom(d, self_masking(WIDTH))).double()


@pytest.mark.parametrize("objective", [pv.objectives.elbo, pv.objectives.iwae])
def test_plain_gradients_against_differences(double: None, objective: Any) -> None:
    """Of all parameters, those of the decoder that the guide draws with too, along one direction at the same draws."""
    vae, x, h = with_masks(), holes(4).double(), 1e-5

    def estimate() -> Any:
        torch.manual_seed(1)
        return pv.gradients.plain(vae, objective, x, num_particles=5)

    found = estimate().gradients
    parameters = dict(vae.named_parameters())
    direction = {name: torch.randn_like(p) for name, p in parameters.items()}
    values = []
    for step in (h, -2 * h):
        with torch.no_grad():
            for name, p in parameters.items():
                p += step * direction[name]
        values.append(estimate().value.mean().item())
    expected = (values[0] - values[1]) / (2 * h)
    assert sum((found[name] * direction[name]).sum().item() for name in found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("objective", "gradient"),
    [(pv.objectives.elbo, pv.gradients.path), (pv.objectives.iwae, pv.gradients.doubly_reparameterised)],
    ids=["elbo", "iwae"],
)
def test_gradients_agree_in_the_mean(double: None, objective: Any, gradient: Any) -> None:
    """Of every parameter, within the errors of the means over repeats."""
    vae = with_masks()
    x = holes(4).double().repeat(50, 1)
    drawn = []
    for estimator in (pv.gradients.plain, gradient):
        repeats = [estimator(vae, objective, x, num_particles=3).gradients for _ in range(40)]
        drawn.append({name: torch.stack([each[name] for each in repeats]) for name in repeats[0]})
    for name, plain in drawn[0].items():
        other = drawn[1][name]
        error = ((plain.var(0) + other.var(0)) / len(plain)).sqrt()
        assert ((plain.mean(0) - other.mean(0)).abs() <= 4.5 * error + 1e-12).all(), name
        assert plain.abs().max() > 0, name


def test_discrete_values_are_not_imputed_with_a_gradient() -> None:
    mask_model = pv.SelfMasking(WIDTH)
    with pytest.raises(pv.PyrovaeError, match=r"Bernoulli cannot be drawn with a gradient.*pyrovae\.Missing"):
        pv.MissingNotAtRandom(conditional(LATENT, F.bernoulli), mask_model)
    with pytest.raises(pv.PyrovaeError, match="not independent given z"):
        pv.MissingNotAtRandom(conditional(LATENT, FullNormal()), mask_model)
    with pytest.raises(pv.PyrovaeError, match="a mask model reads one tensor"):
        pv.MissingNotAtRandom(pv.Product([conditional(LATENT, F.normal)]), mask_model)
    with pytest.raises(pv.PyrovaeError, match="sign must be 1"):
        pv.SelfMasking(WIDTH, sign=2)
