"""One of everything that a step is made of, each with data and the options of ``fit``, in a few small tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import combined
import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
import zuko
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn
from torch.distributions import constraints

import pyrovae as pv
from pyrovae import board
from pyrovae.board import Part
from pyrovae.gradients import doubly_reparameterised, path
from pyrovae.objectives import closed_form_kl, elbo, iwae
from pyrovae.terms import LogTerms

N, WIDTH, D = 20, 4, 2  # data, columns, latent dimensions
positive = pv.families.positive


@dataclass
class Case:
    """A program, (x, *given) and options of ``fit``; the constructor's random numbers are the caller's to seed."""

    program: Any
    data: Any
    options: dict[str, Any] = field(default_factory=dict)


def bits(*shape: int) -> Tensor:
    return torch.rand(N, *(shape or (WIDTH,))).round()


def reals(*shape: int) -> Tensor:
    return torch.randn(N, *(shape or (WIDTH,)))


def counts() -> Tensor:
    return torch.randint(5, (N, WIDTH)).float()


def one_hot() -> Tensor:
    return torch.eye(3)[torch.randint(3, (N,))]


def conditional(in_shapes: Any, family: Any, out: int, net: Any = pv.networks.MLP) -> pv.Conditional:
    return pv.Conditional(net(in_shapes, 5, pv.families.out_shape(family, (out,))), family)


def vae(
    prior: Callable[[nn.Module], nn.Module] = lambda encoder: pv.priors.StandardNormal(D),
    likelihood: Any = pv.families.bernoulli,
    posterior: Any = pv.families.normal,
    net: Any = pv.networks.MLP,
) -> pv.VAE:
    encoder = conditional(WIDTH, posterior, D, net)
    return pv.VAE(prior(encoder), conditional(D, likelihood, WIDTH, net), encoder)


# ------------------------------------------------------------------------------------------------------------ priors


def over_normal(*transforms: Any) -> Callable[[nn.Module], nn.Module]:
    return lambda e: pv.priors.Flow(pv.priors.StandardNormal(D), list(transforms))


def given_vae(prior: Callable[[nn.Module], nn.Module]) -> Case:
    encoder = conditional([WIDTH, 3], pv.families.normal, D)
    return Case(pv.VAE(prior(encoder), conditional([D, 3], pv.families.bernoulli, WIDTH), encoder), (bits(), one_hot()))


def one_by_one(net: nn.Module) -> nn.Module:
    return pv.Autoregressive(net, pv.families.normal)


def conditional_vamp(encoder: nn.Module) -> nn.Module:
    return pv.priors.VampPrior(encoder, (bits()[:3], one_hot()[:3]))


def exemplars(net: Any = pv.networks.MLP, num_sampled: int | None = None, **options: Any) -> Case:
    """Six of the training data are exemplars."""
    x, rows = bits(), torch.arange(0, 18, 3)
    return Case(vae(lambda e: pv.priors.ExemplarPrior(e, x[rows], rows=rows, num_sampled=num_sampled), net=net), x,
                options)  # fmt: skip


PRIORS: dict[str, Callable[[], Case]] = {
    "standard normal": lambda: Case(vae(), bits()),
    "vamp, full covariance": lambda: Case(
        vae(lambda e: pv.priors.VampPrior(e, bits()[:3]), posterior=pv.families.full_normal), bits()
    ),
    "vamp, given": lambda: given_vae(conditional_vamp),
    "autoregressive, given": lambda: given_vae(lambda e: one_by_one(pv.networks.MaskedMLP([D, 3], 5, 2 * D))),
    "exemplars, some": lambda: exemplars(num_sampled=4),
    "exemplars, doubly": lambda: exemplars(gradient=doubly_reparameterised, objective=iwae, num_particles=3),
    "exemplars, repeated rows": lambda: exemplars(net=RowsOnly, objective=iwae, num_particles=3),
    "given, mixture": lambda: given_vae(lambda e: conditional(3, pv.families.NormalMixture(2), D)),
}

# -------------------------------------------------------------------------------------------- likelihoods, posteriors


def with_holes(family: Any = pv.families.normal, **options: Any) -> Case:
    """Columns of real numbers of which values are missing, one row altogether."""
    net = pv.readings.Reading(pv.networks.MLP(2 * WIDTH, 5, 2 * D), pv.readings.ValuesAndMask())
    decoder = pv.Conditional(pv.networks.MLP(D, 5, pv.families.out_shape(family, (WIDTH,))), family)
    x = reals().masked_fill(torch.rand(N, WIDTH) < 0.4, torch.nan)
    x[2] = torch.nan
    encoder = pv.Conditional(net, pv.families.normal)
    return Case(pv.VAE(pv.priors.StandardNormal(D), pv.Missing(decoder), encoder), x, options)


def levels() -> Tensor:
    return torch.randint(8, (N, WIDTH)) / 7


def dequantized() -> Case:
    noise = conditional(WIDTH, pv.families.logit_normal, WIDTH)
    decoder = pv.Dequantized(conditional(D, pv.families.laplace, WIDTH), num_levels=8, noise=noise)
    encoder = conditional(WIDTH, pv.families.normal, D)
    return Case(pv.VAE(pv.priors.StandardNormal(D), decoder, encoder), levels(), {"gradient": path})


LIKELIHOODS: dict[str, Callable[[], Case]] = {
    "dequantized, variational, path": dequantized,
    "missing values, doubly": lambda: with_holes(objective=iwae, num_particles=3, gradient=doubly_reparameterised),
    "mixed table, missing values": lambda: with_holes(
        pv.families.Mixed([pv.families.normal, *[pv.families.laplace] * (WIDTH - 1)])
    ),
    "drawn": lambda: Case(vae(), torch.rand(N, WIDTH), {"draw": torch.bernoulli}),
}


def latent(posterior: Any, prior: Any = None) -> Callable[[], Case]:
    """A VAE with this posterior family; the prior standard normal, or learned of a family."""

    def made(encoder: nn.Module) -> nn.Module:
        return pv.priors.StandardNormal(D) if prior is None else pv.priors.Learned(prior, D)

    return lambda: Case(vae(made, posterior=posterior()), bits())


def flow_guide(
    *flows: Callable[[], Any], context: int = 0, prior: tuple[Any, ...] = (), **options: Any
) -> Callable[[], Case]:
    """A flow as posterior, and one over a standard normal as prior."""

    def make() -> Case:
        posterior = pv.families.Flow(pv.families.normal, [flow() for flow in flows], context=context)
        net = pv.networks.MLP(WIDTH, 5, posterior.out_shape((D,)))
        encoder = pv.Conditional(net, posterior)
        decoder = conditional(D, pv.families.bernoulli, WIDTH)
        return Case(pv.VAE(over_normal(*prior)(encoder), decoder, encoder), bits(), options)

    return make


def amortised(layers: Callable[..., Any], **options: Any) -> Callable[[], Case]:
    return flow_guide(lambda: layers(D, 1, context=3), context=3, **options)


def autoregressive() -> Any:
    return T.affine_autoregressive(D, [4])


POSTERIORS: dict[str, Callable[[], Case]] = {
    "shared scale posterior": latent(pv.families.SharedScaleNormal),
    "student t posterior": latent(pv.families.StudentT),
    "log-normal posterior": latent(pv.families.LogNormal, pv.families.log_normal),
    "gamma posterior": latent(pv.families.Gamma, pv.families.gamma),
    "beta posterior": latent(pv.families.Beta, pv.families.beta),
    "mixture posterior, doubly": lambda: Case(
        vae(VAMP, posterior=pv.families.NormalMixture(2)),
        bits(),
        {"gradient": doubly_reparameterised, "objective": iwae, "num_particles": 3},
    ),
    "inverse autoregressive flow, path": amortised(pv.flows.inverse_autoregressive, gradient=path),
    "masked autoregressive flow": amortised(pv.flows.masked_autoregressive),
    "affine coupling, path": amortised(pv.flows.affine_coupling, gradient=path),
    "spline coupling, doubly": amortised(
        pv.flows.spline_coupling, gradient=doubly_reparameterised, objective=iwae, num_particles=2
    ),
    "two of Pyro's flows": flow_guide(
        autoregressive, lambda: T.affine_coupling(D, [4]), autoregressive, objective=iwae, num_particles=3
    ),
    "Pyro's conditional flow": flow_guide(lambda: T.conditional_affine_autoregressive(D, 3, [4]), context=3),
    "zuko's flow": flow_guide(lambda: zuko.flows.MAF(D, context=3, transforms=1), context=3),
    "neural autoregressive flow": flow_guide(lambda: T.neural_autoregressive(D, [4])),
    "householder flow": flow_guide(lambda: T.Householder(D)),
    "tanh": flow_guide(lambda: T.AffineTransform(0.0, 3.0), lambda: T.TanhTransform(), prior=(T.TanhTransform(),)),
}

# ------------------------------------------------------------------------------------------ networks and kinds of data


def images(**options: Any) -> Case:
    shape, sizes = (1, 5, 4), {"channels": (2, 3), "hidden": 5}
    encoder = pv.Conditional(pv.networks.ConvEncoder(shape, 2 * D, **sizes), pv.families.normal)
    decoder = pv.Conditional(pv.networks.ConvDecoder(D, shape, **sizes), pv.families.bernoulli)
    return Case(pv.VAE(pv.priors.StandardNormal(D), decoder, encoder), bits(*shape), options)


class Dropping(pv.networks.MLP):
    """With dropout after every hidden layer."""

    def _layer(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n, m), nn.Tanh(), nn.Dropout(0.3))


class RowsOnly(pv.networks.MLP):
    """Takes dim 1 for the features, and so a dimension of particles for another one."""

    def _layer(self, n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n, m), nn.Softmax(1))


class OfTree(nn.Module):
    """q(z | x) for a tree x."""

    def __init__(self, *shapes: int) -> None:
        super().__init__()
        self.encoder = conditional(list(shapes), pv.families.normal, D)

    def forward(self, x: Any) -> Any:
        return self.encoder(*pv.trees.leaves(x))


def tokens(*shape: int) -> Tensor:
    return torch.randint(3, (N, *(shape or (WIDTH,))))


def text(**options: Any) -> Case:
    """A VAE of tokens, its decoder autoregressive."""
    reader = nn.Embedding(3, 2)
    encoder = pv.readings.Reading(pv.networks.RecurrentEncoder((WIDTH, 2), 2 * D, width=5), reader)
    net = pv.networks.RecurrentDecoder([(WIDTH, 2), D], 3 * WIDTH, width=5, word_dropout=0.3)
    decoder = pv.Autoregressive(pv.readings.Reading(net, reader), pv.families.Categorical(3))
    program = pv.VAE(pv.priors.StandardNormal(D), decoder, pv.Conditional(encoder, pv.families.normal))
    return Case(program, tokens(), options)


def labelled() -> Case:
    """Labels as integers, embedded; the prior is of the label too, and ignores a second variable."""
    readers = nn.Embedding(3, 2), pv.readings.Ignore()
    reading, net = pv.readings.Reading, pv.networks.ResidualMLP
    encoder = pv.Conditional(reading(net([WIDTH, 2], 5, 5, 2 * D), None, *readers), pv.families.normal)
    decoder = pv.Conditional(reading(net([D, 2], 5, WIDTH), None, *readers), pv.families.bernoulli)
    prior = pv.Conditional(reading(net(2, 5, 2 * D), *readers), pv.families.normal)
    return Case(pv.VAE(prior, decoder, encoder), (bits(), tokens(1).squeeze(1), reals(2)))


def wrapped() -> Case:
    """A module that takes rows alone, with several particles."""
    rows = nn.Sequential(nn.Unflatten(1, (1, D)), nn.Conv1d(1, 3, 1), nn.Flatten(), nn.Linear(3 * D, WIDTH))
    decoder = pv.Conditional(pv.networks.BatchFree(rows, D, WIDTH), pv.families.bernoulli)
    encoder = conditional(WIDTH, pv.families.normal, D)
    program = pv.VAE(pv.priors.StandardNormal(D), decoder, encoder)
    return Case(program, bits(), {"objective": iwae, "num_particles": 3})


def tree() -> Case:
    real, binary = conditional(D, pv.families.normal, 3), conditional(D, pv.families.bernoulli, 2)
    decoder = pv.Product({"a": real, "b": pv.Product([binary, conditional(D, pv.families.poisson, WIDTH)])})
    x = {"a": reals(3), "b": (bits(2), counts())}
    return Case(pv.VAE(pv.priors.StandardNormal(D), decoder, OfTree(3, 2, WIDTH)), x, {"num_particles": 2})


def in_float64() -> Case:
    program = vae(lambda e: pv.priors.NormalMixture(D, 3)).double()
    return Case(program, bits().double(), {"objective": iwae, "num_particles": 3})


def frozen_norm() -> Case:
    net = nn.Sequential(nn.Linear(WIDTH, 5), nn.BatchNorm1d(5).eval(), nn.Tanh(), nn.Linear(5, 2 * D))
    decoder = conditional(D, pv.families.bernoulli, WIDTH)
    return Case(pv.VAE(pv.priors.StandardNormal(D), decoder, pv.Conditional(net, pv.families.normal)), bits())


NETWORKS: dict[str, Callable[[], Case]] = {
    "convolutions, particles": lambda: images(objective=iwae, num_particles=2),
    "dropout": lambda: Case(vae(net=Dropping), bits()),
    "batch normalisation, frozen": frozen_norm,
    "repeated rows": lambda: Case(vae(net=RowsOnly), bits(), {"objective": iwae, "num_particles": 3}),
    "tree": tree,
    "float64": in_float64,
    "bfloat16, convolutions": lambda: images(precision="bf16"),
    "labels embedded, residual networks": labelled,
    "any module, particles": wrapped,
    "text, particles": lambda: text(objective=iwae, num_particles=3),
    "text, path": lambda: text(gradient=path),
}

# --------------------------------------------------------------------------------------- objectives, gradients, guards

VAMP: Callable[[nn.Module], nn.Module] = lambda e: pv.priors.VampPrior(e, bits()[:3])  # noqa: E731
BETA = {"schedules": {"beta": pv.schedules.Warmup(2.0)}}
closed = partial(elbo, kl=closed_form_kl)


def own_objective(t: LogTerms, power: Tensor) -> Tensor:
    """A user's: Rényi's bound of a scheduled order, curved in the log-weights."""
    return ((1 - power) * t.log_weight + t.log_w).flatten(0, -2).logsumexp(0) / (1 - power)


def trained(prior: Any = VAMP, **options: Any) -> Callable[[], Case]:
    return lambda: Case(vae(prior), bits(), options)


def standard(**options: Any) -> Callable[[], Case]:
    return lambda: Case(vae(), bits(), options)


OBJECTIVES: dict[str, Callable[[], Case]] = {
    "elbo, particles": standard(num_particles=3),
    "elbo, beta": standard(**BETA),
    "closed form, beta": standard(objective=closed, num_particles=2, **BETA),
    "iwae": standard(objective=iwae, num_particles=3),
    "iwae, beta": standard(objective=iwae, num_particles=3, **BETA),
    "own objective": standard(objective=own_objective, num_particles=3, schedules={"power": pv.schedules.Warmup(4.0)}),
    "path, particles": trained(gradient=path, num_particles=3, **BETA),
    "doubly, elbo": trained(gradient=doubly_reparameterised),
    "doubly, iwae": trained(gradient=doubly_reparameterised, objective=iwae, num_particles=3),
    "clipped": standard(max_grad_norm=0.05),
    "rate": standard(learning_rate=pv.schedules.Cosine(warmup=1.0)),
}

# --------------------------------------------------------------------------------------------- programs of one's own


class Mixture(nn.Module):
    """y ~ Cat, z | y, x | z. The guide has z alone, and y is summed out; or y too, enumerated, and z | x, y."""

    def __init__(self, guided: bool) -> None:
        super().__init__()
        self.logits, self.loc = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.randn(3, D))
        self.decoder = conditional(D, pv.families.bernoulli, WIDTH)
        self.encoder, self.classifier = conditional(WIDTH, pv.families.normal, D), nn.Linear(WIDTH, 3)
        self.shift, self.guided = nn.Parameter(0.1 * torch.randn(3, D)), guided

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(self.loc[y], 1.0).to_event(1))
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        posterior = self.encoder(x).base_dist
        with pyro.plate("data", len(x), dim=-1):
            loc = posterior.loc
            if self.guided:
                y = dist.Categorical(logits=self.classifier(x))
                loc = loc + self.shift[pyro.sample("y", y, infer={"enumerate": "parallel"})]
            pyro.sample("z", dist.Normal(loc, posterior.scale).to_event(1))


class TwoLevel(nn.Module):
    """Guide: z1 from x, then z2 from z1. Model: z2, z1 from z2, x from z1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 3), nn.Linear(3, D)
        self.scales = nn.Parameter(torch.zeros(3))

    def model(self, x: Tensor) -> None:
        pyro.module("two_level", self)
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal((z2 @ self.second.weight).tanh(), self.scales[0].exp()).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z1 @ self.first.weight).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("two_level", self)
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.first(x).tanh(), self.scales[1].exp()).to_event(1))
            pyro.sample("z2", dist.Normal(self.second(z1), self.scales[2].exp()).to_event(1))


