"""The guarded step: it is torch's own step where all is finite, and nothing at all where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from small import bits, fit, vae
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import pyrovae as pv
from pyrovae.training.optimizer import GuardedOptimizer
from pyrovae.training.sources import Resident


class Replacing(torch.optim.Optimizer):
    """Keeps its moment by making another tensor at every step."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                moment = self.state[p].get("moment", torch.zeros_like(p))
                self.state[p]["moment"] = 0.9 * moment + p.grad
                p.sub_(0.1 * self.state[p]["moment"])


OPTIMIZERS: dict[str, tuple[Callable[..., Any], bool]] = {
    "Adam": (torch.optim.Adam, True),
    "AdamW": (partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1), True),
    "AMSGrad": (partial(torch.optim.Adam, amsgrad=True), True),
    "SGD": (partial(torch.optim.SGD, lr=0.1), True),
    "momentum": (partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1), True),
    "Adagrad": (torch.optim.Adagrad, True),
    "RMSprop": (partial(torch.optim.RMSprop, momentum=0.9), False),
    "NAdam": (torch.optim.NAdam, False),
    "Adamax": (torch.optim.Adamax, False),
    "Rprop": (torch.optim.Rprop, False),
    "ASGD": (torch.optim.ASGD, False),
    "foreach": (partial(torch.optim.Adam, foreach=True), False),
    "factory": (lambda parameters: torch.optim.Adam(parameters, lr=0.01), False),
    "replacing": (Replacing, False),
}
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


class Made:
    """An optimizer of two parameters, and gradients of a made-up objective."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32, max_grad_norm: float | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        shapes = {"a": (3,), "b": (2, 2)}
        self.parameters = {n: nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for n, s in shapes.items()}
        self.guarded = GuardedOptimizer(OPTIMIZERS[name][0], self.parameters, max_grad_norm)

    def gradients(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(number + 1)
        return {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in self.parameters.items()}

    def step(self, number: int, *, gradient: float = 1.0, value: float = -1.0) -> tuple[Tensor, Tensor]:
        gradients = self.gradients(number)
        gradients["b"][0, 1] *= gradient
        return self.guarded.step(gradients, torch.tensor(value, dtype=gradients["a"].dtype))

    def state(self) -> list[Any]:
        """Copies of the parameters and of everything the optimizer keeps."""
        kept = [entry for state in self.guarded.optimizer.state.values() for entry in state.items()]
        copies = [(key, value.clone() if isinstance(value, Tensor) else value) for key, value in kept]
        return [*[("parameter", p.detach().clone()) for p in self.parameters.values()], *copies]


def identical(one: list[Any], two: list[Any]) -> bool:
    def equal(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, Tensor) else a == b

    return len(one) == len(two) and all(m == n and equal(a, b) for (m, a), (n, b) in zip(one, two, strict=True))


@DTYPES
@each_optimizer
def test_it_is_torchs_own_step(name: str, dtype: torch.dtype) -> None:
    made, plain = Made(name, dtype), Made(name, dtype)
    factory, fused = OPTIMIZERS[name]
    assert made.guarded.fused is fused
    optimizer = factory(list(plain.parameters.values()))
    for number in range(4):
        norm, bad = made.step(number)
        for p, gradient in zip(plain.parameters.values(), plain.gradients(number).values(), strict=True):
            p.grad = -gradient  # maximised
        optimizer.step()
        total = torch.cat([g.flatten() for g in plain.gradients(number).values()]).norm()
        torch.testing.assert_close(norm, total)
        assert not bad
    for found, expected in zip(made.parameters.values(), plain.parameters.values(), strict=True):
        torch.testing.assert_close(found, expected)
        assert found.grad is None


BAD = [{"gradient": float("nan")}, {"gradient": float("inf")}, {"value": float("nan")}, {"value": -float("inf")}]


@DTYPES
@pytest.mark.parametrize("bad", BAD, ids=str)
@each_optimizer
def test_a_bad_step_changes_nothing(name: str, bad: dict[str, float], dtype: torch.dtype) -> None:
    """Neither parameters nor moments, be it the first step or a later one; so the good ones are as if alone."""
    made, alone = Made(name, dtype), Made(name, dtype)
    for number in range(3):
        before = made.state()
        assert made.step(100 + number, **bad)[1]
        assert identical(made.state(), before)
        assert not made.step(number)[1]
        alone.step(number)
        assert not identical(made.state(), before)
        assert identical(made.state(), alone.state())


@pytest.mark.parametrize("name", ["SGD", "factory"])
def test_clipping(name: str) -> None:
    clipped, free = Made("SGD", max_grad_norm=0.25), Made("SGD")
    before = clipped.state()
    norm, _ = clipped.step(0)
    assert norm > 1  # the norm reported is the one before clipping
    change = torch.cat([(p - q).flatten() for (_, q), p in zip(before, clipped.parameters.values(), strict=True)])
    torch.testing.assert_close(change.norm(), torch.tensor(0.1 * 0.25))
    direction = torch.cat([g.flatten() for g in clipped.gradients(0).values()])
    torch.testing.assert_close(change / change.norm(), direction / norm)
    wide = Made("SGD", max_grad_norm=100.0)
    for made in (wide, free):
        made.step(0)
    assert identical(wide.state(), free.state())


def test_clipping_a_gradient_of_zero() -> None:
    made = Made("Adam", max_grad_norm=1.0)
    before = made.state()[:2]
    norm, bad = made.guarded.step({n: torch.zeros_like(p) for n, p in made.parameters.items()}, torch.zeros(()))
    assert norm == 0
    assert not bad
    assert identical(made.state()[:2], before)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {  # gradients that autograd gives so, for a parameter of (2, 2)
    "slice": lambda g: torch.cat([g, g], 1)[:, :2],
    "transposed": lambda g: g.T.contiguous().T,
    "expanded": lambda g: g[:1, :1].expand(2, 2),
}


@pytest.mark.parametrize("view", VIEWS)
@each_optimizer
def test_gradients_may_be_views(name: str, view: str) -> None:
    """Torch's fused kernels read memory in order, and would take other numbers for a slice's."""
    viewed, plain = Made(name), Made(name)
    for number in range(3):
        for made in (viewed, plain):
            gradients = made.gradients(number)
            gradients["b"] = VIEWS[view](gradients["b"])
            if made is plain:
                gradients["b"] = gradients["b"].contiguous()
            made.guarded.step(gradients, torch.zeros(()))
    assert identical(viewed.state(), plain.state())


@each_optimizer
def test_two_parameters_may_have_one_gradient(name: str) -> None:
    """As those of a sum have; it is turned downhill once."""
    start = [torch.zeros(3), torch.zeros(3)]
    parameters = {n: nn.Parameter(p) for n, p in zip("ab", start, strict=True)}
    guarded, gradient = GuardedOptimizer(OPTIMIZERS[name][0], parameters, 1.0), torch.tensor([1.0, 2.0, 3.0])
    guarded.step({"a": gradient, "b": gradient}, torch.zeros(()))
    assert (parameters["a"] > 0).all() and torch.equal(parameters["a"], parameters["b"])


def test_the_rate() -> None:
    groups = lambda ps: torch.optim.SGD([{"params": ps[:1], "lr": 0.1}, {"params": ps[1:], "lr": 0.4}])  # noqa: E731
    parameters = {"a": nn.Parameter(torch.zeros(1)), "b": nn.Parameter(torch.zeros(1))}
    guarded = GuardedOptimizer(groups, parameters, None)
    for factor in (0.5, 2.0):  # of what the factory gave, not of the rate before
        guarded.set_rate(factor)
        guarded.step({"a": torch.ones(1), "b": torch.ones(1)}, torch.zeros(()))
    assert parameters["a"].item() == pytest.approx(0.1 * 2.5)
    assert parameters["b"].item() == pytest.approx(0.4 * 2.5)


def test_what_cannot_be_built() -> None:
    with pytest.raises(pv.PyrovaeError, match="Invalid learning rate: -1"):
        GuardedOptimizer(partial(torch.optim.Adam, lr=-1.0), {"a": nn.Parameter(torch.zeros(1))}, None)
    with pytest.raises(pv.PyrovaeError, match="no parameters"):
        GuardedOptimizer(torch.optim.Adam, {}, None)


# ------------------------------------------------------------------------------------ no look at a value in a step


class NoItem(TorchDispatchMode):
    """Fails where a tensor's value is asked for: on an accelerator that would wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} in a step")
        return func(*args, **(kwargs or {}))


