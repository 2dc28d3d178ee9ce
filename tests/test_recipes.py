"""Recipes: a program from a data set's description, and one slot swapped at a time."""

from __future__ import annotations

import dataclasses
import functools
import math
from functools import cache
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae import families, networks, priors, recipes

RECIPES = {"dense": (pv.vae, {"hidden": (5, 4)}), "convolutional": (pv.conv_vae, {"channels": (3,), "hidden": 5})}
each_recipe = pytest.mark.parametrize("name", RECIPES)


@cache
def data(binarization: str = "dynamic") -> pv.data.Data:
    return pv.data.load("digits", binarization=binarization)


def made(name: str, split: pv.data.Data, **options: Any) -> pv.VAE:
    recipe, sizes = RECIPES[name]
    return recipe(split, latent=3, **{**sizes, **options})


@each_recipe
@pytest.mark.parametrize("conditional", [False, True])
def test_the_program_fits_its_data(name: str, conditional: bool) -> None:
    split = data().conditional() if conditional else data()
    program = made(name, split)
    given = [g[:4] for g in split.validation.given]
    terms = pv.log_terms(program, split.validation.x[:4], *given, num_particles=2)
    assert terms.log_px_z.shape == (2, 4)
    assert terms.sites["z"].value.shape == (2, 4, 3)
    assert isinstance(program.prior, priors.StandardNormal)
    assert program.decoder.family is families.bernoulli
    samples = pv.sample(program, 5, *(g[:5] for g in split.train.given))
    assert samples.shape == (5, 1, 8, 8)
    assert set(samples.unique().tolist()) <= {0.0, 1.0}


@each_recipe
def test_the_label_matters_where_it_is_given(name: str) -> None:
    split = data().conditional()
    program, x = made(name, split), split.validation.x[:4]
    given = split.validation.given[0][:4]
    assert not torch.equal(pv.encode(program, x, given).mean, pv.encode(program, x, given.roll(1, -1)).mean)
    z = torch.zeros(4, 3)
    assert not torch.equal(program.decoder(z, given).mean, program.decoder(z, given.roll(1, -1)).mean)
    with pytest.raises(pv.PyrovaeError, match=r"2 parent\(s\).*got 1"):
        pv.encode(program, x)


@each_recipe
def test_labels_may_be_embedded(name: str) -> None:
    split, readers = data().conditional(one_hot=False), (nn.Embedding(10, 8),)
    program = made(name, split, readers=readers)
    assert pv.encode(program, split.test.x[:4], split.test.given[0][:4]).event_shape == (3,)
    with pytest.raises(pv.PyrovaeError, match=r"data\.conditional\(one_hot=False\)"):
        made(name, data().conditional(), readers=readers)


@pytest.mark.parametrize("holes", [False, True])
def test_the_encoder_reads_a_table_in_any_units_alike(holes: bool, tmp_path: Any) -> None:
    def of(table: pv.data.Data) -> pv.VAE:
        torch.manual_seed(0)
        program = pv.vae(table, latent=3, hidden=(5,), observation=pv.Missing if holes else None)
        pv.save(program, tmp_path / "program.safetensors")
        return pv.load(tmp_path / "program.safetensors")

    x = torch.randn(60, 4).mul(torch.tensor([1.0, 1e-3, 1e4, 0.0])).add(torch.tensor([0.0, 1.0, 5e4, 3.0]))
    x[::7, 0] = torch.nan if holes else 0.0
    parts = [pv.data.Split(part) for part in (x, x[:5], x[5:9])]
    table = pv.data.Data("own", *parts, binarization="none", seed=0, fingerprint="", kind="table", missing=holes)
    units = torch.tensor([2.0, 1e3, 1e-3, 1.0])
    other = dataclasses.replace(table, train=pv.data.Split(x * units))
    found = [pv.encode(of(table), x[:5]), pv.encode(of(other), x[:5] * units)]
    torch.testing.assert_close(found[0].mean, found[1].mean, atol=1e-3, rtol=1e-3)
    assert found[0].mean.abs().max() < 10


