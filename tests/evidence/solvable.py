"""Programs whose log p(x) is known without pyrovae's estimators: by closed forms, enumeration and quadrature.

``SOLVABLE`` holds their constructors by name; what each is stands in the constructors' docstrings. All are meant to run
in float64 (the fixture ``double``). A further estimator needs a line in estimators.py, a further program one here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from exact import LinearGaussian, log_prob_by_quadrature, program, wide_encoder
from torch import Tensor, nn

import pyrovae as pv


class Solvable(NamedTuple):
    """A program, its exact log p(x | given) as (n,) nats, and n data (x, *given) of its own.

    Attributes:
        fair: whether the guide is good enough for 1,000 particles: bounded weights and an ESS above 200. Else it is so
            bad that nearly all data must be flagged.
        closed: whether ``exact_log_prob`` is to find the closed form.
    """

    program: Any
    log_prob: Callable[..., Tensor]
    data: Callable[[int], tuple[Tensor, ...]]
    fair: bool = True
    closed: bool = True


def _normal(mean: Tensor, covariance: Tensor) -> Any:
    return dist.MultivariateNormal(mean, covariance_matrix=covariance)


def _solved(prior: Tensor, W: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Of z ~ N(0, prior), r = W z + sigma eps: the covariance V of z given r, and A where A r is its mean."""
    V = torch.linalg.inv(torch.linalg.inv(prior) + W.mT @ W / sigma**2)
    return V, V @ W.mT / sigma**2


def _marginal(prior: Tensor, W: Tensor, sigma: float) -> Tensor:
    """The covariance of r = W z + sigma eps, z ~ N(0, prior)."""
    return W @ prior @ W.mT + sigma**2 * torch.eye(len(W))


def _sampled(target: Any, *given: Tensor) -> Callable[[int], tuple[Tensor, ...]]:
    """n data from one of our VAEs without given."""

    def data(n: int) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return (pv.sample(target, n),)

    return data


# --------------------------------------------------------------------------------------------------- linear-Gaussian


def linear(latent: int, width: int, fair: bool = True, **options: Any) -> Solvable:
    """x = W z + b + sigma eps, with the exact posterior, widened by ``spread`` and moved by ``shift``, as the guide."""
    made = LinearGaussian(latent, width, **options)
    return Solvable(made.program, made.log_prob, lambda n: (made.data(n),), fair)


class _SeenGuide(nn.Module):
    """The posterior of a linear-Gaussian program where only some of x is seen, so many times too wide."""

    def __init__(self, made: LinearGaussian, spread: float) -> None:
        super().__init__()
        self.made, self.spread = made, spread

    def forward(self, x: Tensor) -> Any:
        W = self.made.W * (~x.isnan())[..., None]  # (n, width, latent)
        V, A = _solved(torch.eye(W.shape[-1]), W, self.made.sigma)
        mean = (A @ (x.nan_to_num() - self.made.b)[..., None]).squeeze(-1)
        return dist.MultivariateNormal(mean, scale_tril=self.spread * torch.linalg.cholesky(V))


def missing() -> Solvable:
    """Linear-Gaussian, a third of x missing: log p of what is seen, a normal of its own for every datum."""
    made = LinearGaussian(2, 5, sigma=0.3)
    decoder = pv.Missing(made.program.decoder)
    whole = made.marginal

    def log_prob(x: Tensor) -> Tensor:
        return torch.stack([_seen(row, ~row.isnan()) for row in x])

    def _seen(row: Tensor, seen: Tensor) -> Tensor:
        return _normal(whole.mean[seen], whole.covariance_matrix[seen][:, seen]).log_prob(row[seen])

    def data(n: int) -> tuple[Tensor, ...]:
        x, gone = made.data(n), torch.rand(n, 5) < 1 / 3
        gone[:, 0] &= ~gone.all(1)  # something is seen
        return (x.masked_fill(gone, torch.nan),)

    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, _SeenGuide(made, 1.3))
    return Solvable(vae, log_prob, data)


