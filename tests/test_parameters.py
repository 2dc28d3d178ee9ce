"""Where parameters live: programs of any style are adopted with all of them, and Pyro's global store stays as it is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn
from torch.distributions import constraints

import pyrovae as pv
from pyrovae.parameters import Adopted, LocalParameters, adopt, bound, floating_dtype, forget, frozen

D = 2


@pytest.fixture(autouse=True)
def everywhere(empty_store: None) -> Iterator[None]:
    """An empty parameter store, and one thread: for tensors this small more only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data(n: int = 40) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0)) + 1.0


def observe(x: Tensor, z: Tensor, loc: Tensor, scale: Any) -> None:
    pyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)


# ------------------------------------------------------------- one program, in each of the styles that Pyro allows


class Plain(nn.Module):
    """A plain nn.Module with pyro.module."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 2 * D), nn.Linear(D, 3)

    def model(self, x: Tensor) -> None:
        pyro.module("plain", self)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            observe(x, z, self.decoder(z), 1.0)

    def guide(self, x: Tensor) -> None:
        pyro.module("plain", self)
        with pyro.plate("data", len(x), dim=-1):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


class Silent(Plain):
    """One that says nothing to Pyro: its parameters are the module's all the same."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            observe(x, z, self.decoder(z), 1.0)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


class Named(Plain):
    """One that names a parameter of its own by pyro.param, and uses what that gives."""

    def model(self, x: Tensor) -> None:
        weight = pyro.param("weight", self.decoder.weight)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            observe(x, z, z @ weight.T + self.decoder.bias, 1.0)


class Pyroic(PyroModule):
    """A PyroModule with a constrained PyroParam and PyroModules inside."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = PyroModule[nn.Linear](3, D), PyroModule[nn.Linear](D, 3)
        self.scale = PyroParam(torch.ones(D), constraint=constraints.positive)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            observe(x, z, self.decoder(z), 1.0)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.encoder(x), self.scale).to_event(1))


class Mixed(Silent):
    """A module with a bare pyro.param beside."""

    def model(self, x: Tensor) -> None:
        scale = pyro.param("noise", torch.tensor(2.0), constraint=constraints.positive)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            observe(x, z, self.decoder(z), scale)


def closures() -> SimpleNamespace:
    """Two functions over modules that only pyro.module names."""
    encoder, decoder = nn.Linear(3, D), nn.Linear(D, 3)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            observe(x, z, decoder(z), 1.0)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(encoder(x), 1.0).to_event(1))

    return SimpleNamespace(model=model, guide=guide, modules=(encoder, decoder))


def pyro_closures() -> SimpleNamespace:
    """Two functions over PyroModules that hold a constrained parameter."""
    net = Pyroic()

    class Scale(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.scale = PyroParam(torch.ones(3), constraint=constraints.positive)

        def forward(self) -> Tensor:
            return self.scale

    scale = Scale()

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(D), 1.0).to_event(1))
            observe(x, z, net.decoder(z), scale())

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(net.encoder(x), 1.0).to_event(1))

    return SimpleNamespace(model=model, guide=guide, modules=(net.encoder, net.decoder, scale))


def bare() -> SimpleNamespace:
    """Nothing but pyro.param: constrained by keyword and by position, lazy, made anew, and met again by name alone."""

    def model(x: Tensor) -> None:
        weight = pyro.param("weight", lambda: 0.1 * torch.randn(D, 3))
        scale = pyro.param("noise", torch.tensor(2.0), constraint=constraints.positive)
        bias = pyro.param("bias.of.x", torch.zeros(3, requires_grad=True))
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(pyro.param("shift"), 1.0).to_event(1))
            observe(x, z, z @ weight + bias, scale)

    def guide(x: Tensor) -> None:
        shift = pyro.param("shift", torch.full((D,), 0.5), constraints.interval(-1.0, 1.0))
        spread = pyro.param("spread", torch.ones(D), constraints.positive)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(shift, spread).to_event(1))

    return SimpleNamespace(model=model, guide=guide)


STYLES = {
    "plain": (Plain, 4),
    "silent": (Silent, 4),
    "named": (Named, 4),
    "PyroModule": (Pyroic, 5),
    "mixed": (Mixed, 5),
    "closures": (closures, 4),
    "closures over PyroModules": (pyro_closures, 5),
    "pyro.param": (bare, 5),
}
each_style = pytest.mark.parametrize("style", STYLES)


def fit(program: Any, epochs: int = 3, **options: Any) -> pv.Run:
    optimizer = partial(torch.optim.Adam, lr=0.05)
    return pv.fit(program, data(), epochs=epochs, batch_size=20, optimizer=optimizer, device="cpu", **options)


@each_style
def test_fit_trains_every_parameter_and_leaves_the_store_alone(style: str) -> None:
    make, count = STYLES[style]
    torch.manual_seed(0)
    program = make()
    start = adopt(program, data(2))
    before = {name: p.detach().clone() for name, p in start.named_parameters()}
    assert len(before) == count
    run = fit(program)
    after = dict(run.program.named_parameters())
    assert after.keys() == before.keys()
    assert {name for name, p in after.items() if torch.equal(p, before[name])} == set()
    assert run.history[-1]["objective"] > run.history[0]["objective"]
    assert not pyro.get_param_store().keys()


@each_style
@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_what_was_trained_is_what_is_evaluated(style: str) -> None:
    """Against a loss of stock Pyro's, which has to find the trained values too."""
    torch.manual_seed(0)
    run = fit(STYLES[style][0](), epochs=30)
    first = pv.log_marginal(run.program, data(), num_particles=50, seed=0).mean
    with LocalParameters().scope():
        torch.manual_seed(0)
        loss = Trace_ELBO(num_particles=50, vectorize_particles=True, max_plate_nesting=1).loss(
            run.program.model, run.program.guide, data()
        )
    assert abs(-loss / 40 - first) < 0.5
    assert run.history[-1]["objective"] > run.history[0]["objective"] + 0.1
    assert abs(first - run.history[-1]["objective"]) < 0.5
    assert not pyro.get_param_store().keys()


