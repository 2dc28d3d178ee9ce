"""Priors: where they start, mixtures whose weights differ from datum to datum, and exemplars from data to evidence."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from exact import assert_mean
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import families, priors, recipes
from pyrovae.distributions import DiagonalNormalMixture, FullNormalMixture, mixture
from pyrovae.parameters import frozen
from pyrovae.rows import training_on

pytestmark = pytest.mark.filterwarnings("ignore::pyrovae.rows.RowsWarning")  # priors are looked at outside of loops
N, WIDTH, LATENT = 12, 6, 2

# --------------------------------------------------------------------------------------------------- learned ones


@pytest.mark.parametrize(
    ("prior", "standard"),
    [
        (priors.Normal(3), dist.Normal(0.0, 1.0)),
        (priors.Learned(families.normal, 3), dist.Normal(0.0, 1.0)),
        (priors.Laplace(3), dist.Laplace(0.0, 1.0)),
        (priors.StudentT(3, 4.0), dist.StudentT(4.0, 0.0, 1.0)),
        (priors.Learned(families.full_normal, 3), dist.Normal(0.0, 1.0)),
    ],
    ids=["normal", "by family", "laplace", "student t", "full"],
)
def test_a_learned_prior_starts_at_location_0_and_scale_1(prior: nn.Module, standard: Any) -> None:
    z = torch.randn(5, 3)
    torch.testing.assert_close(prior().log_prob(z), standard.log_prob(z).sum(-1), rtol=1e-4, atol=1e-4)


def test_the_categorical_prior_starts_uniform() -> None:
    torch.testing.assert_close(priors.Categorical(4)().log_prob(torch.eye(4)), torch.full((4,), -math.log(4)))


def test_a_low_rank_prior_can_leave_its_start() -> None:
    """At U = 0 it could not: the gradient to U is zero there."""
    prior = priors.Learned(families.LowRankNormal(1), 3)
    prior().log_prob(torch.randn(5, 3)).sum().backward()
    assert (prior.net.value.grad[6:] != 0).all()


def test_a_prior_that_ignores_what_is_given() -> None:
    for prior in (priors.Normal(2), priors.FullNormalMixture(2, 3)):
        assert prior(torch.eye(3)).batch_shape == ()


# ------------------------------------------------------------------------------------- full-covariance components


def full_parameters(count: int = 4, width: int = 3) -> list[Tensor]:
    torch.manual_seed(0)
    root = torch.randn(count, width, width)
    tril = torch.linalg.cholesky(root @ root.mT + 0.1 * torch.eye(width))
    return [p.requires_grad_() for p in (torch.randn(count), 3 * torch.randn(count, width), tril)]


def by_torch(logits: Tensor, loc: Tensor, tril: Tensor) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.MultivariateNormal(loc, scale_tril=tril))


@pytest.mark.parametrize("shape", [(3,), (7, 3), (2, 5, 3)])
def test_a_mixture_of_full_normals_is_torchs(double: None, shape: tuple[int, ...]) -> None:
    """Values, moments and gradients."""
    parameters = full_parameters()
    z = (3 * torch.randn(*shape)).requires_grad_()
    fast, slow = FullNormalMixture(*parameters), by_torch(*parameters)
    torch.testing.assert_close(fast.log_prob(z), slow.log_prob(z))
    torch.testing.assert_close(fast.mean, slow.mean)
    torch.testing.assert_close(fast.variance, slow.variance)
    for a, b in zip(*(torch.autograd.grad(p.log_prob(z).sum(), [z, *parameters]) for p in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b.tril() if a.shape == (4, 3, 3) else b)


@pytest.mark.parametrize("full", [True, False])
def test_evaluation_has_the_digits_of_a_nearly_singular_covariance(full: bool) -> None:
    torch.manual_seed(0)
    logits, loc = torch.randn(3), 5 * torch.randn(3, 4)
    tril = torch.randn(3, 4, 4).tril(-1) + torch.tensor([1.0, 1e-4, 1.0, 1e-3]).diag_embed()
    parameters = (logits, loc, tril) if full else (logits, loc, tril.diagonal(dim1=-2, dim2=-1))
    make = FullNormalMixture if full else DiagonalNormalMixture
    single, double = make(*parameters), make(*(t.double() for t in parameters))
    with torch.no_grad():
        z = single.sample((200,))
        assert single.log_prob(z).dtype == torch.float32
        torch.testing.assert_close(single.log_prob(z).double(), double.log_prob(z.double()), rtol=1e-6, atol=1e-6)


def test_samples_of_a_mixture_of_full_normals(double: None) -> None:
    p = FullNormalMixture(*(t.detach() for t in full_parameters()))
    z = p.expand((20_000,)).sample()
    outer = (z[:, :, None] * z[:, None, :]).flatten(1)
    tril = p.scale_tril
    second = tril @ tril.mT + p.loc[:, :, None] * p.loc[:, None, :]
    assert_mean(z, p.mean)
    assert_mean(outer, (p.logits.softmax(-1)[:, None, None] * second).sum(0).flatten())


def test_full_posteriors_make_a_fast_vamp_prior() -> None:
    encoder = pv.Conditional(pv.networks.MLP(WIDTH, 5), families.full_normal)
    assert isinstance(priors.VampPrior(encoder, torch.rand(4, WIDTH))(), FullNormalMixture)
    logits, loc, tril = full_parameters()
    assert isinstance(mixture(logits, dist.MultivariateNormal(loc, scale_tril=tril)), FullNormalMixture)


# ------------------------------------------------------------------------------------------ weights of each datum


def test_weights_of_each_datum(double: None) -> None:
    """Row n of the weights is datum n's mixture, also for particles and points; -inf leaves a component out."""
    torch.manual_seed(0)
    logits, loc, scale = torch.randn(5, 4), torch.randn(4, 2), torch.rand(4, 2) + 0.2
    logits[torch.arange(4), torch.arange(4)] = -math.inf
    whole, z = DiagonalNormalMixture(logits, loc, scale), torch.randn(3, 5, 2)
    assert whole.batch_shape == (5,)
    for wide in (whole, whole.expand((3, 5))):
        for n in range(5):
            alone = DiagonalNormalMixture(logits[n], loc, scale)
            torch.testing.assert_close(wide.log_prob(z)[:, n], alone.log_prob(z[:, n]))
    draws = whole.expand((4000, 5)).sample()
    assert draws.shape == (4000, 5, 2) and whole.sample((7,)).shape == (7, 5, 2)
    assert_mean(draws, whole.mean)
    torch.testing.assert_close(whole.variance[1], DiagonalNormalMixture(logits[1], loc, scale).variance)