def closures() -> Case:
    """Two functions with bare ``pyro.param`` statements, one constrained."""
    W, A = torch.randn(D, WIDTH), torch.randn(WIDTH, D)

    def model(x: Tensor) -> None:
        weight = pyro.param("W", W)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z @ weight).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        weight = pyro.param("A", A)
        scale = pyro.param("scale", torch.ones(D), constraint=constraints.positive)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x @ weight, scale).to_event(1))

    return Case(SimpleNamespace(model=model, guide=guide), bits())


def registering() -> Case:
    """Two functions whose networks are known to Pyro alone."""
    encoder, decoder = nn.Linear(WIDTH, D), nn.Linear(D, WIDTH)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(encoder(x), 1.0).to_event(1))

    return Case(SimpleNamespace(model=model, guide=guide), bits())


class OfPyro(PyroModule):
    """With a constrained ``PyroParam`` and a masked observation."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = PyroModule[nn.Linear](WIDTH, D), PyroModule[nn.Linear](D, WIDTH)
        self.scale = PyroParam(torch.ones(D), constraint=constraints.positive)

    def model(self, x: Tensor, keep: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).mask(keep > 0).to_event(1), obs=x)

    def guide(self, x: Tensor, keep: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.encoder(x * keep), self.scale).to_event(1))


PROGRAMS: dict[str, Callable[[], Case]] = {
    "cluster summed out": lambda: Case(Mixture(guided=False), bits(), {"objective": iwae, "num_particles": 2}),
    "cluster enumerated": lambda: Case(Mixture(guided=True), bits(), {"num_particles": 2}),
    "two levels": lambda: Case(TwoLevel(), bits(), {"gradient": doubly_reparameterised}),
    "closures": closures,
    "registering closures": registering,
    "PyroModule, masked": lambda: Case(OfPyro(), (bits(), bits())),
}

# ------------------------------------------------------------------------------------------------------ optimizers

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "AdamW": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "AMSGrad": partial(torch.optim.Adam, amsgrad=True),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "RMSprop": partial(torch.optim.RMSprop, momentum=0.9),
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "Rprop": torch.optim.Rprop,
    "ASGD": torch.optim.ASGD,
    "foreach": partial(torch.optim.Adam, foreach=True),
    "factory": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}


def stepped(optimizer: Any) -> Case:
    case = closures()  # a few parameters: an optimizer's trace grows with them
    case.options = {"optimizer": optimizer, "learning_rate": pv.schedules.Cosine(warmup=1.0), "max_grad_norm": 1.0}
    return case


# ------------------------------------------------------------------------------------------------------- the board


def of_triple(triple: tuple[str, str, str]) -> Case:
    x, *given = combined.data(*triple[:2])
    program = combined.program(*triple, x)
    return Case(program, (x, *given) if given else x)


def of_network(name: str) -> Case:
    return Case(*combined.with_network(name))


def reason(*parts: Part) -> str:
    """Why one of the parts cannot be traced, if so."""
    return next((part.eager for part in parts if part.eager), "")


PLAIN_FIRST = sorted(combined.TRIPLES, key=lambda triple: triple[2] != "diagonal normal")
ENTRIES: dict[str, tuple[Callable[[], Case], str]] = {  # every part of the board in one program at least
    " - ".join(triple): (partial(of_triple, triple), reason(*combined.parts(triple)))
    for triple in combined.covering(PLAIN_FIRST, lambda triple: set(enumerate(triple)))
} | {name: (partial(of_network, name), reason(part)) for name, part in board.NETWORKS.items()}
BOARD = {name: make for name, (make, eager) in ENTRIES.items() if not eager}

STEPPED = {f"by {name}": partial(stepped, optimizer) for name, optimizer in OPTIMIZERS.items()}

CASES: dict[str, Callable[[], Case]] = PRIORS | LIKELIHOODS | POSTERIORS | NETWORKS | OBJECTIVES | PROGRAMS | STEPPED

# -------------------------------------------------------------------- what looks at values or counts in Python


class Replacing(torch.optim.Optimizer):
    """Counts its steps in Python."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1, "count": 0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["count"] += 1
            for p in group["params"]:
                p.data.sub_(0.1 / group["count"] * p.grad)


