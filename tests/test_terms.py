"""log_terms: one term per site, point and datum; what is enumerated, summed out, masked, repeated; what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from exact import LinearGaussian, at, program, wide_encoder
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.objectives import elbo, iwae
from pyrovae.terms import LogTerms, repeated_log_terms

S, N, D = 3, 4, 2

# ------------------------------------------------------------------------------------------- programs of all kinds


def _mlp_vae(prior: Callable[[pv.Conditional], nn.Module] = lambda e: pv.priors.StandardNormal(D)) -> Any:
    encoder = wide_encoder(5)
    return pv.VAE(prior(encoder), pv.Conditional(pv.networks.MLP(D, 8, 10), pv.families.normal), encoder)


def _given_vae() -> Any:
    decoder = pv.Conditional(pv.networks.GatedMLP([D, 3], 8, 5), pv.families.SharedScaleNormal())
    prior = pv.Conditional(pv.networks.MLP(3, 8, 2 * D), pv.families.normal)
    return pv.VAE(prior, decoder, wide_encoder([5, 3]))


def _conv_vae() -> Any:
    shape = (3, 5, 7)
    options: dict[str, Any] = {"channels": (4, 6), "hidden": 8}
    encoder = pv.Conditional(pv.networks.ConvEncoder(shape, 2 * D, **options), pv.families.normal)
    decoder = pv.Conditional(pv.networks.ConvDecoder(D, shape, **options), pv.families.FixedScaleNormal(0.5))
    return pv.VAE(pv.priors.StandardNormal(D), decoder, encoder)


class TreeEncoder(nn.Module):
    """q(z | x) for a tree x: reads all leaves."""

    def __init__(self, *shapes: int) -> None:
        super().__init__()
        self.encoder = wide_encoder(list(shapes))

    def forward(self, x: Any) -> Any:
        return self.encoder(*pv.trees.leaves(x))


def _normal_factor(width: int) -> pv.Conditional:
    return pv.Conditional(pv.networks.MLP(D, 8, 2 * width), pv.families.normal)


def _tree_vae() -> Any:
    decoder = pv.Product({"a": _normal_factor(2), "b": pv.Product([_normal_factor(3), _normal_factor(1)])})
    return pv.VAE(pv.priors.StandardNormal(D), decoder, TreeEncoder(2, 3, 1))


def _gmm_vae() -> Any:
    """y ~ Cat, z | y ~ N(m_y, s_y), x | z; the guide draws z only, and y is summed out."""
    inner = _mlp_vae(lambda e: pv.priors.NormalMixture(D, 3))
    mixture = inner.prior

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=mixture.logits))
            scale = pv.families.positive(mixture.raw_scale)
            z = pyro.sample("z", dist.Normal(mixture.loc[y], scale[y]).to_event(1))
            pyro.sample("x", inner.decoder(z), obs=x)

    made = program(model, inner.guide)
    made.mixture_program = inner
    return made


def _rows(n: int = N, width: int = 5) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(7))


def _tree_rows() -> Any:
    return {"a": _rows(N, 2), "b": (_rows(N, 3), _rows(N, 1))}


PROGRAMS: dict[str, tuple[Callable[[], Any], Callable[[], tuple[Any, ...]]]] = {
    "dense": (_mlp_vae, lambda: (_rows(),)),
    "NormalMixture": (lambda: _mlp_vae(lambda e: pv.priors.NormalMixture(D, 3)), lambda: (_rows(),)),
    "VampPrior": (lambda: _mlp_vae(lambda e: pv.priors.VampPrior(e, _rows(6))), lambda: (_rows(),)),
    "conditional": (_given_vae, lambda: (_rows(), torch.eye(3)[[0, 1, 2, 0]])),
    "convolutional": (_conv_vae, lambda: (_rows(N, 3 * 5 * 7).unflatten(1, (3, 5, 7)),)),
    "tree": (_tree_vae, lambda: (_tree_rows(),)),
    "y summed out": (_gmm_vae, lambda: (_rows(),)),
}
TERMS = {"vectorized": pv.log_terms, "repeated": repeated_log_terms}


def made(name: str) -> tuple[Any, tuple[Any, ...]]:
    torch.manual_seed(0)
    make, data = PROGRAMS[name]
    return make(), data()


# ------------------------------------------------------------------------------------------------ what the terms are


def test_terms_are_the_log_densities_of_the_parts() -> None:
    vae, (x, y) = made("conditional")
    t = pv.log_terms(vae, x, y, num_particles=S)
    z = t.sites["z"].value
    assert z.shape == (S, N, D) and list(t.latents) == ["z"] and list(t.observed) == ["x"]
    assert t.guide_order == ("z",) and t.penalty.item() == 0
    torch.testing.assert_close(t.log_pz, vae.prior(y).log_prob(z))
    torch.testing.assert_close(t.log_px_z, vae.decoder(z, y).log_prob(x))
    torch.testing.assert_close(t.log_qz_x, vae.encoder(x, y).log_prob(z))
    torch.testing.assert_close(t.log_weight, t.log_px_z + t.log_pz - t.log_qz_x)
    torch.testing.assert_close(t.log_w, torch.full((1, 1), -math.log(S)))


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_particles_are_a_loop(name: str, terms: str) -> None:
    """S particles at once, by a plate or by repeated rows, are S runs with one particle: networks mix nothing."""
    target, data = made(name)
    t = TERMS[terms](target, *data, num_particles=S)
    z = t.sites["z"].value
    assert z.shape == (S, N, D) and t.log_weight.shape == (S, N)
    torch.testing.assert_close(t.log_w.exp().expand(S, N).sum(0), torch.ones(N))
    for s in range(S):
        one = pv.log_terms(at(target, z=z[s]), *data)
        assert one.log_weight.shape == (1, N)
        for site in one.sites:
            torch.testing.assert_close(t.sites[site].log_p[s], one.sites[site].log_p[0], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(t.log_weight[s], one.log_weight[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_terms_of_a_row_depend_on_that_row_alone(name: str) -> None:
    """d (terms of row i) / d (row j) is zero, exactly, for j != i; and not for j = i."""
    target, data = made(name)
    leaves = [leaf.requires_grad_() for leaf in pv.trees.leaves(data)]
    t = pv.log_terms(target, *data, num_particles=S)
    for i in range(N):
        gradients = torch.autograd.grad(t.log_weight[:, i].sum(), leaves, retain_graph=True)
        for gradient in gradients:
            rows = gradient.flatten(1).abs().sum(1)
            assert rows[i] > 0 and rows.sum() == rows[i]


@pytest.mark.parametrize("name", PROGRAMS)
def test_permuted_rows_permute_the_terms(name: str) -> None:
    target, data = made(name)
    z = torch.randn(S, N, D)
    order = torch.tensor([2, 0, 3, 1])
    t = pv.log_terms(at(target, z=z), *data, num_particles=S)
    permuted = pv.log_terms(at(target, z=z[:, order]), *pv.trees.rows(data, order), num_particles=S)
    torch.testing.assert_close(permuted.log_weight, t.log_weight[:, order], rtol=1e-5, atol=1e-5)
    subset = pv.log_terms(at(target, z=z[:, 1:3]), *pv.trees.rows(data, slice(1, 3)), num_particles=S)
    torch.testing.assert_close(subset.log_weight, t.log_weight[:, 1:3], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 9), (28, 28)])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_take_any_image_size(size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    shape = (channels, *size)
    encoder = pv.Conditional(pv.networks.ConvEncoder(shape, 4, channels=(2, 3), hidden=4), pv.families.normal)
    decoder = pv.Conditional(pv.networks.ConvDecoder(2, shape, channels=(2, 3), hidden=4), pv.families.bernoulli)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, encoder)
    t = pv.log_terms(vae, torch.rand(N, *shape).bernoulli(), num_particles=S)
    assert t.log_weight.shape == (S, N)
    images = decoder(t.sites["z"].value)
    assert images.batch_shape == (S, N) and images.event_shape == shape
    torch.testing.assert_close(images.mean[1, 2], decoder(t.sites["z"].value[1, 2]).mean)


def test_a_tree_is_the_product_of_its_leaves() -> None:
    vae, (x,) = made("tree")
    t = pv.log_terms(vae, x, num_particles=S)
    z = t.sites["z"].value
    assert list(t.observed) == ["x.a", "x.b.0", "x.b.1"]
    nested = vae.decoder.factors["b"].factors
    for site, factor, leaf in [
        ("x.a", vae.decoder.factors["a"], x["a"]),
        ("x.b.0", nested[0], x["b"][0]),
        ("x.b.1", nested[1], x["b"][1]),
    ]:
        torch.testing.assert_close(t.sites[site].log_p, factor(z).log_prob(leaf))
    torch.testing.assert_close(t.log_px_z, sum(site.log_p for site in t.observed.values()))


def test_a_tree_that_does_not_fit_the_decoder_is_refused() -> None:
    vae, (x,) = made("tree")
    with pytest.raises(pv.PyrovaeError, match="gives 2 distributions"):
        pv.log_terms(program(lambda *a: vae.model({"a": x["a"]}), lambda *a: vae.guide(x)), x)


def test_both_gradients_exist_and_are_those_of_the_parts() -> None:
    """Terms carry the graph of both programs: d log_weight / d parameter is the sum of the parts' derivatives."""
    vae, (x,) = made("dense")
    t = pv.log_terms(vae, x, num_particles=S)
    decoder = list(vae.decoder.parameters())
    gradients = torch.autograd.grad(t.log_weight.sum(), decoder, retain_graph=True)
    by_hand = torch.autograd.grad(vae.decoder(t.sites["z"].value.detach()).log_prob(x).sum(), decoder)
    for a, b in zip(gradients, by_hand, strict=True):
        torch.testing.assert_close(a, b)
    encoder = torch.autograd.grad(t.log_weight.sum(), list(vae.encoder.parameters()))
    assert all(g.abs().sum() > 0 for g in encoder)