def test_weights_of_one_datum_are_those_of_all() -> None:
    """Expanded, each datum has a draw of its own."""
    mix = DiagonalNormalMixture(torch.zeros(1, 3), torch.randn(3, 2), torch.ones(3, 2))
    for wide in ((4,), (7, 4)):
        draws = mix.expand(torch.Size(wide)).sample((5,))
        assert draws.shape == (5, *wide, 2) and len(draws.flatten(0, -2).unique(dim=0)) == draws[..., 0].numel()


def test_holes_in_pseudo_inputs_stay_holes() -> None:
    x = torch.randn(8, WIDTH)
    x[0, 1] = x[2, 3] = math.nan
    net = pv.readings.Reading(pv.networks.MLP(2 * WIDTH, 2 * LATENT), pv.readings.ValuesAndMask())
    encoder = pv.Conditional(net, families.normal)
    decoder = pv.Missing(pv.Conditional(pv.networks.MLP(LATENT, 2 * WIDTH), families.normal))
    prior = priors.VampPrior(encoder, x[:4])
    pv.fit(pv.VAE(prior, decoder, encoder), x, epochs=3, compile=False, device="cpu", progress=False)
    learned = prior.pseudo_inputs[0]
    assert torch.equal(learned.isnan(), x[:4].isnan()) and not torch.allclose(learned, x[:4], equal_nan=True)


# ------------------------------------------------------------------------------------------------------ exemplars


def made(x: Tensor, rows: Tensor | None = None, net: Any = pv.networks.MLP, **options: Any) -> pv.VAE:
    """A VAE with an exemplar prior of the given rows of x, and an encoder that tells data apart."""
    torch.manual_seed(1)
    encoder = pv.Conditional(net(WIDTH, 8, 2 * LATENT), families.normal)
    prior = priors.ExemplarPrior(encoder, x[:5] if rows is None else x[rows], rows=rows, **options)
    with torch.no_grad():
        prior.raw_scale.fill_(families.inverse_positive(0.3))
        encoder.net.output.weight.mul_(3.0)
    return pv.VAE(prior, pv.Conditional(net(LATENT, 8, WIDTH), families.bernoulli), encoder)


def data() -> Tensor:
    """All rows different."""
    values = torch.tensor(list(itertools.product([0.0, 1.0], repeat=WIDTH)))
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))[:N]]


