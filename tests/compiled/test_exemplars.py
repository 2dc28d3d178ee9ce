"""An exemplar prior's means are computed once in an evaluation, whose graph outlives changes of the weights."""

from __future__ import annotations

import sys

import pytest
import torch
from torchs_noise import TorchsNoise

import pyrovae as pv
from pyrovae.compiled.backends import interpreted


def made(x: torch.Tensor) -> pv.VAE:
    torch.manual_seed(0)
    encoder = pv.Conditional(pv.networks.MLP(4, 8, 4), pv.families.normal)
    decoder = pv.Conditional(pv.networks.MLP(2, 8, 4), pv.families.bernoulli)
    return pv.VAE(pv.priors.ExemplarPrior(encoder, x[:5]), decoder, encoder)


def test_a_graph_of_validation_follows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same random numbers the figures of every epoch are those of an eager run."""
    monkeypatch.setattr("pyrovae.compiled.function.Noise", TorchsNoise)
    monkeypatch.setattr(sys.modules["pyrovae.training.fit"], "long_enough", lambda *args, **options: True)
    graphs = []
    monkeypatch.setattr(
        "pyrovae.compiled.choice.backend_for", lambda device: lambda *args: graphs.append(args) or interpreted(*args)
    )
    x, columns = torch.rand(12, 4).round(), []
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.5)  # noqa: E731
    for compile in (False, True):
        run = pv.fit(made(x), x, validation=x, epochs=4, batch_size=6, compile=compile, optimizer=sgd, device="cpu")
        columns.append(run.column("validation"))
    assert len(graphs) == 2  # of the step, and of validation, each once
    assert columns[0] == pytest.approx(columns[1], rel=1e-5) and len(set(columns[0])) == 4
