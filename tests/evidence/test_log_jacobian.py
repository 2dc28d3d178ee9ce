"""The change of variables: log p of standardised data plus the log-Jacobian is log p of the data in their own units."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from exact import LinearGaussian
from torch import Tensor

import pyrovae as pv
from pyrovae.data import Data, Split
from pyrovae.data.standardization import standardization


def standardised(own: Tensor) -> Data:
    """A data set whose three splits are the table, in its own units, standardised."""
    units = standardization(own, ["a", "b", "c"])
    split = Split(units.apply(own))
    return Data(
        "own", split, split, split, "none", 0, "f" * 64, kind="table", columns=tuple("abc"), standardization=units
    )


def test_it_is_the_exact_density_in_own_units(double: None) -> None:
    """x = W z + b + noise in the model's units is normal in the own units too: its closed form, to 1e-8."""
    model = LinearGaussian(2, 3)
    own = model.data(40) * torch.tensor([3.0, 0.02, 50.0]) + torch.tensor([5.0, -1.0, 0.0])
    data = standardised(own)
    ev = pv.log_marginal(model.program, data.test.x, num_particles=20, seed=0, log_jacobian=data.log_jacobian)
    units = data.standardization
    assert units is not None
    cov = model.marginal.covariance_matrix * units.scale[:, None] * units.scale
    exact = dist.MultivariateNormal(units.restore(model.b), covariance_matrix=cov).log_prob(own)
    torch.testing.assert_close(ev.log_prob, exact, rtol=0, atol=1e-8)
    assert abs(data.log_jacobian) > 1  # so that the test can fail
    assert ev.log_jacobian == data.log_jacobian
    torch.testing.assert_close(torch.tensor(ev.bits_per_dim), -exact.mean() / (3 * math.log(2)))


def test_units_do_not_matter(double: None) -> None:
    """Metres or millimetres: in nats per datum the figures differ by log 1000 for each column, as densities must."""
    model = LinearGaussian(2, 3)
    own = model.data(40)
    metres, millimetres = standardised(own), standardised(1000 * own)
    torch.testing.assert_close(metres.test.x, millimetres.test.x)
    evs = [
        pv.log_marginal(model.program, data.test.x, num_particles=5, seed=0, log_jacobian=data.log_jacobian)
        for data in (metres, millimetres)
    ]
    torch.testing.assert_close(evs[0].log_prob - evs[1].log_prob, torch.full((40,), 3 * math.log(1000)))


def test_one_for_each_datum(double: None) -> None:
    model = LinearGaussian(2, 3)
    x, shift = model.data(5), torch.arange(5.0)
    plain = pv.log_marginal(model.program, x, num_particles=5, seed=0)
    moved = pv.log_marginal(model.program, x, num_particles=5, seed=0, log_jacobian=shift)
    torch.testing.assert_close(moved.log_prob, plain.log_prob + shift)
    torch.testing.assert_close(moved.standard_error, plain.standard_error)
    assert moved.log_jacobian == 2.0


def test_a_result_says_so_where_it_is_not_zero(double: None) -> None:
    model = LinearGaussian(2, 3)
    x = model.data(5)
    plain, moved = (pv.log_marginal(model.program, x, num_particles=5, seed=0, log_jacobian=j) for j in (0.0, -2.5))
    assert "log-Jacobian" not in plain.summary() and plain.record()["log_jacobian"] == 0.0
    assert (
        "of it, log-Jacobian" in moved.summary()
        and "-2.500  nats: the density is in the data's own units" in moved.summary()
    )
    assert moved.record()["log_jacobian"] == -2.5 and moved.mean == pytest.approx(plain.mean - 2.5)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, torch.zeros(4), torch.zeros(5, 1)])
def test_what_is_no_log_jacobian(wrong: float | Tensor) -> None:
    model = LinearGaussian(2, 3)
    with pytest.raises(pv.PyrovaeError, match=r"log_jacobian must be a finite number, or one for each of the 5 data"):
        pv.log_marginal(model.program, model.data(5), num_particles=5, log_jacobian=wrong)
