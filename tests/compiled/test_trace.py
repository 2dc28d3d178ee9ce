"""From a function to a graph: what is refused and why, what is noticed, and that a trace leaves nothing behind."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES
from torch import Tensor, nn
from torchs_noise import TorchsNoise

import pyrovae as pv
from pyrovae.compiled import Compiled, CompileWarning, UntraceableError, function
from pyrovae.compiled.backends import interpreted

X = torch.arange(6.0).reshape(3, 2)


def compiled(function: Callable[..., Any], *state: Tensor, backend: Any = interpreted) -> Compiled:
    return Compiled(
        function, state=state or [torch.zeros(())], constants=[], backend=backend, device=torch.device("cpu")
    )


# ----------------------------------------------------------------------------------------------------- what is refused

LOOKING: dict[str, Callable[[Tensor], Any]] = {
    "if": lambda x: [x if x.sum() > 0 else -x],
    "item": lambda x: [x * x.sum().item()],
    "bool": lambda x: [x if bool((x > 0).all()) else -x],
    "float": lambda x: [x * float(x[0, 0])],
    "tolist": lambda x: [x * x.sum().tolist()],
    "numpy": lambda x: [x * float(x.detach().numpy()[0, 1])],
    "np.asarray": lambda x: [x * float(np.asarray(x).sum())],
    "allclose": lambda x: [x if torch.allclose(x, x) else -x],
}
SELECTING: dict[str, Callable[[Tensor], Any]] = {
    "mask": lambda x: [x[x > 2].sum()],
    "assignment": lambda x: [x.clone().index_put_((x > 2,), torch.zeros(3))],
    "masked_select": lambda x: [x.masked_select(x > 2).sum()],
    "nonzero": lambda x: [x.nonzero().sum()],
    "where": lambda x: [torch.where(x > 2)[0].sum()],
    "unique": lambda x: [x.unique().sum()],
}


@pytest.mark.parametrize("name", LOOKING)
def test_a_look_at_a_value_is_refused(name: str) -> None:
    with pytest.raises(UntraceableError, match=r"looks at a tensor's value .* which a trace would freeze"):
        compiled(LOOKING[name])(X)


@pytest.mark.parametrize("name", SELECTING)
def test_a_selection_by_values_is_refused(name: str) -> None:
    with pytest.raises(UntraceableError, match=r"(selects by|looks at) a tensor's value"):
        compiled(SELECTING[name])(X)


def test_selection_by_rows_is_not() -> None:
    rows = torch.tensor([2, 0])
    (found,) = compiled(lambda x, index: [x[index]])(X, rows)
    assert torch.equal(found, X[rows])


def test_a_parameter_that_belongs_to_nobody_is_refused() -> None:
    captured, known = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with pytest.raises(pv.PyrovaeError, match=r"shapes \[\(2,\)\] that require a gradient and belong to none"):
        compiled(lambda x: [x * captured])(X)
    assert torch.equal(compiled(lambda x: [x * known], known)(X)[0], X)
    with torch.no_grad():
        known.fill_(3.0)  # what is known is read anew


def test_a_program_with_a_parameter_that_belongs_to_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)
    hidden = nn.Parameter(torch.ones(()))
    case = CASES["standard normal"]()
    objective = lambda t: hidden * pv.objectives.elbo(t)  # noqa: E731
    with pytest.raises(pv.PyrovaeError, match="nothing would train them"):
        pv.fit(case.program, case.data, objective=objective, epochs=2, compile=True, device="cpu", batch_size=10)


COUNT = {"calls": 0}


def counting(x: Tensor) -> list[Tensor]:
    COUNT["calls"] += 1
    return [x * COUNT["calls"]]


CHANGING: dict[str, Callable[[Tensor], Any]] = {
    "a counter": counting,
    "numpy": lambda x: [x * float(np.random.default_rng().normal())],
    "a tensor from numpy": lambda x: [x * torch.as_tensor(np.random.default_rng().normal(size=2)).float()],
    "detached numbers": lambda x: [x + torch.tensor([len(COUNT), COUNT.setdefault("seen", 0)]).sum() + counting(x)[0]],
}


@pytest.mark.parametrize("name", CHANGING)
def test_python_that_changes_from_call_to_call_is_noticed(name: str) -> None:
    with pytest.raises(UntraceableError, match="changes from call to call"):
        compiled(CHANGING[name])(X)


def test_numbers_that_depend_on_all_rows_alike_are_noticed() -> None:
    """Were the check made on the same rows in another order, a frozen sum would pass."""

    def hidden(x: Tensor) -> list[Tensor]:
        return [x * float(np.from_dlpack(x.detach()).sum())]

    with pytest.raises(UntraceableError):
        compiled(hidden)(X)


# --------------------------------------------------------------------------------------------- what a trace leaves


def changing(state: Tensor, fails: bool) -> Callable[[Tensor], list[Tensor]]:
    def function(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            state.add_(x.sum() + torch.randn(()))
        if fails:
            x.sum().item()
        return [state * 1]

    return function


@pytest.mark.parametrize("fails", [False, True], ids=["traced", "failed"])
def test_a_trace_leaves_state_arguments_and_random_numbers(fails: bool) -> None:
    """The first call of a traced function is one call, and a failed one none; a graph draws its key once."""
    state, x = nn.Parameter(torch.ones(3)), X.clone()
    state.grad = torch.full((3,), 5.0)
    function = compiled(changing(state, fails), state)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    if fails:
        with pytest.raises(UntraceableError):
            function(x)
        assert torch.equal(state, torch.ones(3))
    else:
        (returned,) = function(x)
        assert torch.equal(returned, state)
        assert (state - 1 - X.sum()).abs().max() < 6  # one draw, not several sums
        assert function.noise.step == 1
        torch.random.set_rng_state(before)
        assert function.noise.key == torch.randint(2**62, ())
        torch.random.set_rng_state(before)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(x, X) and torch.equal(state.grad, torch.full((3,), 5.0))


def test_numbers_are_fresh_from_call_to_call_and_the_seed_decides_them() -> None:
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        function = compiled(lambda x: [x * 0 + torch.randn(3, 2)])
        runs.append([function(X)[0].clone() for _ in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    values = torch.stack([value for run in (runs[0], runs[2]) for value in run]).flatten()
    assert len(values.unique()) == len(values)


def test_other_shapes_and_types_are_traced_anew() -> None:
    kinds = []

    def function(x: Tensor, y: Any) -> list[Tensor]:
        kinds.append((x.shape, x.dtype))
        return [x.sum() * y["a"]]

    made, y = compiled(function), {"a": torch.ones(3)}
    for x in (X, X + 1, X.double(), torch.cat([X, X]), X):
        (found,) = made(x, y)
        torch.testing.assert_close(found, x.sum() * y["a"], check_dtype=False)
    assert len(set(kinds)) == 3
    before = len(kinds)
    made(X, y)
    assert len(kinds) == before  # by its graph


# -------------------------------------------------------------------------------------------------- in training


def fit(name: str, monkeypatch: pytest.MonkeyPatch, *, backend: Any = interpreted, **options: Any) -> pv.Run:
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: backend)
    monkeypatch.setattr(function, "Noise", TorchsNoise)  # whose traces are short
    torch.manual_seed(0)
    case = CASES[name]()
    options = {"epochs": 3, "batch_size": 10, "device": "cpu", "compile": True, **options}
    return pv.fit(case.program, case.data, **case.options | options)


class Counted:
    """A backend that counts what it compiles."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        return interpreted(*args)


