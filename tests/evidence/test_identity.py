"""Evidence knows of which data it is."""

from typing import Any

import numpy as np
import pytest
import torch

import pyrovae as pv
from pyrovae.evidence.identity import identity

QUICK: dict[str, Any] = {"num_particles": 10, "seed": 0}


@pytest.fixture(scope="module")
def vae() -> Any:
    torch.manual_seed(0)
    return pv.vae(pv.data.load("digits"), latent=2, hidden=(8,))


def test_values_and_their_order_count_and_nothing_else() -> None:
    x = torch.randint(0, 256, (2500, 6))
    assert identity(x) == identity(x.float()) == identity(x.byte().numpy()) == identity(x.double().reshape(-1, 2, 3))
    assert identity(x.float().numpy().astype(np.float64)) == identity(x)
    changed = x.clone()
    changed[2400, 5] += 1
    assert len({identity(x), identity(changed), identity(x.flip(0)), identity(x[:-1])}) == 4
    assert identity({"a": x, "b": changed}) == identity({"b": changed, "a": x}) != identity({"a": changed, "b": x})
    assert identity(x, changed).split("-") == [identity(x), identity((changed,))]
    missing = torch.tensor([[1.0, torch.nan]])
    assert identity(missing) == identity(missing.clone()) != identity(missing.nan_to_num())


def test_evidence_of_different_data_is_not_paired(vae: Any) -> None:
    x = pv.data.load("digits").test.x
    one, other = (pv.log_marginal(vae, rows, **QUICK) for rows in (x[:4], x[4:8]))
    assert one.data_digest == identity(x[:4]) and pv.compare(one, one).differences.shape == (1, 4)
    with pytest.raises(pv.PyrovaeError, match="different data: the values of x, or their order"):
        pv.compare(one, other)
    with pytest.raises(pv.PyrovaeError, match="evidence is of other data"):
        pv.inference_gaps(vae, x[4:8], evidence=one, num_steps=2, num_particles=2)
    gaps = pv.inference_gaps(vae, x[4:8], num_steps=2, num_particles=2, flow=False)
    assert gaps.evidence.data_digest == other.data_digest
    with pytest.raises(pv.PyrovaeError, match="Pass each by itself"):
        pv.compare([one, one])  # type: ignore[arg-type]


def test_other_units_and_what_is_given_may_differ(vae: Any) -> None:
    x = pv.data.load("digits").test.x[:4]
    own, scaled = (pv.log_marginal(vae, x * c, log_jacobian=j, **QUICK) for c, j in ((1, 0.0), (0, -9.0)))
    assert own.data_digest != scaled.data_digest
    pv.compare(own, scaled, own_units=True)
    pv.compare(pv.log_marginal(vae, x, log_jacobian=-3.0, **QUICK), scaled)
    with pytest.raises(pv.PyrovaeError, match="different data"):
        pv.compare(pv.log_marginal(vae, x, log_jacobian=-9.0, **QUICK), scaled)


def test_a_label_may_be_given_to_some_but_no_other_one(vae: Any) -> None:
    data = pv.data.load("digits")
    labelled = data.conditional()
    x, y = data.test.x[:4], labelled.test.given[0][:4]
    cvae = pv.vae(labelled, latent=2, hidden=(8,))
    free, true, false = (pv.log_marginal(*program, **QUICK) for program in ((vae, x), (cvae, x, y), (cvae, x, 1 - y)))
    pv.compare(free, true)
    with pytest.raises(pv.PyrovaeError, match="the values of what is given"):
        pv.compare(free, true, false)


def test_evidence_made_by_hand_has_no_digest(vae: Any) -> None:
    ev = pv.log_marginal(vae, pv.data.load("digits").test.x[:4], method="annealed", num_particles=2, num_steps=2)
    by_hand = pv.Evidence(ev.log_prob, ev.standard_error, ev.ess, ev.pareto_k, 10, 64)
    assert by_hand.data_digest == "" and pv.compare(by_hand, ev).num_data == 4