@each_style
def test_deepcopy_and_pickle(style: str) -> None:
    torch.manual_seed(0)
    program = adopt(STYLES[style][0](), data(2))
    copies = (
        [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))] if style in ("plain", "silent") else [copy.deepcopy]
    )
    for duplicate in copies:
        twin = duplicate(fit(program).program)
        torch.manual_seed(1)
        value = pv.log_terms(program, data()).log_weight
        torch.manual_seed(1)
        assert torch.equal(pv.log_terms(twin, data()).log_weight, value)


@each_style
def test_save_and_load(style: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = fit(STYLES[style][0]()).program
    pv.save(program, tmp_path / "program")
    other = adopt(STYLES[style][0](), data(2))
    pv.load(tmp_path / "program", program=other)
    values = []
    for one in (program, other):
        torch.manual_seed(1)
        values.append(pv.log_terms(one, data()).log_weight)
    assert torch.equal(*values)


@pytest.mark.parametrize("estimator", [pv.gradients.path, pv.gradients.doubly_reparameterised])
@pytest.mark.parametrize("style", ["plain", "silent", "named", "PyroModule", "mixed", "pyro.param"])
def test_both_roles_reach_every_parameter(style: str, estimator: Any) -> None:
    torch.manual_seed(0)
    program = adopt(STYLES[style][0](), data(2))
    gradients = estimator(program, pv.objectives.elbo, data()).gradients
    assert gradients.keys() == dict(program.named_parameters()).keys()
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())


def test_a_module_that_owns_everything_is_itself() -> None:
    for program in (Plain(), Silent(), Named(), Pyroic()):
        assert adopt(program, data(2)) is program
    assert isinstance(adopt(Mixed(), data(2)), Adopted)


def test_constraints_hold_and_need_not_be_repeated() -> None:
    program = adopt(bare(), data(2))
    seen = {}

    class Spy(pyro.poutine.messenger.Messenger):
        def _pyro_post_param(self, msg: Any) -> None:
            seen.setdefault(msg["name"], []).append(msg["value"].detach())

    with torch.no_grad():
        for leaf in program.parameters():
            leaf.add_(10.0)
    with Spy():
        program.guide(data())
        with pytest.raises(KeyError):  # closures alone know of no shift; their adoption does
            bare().model(data())
        program.model(data())
    assert seen["noise"][-1] > 5
    assert torch.equal(seen["shift"][0], seen["shift"][-1])
    assert (seen["shift"][0] <= 1).all()
    assert torch.equal(seen["bias.of.x"][-1], torch.full((3,), 10.0))