class At:
    """Does something at the end of an epoch."""

    def __init__(self, epoch: int, action: Callable[[pv.Run], None]) -> None:
        self.epoch, self.action = epoch, action

    def on_epoch_end(self, run: pv.Run) -> None:
        if len(run.history) == self.epoch:
            self.action(run)


def test_a_module_switched_to_evaluation_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout off from the second epoch on, by a graph of its own: the run is the eager one."""
    backend, evaluating = Counted(), At(1, lambda run: run.program.eval())
    run = fit("dropout", monkeypatch, backend=backend, callbacks=[evaluating])
    assert backend.count == 2 and run.manifest["compiled"]
    eager = fit("dropout", monkeypatch, compile=False, callbacks=[evaluating])
    assert run.column("objective") == pytest.approx(eager.column("objective"), rel=1e-5)


def test_a_parameter_frozen_by_a_callback_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def freeze(run: pv.Run) -> None:
        run.program.decoder.requires_grad_(False)
        kept.extend(p.clone() for p in run.program.decoder.parameters())

    run = fit("standard normal", monkeypatch, callbacks=[At(1, freeze)], epochs=4)
    assert all(torch.equal(p, q) for p, q in zip(run.program.decoder.parameters(), kept, strict=True))


def failing(*args: Any) -> Any:
    raise RuntimeError("no compiler\nand more")


def test_an_error_of_the_compiler_is_said_once_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit("standard normal", monkeypatch, backend=failing)
    (said,) = [str(w.message) for w in caught if issubclass(w.category, CompileWarning)]
    assert said == "training runs eagerly, since it cannot be compiled: RuntimeError: no compiler"
    assert run.manifest["eager"] == "RuntimeError: no compiler" and run.manifest["compiled"] is False
    assert run.column("objective") == fit("standard normal", monkeypatch, compile=False).column("objective")


def test_no_backend_for_a_device_is_said_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(CompileWarning, match="no compiler for cpu"):
        fit("standard normal", monkeypatch, backend=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        fit("standard normal", monkeypatch, backend=None, compile="auto")


class Spoilt:
    """elbo, times what a tensor says: not a number for some of the steps."""

    def __init__(self) -> None:
        self.step = torch.zeros(())

    def __call__(self, t: Any, bad: Tensor) -> Tensor:
        return pv.objectives.elbo(t) * torch.where(bad > 0.5, torch.nan, 1.0)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, partial(torch.optim.RMSprop, momentum=0.9)])
def test_a_bad_step_is_skipped_by_the_graph_too(optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule spoils every step of the third of five epochs: all is then as after the second, and goes on."""
    weights: list[list[Tensor]] = []

    def look(run: pv.Run) -> None:
        weights.append([p.detach().clone() for p in run.program.parameters()])

    bad = lambda epoch, epochs: float(2 <= epoch < 3)  # noqa: E731
    callbacks = [At(epoch, look) for epoch in range(1, 6)]
    options = {"objective": Spoilt(), "schedules": {"bad": bad}, "epochs": 5, "optimizer": optimizer}
    run = fit("standard normal", monkeypatch, callbacks=callbacks, **options)
    assert run.manifest["compiled"] and run.column("skipped") == [0, 0, 2, 0, 0]
    same = [all(torch.equal(p, q) for p, q in zip(a, b, strict=True)) for a, b in pairwise(weights)]
    assert same == [False, True, False, False]
    assert all(p.isfinite().all() for p in weights[-1])


