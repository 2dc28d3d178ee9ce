"""Any prior with any likelihood with any posterior: trains, has its bounds in order, its evidence right or flagged."""

from __future__ import annotations

import math
import random
import warnings

import pytest
import torch
from combined import KINDS, TRIPLES, latents, program
from torch import Tensor

import pyrovae as pv
from pyrovae import board
from pyrovae.validation import validating

ERRORS = 4.0  # standard errors
DATA, PARTICLES, REPEATS = 3, 10_000, 60
Triple = tuple[str, str, str]


def pairs(triple: Triple) -> set[tuple[int, str, int, str]]:
    a, b, c = triple
    return {(0, a, 1, b), (0, a, 2, c), (1, b, 2, c)}


def covering(triples: list[Triple], extra: int, seed: int = 0) -> list[Triple]:
    """Triples that hold every pair of parts that any triple holds, and a few more; greedy, in a seeded order."""
    order = list(triples)
    random.Random(seed).shuffle(order)
    missing = set().union(*map(pairs, order))
    chosen = []
    for wanted in (3, 2, 1):  # first those that bring three new pairs
        for triple in order:
            if len(pairs(triple) & missing) >= wanted:
                chosen.append(triple)
                missing -= pairs(triple)
    rest = [t for t in order if t not in set(chosen)]
    return chosen + rest[:extra]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "triple" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all-triples")
        chosen = TRIPLES if every else covering(TRIPLES, extra=20)
        metafunc.parametrize("triple", chosen, ids=[" - ".join(t) for t in chosen])


@pytest.fixture(autouse=True)
def store(empty_store: None) -> None:
    pass


def test_parts_in_any_combination(triple: Triple) -> None:
    torch.manual_seed(0)
    x = KINDS[board.LIKELIHOODS[triple[1]].values].data()
    vae = program(*triple, x)
    run = pv.fit(vae, x, epochs=3, batch_size=6, compile=False, progress=False)
    assert all(math.isfinite(epoch["objective"]) for epoch in run.history)
    vae.eval()
    if all(board_part(slot, name).exact is True for slot, name in enumerate(triple)):
        bounds_in_order(vae, x)
    evidence_is_right_or_flagged(vae, x[:DATA], board.PRIORS[triple[0]].values)


def board_part(slot: int, name: str) -> board.Part:
    return (board.PRIORS, board.LIKELIHOODS, board.POSTERIORS)[slot][name]


def bounds_in_order(vae: pv.VAE, x: Tensor) -> None:
    """ELBO <= IWAE_5 <= IWAE_50 in the mean over the data, within the errors of their difference."""
    with torch.no_grad(), validating(False):
        t = pv.log_terms(vae, x, num_particles=50 * REPEATS)
        weight = t.log_point_weight + math.log(50 * REPEATS)  # (*points, N)
        weight = weight.logsumexp(tuple(range(weight.dim() - 2))) if weight.dim() > 2 else weight
    batches = weight.unflatten(0, (REPEATS, 10, 5))  # the same particles for all three bounds
    elbo = batches.mean((1, 2))
    iwae_5 = (batches.logsumexp(2) - math.log(5)).mean(1)
    iwae_50 = batches.flatten(1, 2).logsumexp(1) - math.log(50)
    for low, high in ((elbo, iwae_5), (iwae_5, iwae_50)):
        gap = (high - low).mean(-1)  # (REPEATS,), independent
        error = gap.std() / math.sqrt(REPEATS)
        assert gap.mean() >= -ERRORS * error - 1e-9


def evidence_is_right_or_flagged(vae: pv.VAE, x: Tensor, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pv.EvidenceWarning)
        ev = pv.log_marginal(vae, x, num_particles=PARTICLES, seed=1, compile=False, progress=False)
    trusted = ev.pareto_k < 0.5  # weights of finite variance, whose standard error is one
    exact = by_quadrature(vae, x, kind)
    if exact is None or not trusted.any():
        return
    off = (ev.log_prob - exact)[trusted]
    error = ev.standard_error[trusted].square().sum().sqrt()
    assert off.sum().abs() <= ERRORS * error + 2e-3 * len(off)


def by_quadrature(vae: pv.VAE, x: Tensor, kind: str) -> Tensor | None:
    """log p(x), (N,), by a sum or a quadrature over z; None where x brings latents of its own."""
    nodes, log_weight = latents(kind)
    z = nodes[:, None].expand(-1, len(x), -1)
    with torch.no_grad(), validating(False):
        first = pv.log_terms(vae, x)
        if set(first.latents) != {"z"}:
            return None
        log_p = vae.prior().log_prob(z) + vae.decoder(z).log_prob(x)
    return (log_p.double() + log_weight[:, None].double()).logsumexp(0)
