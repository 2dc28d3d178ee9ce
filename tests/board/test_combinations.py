"""Any prior with any likelihood with any posterior: trains, has its bounds in order, its evidence right or flagged."""

from __future__ import annotations

import itertools
import math
import random
import warnings
from typing import Any

import pytest
import torch
from combined import TRIPLES, Data, Triple, covering, data, exact_log_prob, plainest, program
from torch import Tensor

import pyrovae as pv
from pyrovae import board
from pyrovae.validation import validating

ERRORS = 4.0  # standard errors
ROUNDING = 1e-4  # nats, of float32 and of the quadrature
DATA, PARTICLES, REPEATS = 3, 5_000, 100


def pairs(triple: Triple) -> set[tuple[int, str, int, str]]:
    a, b, c = triple
    return {(0, a, 1, b), (0, a, 2, c), (1, b, 2, c)}


def every_pair_and(more: int) -> list[Triple]:
    order = random.Random(0).sample(TRIPLES, len(TRIPLES))
    chosen = covering(order, pairs)
    return chosen + [triple for triple in order if triple not in chosen][:more]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "triple" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all-triples")
        chosen = TRIPLES if every else every_pair_and(20)
        metafunc.parametrize("triple", chosen, ids=[" - ".join(t) for t in chosen])


@pytest.fixture(autouse=True)
def store(empty_store: None) -> None:
    pass


def test_parts_in_any_combination(triple: Triple) -> None:
    vae, seen = trained(triple)
    exact = exact_log_prob(vae, board.PRIORS[triple[0]].values, *seen)
    bounds_are_bounds(vae, seen, exact)
    evidence_is_right_or_flagged(vae, seen, exact, least=1)


ONE_LATENT = [
    (slot, name)
    for slot in ("priors", "likelihoods", "posteriors")
    for name, part in board.SLOTS[slot].items()
    if part.values not in ("one-hot", "log-simplex") and name != "coupling flow of Pyro"  # which want two dimensions
]


@pytest.mark.parametrize(("slot", "name"), ONE_LATENT)
def test_evidence_with_one_latent(slot: str, name: str) -> None:
    """Of every part, with plain ones."""
    triple = plainest(slot, name)
    vae, seen = trained(triple, latent=1)
    exact = exact_log_prob(vae, board.PRIORS[triple[0]].values, *seen)
    evidence_is_right_or_flagged(vae, seen, exact, least=DATA)


def trained(triple: Triple, latent: int = 2) -> tuple[pv.VAE, Data]:
    """A program of the triple after a few steps, and the first of its data."""
    torch.manual_seed(0)
    seen = data(*triple[:2])
    vae = program(*triple, seen[0], latent)
    run = pv.fit(vae, seen if len(seen) > 1 else seen[0], epochs=2, batch_size=6, compile=False, progress=False)
    assert all(math.isfinite(epoch["objective"]) for epoch in run.history)
    return vae.eval(), tuple(part[:DATA] for part in seen)


def bounds_are_bounds(vae: pv.VAE, seen: Data, exact: Tensor) -> None:
    """ELBO <= IWAE_5 <= IWAE_50 <= log p(x) in the mean over the data, each of particles of its own."""
    elbo = repeated(vae, seen, pv.objectives.elbo, 1)
    iwae_5 = repeated(vae, seen, pv.objectives.iwae, 5)
    iwae_50 = repeated(vae, seen, pv.objectives.iwae, 50)
    limit = (exact.mean().item(), 0.0)
    for (low, low_error), (high, high_error) in itertools.pairwise((elbo, iwae_5, iwae_50, limit)):
        assert low <= high + ERRORS * math.hypot(low_error, high_error) + ROUNDING


def repeated(vae: pv.VAE, seen: Data, objective: Any, num_particles: int) -> tuple[float, float]:
    """The mean over the data of a bound, and its standard error over independent repeats."""
    rows = [part.repeat(REPEATS, *[1] * (part.dim() - 1)) for part in seen]
    with torch.no_grad(), validating(False):
        bound = objective(pv.log_terms(vae, *rows, num_particles=num_particles)).double()
    means = bound.unflatten(0, (REPEATS, DATA)).mean(1)
    return means.mean().item(), means.std().item() / math.sqrt(REPEATS)


def evidence_is_right_or_flagged(vae: pv.VAE, seen: Data, exact: Tensor, least: int) -> None:
    """Each datum's by the library's own flag; at least so many are not flagged, and so compared.

    The logarithm of a mean is below that of its expectation by half its variance, to first order.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        ev = pv.log_marginal(vae, *seen, num_particles=PARTICLES, seed=2, compile=False, progress=False)
    trusted = ~ev.unreliable
    assert trusted.sum() >= least
    off = ev.log_prob + ev.standard_error.square() / 2 - exact
    assert (off.abs() <= ERRORS * ev.standard_error + ROUNDING)[trusted].all()
