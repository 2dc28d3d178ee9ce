"""Texts: the recurrence against torch's, encoder and decoder, word dropout, the recipe, and real characters."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import log_prob_by_quadrature
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import recipes
from pyrovae.gradients import path
from pyrovae.networks import RecurrentDecoder, RecurrentEncoder
from pyrovae.networks.recurrence import Recurrence
from pyrovae.readings import Reading

# ----------------------------------------------------------------------------------------------------- recurrence


def torchs(weight: Tensor) -> Tensor:
    """The rows in the order of torch's LSTM: input, forget, candidate, output."""
    i, f, o, n = weight.chunk(4)
    return torch.cat([i, f, n, o])


def reference(recurrence: Recurrence, width: int) -> nn.LSTM:
    """Torch's own LSTM, reading the gates as they are."""
    lstm = nn.LSTM(4 * width, width, batch_first=True, bias=False)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torchs(torch.eye(4 * width)))
        lstm.weight_hh_l0.copy_(torchs(recurrence.keeps.weight))
    return lstm


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_recurrence_is_torchs(double: None, steps: int) -> None:
    """Its gradients too, with respect to gates and weights."""
    torch.manual_seed(0)
    recurrence = Recurrence(4)
    lstm = reference(recurrence, 4)
    gates, v = torch.randn(3, 2, steps, 16).requires_grad_(), torch.randn(3, 2, steps, 4)
    found = recurrence(gates)
    expected = lstm(gates.reshape(6, steps, 16))[0].reshape(3, 2, steps, 4)
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad((found * v).sum(), [gates, recurrence.keeps.weight])
    theirs = torch.autograd.grad((expected * v).sum(), [gates, lstm.weight_hh_l0])
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(torchs(ours[1]), theirs[1])


def test_the_recurrence_as_an_operation() -> None:
    """Torch's own checks: shapes without values, autograd, no aliases."""
    gates, weight = torch.randn(5, 3, 8, requires_grad=True), torch.randn(8, 2, requires_grad=True)
    torch.library.opcheck(torch.ops.pyrovae.lstm.default, (gates, weight))
    assert Recurrence(2).to("meta")(torch.empty(4, 5, 8, device="meta")).shape == (4, 5, 2)


def test_the_encoder_reads_in_both_directions(double: None) -> None:
    torch.manual_seed(0)
    net = RecurrentEncoder([(5, 3), 2], 4, width=6)
    x, y = torch.randn(7, 5, 3), torch.randn(7, 2)
    ahead, back = net.recurrences
    states = [
        reference(ahead, 6)(net.reading[0](x))[0][:, -1],
        reference(back, 6)(net.reading[1](x.flip(1)))[0][:, -1],
    ]
    torch.testing.assert_close(net(x, y), net.output(torch.cat([*states, y], 1)))


def test_the_decoder_reads_the_token_before_and_z_at_every_step(double: None) -> None:
    torch.manual_seed(0)
    net = RecurrentDecoder([(5, 3), 2], 10, width=6)
    x, z = torch.randn(7, 5, 3), torch.randn(7, 2)
    before = torch.cat([net.start.expand(7, 1, 3), x[:, :-1]], 1)
    states = reference(net.recurrence, 6)(net.reading(before) + net.context(z)[:, None])[0]
    torch.testing.assert_close(net(x, z).reshape(7, 2, 5), net.output(states).transpose(1, 2))
    many = torch.randn(4, 7, 2)
    torch.testing.assert_close(net(x, many)[2], net(x, many[2]))


# ---------------------------------------------------------------------------------------------------- word dropout


def text(word_dropout: float = 0.0, steps: int = 3, levels: int = 3) -> pv.VAE:
    """A VAE of few tokens."""
    encoder = Reading(RecurrentEncoder((steps, 4), 4, width=5), nn.Embedding(levels, 4))
    net = RecurrentDecoder([(steps, 4), 2], levels * steps, width=5, word_dropout=word_dropout)
    decoder = pv.Autoregressive(Reading(net, nn.Embedding(levels, 4), None), pv.families.Categorical(levels))
    return pv.VAE(pv.priors.StandardNormal(2), decoder, pv.Conditional(encoder, pv.families.normal))


