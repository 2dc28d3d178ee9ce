"""Whatever pyrovae does leaves Pyro, torch and the random state as they were, also where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from small import D, bits, fit, vae

import pyrovae as pv

X = bits()


def world() -> dict[str, Any]:
    """All that is global, but the random state."""
    store = pyro.get_param_store()
    return {
        "settings": pyro.settings.get(),
        "store": {name: store[name].tolist() for name in store.keys()},  # noqa: SIM118 - not a dict
        "matmul": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "handlers": len(pyro.poutine.runtime._PYRO_STACK),
    }


def _fails(program: pv.VAE) -> None:
    class Failing:
        def on_epoch_end(self, run: pv.Run) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(program, X, callbacks=[Failing()])


def _refused(program: pv.VAE) -> None:
    with pytest.raises(pv.PyrovaeError):
        fit(program, torch.rand(30, 6))
    with pytest.raises(pv.PyrovaeError):
        pv.encode(program, X[:, :3])
    with pytest.raises(pv.PyrovaeError):
        pv.log_marginal(program, X[:, :3], num_particles=3)


# Whether the global random state stays as it was too, or is drawn from as documented.
CALLS: dict[str, tuple[Callable[[pv.VAE], Any], bool]] = {
    "fit": (lambda p: fit(p, X, validation=X, num_particles=2), True),
    "fit, interrupted": (_fails, True),
    "fit, refused": (_refused, False),
    "log_marginal": (lambda p: pv.log_marginal(p, X, num_particles=20, seed=0), True),
    "log_marginal without a seed": (lambda p: pv.log_marginal(p, X, num_particles=20), False),
    "log_terms": (lambda p: pv.log_terms(p, X, num_particles=3), False),
    "path": (lambda p: pv.gradients.path(p, pv.objectives.elbo, X), False),
    "sample": (lambda p: pv.sample(p, 3), False),
    "encode": (lambda p: pv.encode(p, X), False),
    "reconstruct": (lambda p: pv.reconstruct(p, X), True),
}


@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_the_world_stays_as_it_was(name: str, validation: bool) -> None:
    call, keeps_random_state = CALLS[name]
    program = vae(lambda e: pv.priors.VampPrior(e, X[:3]))
    with pyro.validation_enabled(validation), pyro.settings.context(module_local_params=not validation):
        pyro.param("mine", torch.ones(2))
        before, random = world(), torch.random.get_rng_state()
        modes = [module.training for module in program.modules()]
        call(program)
        assert world() == before
        assert torch.equal(torch.random.get_rng_state(), random) is keeps_random_state
        if not name.startswith("fit"):
            assert [module.training for module in program.modules()] == modes


@pytest.mark.parametrize("name", ["log_marginal without a seed", "log_terms", "sample", "encode"])
@pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
def test_the_global_seed_decides(name: str) -> None:
    call, program = CALLS[name][0], vae()
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        call(program)
        results.append(torch.rand(4))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_program_of_pyro_keeps_what_stock_training_put_into_the_store() -> None:
    program = vae()
    svi = pyro.infer.SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    svi.step(X)
    names = set(pyro.get_param_store().keys())
    assert len(names) == len(list(program.parameters()))
    fit(program, X)
    fit(vae(lambda e: pv.priors.NormalMixture(D, 2)), X)
    assert set(pyro.get_param_store().keys()) == names
    stored = {id(p) for p in pyro.get_param_store().values()}
    assert stored == {id(p) for p in program.parameters()}  # trained on in place: the same parameters
    before = program.decoder.net.output.bias.detach().clone()
    svi.step(X)
    assert not torch.equal(program.decoder.net.output.bias, before)