class Slow:
    """elbo with a weight that grows by a ten-thousandth in every step, counted in Python."""

    def __init__(self) -> None:
        self.step = 0

    def __call__(self, t: Any) -> Tensor:
        self.step += 1
        return pv.objectives.elbo(t, beta=min(1.0, self.step / 10_000))


def by_chance(t: Any) -> Tensor:
    return pv.objectives.elbo(t, beta=0.5 if random.random() < 1e-3 else 1.0)


@pytest.mark.parametrize("objective", [Slow(), by_chance], ids=["a slow counter", "Python's generator"])
def test_what_hardly_changes_a_step_is_not_frozen_either(objective: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No comparison of values would notice; over a run it matters."""
    with pytest.warns(CompileWarning, match="something in Python changes from call to call"):
        run = fit("standard normal", monkeypatch, objective=objective)
    assert not run.manifest["compiled"]


class Tempered(torch.nn.Module):
    """A network with a number and a buffer."""

    def __init__(self, replaces: bool) -> None:
        super().__init__()
        self.net, self.temperature, self.replaces = torch.nn.Linear(6, 4), 1.0, replaces
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x) / self.temperature
        if self.replaces:
            self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        return y


def tempered(*, replaces: bool, **options: Any) -> pv.Run:
    torch.manual_seed(0)
    encoder = pv.Conditional(Tempered(replaces), pv.families.normal)
    decoder = pv.Conditional(pv.networks.MLP(2, 8, 6), pv.families.bernoulli)
    vae = pv.VAE(pv.priors.StandardNormal(2), decoder, encoder)
    x = (torch.rand(40, 6) < 0.5).float()
    return pv.fit(vae, x, epochs=3, batch_size=20, progress=False, device="cpu", **options)


def test_a_number_that_a_callback_changes_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Counted()
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: backend)
    monkeypatch.setattr(function, "Noise", TorchsNoise)

    def cool(run: pv.Run) -> None:
        run.program.encoder.net.temperature = 0.1

    runs = [tempered(replaces=False, compile=c, callbacks=[At(1, cool)]) for c in (True, False)]
    assert backend.count == 2
    assert runs[0].column("objective") == pytest.approx(runs[1].column("objective"), rel=1e-5)


def test_a_program_that_replaces_its_buffers_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)
    with pytest.warns(CompileWarning, match=r"replaces its buffers \['mean'\]"):
        run = tempered(replaces=True, compile=True)
    eager = tempered(replaces=True, compile=False)
    assert torch.equal(run.program.encoder.net.mean, eager.program.encoder.net.mean)
    assert run.column("objective") == eager.column("objective")