def test_masks_apply_to_terms_and_closed_forms() -> None:
    """A masked latent or observation counts nothing, in either program."""
    vae, (x,) = made("dense")
    keep = torch.tensor([True, False, True, True])

    def masked(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Tensor) -> Any:
            with poutine.mask(mask=keep):
                return method(x)

        return run

    half = program(masked(vae.model), masked(vae.guide))
    t = pv.log_terms(half, x, num_particles=S)
    full = pv.log_terms(at(vae, z=t.sites["z"].value), x, num_particles=S)
    torch.testing.assert_close(t.log_weight, full.log_weight * keep)
    kl = pv.objectives.closed_form_kl(t)
    torch.testing.assert_close(kl, (pv.objectives.closed_form_kl(full) * keep).expand(S, N))
    assert (kl[:, 1] == 0).all() and (kl[:, 0] > 0).all()


# ----------------------------------------------------------------------------------------------------- enumeration

PI = torch.tensor([0.2, 0.3, 0.5])
RHO = torch.tensor([0.6, 0.4])
LOC = torch.tensor([-1.0, 0.5, 2.0])


def _scalar_guide(x: Tensor) -> Tensor:
    with pyro.plate("data", len(x), dim=-1):
        return pyro.sample("z", dist.Normal(0.5 * x, 1.2))


