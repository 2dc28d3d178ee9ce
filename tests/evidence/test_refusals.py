"""What a new user writes by mistake is refused at once, in one sentence that says what to do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import pyrovae as pv

Call = Callable[[Any, torch.Tensor], Any]


@pytest.fixture(scope="module")
def data() -> pv.data.Data:
    return pv.data.load("digits")


@pytest.fixture(scope="module")
def vae(data: pv.data.Data) -> Any:
    torch.manual_seed(0)
    return pv.vae(data, latent=2, hidden=(8,))


class Points(torch.nn.Module):
    """The encoder of an autoencoder."""

    def forward(self, x: torch.Tensor) -> Any:
        return dist.Delta(x.flatten(1)[:, :2]).to_event(1)


def linear(call: Call) -> Call:
    return lambda vae, x: call(torch.nn.Linear(64, 2), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae, x: pv.log_marginal(vae, x, num_particles=1e3), "1000.0: write 1000"),
        (lambda vae, x: pv.log_marginal(vae, x, num_particles=2.5), r"num_particles must be a whole number; got 2.5$"),
        (lambda vae, x: pv.log_marginal(vae, x, num_particles="5"), r"num_particles must be a whole number; got '5'$"),
        (lambda vae, x: pv.log_marginal(vae, x, tolerance=0.1, num_steps=3.0), "num_steps must be a whole number"),
        (lambda vae, x: pv.log_marginal(vae, x, num_draws=3.0), "num_draws must be a whole number"),
        (lambda vae, x: pv.log_marginal(vae, x, num_draws=-1), "num_draws must be at least 0; got -1"),
        (lambda vae, x: pv.sandwich(vae, num_data=5.0), "num_data must be a whole number"),
        (lambda vae, x: pv.calibration(vae, num_draws=19.0), "num_draws must be a whole number"),
        (lambda vae, x: pv.inference_gaps(vae, x, num_steps=1), "num_steps must be at least 2; got 1"),
        (lambda vae, x: pv.nuts(vae, x, num_chains=1), "num_chains must be at least 2; got 1"),
        (lambda vae, x: pv.nuts(vae, x, num_warmup=0), "num_warmup must be positive; got 0"),
        (lambda vae, x: pv.Annealing(num_leapfrog=2.0), "num_leapfrog must be a whole number"),  # type: ignore[arg-type]
        (lambda vae, x: pv.log_marginal(vae, x, method="annealed", annealing={"n": 2}), r"pyrovae.Annealing\("),
        (lambda vae, x: pv.log_marginal(vae, x, expectations=lambda z: z["z"]), "functions by name.*got a function"),
        (lambda vae, x: pv.log_marginal(vae, x, expectations={"mean": 3}), "functions by name"),
        (linear(lambda vae, x: pv.log_marginal(vae, x)), "this Linear has no model and no guide"),
        (linear(lambda vae, x: pv.log_marginal(vae, x, method="exact")), "this Linear has no model"),
        (linear(lambda vae, x: pv.sandwich(vae)), "this Linear has no model and no guide"),
        (linear(lambda vae, x: pv.calibration(vae)), "this Linear has no model and no guide"),
        (linear(lambda vae, x: pv.sample(vae, 3)), "this Linear has no model"),
        (linear(lambda vae, x: pv.fit(vae, x, epochs=1)), "this Linear has no model and no guide"),
        (lambda vae, x: pv.log_marginal(vae, x[:, :, :5]), r"shape \(\.\.\., 1, 8, 8\); got \(\.\.\., 1, 5, 8\)"),
        (lambda vae, x: pv.log_marginal(vae, x.flatten(1)[:, :50]), r"got \(\.\.\., 50\)"),
        (lambda vae, x: pv.log_marginal(vae, x[:, :, :5], method="exact"), r"datum of site 'x' has shape \(1, 5, 8\)"),
        (lambda vae, x: pv.log_marginal(vae, x / 0), "x contains NaN; see pyrovae.Missing"),
        (lambda vae, x: pv.log_marginal(vae, pv.data.load("digits").test), "got a Split.*pass its tensor, data.test.x"),
        (lambda vae, x: pv.log_marginal(vae, pv.data.load("digits")), "got a Data.*pass its tensor, data.test.x"),
        (lambda vae, x: pv.sandwich(vae, x), "The data are simulated: pass no x"),
        (lambda vae, x: pv.sandwich(vae, x, num_data=len(x)), "The data are simulated: pass no x"),
    ],
)  # fmt: skip
def test_mistakes(vae: Any, data: pv.data.Data, call: Call, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message) as caught:
        call(vae, data.test.x[:4])
    assert "\n" not in str(caught.value)


def test_whole_numbers_of_other_libraries_will_do(vae: Any, data: pv.data.Data) -> None:
    numpy, torchs = np.int64(20), torch.tensor(20)
    counts = [pv.log_marginal(vae, data.test.x[:2], num_particles=n).num_particles for n in (numpy, torchs)]  # type: ignore[arg-type]
    assert counts == [20, 20] and all(type(count) is int for count in counts)


def test_points_are_refused_in_words_of_no_method(vae: Any, data: pv.data.Data) -> None:
    autoencoder = pv.VAE(vae.prior, vae.decoder, Points())
    calls: list[Callable[[], Any]] = [
        lambda: pv.log_marginal(autoencoder, data.test.x[:2]),
        lambda: pv.sandwich(autoencoder, num_data=2, method="importance"),
        lambda: pv.nuts(autoencoder, data.test.x[:1], num_chains=2, num_draws=4, num_warmup=1),
    ]
    for call in calls:
        with pytest.raises(pv.PyrovaeError, match="points") as caught:
            call()
        assert "importance sampling" not in str(caught.value)