@each_recipe
def test_grey_values_get_a_normal(name: str) -> None:
    program = made(name, data("none"))
    assert isinstance(program.decoder.family, families.SharedScaleNormal)
    assert pv.log_terms(program, data("none").validation.x[:4]).log_px_z.shape == (1, 4)


@each_recipe
def test_the_scale_of_grey_values_starts_at_their_spread(name: str) -> None:
    x = data("none").train.x.double().numpy()
    scale = made(name, data("none")).decoder(torch.zeros(3)).base_dist.scale
    assert scale.flatten()[0].item() == pytest.approx((x - x.mean(0)).std(), rel=1e-4)


def test_under_levels_a_density_starts_at_the_mean_of_their_cells() -> None:
    """Not at an end of the interval, where pixels that are always 0 would take it: the cells have a width."""
    grey, observation = data("none"), functools.partial(pv.Dequantized, num_levels=17)
    program = made("dense", grey, likelihood=families.continuous_bernoulli, observation=observation)
    bias = program.decoder.decoder.net.output.bias
    program.decoder.decoder.net.output.weight.data.zero_()
    expected = (16 * grey.mean + 0.5) / 17
    torch.testing.assert_close(program.decoder(torch.zeros(3)).mean, expected.clamp(0.02, 0.98), atol=1e-5, rtol=0)
    assert bias.abs().max() <= 50.1
    terms = pv.log_terms(program, grey.train.x[:50])
    assert (terms.log_px_z / 64).mean() > -math.log(17)  # better than uniform


@each_recipe
def test_the_decoder_starts_at_the_mean(name: str) -> None:
    program = made(name, data())
    with torch.no_grad():
        program.decoder.net.output.weight.zero_()
        found = program.decoder(torch.randn(2, 3)).mean
    expected = data().mean.clamp(0.001, 0.999)
    if name == "convolutional":  # one bias per channel
        expected = expected.logit().mean((1, 2), keepdim=True).sigmoid().expand(1, 8, 8)
    torch.testing.assert_close(found, expected.expand(2, 1, 8, 8))


@each_recipe
@pytest.mark.parametrize(
    "likelihood",
    [families.normal, families.FixedScaleNormal(0.5), families.SharedScaleNormal(), families.Categorical(2)],
    ids=lambda family: type(family).__name__,
)
def test_a_swapped_likelihood(name: str, likelihood: Any) -> None:
    program = made(name, data(), likelihood=likelihood)
    x = data().validation.x[:4]
    assert pv.log_terms(program, x).log_px_z.shape == (1, 4)
    assert pv.reconstruct(program, x).event_shape == (1, 8, 8)


class Laplace(families.Family):
    """A posterior family in three lines."""

    num_params = 2

    def forward(self, loc: torch.Tensor, raw: torch.Tensor) -> Any:
        import pyro.distributions as dist

        return dist.Laplace(loc, families.positive(raw))


@each_recipe
def test_a_swapped_posterior(name: str) -> None:
    program = made(name, data(), posterior=Laplace())
    assert type(pv.encode(program, data().validation.x[:4]).base_dist).__name__ == "Laplace"


@each_recipe
def test_swapped_priors(name: str) -> None:
    mixture = priors.NormalMixture(3, 5)
    assert made(name, data(), prior=mixture).prior is mixture
    vamp = made(name, data(), prior=recipes.Vamp(7))
    assert vamp.prior.encoder is vamp.encoder
    assert torch.equal(vamp.prior.pseudo_inputs[0], data().train.x[:7])
    assert pv.log_terms(vamp, data().validation.x[:4]).log_pz.shape == (1, 4)


@each_recipe
def test_priors_of_conditional_programs(name: str) -> None:
    split = data().conditional()
    rows = split.validation.x[:4], split.validation.given[0][:4]
    vamp = made(name, split, prior=recipes.Vamp(7))
    assert torch.equal(vamp.prior.pseudo_inputs[1], split.train.given[0][:7])
    assert pv.log_terms(vamp, *rows).log_pz.shape == (1, 4)
    normal = made(name, split, prior=recipes.ConditionalPrior((6,)))
    assert normal.prior(rows[1]).batch_shape == (4,)
    assert normal.prior(rows[1]).event_shape == (3,)
    assert not torch.equal(normal.prior(rows[1]).mean, normal.prior(rows[1].roll(1, -1)).mean)
    with pytest.raises(pv.PyrovaeError, match=r"data\.conditional\(\)"):
        made(name, data(), prior=recipes.ConditionalPrior())