def _log_normal(value: Tensor, loc: Any, scale: float = 1.0) -> Tensor:
    return dist.Normal(loc, scale).log_prob(value)


def test_a_mixture_written_with_y_is_the_mixture_prior() -> None:
    """The cluster y, in the model only, is summed out exactly: the same terms as under the NormalMixture prior."""
    target, (x,) = made("y summed out")
    t = pv.log_terms(target, x, num_particles=S)
    z = t.sites["z"].value
    assert list(t.sites) == ["z", "x"] and t.log_weight.shape == (S, N)
    reference = pv.log_terms(at(target.mixture_program, z=z), x, num_particles=S)
    torch.testing.assert_close(t.log_pz, reference.log_pz)
    torch.testing.assert_close(t.log_px_z, reference.log_px_z)


def _y_on_z_and_x(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        y = pyro.sample("y", dist.Categorical(PI))
        z = pyro.sample("z", dist.Normal(LOC[y], 1.0))
        pyro.sample("x", dist.Normal(z * LOC[y], 1.0), obs=x)


def _log_joint_y_on_z_and_x(x: Tensor, z: Tensor) -> Tensor:
    terms = [p.log() + _log_normal(z, m) + _log_normal(x, z * m) for p, m in zip(PI, LOC, strict=True)]
    return torch.stack(terms).logsumexp(0)


def _y_on_x_only(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        y = pyro.sample("y", dist.Categorical(logits=z[..., None] * LOC))
        pyro.sample("x", dist.Normal(LOC[y], 1.0), obs=x)


def _log_joint_y_on_x_only(x: Tensor, z: Tensor) -> Tensor:
    log_y = (z[..., None] * LOC).log_softmax(-1)
    return _log_normal(z, 0.0) + (log_y + _log_normal(x[:, None], LOC)).logsumexp(-1)


def _two_causes(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        a = pyro.sample("a", dist.Categorical(PI))
        b = pyro.sample("b", dist.Categorical(RHO))
        z = pyro.sample("z", dist.Normal(LOC[a], 1.0))
        pyro.sample("x", dist.Normal(z + 3.0 * b, 1.0), obs=x)


def _log_joint_two_causes(x: Tensor, z: Tensor) -> Tensor:
    log_z = torch.stack([p.log() + _log_normal(z, m) for p, m in zip(PI, LOC, strict=True)]).logsumexp(0)
    return log_z + torch.stack([p.log() + _log_normal(x, z + 3.0 * b) for b, p in enumerate(RHO)]).logsumexp(0)


TRANSITION = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])


def _chain(x: Tensor, steps: Any = None) -> None:
    """A hidden Markov chain of four states; x is the sum of the last state's location and z."""
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        state = None
        for step in range(4) if steps is None else steps:
            p = PI if state is None else TRANSITION[state]
            state = pyro.sample(f"state_{step}", dist.Categorical(p))
        pyro.sample("x", dist.Normal(LOC[state] + z, 1.0), obs=x)


def _log_joint_chain(x: Tensor, z: Tensor) -> Tensor:
    last = PI @ TRANSITION @ TRANSITION @ TRANSITION
    terms = [p.log() + _log_normal(x, m + z) for p, m in zip(last, LOC, strict=True)]
    return _log_normal(z, 0.0) + torch.stack(terms).logsumexp(0)


def _one_value(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        y = pyro.sample("y", dist.Categorical(torch.ones(1)))
        z = pyro.sample("z", dist.Normal(y.float(), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


SUMMED_OUT = {
    "y on z and x": (_y_on_z_and_x, _log_joint_y_on_z_and_x),
    "y on x only, after z": (_y_on_x_only, _log_joint_y_on_x_only),
    "two causes": (_two_causes, _log_joint_two_causes),
    "a Markov chain": (_chain, _log_joint_chain),
    "one value": (_one_value, lambda x, z: _log_normal(z, 0.0) + _log_normal(x, z)),
}


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("name", SUMMED_OUT)
def test_latents_of_the_model_alone_are_summed_out(name: str, terms: str, double: None) -> None:
    """log sum_y p(x, z, y) at the guide's z equals the brute-force sum, and no point is counted twice."""
    model, log_joint = SUMMED_OUT[name]
    x = torch.randn(N)
    t = TERMS[terms](program(model, _scalar_guide), x, num_particles=S)
    z = t.sites["z"].value
    by_hand = log_joint(x, z) - _log_normal(z, 0.5 * x, 1.2)
    torch.testing.assert_close(t.log_weight, by_hand)
    torch.testing.assert_close(elbo(t), by_hand.mean(0))
    torch.testing.assert_close(iwae(t), by_hand.logsumexp(0) - math.log(S))


def test_shared_enumeration_dimensions_are_refused() -> None:
    """pyro.markov reuses dimensions, so that a sum over one would tie states of different steps."""
    with pytest.raises(pv.PyrovaeError, match=r"pyro\.markov"):
        pv.log_terms(program(lambda x: _chain(x, pyro.markov(range(4))), _scalar_guide), torch.randn(N))


def _guess(x: Tensor) -> Tensor:
    """q(y | x), some distribution over three values, (N, 3)."""
    return torch.stack([-x, 0.1 * x.square(), x], -1).log_softmax(-1)


def _enumerating_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        y = pyro.sample("y", dist.Categorical(logits=_guess(x)), infer={"enumerate": "parallel"})
        pyro.sample("z", dist.Normal(0.5 * x + LOC[y], 1.2))


@pytest.mark.parametrize("num_particles", [1, S])
@pytest.mark.parametrize("terms", TERMS)
def test_y_enumerated_in_the_guide(terms: str, num_particles: int, double: None) -> None:
    """elbo and iwae are the sums over y and the means over z that they are on paper."""
    x = torch.randn(N)
    t = TERMS[terms](program(_y_on_z_and_x, _enumerating_guide), x, num_particles=num_particles)
    z = t.sites["z"].value
    if z.dim() == 2:  # without particles: (3, N)
        z = z[:, None]
    assert z.shape[0] == 3 and z.shape[-2:] in ((num_particles, N), (1, N))
    log_q_y = _guess(x).T[:, None]  # (3, 1, N)
    m, p = LOC[:, None, None], PI[:, None, None]
    log_p = p.log() + _log_normal(z, m) + _log_normal(x, z * m)
    log_q = log_q_y + _log_normal(z, 0.5 * x + m, 1.2)
    log_w = log_q_y - math.log(num_particles)
    torch.testing.assert_close(t.log_w.expand(log_p.shape), log_w.expand(log_p.shape))
    torch.testing.assert_close(t.log_weight, log_p - log_q)
    torch.testing.assert_close(elbo(t), (log_q_y.exp() * (log_p - log_q)).sum(0).mean(0))
    # y enumerated: 1/S sum_s sum_y p(x, y, z_s) / q(z_s | x, y), without q(y | x)
    by_hand = (log_p - (log_q - log_q_y)).flatten(0, 1).logsumexp(0) - math.log(num_particles)
    torch.testing.assert_close(iwae(t), by_hand)


def test_a_latent_enumerated_in_each_program(double: None) -> None:
    """y in the guide and c in the model only: two dimensions, which must not be taken for one."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(PI))
            c = pyro.sample("c", dist.Categorical(torch.tensor([0.1, 0.2, 0.7])))
            pyro.sample("x", dist.Normal(LOC[y] + 10 * LOC[c], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Categorical(logits=_guess(x)), infer={"enumerate": "parallel"})

    x = 5 * torch.randn(N)
    p = PI.log()[:, None, None] + torch.tensor([0.1, 0.2, 0.7]).log()[:, None]
    exact = (p + _log_normal(x, LOC[:, None, None] + 10 * LOC[:, None])).logsumexp((0, 1))
    for num_particles in (1, S):
        torch.testing.assert_close(iwae(pv.log_terms(program(model, guide), x, num_particles=num_particles)), exact)


def test_several_latents_enumerated_in_the_guide(double: None) -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Categorical(logits=_guess(x)), infer={"enumerate": "parallel"})
            b = pyro.sample("b", dist.Bernoulli(logits=LOC[a]), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(x + b, 1.0))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Categorical(PI))
            b = pyro.sample("b", dist.Bernoulli(0.3))
            z = pyro.sample("z", dist.Normal(LOC[a] * b, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = torch.randn(N)
    t = pv.log_terms(program(model, guide), x, num_particles=S)
    z = t.sites["z"].value  # (b, 1, S, N): it depends on b
    total, bound = torch.zeros(N), torch.full((S, N), -math.inf)
    for a in range(3):
        for b in range(2):
            z_b = z.expand(2, -1, S, N)[b].expand(3, S, N)[a] if z.shape[1:2] != (1,) else z[b, 0]
            log_q_y = _guess(x)[:, a] + dist.Bernoulli(logits=LOC[a]).log_prob(torch.tensor(float(b)))
            log_p = PI[a].log() + dist.Bernoulli(0.3).log_prob(torch.tensor(float(b)))
            log_p = log_p + _log_normal(z_b, LOC[a] * b) + _log_normal(x, z_b)
            log_q_z = _log_normal(z_b, x + b)
            total = total + (log_q_y.exp() * (log_p - log_q_y - log_q_z)).mean(0)
            bound = torch.logaddexp(bound, log_p - log_q_z)
    torch.testing.assert_close(elbo(t), total)
    torch.testing.assert_close(iwae(t), bound.logsumexp(0) - math.log(S))


# ------------------------------------------------------------------------------------------------------ what is refused


def _vae_with(x_site: Callable[[Tensor, Tensor], None], guide: Callable[[Tensor], Any] | None = None) -> Any:
    """z ~ N(0, I) in the data plate, then whatever ``x_site(z, x)`` does, in no plate."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
        x_site(z, x)

    def default(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    return program(model, guide or default)


def _in_plate(site: Callable[[Tensor, Tensor], Any], **options: Any) -> Callable[[Tensor, Tensor], None]:
    def run(z: Tensor, x: Tensor) -> None:
        with pyro.plate("data_x", len(x), dim=-1, **options):
            site(z, x)

    return run


def _observe(z: Tensor, x: Tensor) -> None:
    pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def _scaled(z: Tensor, x: Tensor) -> None:
    with poutine.scale(scale=0.5):
        _in_plate(_observe)(z, x)


def _subsampled(z: Tensor, x: Tensor) -> None:
    with pyro.plate("data_x", 100, subsample_size=len(x), dim=-1):
        _observe(z, x)


def _outside(z: Tensor, x: Tensor) -> None:
    _in_plate(_observe)(z, x)
    pyro.sample("w", dist.Normal(torch.zeros(()), 1.0), obs=torch.zeros(()))


def _undeclared_plate(z: Tensor, x: Tensor) -> None:
    with pyro.plate("data_x", len(x), dim=-1), pyro.plate("features", 5, dim=-3):
        pyro.sample(
            "x", dist.Normal(z.mT[..., :, None, :] if z.dim() == 2 else z.movedim(-1, 0), 1.0), obs=x.T[:, None]
        )


def _misspelt(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("zz", dist.Normal(x, 1.0).to_event(1))


def _observing(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(x, 1.0).to_event(1))
        pyro.factor("jacobian", torch.ones(len(x)), has_rsample=True)


def _extra_latent(z: Tensor, x: Tensor) -> None:
    with pyro.plate("data_x", len(x), dim=-1):
        u = pyro.sample("u", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z + u[..., None], 1.0).to_event(1), obs=x)


class Squash(dist.transforms.Transform):
    """A bijection whose inverse nobody wrote, as those of planar flows."""

    domain = codomain = dist.constraints.real_vector
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return x.sinh()

    def _inverse(self, y: Tensor) -> Tensor:
        raise KeyError("no inverse")

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.cosh().log().sum(-1)


def _no_inverse(z: Tensor, x: Tensor) -> None:
    with pyro.plate("data_x", len(x), dim=-1):
        pyro.sample("x", dist.TransformedDistribution(dist.Normal(z, 1.0).to_event(1), [Squash()]), obs=x)


REFUSED: dict[str, tuple[Any, str]] = {
    "poutine.scale": (_vae_with(_scaled), "'x' is scaled by 0.5"),
    "subsampled plate": (_vae_with(_subsampled), "'x' is scaled by 25"),
    "site outside the plate": (_vae_with(_outside), "'w' does not give one term per datum"),
    "x outside the plate": (_vae_with(lambda z, x: pyro.sample("x", dist.Normal(z, 1.0).to_event(2), obs=x)), "'x'"),
    "to_event(2) on (B, D)": (
        _vae_with(_in_plate(lambda z, x: pyro.sample("x", dist.Normal(z, 1.0).to_event(2), obs=x))),
        "one term per datum|does not fit the data",
    ),
    "to_event missing": (
        _vae_with(_in_plate(lambda z, x: pyro.sample("x", dist.Normal(z, 1.0), obs=x))),
        "does not fit the data: .* site x",
    ),
    "a plate left of the particles": (_vae_with(_undeclared_plate), "only enumerated values lie further left"),
    "misspelt guide site": (_vae_with(_in_plate(_observe), _misspelt), r"guide samples \['zz'\].*latents are \['z'\]"),
    "guide with a factor": (_vae_with(_in_plate(_observe), _observing), r"guide observes \['jacobian'\]"),
    "latent the guide lacks": (_vae_with(_extra_latent), "'u'.*cannot be enumerated"),
    "no inverse": (_vae_with(_no_inverse), "has no inverse"),
}


@pytest.mark.parametrize("num_particles", [1, S])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, num_particles: int) -> None:
    """FAULTS 22 to 24: what would give other numbers than the reader thinks is an Error that names the site."""
    target, message = REFUSED[name]
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.log_terms(target, torch.randn(N, 5), num_particles=num_particles)


def test_to_event_missing_on_a_square_batch() -> None:
    """With D = B, and S = B even, every shape fits; the terms would be one per feature."""
    target = REFUSED["to_event missing"][0]
    for num_particles in (1, 2, 5):
        with pytest.raises(pv.PyrovaeError):
            pv.log_terms(target, torch.randn(5, 5), num_particles=num_particles)


@pytest.mark.parametrize("family", [pv.families.bernoulli, pv.families.Categorical(3)])
@pytest.mark.parametrize("x", [torch.full((N, 5), 0.5), torch.full((N, 5), -1.0), torch.full((N, 5), 255.0)])
def test_data_outside_the_support_are_refused(family: Any, x: Tensor) -> None:
    """FAULTS 16 and 21."""
    decoder = pv.Conditional(pv.networks.MLP(D, 8, 5 * family.num_params), family)
    vae = pv.VAE(pv.priors.StandardNormal(D), decoder, wide_encoder(5))
    with pytest.raises(pv.PyrovaeError, match=r"'x'.*support"):
        pv.log_terms(vae, x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 5), "empty"),
        (torch.zeros(N, 6), r"expects data of shape \(..., 5\); got \(\.\.\., 6\)"),
        (torch.zeros(()), "leading data dimension"),
        (torch.zeros(N, 5, dtype=torch.long), "floating-point"),
        (torch.zeros(N, 5, dtype=torch.bool), "floating-point"),
        (torch.full((N, 5), math.nan), "x contains NaN; see pyrovae.Missing"),
    ],
)
def test_wrong_data_are_refused(x: Tensor, message: str) -> None:
    """FAULTS 15, 19, 21: expected and got."""
    vae, _ = made("dense")
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.log_terms(vae, x)


def test_wrong_images_and_conditions_are_refused() -> None:
    vae, (x,) = made("convolutional")
    for bad in (x[:, :1], x[..., :5], x.flatten(1)):
        with pytest.raises(pv.PyrovaeError, match=r"expects data of shape \(..., 3, 5, 7\)"):
            pv.log_terms(vae, bad)
    conditional, (x, y) = made("conditional")
    with pytest.raises(pv.PyrovaeError, match="one common leading size"):
        pv.log_terms(conditional, x, y[:2])
    with pytest.raises(pv.PyrovaeError, match="2 parent"):
        pv.log_terms(conditional, x)
    with pytest.raises(pv.PyrovaeError, match="num_particles"):
        pv.log_terms(conditional, x, y, num_particles=0)


def test_a_decoder_of_another_width_than_the_data_is_refused() -> None:
    decoder = pv.Conditional(pv.networks.MLP(D, 8, 6), pv.families.bernoulli)
    vae = pv.VAE(pv.priors.StandardNormal(D), decoder, wide_encoder(5))
    for num_particles in (1, S):
        with pytest.raises(pv.PyrovaeError, match="'x'"):
            pv.log_terms(vae, torch.zeros(N, 5), num_particles=num_particles)


def test_one_row_is_right() -> None:
    """FAULTS 20: a batch of one, where dimensions of size one could be confused."""
    model = LinearGaussian(2, 3)
    x = model.data(1)
    for num_particles in (1, S):
        t = pv.log_terms(model.program, x, num_particles=num_particles)
        assert t.log_weight.shape == (num_particles, 1)
        torch.testing.assert_close(t.log_weight, model.log_prob(x).expand(num_particles, 1), rtol=1e-4, atol=1e-4)
        assert isinstance(t, LogTerms)


def test_a_masked_enumerated_latent_is_refused() -> None:
    """A masked row would count each of the K values once and gain log K."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), poutine.mask(mask=x > 0):
            y = pyro.sample("y", dist.Categorical(torch.ones(3) / 3))
            pyro.sample("x", dist.Normal(y.to(x.dtype), 1.0), obs=x)

    with pytest.raises(pv.PyrovaeError, match="masked"):
        pv.log_terms(program(model, lambda x: None), torch.tensor([-1.0, 1.0]))