STEPS: dict[str, dict[str, Any]] = {
    "default": {},
    "clipped": {"max_grad_norm": 1.0},
    "unfused": {"optimizer": torch.optim.RMSprop},
    "scheduled": {"schedules": {"beta": pv.schedules.Warmup(2)}, "learning_rate": pv.schedules.Cosine()},
    "iwae": {"objective": pv.objectives.iwae, "num_particles": 3},
    "closed form": {"objective": partial(pv.objectives.elbo, kl=pv.objectives.closed_form_kl)},
    "path": {"gradient": pv.gradients.path},
    "doubly": {
        "gradient": pv.gradients.doubly_reparameterised,
        "objective": pv.objectives.iwae,
        "num_particles": 3,
    },
    "mixture": {"prior": lambda e: pv.priors.NormalMixture(2, 3)},
    "vamp": {"prior": lambda e: pv.priors.VampPrior(e, bits(4))},
    "draw": {"draw": torch.bernoulli},
}


@pytest.mark.parametrize("name", STEPS)
def test_nothing_in_an_epoch_but_the_first_step_looks_at_a_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the steps nor the loop around them, from the second batch of an epoch to its end."""
    options = dict(STEPS[name])
    program = vae(options.pop("prior")) if "prior" in options else vae()
    feeds, watched = Resident.feeds, []

    def watching(self: Resident, batch_size: int, *, shuffle: bool) -> Iterator[Any]:
        epoch = feeds(self, batch_size, shuffle=shuffle)
        yield next(epoch)
        with NoItem():
            for feed in epoch:
                watched.append(feed)
                yield feed

    monkeypatch.setattr(Resident, "feeds", watching)
    fit(program, bits(), epochs=2, **options)
    assert len(watched) == 6


def test_a_look_at_a_value_would_be_noticed() -> None:
    with NoItem(), pytest.raises(AssertionError, match="in a step"):
        torch.ones(()).item()