class Branching(pv.networks.MLP):
    """Looks at a value."""

    def forward(self, *parents: Any) -> Tensor:
        out: Tensor = super().forward(*parents)
        return out if out.isfinite().all() else torch.zeros_like(out)


def clipped_adam(parameters: Any) -> Any:
    """The class of Pyro's optimizer of the same name."""
    return pyro.optim.clipped_adam.ClippedAdam(parameters, lr=0.01)


EAGER: dict[str, tuple[Callable[[], Case], str]] = {  # with the reason
    **{name: entry for name, entry in ENTRIES.items() if name not in BOARD},
    "Pyro's spline coupling": (
        flow_guide(lambda: T.spline_coupling(D, hidden_dims=[4])),
        "selects by a tensor's values",
    ),
    "block autoregressive flow": (flow_guide(lambda: T.block_autoregressive(D)), "selects by a tensor's values"),
    "inverse of Pyro's autoregressive flow": (flow_guide(autoregressive, gradient=path), "looks at a tensor's value"),
    "a branch": (lambda: Case(vae(net=Branching), bits()), "looks at a tensor's value"),
    "a count in the optimizer": (standard(optimizer=Replacing), "count of steps in Python"),
    "ClippedAdam": (standard(optimizer=clipped_adam), "count of steps in Python"),
}