def conditional() -> Solvable:
    """Factor analysis with what is given: z ~ N(C c, I), x = W z + B c + sigma eps; a guide too wide."""
    generator = torch.Generator().manual_seed(4)
    W, B, C = (torch.randn(*shape, generator=generator) for shape in ((6, 3), (6, 2), (3, 2)))
    sigma, eye = 0.2, torch.eye(3)
    V, A = _solved(eye, W, sigma)
    marginal = _marginal(eye, W, sigma)

    def model(x: Tensor, c: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", _normal(c @ C.T, eye))
            pyro.sample("x", dist.Normal(z @ W.T + c @ B.T, sigma).to_event(1), obs=x)

    def guide(x: Tensor, c: Tensor) -> None:
        mean = c @ C.T + (x - c @ (W @ C + B).T) @ A.T
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", _normal(mean, 1.3**2 * V))

    def log_prob(x: Tensor, c: Tensor) -> Tensor:
        return _normal(c @ (W @ C + B).T, marginal).log_prob(x)

    def data(n: int) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        c = torch.randn(n, 2)
        return _normal(c @ (W @ C + B).T, marginal).sample(), c

    return Solvable(program(model, guide), log_prob, data)


def hierarchical(*, bottom_up: bool) -> Solvable:
    """z2 ~ N(0, I), z1 = A z2 + 0.5 eps, x = W z1 + 0.2 eps; the guide's conditionals are exact but for their width.

    q(z2 | x) q(z1 | z2, x) from the top down as the model goes, or q(z1 | x) q(z2 | z1) from the bottom up.
    """
    generator = torch.Generator().manual_seed(5)
    A, W = torch.randn(3, 2, generator=generator), torch.randn(6, 3, generator=generator)
    s1, sx, wide, eye = 0.5, 0.2, 1.2**2, torch.eye(2)
    prior1 = _marginal(eye, A, s1)
    V2_z1, to2_z1 = _solved(eye, A, s1)  # z2 given z1
    V1_x, to1_x = _solved(prior1, W, sx)  # z1 given x
    V1_both, to1_both = _solved(s1**2 * torch.eye(3), W, sx)  # z1 - A z2 given x - W A z2
    to2_x = to2_z1 @ to1_x
    V2_x = V2_z1 + to2_z1 @ V1_x @ to2_z1.T

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2 @ A.T, s1).to_event(1))
            pyro.sample("x", dist.Normal(z1 @ W.T, sx).to_event(1), obs=x)

    def top_down(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", _normal(x @ to2_x.T, wide * V2_x))
            up = z2 @ A.T
            pyro.sample("z1", _normal(up + (x - up @ W.T) @ to1_both.T, wide * V1_both))

    def from_below(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", _normal(x @ to1_x.T, wide * V1_x))
            pyro.sample("z2", _normal(z1 @ to2_z1.T, wide * V2_z1))

    marginal = _normal(torch.zeros(6), _marginal(prior1, W, sx))

    def data(n: int) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return (marginal.sample((n,)),)

    return Solvable(program(model, from_below if bottom_up else top_down), marginal.log_prob, data)


# ---------------------------------------------------------------------------------------- mixtures, discrete latents


def mixture_prior() -> Solvable:
    """A mixture of three normals as prior of a linear decoder, p(x) a mixture of three; the guide is the posterior of
    the normal with the prior's mean and covariance, widened."""
    torch.manual_seed(6)
    prior = pv.priors.NormalMixture(2, 3, spread=2.0)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.5, 0.0, -1.0]))
        prior.raw_scale.copy_(torch.randn(3, 2))
    decoder, sigma = nn.Linear(2, 4), 0.7
    W, b = decoder.weight.detach(), decoder.bias.detach()
    weights, loc, scale = (
        prior.logits.detach().softmax(0),
        prior.loc.detach(),
        pv.families.positive(prior.raw_scale).detach(),
    )
    mean = weights @ loc
    spread = (weights[:, None] * scale.square()).sum(0).diag() + (loc - mean).T @ (weights[:, None] * (loc - mean))
    V, A = _solved(spread, W, sigma)

    class Guide(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return _normal(mean + (x - mean @ W.T - b) @ A.T, 1.3**2 * V)

    def log_prob(x: Tensor) -> Tensor:
        each = [_normal(m @ W.T + b, _marginal(s.square().diag(), W, sigma)) for m, s in zip(loc, scale, strict=True)]
        return torch.stack([p.log_prob(x) for p in each]).add(weights.log()[:, None]).logsumexp(0)

    vae = pv.VAE(prior, pv.Conditional(decoder, pv.families.FixedScaleNormal(sigma)), Guide())
    return Solvable(vae, log_prob, _sampled(vae))


def discrete(*, enumerated: bool) -> Solvable:
    """Four classes of Bernoulli vectors, and a guide that is half the posterior and half uniform.

    Enumerated by the guide it leaves no error at all; sampled, one of at most factor two per weight.
    """
    generator = torch.Generator().manual_seed(7)
    weights, theta = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.rand(4, 5, generator=generator)

    def joint(x: Tensor) -> Tensor:  # (n, 4)
        return weights.log() + dist.Bernoulli(theta).to_event(1).log_prob(x[:, None])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(weights))
            pyro.sample("x", dist.Bernoulli(theta[y]).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        q = 0.5 * joint(x).softmax(-1) + 0.125
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Categorical(q), infer={"enumerate": "parallel"} if enumerated else {})

    def data(n: int) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return (torch.bernoulli(theta[dist.Categorical(weights).sample((n,))]),)

    return Solvable(program(model, guide), lambda x: joint(x).logsumexp(-1), data)