def test_word_dropout_is_of_training_alone() -> None:
    torch.manual_seed(0)
    program, x, z = text(word_dropout=0.5), torch.randint(3, (50, 3)), torch.randn(50, 2)
    program.eval()
    assert torch.equal(program.decoder(z).log_prob(x), program.decoder(z).log_prob(x))
    program.train()
    assert not torch.equal(program.decoder(z).log_prob(x), program.decoder(z).log_prob(x))
    with torch.no_grad():
        without = text(word_dropout=0.0).train()
    assert torch.equal(without.decoder(z).log_prob(x), without.decoder(z).log_prob(x))


def test_without_words_only_z_is_seen() -> None:
    """All replaced: a factor depends on nothing before it, and the density is still of the true tokens."""
    torch.manual_seed(0)
    program = text(word_dropout=1.0).train()
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    log_p = program.decoder(torch.zeros(2)).log_prob(every)
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))
    p = log_p.exp().reshape(3, 3, 3)
    product = p.sum((1, 2))[:, None, None] * p.sum((0, 2))[:, None] * p.sum((0, 1))
    torch.testing.assert_close(p, product)
    dependent = program.eval().decoder(torch.zeros(2)).log_prob(every).exp().reshape(3, 3, 3)
    assert not torch.allclose(dependent, dependent.sum((1, 2))[:, None, None] * dependent.sum(0))


def test_words_are_dropped_as_often_as_said_and_for_every_particle() -> None:
    torch.manual_seed(0)
    net = RecurrentDecoder([(40, 1), 2], 40, width=3, word_dropout=0.3).train()
    seen = net._before(torch.ones(50, 40, 1), torch.Size([4, 50]))  # (particles, data, steps, 1)
    assert seen.shape == (4, 50, 40, 1)
    dropped = (seen[..., 1:, 0] == net.unknown).double()
    assert (seen[..., 0, 0] == net.start).all()
    assert abs(dropped.mean().item() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / dropped.numel())
    assert not torch.equal(dropped[0], dropped[1])


# -------------------------------------------------------------------------------------------------------- programs


def test_a_text_vae_against_quadrature(double: None) -> None:
    torch.manual_seed(0)
    program, x = text(), torch.randint(3, (6, 3))
    with torch.no_grad():
        program.decoder.net.net.context.weight.mul_(3)
        program.encoder.net.net.output.bias[2:] = pv.families.inverse_positive(1.3)
    ev = pv.log_marginal(program, x, num_particles=4000, seed=0)
    assert ((ev.log_prob - log_prob_by_quadrature(program, x)).abs() < 4 * ev.standard_error).all()