def test_a_swapped_network() -> None:
    program = pv.vae(data(), latent=3, hidden=(5, 4), network=networks.MLP)
    assert type(program.encoder.net) is type(program.decoder.net) is networks.MLP
    widths = [layer[0].out_features for layer in program.encoder.net.hidden]
    assert widths == [5, 4]
    assert [layer[0].out_features for layer in program.decoder.net.hidden] == [4, 5]


def test_residual_networks() -> None:
    dense = pv.vae(data(), latent=3, hidden=(5, 4), network=networks.ResidualMLP)
    assert type(dense.encoder.net) is type(dense.decoder.net) is networks.ResidualMLP
    images = pv.conv_vae(data(), latent=3, channels=(4,), hidden=5, blocks=2)
    assert type(images.encoder.net) is networks.ResidualConvEncoder and images.encoder.net.num_blocks == 2
    assert type(images.decoder.net) is networks.ResidualConvDecoder and images.decoder.net.num_blocks == 2
    for program in (dense, images):
        assert pv.reconstruct(program, data().test.x[:4]).event_shape == (1, 8, 8)


@each_recipe
def test_labels_may_be_given_as_integers_and_with_other_variables(name: str, tmp_path: Any) -> None:
    """Embedded, in encoder, decoder and prior; one reader for each variable."""
    labels = data().train.labels
    assert labels is not None
    splits = {
        key: split._replace(given=(split.labels, split.x.mean((1, 2, 3))[:, None]))
        for key, split in data().splits.items()
    }
    split = dataclasses.replace(data(), **splits)  # type: ignore[arg-type]
    readers = [nn.Embedding(10, 3), None]
    program = made(name, split, readers=readers, prior=recipes.ConditionalPrior((6,), readers=readers))
    rows = split.validation.x[:4], *(g[:4] for g in split.validation.given)
    assert pv.log_terms(program, *rows, num_particles=2).log_pz.shape == (2, 4)
    pv.save(program, tmp_path / "program.safetensors")
    again = pv.load(tmp_path / "program.safetensors")
    assert torch.equal(pv.encode(again, *rows).mean, pv.encode(program, *rows).mean)
    with pytest.raises(pv.PyrovaeError, match="pseudo-labels are learned real numbers"):
        made(name, split, readers=readers, prior=recipes.Vamp(5))
    with pytest.raises(pv.PyrovaeError, match="3 readers and 2 parents"):
        made(name, data().conditional(), readers=[None, None])


@each_recipe
@pytest.mark.parametrize("latent", [0, -2])
def test_latent_dimensions_out_of_range(name: str, latent: int) -> None:
    with pytest.raises(pv.PyrovaeError, match=f"latent dimensions must be at least 1; got {latent}"):
        RECIPES[name][0](data(), latent=latent)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: priors.StandardNormal(0), "latent dimensions must be at least 1; got 0"),
        (lambda: priors.NormalMixture(0, 3), "latent dimensions must be at least 1; got 0"),
        (lambda: priors.NormalMixture(3, 0), "at least one component; got 0"),
        (lambda: priors.VampPrior(nn.Identity(), torch.zeros(0, 3)), "empty"),
    ],
)
def test_priors_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        make()


def _laplace(loc: torch.Tensor, raw_scale: torch.Tensor) -> dist.TorchDistribution:
    return dist.Laplace(loc, pv.families.positive(raw_scale))


class _Laplace(pv.families.Family):
    num_params = 2

    def forward(self, loc: torch.Tensor, raw_scale: torch.Tensor) -> dist.TorchDistribution:
        return _laplace(loc, raw_scale)


