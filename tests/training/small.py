"""Small programs and data for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae as pv

D = 2
SGD = partial(torch.optim.SGD, lr=0.1)


def bits(n: int = 30, width: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, width, generator=torch.Generator().manual_seed(seed)).round()


def reals(n: int = 30, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) + 1.0


def vae(prior: Callable[[pv.Conditional], nn.Module] = lambda e: pv.priors.StandardNormal(D), width: int = 6) -> pv.VAE:
    encoder = pv.Conditional(pv.networks.MLP(width, 7, 2 * D, activation=nn.Tanh), pv.families.normal)
    decoder = pv.Conditional(pv.networks.MLP(D, 7, width, activation=nn.Tanh), pv.families.bernoulli)
    return pv.VAE(prior(encoder), decoder, encoder)


class Point(nn.Module):
    """A guide that is a point: the objective is a function of the parameters, without noise."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.encoder, self.decoder = nn.Linear(3, D), nn.Linear(D, 3)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Delta(self.encoder(x), event_dim=1))

    def value(self, x: Tensor) -> Tensor:
        """The objective, (N,), without Pyro."""
        z = self.encoder(x)
        terms = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return terms + torch.distributions.Normal(self.decoder(z), 1.0).log_prob(x).sum(-1)


def by_hand(program: Point, x: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    """Training on the whole data at once, as a plain loop."""
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -program.value(x).mean()
        loss.backward()
        optimizer.step()
        values.append(-loss.item())
    return values


def state(program: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in program.state_dict().items()}


def same(a: nn.Module | dict[str, Tensor], b: nn.Module | dict[str, Tensor]) -> bool:
    """Whether two programs have the same weights, bit for bit."""
    one, two = (state(p) if isinstance(p, nn.Module) else p for p in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def fit(program: Any, data: Any, **options: Any) -> pv.Run:
    return pv.fit(program, data, **{"epochs": 3, "batch_size": 8, "device": "cpu", **options})
