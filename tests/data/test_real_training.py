"""A few steps of training on every set that is at hand: the defaults of pv.vae fit each of them (real files)."""

import dataclasses
import warnings

import pytest
import torch
from test_catalogue import USUAL, real

import pyrovae as pv

NAMES = ["digits", *USUAL]


def some(data: pv.data.Data, count: int = 256) -> pv.data.Data:
    """The first rows of each split."""
    parts = {
        key: pv.data.Split(split.x[:count], None if split.labels is None else split.labels[:count])
        for key, split in data.splits.items()
    }
    return dataclasses.replace(data, **parts)


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_learn(name: str) -> None:
    """The ELBO rises from the first epoch to the last, and log p(x) is finite and in the data's own units."""
    data = some(pv.data.load("digits") if name == "digits" else real(name))
    torch.manual_seed(0)
    program = pv.vae(data, latent=4, hidden=(32,))
    run = pv.fit(program, data, epochs=4, batch_size=64, device="cpu", progress=False)
    assert run.history[-1]["objective"] > run.history[0]["objective"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        ev = pv.log_marginal(program, data.test.x[:8], num_particles=20, seed=0, log_jacobian=data.log_jacobian)
    assert ev.log_prob.isfinite().all() and ev.log_jacobian == data.log_jacobian
    drawn = pv.sample(program, 3)
    assert drawn.shape == (3, *data.event_shape)
    assert data.restore(drawn).isfinite().all()