def test_a_users_likelihood_is_a_function_or_a_family() -> None:
    grey = pv.data.load("digits", binarization="none")
    with_params = functools.wraps(_laplace)(lambda *params: _laplace(*params))
    with_params.num_params = 2  # type: ignore[attr-defined]
    for likelihood in (lambda loc: dist.Laplace(loc, 1.0), with_params, _Laplace()):
        vae = pv.vae(grey, latent=3, hidden=(8,), likelihood=likelihood)
        assert pv.reconstruct(vae, grey.test.x[:4]).event_shape == grey.event_shape
    started = pv.reconstruct(pv.vae(grey, latent=3, hidden=(8,), likelihood=_Laplace()), grey.test.x[:4]).mean
    assert (started - grey.mean).abs().mean() < 0.3  # the output bias starts at the mean


def test_a_family_that_wants_more_parameters_says_so() -> None:
    decoder = pv.Conditional(pv.networks.MLP(2, 6), _laplace)
    with pytest.raises(pv.PyrovaeError, match="num_params = 2"):
        decoder(torch.randn(3, 2))


def test_a_prior_without_its_event_is_refused() -> None:
    class Bare(pv.priors.Prior):
        def forward(self, *given: object) -> dist.TorchDistribution:
            return dist.StudentT(5.0, torch.zeros(3), torch.ones(3))

    data = pv.data.load("digits")
    with pytest.raises(pv.PyrovaeError, match=r"to_event\(1\)"):
        pv.fit(pv.vae(data, latent=3, hidden=(8,), prior=Bare()), data, epochs=1, device="cpu")


# ----------------------------------------------------------------------------------------------- every kind of data


def of_kind(kind: str) -> pv.data.Data:
    """Small labelled data of a kind, 40/8/8."""
    generator = torch.Generator().manual_seed(0)
    levels, columns = (("a", "b", "c"), ()) if kind == "tokens" else ((), tuple("pqrst"))
    x = {
        "table": torch.randn(56, 5, generator=generator),
        "tokens": torch.randint(0, 3, (56, 5), generator=generator),
        "counts": torch.poisson(torch.rand(56, 5, generator=generator) * 3, generator=generator),
    }[kind]
    splits = [pv.data.Split(part, torch.arange(len(part)) % 2) for part in x.split((40, 8, 8))]
    options = {"kind": kind, "classes": ("no", "yes"), "columns": columns, "levels": levels}
    return pv.data.Data("small", *splits, "none", 0, "f" * 64, **options)


LIKELIHOODS = {"table": families.SharedScaleNormal, "tokens": families.Categorical, "counts": families.Poisson}


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_program_for_every_kind_of_data(kind: str, conditional: bool, tmp_path: Any) -> None:
    """Trained a little, evaluated, sampled within the support, and the same after saving and loading."""
    split = of_kind(kind).conditional() if conditional else of_kind(kind)
    torch.manual_seed(0)
    program = pv.vae(split, latent=2, hidden=(8,))
    assert type(program.decoder.family) is LIKELIHOODS[kind]
    run = pv.fit(program, split, epochs=2, batch_size=16, progress=False, device="cpu")
    assert all(torch.isfinite(torch.tensor(record["objective"])) for record in run.history)
    given = [g[:4] for g in split.test.given]
    ev = pv.log_marginal(program, split.test.x[:4], *given, num_particles=50, seed=0)
    assert ev.log_prob.isfinite().all() and ev.num_dimensions == 5
    drawn = pv.sample(program, 4, *given)
    assert drawn.shape == (4, 5) and split.support.check(drawn).all()
    pv.save(program, tmp_path / "program.safetensors")
    again = pv.load(tmp_path / "program.safetensors")
    repeated = pv.log_marginal(again, split.test.x[:4], *given, num_particles=50, seed=0)
    assert torch.equal(repeated.log_prob, ev.log_prob)


@pytest.mark.parametrize("kind", ["table", "counts"])
def test_pseudo_inputs_of_every_kind(kind: str) -> None:
    program = pv.vae(of_kind(kind), latent=2, hidden=(8,), prior=recipes.Vamp(7))
    assert pv.log_terms(program, of_kind(kind).test.x).log_pz.shape == (1, 8)