def by_hand(prior: priors.ExemplarPrior, z: Tensor, left_out: int | None = None) -> Tensor:
    """log 1/K sum_k prod_d Normal(z_d; m_kd, s) over all exemplars but one."""
    scale = families.positive(prior.raw_scale)
    means = prior.encoder(prior.exemplars[0]).mean
    kept = [m for m, row in zip(means, prior.rows.tolist(), strict=True) if row != left_out]
    terms = [dist.Normal(m, scale).log_prob(z).sum(-1) for m in kept]
    return torch.stack(terms).logsumexp(0) - math.log(len(terms))


def test_an_exemplar_prior_is_the_mixture_over_the_others(double: None) -> None:
    x, rows = data().double(), torch.tensor([7, 0, 3, 4, 11])
    prior = made(x, rows).prior
    index = torch.tensor([0, 1, 4, 7])  # of which 1 is no exemplar
    z = torch.randn(3, 4, LATENT)
    with training_on(index):
        inside = prior().log_prob(z)
    for n, row in enumerate(index.tolist()):
        torch.testing.assert_close(inside[:, n], by_hand(prior, z[:, n], left_out=row))
        torch.testing.assert_close(prior().log_prob(z)[:, n], by_hand(prior, z[:, n]))


def test_an_own_exemplar_would_flatter_the_bound() -> None:
    """With the datum's own component in it, the prior is higher at draws from the datum's own posterior."""
    x = data()
    program = made(x, torch.arange(N))
    torch.manual_seed(0)
    with torch.no_grad():
        z = program.encoder(x).sample((500,))
        with training_on(torch.arange(N)):
            others = program.prior().log_prob(z).mean()
        assert others + 0.1 < program.prior().log_prob(z).mean()