def of_tokens(num_data: int = 120, steps: int = 6, labels: bool = False) -> pv.data.Data:
    """Sequences that go around: a, b, c, a, ..., from any start; the label says in which direction."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(3, (num_data, 1), generator=generator)
    way = torch.randint(2, (num_data,), generator=generator) if labels else torch.zeros(num_data).long()
    x = (start + torch.arange(steps) * (1 - 2 * way[:, None])) % 3
    sizes = (num_data - 40, 20, 20)
    parts = zip(x.split(sizes), way.split(sizes), strict=True)
    splits = [pv.data.Split(part, label if labels else None, (label,) if labels else ()) for part, label in parts]
    classes = ("on", "back") if labels else ()
    return pv.data.Data("around", *splits, "none", 0, "f" * 64, kind="tokens", classes=classes, levels=("a", "b", "c"))


FIT: dict[str, Any] = {"batch_size": 20, "device": "cpu", "progress": False, "seed": 0}


def test_the_recipe_learns_what_follows_what(tmp_path: Path) -> None:
    """In the end the first token alone is uncertain: log 3 nats."""
    torch.manual_seed(0)
    data = of_tokens()
    program = pv.text_vae(data, latent=2, width=16, embedding=4)
    optimizer = lambda p: torch.optim.Adam(p, lr=0.02)  # noqa: E731
    pv.fit(program, data, epochs=40, optimizer=optimizer, **FIT)
    ev = pv.log_marginal(program, data.test.x, num_particles=100, seed=0)
    assert -math.log(3) - 0.3 < ev.mean < -math.log(3) + 0.15  # the first token's frequencies are not quite equal
    torch.manual_seed(0)
    drawn = pv.sample(program, 50)
    assert ((drawn.diff(dim=1) % 3) == 1).double().mean() > 0.95
    pv.save(program, tmp_path / "program.safetensors")
    again = pv.log_marginal(pv.load(tmp_path / "program.safetensors"), data.test.x, num_particles=100, seed=0)
    assert torch.equal(again.log_prob, ev.log_prob)


def test_the_recipe_starts_at_the_frequencies_of_the_tokens() -> None:
    data = of_tokens()
    data = dataclasses.replace(data, train=pv.data.Split(torch.tensor([[0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 1]])))
    program = pv.text_vae(data, latent=2, width=8, embedding=4)
    with torch.no_grad():
        program.decoder.net.net.output.weight.zero_()
    found = program.decoder(torch.zeros(2)).factors(torch.zeros(6).long()).base_dist.probs
    torch.testing.assert_close(found, torch.tensor([8, 4, 0.5]).div(12.5).expand(6, 3))


@pytest.mark.parametrize("reader", [pv.readings.OneHot(2), nn.Embedding(2, 3)], ids=lambda r: type(r).__name__)
def test_a_conditional_text(reader: nn.Module) -> None:
    """The label says in which direction the sequences go."""
    torch.manual_seed(0)
    data = of_tokens(labels=True)
    program = pv.text_vae(data, latent=2, width=16, embedding=4, readers=[reader], word_dropout=0.1)
    pv.fit(program, data, epochs=40, optimizer=lambda p: torch.optim.Adam(p, lr=0.02), **FIT)
    label = torch.arange(60) % 2
    steps = pv.sample(program, 60, label).diff(dim=1) % 3  # 1 onwards, 2 backwards
    assert (steps == 1 + label[:, None]).double().mean() > 0.9
    with pytest.raises(pv.PyrovaeError, match="holds 2, and"):
        pv.sample(program, 60, label + 1)


def test_recipes_of_texts() -> None:
    conditional = pv.text_vae(
        of_tokens(labels=True), latent=2, width=8, readers=[pv.readings.OneHot(2)],
        prior=recipes.ConditionalPrior((8,), readers=[pv.readings.OneHot(2)]),
    )  # fmt: skip
    x, y = of_tokens(labels=True).test.x, of_tokens(labels=True).test.given[0]
    assert pv.log_terms(conditional, x, y, num_particles=2).log_pz.shape == (2, 20)
    dense = pv.vae(of_tokens(labels=True), latent=2, hidden=(8,), readers=[nn.Embedding(2, 3)])
    assert pv.log_terms(dense, x, y).log_px_z.shape == (1, 20)
    with pytest.raises(pv.PyrovaeError, match="these data are tokens"):
        pv.text_vae(of_tokens(), prior=recipes.Vamp(5))
    with pytest.raises(pv.PyrovaeError, match="holds images, and a recurrent program is of tokens"):
        pv.text_vae(pv.data.load("digits"))


def test_the_path_gradient_of_a_text() -> None:
    """It exchanges parameters, those of the recurrence too."""
    torch.manual_seed(0)
    run = pv.fit(text(), torch.randint(3, (40, 3)), epochs=2, gradient=path, num_particles=3, **FIT)
    assert all(math.isfinite(record["objective"]) for record in run.history)


def test_characters_of_shakespeare() -> None:
    """A few steps on real text come below the entropy of its frequencies; what is drawn is text."""
    try:
        data = pv.data.load("tiny_shakespeare", size=32, download=False)
    except pv.PyrovaeError as error:
        pytest.skip(f"tiny_shakespeare is not here: {error}")
    torch.manual_seed(0)
    few = dataclasses.replace(
        data, train=pv.data.Split(data.train.x[:2500]), validation=pv.data.Split(data.test.x[:200])
    )
    program = pv.text_vae(few, latent=8, width=64, embedding=16, word_dropout=0.1)
    frequencies = torch.bincount(few.train.x.flatten(), minlength=65) / few.train.x.numel()
    start = program.decoder(torch.zeros(8)).log_prob(few.validation.x).mean().item()
    entropy = -frequencies.xlogy(frequencies).sum().item() * 32
    assert start == pytest.approx(-entropy, rel=0.05)
    optimizer = lambda p: torch.optim.Adam(p, lr=0.01)  # noqa: E731
    run = pv.fit(program, few, epochs=2, optimizer=optimizer, compile=False, **FIT | {"batch_size": 64})
    assert run.column("validation")[-1] > -0.9 * entropy
    drawn = pv.sample(program, 4)
    assert drawn.shape == (4, 32) and few.support.check(drawn).all()