def test_pseudo_inputs_are_no_tokens() -> None:
    with pytest.raises(pv.PyrovaeError, match="these data are tokens: use another prior"):
        pv.vae(of_kind("tokens"), prior=recipes.Vamp(7))


def test_a_table_has_a_scale_for_each_column() -> None:
    program = pv.vae(of_kind("table"), latent=2, hidden=(8,))
    assert program.decoder.family.raw_scale.shape == (5,)


# ---------------------------------------------------------------------------------------------------- missing values


@pytest.mark.parametrize("make", [pv.vae, pv.conv_vae])
def test_recipes_read_missing_values(make: Any) -> None:
    torch.manual_seed(0)
    data = pv.data.hide(pv.data.load("digits"), 0.3).conditional()
    with pytest.raises(pv.PyrovaeError, match=r"values of digits are missing: say observation=pyrovae\.Missing"):
        make(data, latent=2)
    vae = make(data, latent=2, observation=pv.Missing, prior=pv.recipes.Vamp(5))
    assert vae.missing_values == ("x",) and all(p.isfinite().all() for p in vae.parameters())
    run = pv.fit(vae, data, epochs=1, compile=False, device="cpu")
    assert math.isfinite(run.history[0]["validation"])
    few = data.test.x[:5], data.test.given[0][:5]
    assert pv.log_terms(vae, *few).log_weight.isfinite().all()


def test_other_observations_of_recipes() -> None:
    torch.manual_seed(0)
    grey = pv.data.load("digits", binarization="none")
    vae = pv.vae(grey, latent=2, hidden=(8,), observation=functools.partial(pv.Dequantized, num_levels=17))
    assert isinstance(vae.decoder, pv.Dequantized) and vae.decoder.num_levels == 17
    tokens = torch.randint(3, (40, 6))
    split = pv.data.Split(tokens)
    data = pv.data.Data("t", split, split, split, "none", 0, "", kind="tokens", levels=("a", "b", "c"))
    counts = pv.data.Data("c", *[pv.data.Split(tokens.float())] * 3, "none", 0, "", kind="counts")
    for complete, observation in ((data, functools.partial(pv.Missing, sentinel=-1)), (counts, pv.Missing)):
        holes = pv.data.hide(complete, 0.3)
        with pytest.raises(pv.PyrovaeError, match=r"sentinel=-1" if complete is data else r"=pyrovae\.Missing \("):
            pv.vae(holes, latent=2)
        made = pv.vae(holes, latent=2, hidden=(8,), observation=observation)
        run = pv.fit(made, holes, epochs=1, compile=False, device="cpu")
        assert math.isfinite(run.history[0]["validation"]) and run.history[0]["skipped"] == 0
    holes = pv.data.hide(data, 0.3)
    with pytest.raises(pv.PyrovaeError, match=r"functools\.partial\(pyrovae\.Missing, sentinel=-1\)"):
        pv.fit(pv.vae(holes, latent=2, hidden=(8,), observation=pv.Missing), holes, device="cpu")


MISTAKEN: dict[str, tuple[Any, str]] = {
    "a slip of the pen": (
        {"likelyhood": families.bernoulli},
        "is no option of Dense; did you mean likelihood",
    ),
    "no option": ({"channels": (3,)}, "channels is no option of Dense; there are latent, hidden, prior"),
    "a prior's class": ({"prior": priors.StandardNormal}, r"prior is a class: make one, StandardNormal\(\.\.\.\)"),
    "a family as prior": ({"prior": families.laplace}, r"pyrovae\.priors\.Learned\(family, latent\)"),
    "a posterior's class": (
        {"posterior": families.FullNormal},
        r"is a class: make one, FullNormal\(\.\.\.\)",
    ),
    "a likelihood's class": ({"likelihood": families.Normal}, r"likelihood is a class: make one, Normal\(\.\.\.\)"),
    "convolutions": ({"network": networks.ConvEncoder}, "ConvEncoder is no dense network.*pyrovae.conv_vae"),
}


@pytest.mark.parametrize("what", MISTAKEN)
def test_what_was_meant(what: str) -> None:
    options, message = MISTAKEN[what]
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.vae(data(), **options)