def class_of_the_model() -> Solvable:
    """y of three classes, z | y ~ N(m_y, I), x = W z + 0.5 eps: the guide knows z alone, y is summed out."""
    generator = torch.Generator().manual_seed(8)
    weights, m = torch.tensor([0.5, 0.3, 0.2]), 2 * torch.randn(3, 2, generator=generator)
    W, eye = torch.randn(4, 2, generator=generator), torch.eye(2)
    mean = weights @ m
    V, A = _solved(eye + (m - mean).T @ (weights[:, None] * (m - mean)), W, 0.5)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(weights))
            z = pyro.sample("z", dist.Normal(m[y], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ W.T, 0.5).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", _normal(mean + (x - mean @ W.T) @ A.T, 1.3**2 * V))

    components = _normal(m @ W.T, _marginal(eye, W, 0.5).expand(3, -1, -1))

    def log_prob(x: Tensor) -> Tensor:
        return (components.log_prob(x[:, None]) + weights.log()).logsumexp(-1)

    def data(n: int) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return (dist.MixtureSameFamily(dist.Categorical(weights), components).sample((n,)),)

    return Solvable(program(model, guide), log_prob, data)


# ---------------------------------------------------------------------------------------------- constrained, nonlinear


def gamma_poisson() -> Solvable:
    """rate ~ Gamma(a, b), x_d ~ Poisson(rate), d <= 3; the guide is the posterior with both parameters smaller.

    p(x) = b^a G(a + sum x) / (G(a) (b + 3)^(a + sum x) prod x_d!).
    """
    a, b = torch.tensor(2.0), torch.tensor(0.5)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            rate = pyro.sample("rate", dist.Gamma(a, b))
            pyro.sample("x", dist.Poisson(rate[..., None].expand(*rate.shape, 3)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("rate", dist.Gamma(0.7 * (a + x.sum(-1)), 0.7 * (b + 3)))

    def log_prob(x: Tensor) -> Tensor:
        total = x.sum(-1)
        normalizers = torch.lgamma(a + total) - torch.lgamma(a) - torch.lgamma(x + 1).sum(-1)
        return normalizers + a * b.log() - (a + total) * (b + 3).log()

    def data(n: int) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return (torch.poisson(dist.Gamma(a, b).sample((n, 1)).expand(n, 3)),)

    return Solvable(program(model, guide), log_prob, data, closed=False)


def beta_bernoulli() -> Solvable:
    """p ~ Beta(a, b), x_d ~ Bernoulli(p), d <= 6: p(x) = B(a + k, b + 6 - k) / B(a, b), k = sum x; a wider guide."""
    a, b = torch.tensor(1.5), torch.tensor(2.0)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            p = pyro.sample("p", dist.Beta(a, b))
            pyro.sample("x", dist.Bernoulli(p[..., None].expand(*p.shape, 6)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        k = x.sum(-1)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("p", dist.Beta(0.8 * (a + k), 0.8 * (b + 6 - k)))

    def log_beta(a: Tensor, b: Tensor) -> Tensor:
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    def log_prob(x: Tensor) -> Tensor:
        k = x.sum(-1)
        return log_beta(a + k, b + 6 - k) - log_beta(a, b)

    def data(n: int) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        return (torch.bernoulli(dist.Beta(a, b).sample((n, 1)).expand(n, 6)),)

    return Solvable(program(model, guide), log_prob, data, closed=False)


def nonlinear() -> Solvable:
    """A random network from two latents to six pixels, log p(x) by quadrature; a random and wide encoder."""
    torch.manual_seed(9)
    decoder = pv.Conditional(pv.networks.MLP(2, 16, 6, activation=nn.Tanh), pv.families.bernoulli)
    with torch.no_grad():
        decoder.net.output.weight.mul_(4)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, wide_encoder(6))
    return Solvable(vae, _of_pixels(vae), _sampled(vae), closed=False)


def _of_pixels(vae: pv.VAE) -> Callable[[Tensor], Tensor]:
    """log p(x) by quadrature; there are few different x."""

    def log_prob(x: Tensor) -> Tensor:
        different, index = x.unique(dim=0, return_inverse=True)
        return log_prob_by_quadrature(vae, different)[index]

    return log_prob


class _Ignoring(nn.Module):
    """q(z | x) = p(z)."""

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor) -> Any:
        return self.prior().expand((len(x),))


def guided_by_the_prior() -> Solvable:
    """As ``nonlinear``, with four pixels and the prior as guide: the weights p(x | z) are at most 1."""
    torch.manual_seed(3)
    prior = pv.priors.StandardNormal(2)
    decoder = pv.Conditional(pv.networks.MLP(2, 8, 4, activation=nn.Tanh), pv.families.bernoulli)
    with torch.no_grad():
        decoder.net.output.weight.mul_(4)
    vae = pv.VAE(prior, decoder, _Ignoring(prior))
    return Solvable(vae, _of_pixels(vae), _sampled(vae), closed=False)


SOLVABLE: dict[str, Callable[[], Solvable]] = {
    "linear, 1 latent, exact guide": partial(linear, 1, 3),
    "linear, 1 latent, sigma 0.01, exact guide": partial(linear, 1, 3, sigma=0.01),
    "linear, 1 latent, wide": partial(linear, 1, 3, spread=1.5),
    "linear, 1 latent, very wide, shifted": partial(linear, 1, 3, spread=3.0, shift=0.5),
    "linear, 2 latents, wide, shifted": partial(linear, 2, 3, spread=1.3, shift=0.2),
    "linear, 2 latents, sigma 0.01, wide, shifted": partial(linear, 2, 5, sigma=0.01, spread=1.5, shift=0.003),
    "linear, 2 latents, a bit narrow": partial(linear, 2, 5, spread=0.95),
    "linear, 8 latents, sigma 0.1, wide": partial(linear, 8, 12, sigma=0.1, spread=1.15),
    "linear, 20 latents, sigma 0.01, wide": partial(linear, 20, 30, sigma=0.01, spread=1.15),
    "linear, 6 latents, half the width": partial(linear, 6, 9, spread=0.5, fair=False),
    "linear, 20 latents, half the width": partial(linear, 20, 30, spread=0.5, fair=False),
    "linear, 20 latents, sigma 0.01, twice the width": partial(linear, 20, 30, sigma=0.01, spread=2.0, fair=False),
    "linear, a third of x missing": missing,
    "linear, with what is given": conditional,
    "hierarchical, top-down guide": partial(hierarchical, bottom_up=False),
    "hierarchical, bottom-up guide": partial(hierarchical, bottom_up=True),
    "mixture of normals as prior": mixture_prior,
    "discrete, enumerated by the guide": partial(discrete, enumerated=True),
    "discrete, sampled by the guide": partial(discrete, enumerated=False),
    "discrete in the model alone": class_of_the_model,
    "gamma and Poisson": gamma_poisson,
    "beta and Bernoulli": beta_bernoulli,
    "nonlinear, by quadrature": nonlinear,
    "nonlinear, the guide is the prior": guided_by_the_prior,
}