def test_bare_parameters_start_where_stock_training_left_them() -> None:
    program = bare()
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(5):
        svi.step(data())
    trained = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    adopted = adopt(program, data(2))
    torch.testing.assert_close(adopted.own["spread"].exp(), trained["spread"])
    torch.testing.assert_close(adopted.own["weight"], trained["weight"])
    torch.manual_seed(0)
    value = pv.log_terms(adopted, data()).log_weight
    torch.manual_seed(0)
    torch.testing.assert_close(pv.log_terms(program, data()).log_weight, value)  # read from the store, unadopted
    fit(program)
    assert all(torch.equal(value, trained[name]) for name, value in pyro.get_param_store().items())


@pytest.mark.filterwarnings("ignore:.*requires_grad=False:UserWarning")
def test_frozen_parameters_stay() -> None:
    for program in (Plain(), Pyroic()):
        program.encoder.bias.requires_grad_(False)
        before = program.encoder.bias.clone()
        assert fit(program).program is program
        assert torch.equal(program.encoder.bias, before)


def test_two_programs_with_the_same_names_do_not_leak() -> None:
    torch.manual_seed(0)
    first, second = bare(), bare()
    one = fit(first, epochs=5).program
    kept = {name: p.detach().clone() for name, p in one.named_parameters()}
    two = adopt(second, data(2))
    assert torch.equal(two.own["spread"], torch.zeros(D))
    fit(two, epochs=2, seed=5)
    assert all(torch.equal(p, kept[name]) for name, p in one.named_parameters())


def test_bound_runs_with_other_values() -> None:
    program = Silent()
    values = {name: torch.zeros_like(p) for name, p in program.named_parameters()}
    trace = pyro.poutine.trace(bound(program, "guide", values)).get_trace(data())
    assert torch.equal(trace.nodes["z"]["fn"].base_dist.loc, torch.zeros(40, D))
    assert program.encoder.weight.any()
    with pytest.raises(pv.PyrovaeError, match="adopt"):
        bound(bare(), "guide", {})


def test_frozen_puts_the_modes_back() -> None:
    program = nn.Sequential(nn.Linear(1, 1), nn.Dropout(), nn.BatchNorm1d(1).eval())
    modes = [module.training for module in program.modules()]
    assert len(set(modes)) == 2
    with frozen(program) as device:
        assert device.type == "cpu"
        assert not any(module.training for module in program.modules())
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert [module.training for module in program.modules()] == modes
    with pytest.raises(ZeroDivisionError), frozen(program):
        raise ZeroDivisionError
    assert [module.training for module in program.modules()] == modes


def test_floating_dtype() -> None:
    assert floating_dtype(Plain().double()) is torch.float64
    assert floating_dtype(Plain()) is torch.float32
    assert floating_dtype(bare()) is torch.get_default_dtype()


@pytest.mark.parametrize("flow", [T.planar(D), T.affine_autoregressive(D, [4]), T.affine_coupling(D, hidden_dims=[4])])
def test_used_flows_copy_once_forgotten(flow: nn.Module) -> None:
    dist.TransformedDistribution(dist.Normal(torch.zeros(D), 1.0).to_event(1), [flow]).rsample()
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(flow)
    forget(nn.Sequential(flow))
    copy.deepcopy(flow)
    base = dist.Normal(torch.zeros(5, D), 1.0).to_event(1)
    torch.manual_seed(0)
    dist.TransformedDistribution(base, [flow]).rsample()  # still works


def test_what_is_the_users_is_left_alone() -> None:
    """Names that begin as a cache's do, and a flag that is called as a method of ours."""
    flow = T.affine_coupling(D, hidden_dims=[4])
    flow._cache_dir, flow.settled = "here", True
    forget(flow)
    assert flow._cache_dir == "here"
    with frozen(flow):
        assert not flow.training


class FlowGuide(Silent):
    """Its posterior is a flow."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = T.affine_autoregressive(D, [4])

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            base = dist.Normal(self.encoder(x)[:, :D], 1.0).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


def test_programs_with_flows_copy_during_and_after_fit() -> None:
    class Copier:
        def on_epoch_end(self, run: pv.Run) -> None:
            copy.deepcopy(run.program)

    run = fit(FlowGuide(), callbacks=[Copier()])
    for twin in (copy.deepcopy(run.program), pickle.loads(pickle.dumps(run.program))):
        torch.manual_seed(0)
        value = pv.log_terms(twin, data()).log_weight
        torch.manual_seed(0)
        assert torch.equal(pv.log_terms(run.program, data()).log_weight, value)