def seen_in_training(program: pv.VAE, data: Any, **options: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(x, z, log p(z)) of every step of an epoch at a rate of zero."""
    seen = []

    def objective(t: pv.LogTerms) -> Tensor:
        value = t.sites["x"].value
        seen.append((value, t.sites["z"].value.detach().clone(), t.log_pz.detach().clone()))
        return pv.objectives.elbo(t)

    frozen_rate = lambda parameters: torch.optim.SGD(parameters, lr=0.0)  # noqa: E731
    pv.fit(program, data, objective=objective, optimizer=frozen_rate, epochs=1, batch_size=5, compile=False,
           device="cpu", progress=False, **options)  # fmt: skip
    return [entry for entry in seen if torch.is_tensor(entry[0])][-3:]  # the steps come after what is checked


@pytest.mark.parametrize("source", ["resident", "memory-mapped"])
@pytest.mark.parametrize("particles", [1, 3])
def test_training_leaves_out_each_datums_own(source: str, particles: int, tmp_path: Path) -> None:
    x, rows = data(), torch.arange(0, N, 2)
    program = made(x, rows)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    steps = seen_in_training(program, x if source == "resident" else mapped, num_particles=particles)
    assert sum(len(batch) for batch, _, _ in steps) == N
    with torch.no_grad():
        for batch, z, log_pz in steps:
            for n, row_of_x in enumerate(batch):
                (number,) = [i for i in range(N) if torch.equal(x[i], row_of_x)]
                expected = by_hand(program.prior, z[..., n, :], left_out=number)
                torch.testing.assert_close(log_pz[..., n].reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


class RowsOnly(pv.networks.MLP):
    """Takes dim 1 for the features, so that a program of it runs on repeated rows."""

    def _layer(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n, m), nn.Softmax(1))


def test_repeated_rows_leave_out_each_datums_own() -> None:
    x = data()
    program = made(x, net=RowsOnly)
    with training_on(torch.arange(4)):
        t = pv.terms.repeated_log_terms(program, x[:4], num_particles=3)
    for n in range(4):
        z = t.sites["z"].value[:, n]
        torch.testing.assert_close(t.log_pz[:, n], by_hand(program.prior, z, left_out=n), rtol=1e-4, atol=1e-4)


def test_outside_of_training_all_exemplars_count() -> None:
    x = data()
    program = made(x)
    t = pv.log_terms(program, x[:3], num_particles=2)
    torch.testing.assert_close(t.log_pz, by_hand(program.prior, t.sites["z"].value))
    with frozen(program):
        torch.testing.assert_close(program.prior().log_prob(torch.ones(2)), by_hand(program.prior, torch.ones(2)))


def test_a_random_part_of_the_exemplars_is_unbiased_and_below(double: None) -> None:
    """E[p] is the mixture over all others, so that E[log p] is below its logarithm."""
    x = data().double()
    prior = made(x, torch.arange(N), num_sampled=4).prior
    z, index = 0.3 * torch.randn(3, LATENT), torch.tensor([0, 5, 8])
    torch.manual_seed(0)
    with training_on(index), torch.no_grad():
        draws = torch.stack([prior().log_prob(z) for _ in range(2000)])
        exact = torch.stack([by_hand(prior, z[n], left_out=int(row)) for n, row in enumerate(index)])
    assert_mean(draws.exp(), exact.exp())
    assert (draws.mean(0) < exact).all()
    assert prior().log_prob(z).shape == (3,)
    torch.testing.assert_close(prior().log_prob(z), by_hand(prior, z))  # outside of training all


class Counting(pv.networks.MLP):
    """Counts the rows that it is given."""

    rows = 0

    def forward(self, *parents: Any) -> Tensor:
        type(self).rows += parents[0][..., 0].numel()
        return super().forward(*parents)


def test_an_evaluation_encodes_the_exemplars_once() -> None:
    torch.manual_seed(0)
    x = torch.rand(40, WIDTH).round()
    encoder = pv.Conditional(Counting(WIDTH, 8, 2 * LATENT), families.normal)
    program = pv.VAE(
        priors.ExemplarPrior(encoder, x), pv.Conditional(pv.networks.MLP(LATENT, WIDTH), families.bernoulli), encoder
    )
    Counting.rows = 0
    pv.log_marginal(program, x[:2], num_particles=50_000, compile=False, memory=2**20, progress=False)
    many_chunks = Counting.rows
    assert many_chunks < 40 + 2 * 250  # the data again in each chunk, the exemplars not


def evidence(program: pv.VAE, x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        return pv.log_marginal(program, x, num_particles=20, seed=0, compile=False, progress=False).log_prob


def test_no_evaluation_sees_means_of_former_weights() -> None:
    """Weights that change by hand, by training with validation in between, and by loading; after an error too."""
    x, found = data(), []
    program = made(x)

    def check() -> None:
        other = made(x)
        other.load_state_dict(program.state_dict())
        found.append(evidence(program, x))
        torch.testing.assert_close(found[-1], evidence(other, x), rtol=0, atol=0)

    check()
    state = copy.deepcopy(program.state_dict())
    with torch.no_grad():
        program.encoder.net.output.bias.add_(0.5)
    check()
    pv.fit(program, x, validation=x, epochs=3, batch_size=6, compile=False, device="cpu", progress=False)
    check()
    with pytest.raises(ZeroDivisionError), frozen(program):
        raise ZeroDivisionError
    with torch.no_grad():
        program.encoder.net.output.bias.add_(0.5)
    check()
    program.load_state_dict(state)
    check()
    assert torch.equal(found[0], found[-1])
    assert all(not torch.allclose(a, b) for a, b in itertools.pairwise(found))


def test_streams_have_no_row_numbers() -> None:
    x = data()
    with pytest.raises(pv.PyrovaeError, match="which a stream has not: pass tensors"):
        pv.fit(made(x), lambda: iter([x[:6], x[6:]]), epochs=1, device="cpu", progress=False)


@pytest.mark.parametrize("other", [lambda x: x.flip(0), lambda x: x[:3]], ids=["another order", "too few"])
def test_exemplars_must_be_rows_of_the_training_data(other: Any) -> None:
    x = data()
    with pytest.raises(pv.PyrovaeError, match="are not the rows of the training data"):
        pv.fit(made(x), other(x), epochs=1, device="cpu", progress=False)


class Outside:
    """A program that is no module, and does not contain the modules that it runs."""

    def __init__(self, program: pv.VAE) -> None:
        self.model: Any = lambda x: (pyro.module("vae", program), program.model(x))
        self.guide: Any = lambda x: (pyro.module("vae", program), program.guide(x))


def test_exemplars_are_checked_wherever_they_are() -> None:
    """In a program of closures too, whose modules nobody can list."""
    x = data()
    options: Any = {"epochs": 1, "device": "cpu", "progress": False, "compile": False}
    pv.fit(Outside(made(x)), x, **options)
    with pytest.raises(pv.PyrovaeError, match="which a stream has not"):
        pv.fit(Outside(made(x)), lambda: iter([x[:6], x[6:]]), **options)
    with pytest.raises(pv.PyrovaeError, match="are not the rows of the training data"):
        pv.fit(Outside(made(x)), x.flip(0), **options)


def test_a_prior_of_the_users_is_asked_too() -> None:
    class Numbered(priors.StandardNormal):
        def forward(self, *given: Any) -> Any:
            pv.rows.current_rows(self)
            return super().forward(*given)

        def check_rows(self, count: int, take: Any) -> None:
            raise pv.PyrovaeError(f"asked about {count} rows, the first {take(torch.arange(1))[0].tolist()}")

    x = data()
    program = pv.VAE(Numbered(LATENT), made(x).decoder, made(x).encoder)
    with pytest.raises(pv.PyrovaeError, match=r"asked about \d+ rows, the first \[\["):
        pv.fit(program, x, epochs=1, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, 1, -3], "are not the rows of the training data"), ([3, 3, 4], "twice"), ([0, 1, 99], "are not the rows")],
    ids=["negative", "repeated", "beyond"],
)
def test_row_numbers_must_be_such(rows: list[int], message: str) -> None:
    """A negative one would be found in the data by Python, and equal no number of a batch."""
    x = data()
    numbers = torch.tensor(rows)
    program = made(x)
    program.prior = priors.ExemplarPrior(program.encoder, x[numbers % N], rows=numbers)
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.fit(program, x, epochs=1, device="cpu", progress=False)


def test_what_an_objective_runs_itself_is_not_the_batch() -> None:
    """As a sleep phase on simulated data, here of another number: all exemplars are in their prior."""
    x, seen = data(), []
    program = made(x)

    def objective(t: pv.LogTerms) -> Tensor:
        asleep = pv.log_terms(program, x[:3])
        seen.append((asleep.log_pz.detach(), asleep.sites["z"].value.detach()))
        return pv.objectives.elbo(t) + 0 * asleep.log_px_z.mean()

    frozen_rate = lambda parameters: torch.optim.SGD(parameters, lr=0.0)  # noqa: E731
    for gradient in (pv.gradients.plain, pv.gradients.path):
        pv.fit(program, x, objective=objective, optimizer=frozen_rate, gradient=gradient, epochs=1, batch_size=5,
               compile=False, device="cpu", progress=False)  # fmt: skip
    assert len(seen) > 6
    for log_pz, z in seen:
        torch.testing.assert_close(log_pz[0], by_hand(program.prior, z), rtol=1e-4, atol=1e-4)


def test_a_loop_that_does_not_say_its_rows_is_warned_once(empty_store: None) -> None:
    """Stock SVI runs; within ``training_on`` nothing is wrong, and an evaluation is none."""
    x = data()
    program = made(x)
    svi = SVI(program.model, program.guide, ClippedAdam({"lr": 1e-3}), Trace_ELBO())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            svi.step(x)
    assert [w.category for w in told] == [pv.rows.RowsWarning] and "bound is flattered" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            pv.log_terms(program, x)
        pv.log_terms(program.eval(), x)
        program.train()
        pv.fit(program, x, validation=x, epochs=1, compile=False, device="cpu", progress=False)
        with pv.rows.training_on(torch.arange(4)):
            t = pv.log_terms(program, x[:4])
    for n in range(4):
        expected = by_hand(program.prior, t.sites["z"].value[n], left_out=n)
        torch.testing.assert_close(t.log_pz[0, n], expected, rtol=1e-4, atol=1e-4)


def test_rows_that_nobody_knows_are_refused_in_training() -> None:
    x = data()
    with pv.rows.training_on(None), pytest.raises(pv.PyrovaeError, match="must know the numbers"):
        pv.log_terms(made(x), x)


class Widest(pv.networks.MLP):
    """Notes how many rows it was given at once."""

    most = 0

    def forward(self, *parents: Any) -> Tensor:
        type(self).most = max(self.most, parents[0].shape[0])
        return super().forward(*parents)


def test_an_evaluation_encodes_some_exemplars_at_a_time() -> None:
    torch.manual_seed(0)
    x = torch.rand(1300, WIDTH)
    prior = priors.ExemplarPrior(pv.Conditional(Widest(WIDTH, 2 * LATENT), families.normal), x)
    with frozen(prior):
        assert Widest.most == 512
        torch.testing.assert_close(prior().loc, prior.encoder(x).mean)


class NoMean(nn.Module):
    """Flows have no mean in closed form."""

    def forward(self, x: Tensor) -> Any:
        base = dist.Normal(x[..., :2], 1.0).to_event(1)
        return dist.TransformedDistribution(base, [dist.transforms.Planar(2)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e: priors.ExemplarPrior(e, torch.rand(1, WIDTH)), "at least two exemplars"),
        (lambda e: priors.ExemplarPrior(e, torch.rand(3, WIDTH), rows=torch.arange(2)), r"rows must number the 3"),
        (lambda e: priors.ExemplarPrior(e, torch.rand(3, WIDTH), num_sampled=1), "from 2 to the number of exemplars"),
        (lambda e: priors.ExemplarPrior(e, torch.rand(3, WIDTH), num_sampled=4), "from 2 to the number of exemplars"),
        (lambda e: priors.ExemplarPrior(NoMean(), torch.rand(3, WIDTH)), "has none in closed form"),
        (lambda e: priors.FullNormalMixture(2, 0), "at least one component"),
        (lambda e: priors.FullNormalMixture(0, 2), "at least 1; got 0"),
        (lambda e: priors.Laplace(0), "at least 1; got 0"),
    ],
)
def test_impossible_priors_are_refused(make: Any, message: str) -> None:
    encoder = pv.Conditional(pv.networks.MLP(WIDTH, 4), families.normal)
    with pytest.raises(pv.PyrovaeError, match=message):
        make(encoder)


def test_an_exemplar_prior_is_saved_with_its_exemplars(tmp_path: Path) -> None:
    x = data()
    program = made(x, torch.arange(0, N, 3), num_sampled=2)
    pv.save(program, tmp_path / "program.safetensors")
    again = pv.load(tmp_path / "program.safetensors")
    assert again.prior.encoder is again.encoder and again.prior.num_sampled == 2
    assert torch.equal(again.prior.rows, program.prior.rows)
    z = torch.randn(4, LATENT)
    torch.testing.assert_close(again.prior().log_prob(z), program.prior().log_prob(z), rtol=0, atol=0)
    in_float64 = program.double().prior().log_prob(z.double())
    assert in_float64.dtype == torch.float64
    torch.testing.assert_close(in_float64.float(), again.prior().log_prob(z), rtol=1e-4, atol=1e-4)


def test_exemplars_of_a_tree() -> None:
    """x and y of mixed types, given as they are."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = pv.Conditional(pv.networks.MLP([3, 2, 2], 4), families.normal)

        def forward(self, x: Any, y: Tensor) -> Any:
            return self.inner(x["a"], x["b"].to(x["a"].dtype), y)

    x = {"a": torch.rand(6, 3), "b": torch.randint(3, (6, 2))}
    prior = priors.ExemplarPrior(Encoder(), (x, torch.rand(6, 2)))
    assert prior.exemplars[0]["b"].dtype == torch.long
    assert prior(torch.rand(3, 2)).log_prob(torch.randn(3, 2)).shape == (3,)


# -------------------------------------------------------------------------------------------------------- recipes


def test_exemplars_by_a_recipe() -> None:
    split = pv.data.load("digits").conditional()
    program = pv.vae(split, latent=3, hidden=(8,), prior=recipes.Exemplar(50, num_sampled=20))
    assert torch.equal(program.prior.exemplars[0], split.train.x[:50])
    assert torch.equal(program.prior.exemplars[1], split.train.given[0][:50])
    run = pv.fit(program, split, epochs=1, batch_size=500, device="cpu", progress=False, compile=False)
    assert math.isfinite(run.history[0]["validation"])
    assert pv.sample(program, 4, split.test.given[0][:4]).shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    "family",
    [None, families.laplace, families.full_normal, families.NormalMixture(2), families.StudentT()],
    ids=lambda family: type(family).__name__,
)
def test_any_family_is_a_prior_given_y(family: Any) -> None:
    """On labels, one-hot, and on an attribute and a real number."""
    split = pv.data.load("digits").conditional()
    program = pv.vae(split, latent=3, hidden=(8,), prior=recipes.ConditionalPrior((6,), family=family))
    given = split.test.given[0][:4]
    assert program.prior(given).batch_shape == (4,) and program.prior(given).event_shape == (3,)
    assert not torch.equal(program.prior(given).mean, program.prior(given.roll(1, -1)).mean)
    assert pv.log_terms(program, split.test.x[:4], given, num_particles=2).log_pz.shape == (2, 4)
    family = family or families.normal
    attributes = pv.Conditional(pv.networks.MLP([2, 1], 8, families.out_shape(family, (3,))), family)
    assert attributes(torch.ones(5, 2), torch.randn(5, 1)).log_prob(torch.zeros(3)).shape == (5,)
