"""Evidence that was written and read is the evidence there was."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

import pyrovae as pv
from pyrovae.evidence.kept import restored, tensors


@pytest.mark.parametrize(
    "options",
    [
        {"num_particles": 20},
        {"method": "annealed", "num_particles": 4, "num_steps": 3},
        {"tolerance": 0.3, "num_particles": 1000, "num_steps": 20},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_field_comes_back(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    data = pv.data.load("digits")
    ev = pv.log_marginal(pv.vae(data, latent=2, hidden=(8,)), data.test.x[:12], seed=0, log_jacobian=-1.25, **options)
    check(ev)


def test_an_exact_one() -> None:
    unknown = torch.full((3,), torch.nan).double()
    check(pv.Evidence(torch.arange(3.0), 0 * unknown, unknown, unknown, 0, 4, method="exact", is_bound=False))


def check(ev: pv.Evidence) -> None:
    found = restored(json.loads(json.dumps(ev.record(), allow_nan=False)), tensors(ev))
    assert found.summary() == ev.summary() and found.record() == ev.record()
    assert found.kind == ev.kind and torch.equal(found.unreliable, ev.unreliable)
    for holder, other in ((ev, found), (ev.plan, found.plan)):
        if holder is not None:
            for name in (field.name for field in fields(holder) if field.name != "plan"):
                ours, theirs = getattr(holder, name), getattr(other, name)
                same = (
                    torch.equal(ours.nan_to_num(9), theirs.nan_to_num(9)) if torch.is_tensor(ours) else ours == theirs
                )
                assert same, name


def test_what_is_missing_is_an_error() -> None:
    ev = pv.Evidence(*torch.ones(4, 3).double(), 20, 4)  # type: ignore[misc]
    with pytest.raises(KeyError, match="num_steps"):
        restored({name: value for name, value in ev.record().items() if name != "num_steps"}, tensors(ev))
    with pytest.raises(TypeError):
        restored(ev.record(), {name: value for name, value in tensors(ev).items() if name != "ess"})
    assert "jackknife" in tensors(replace(ev, jackknife=torch.ones(3)))
