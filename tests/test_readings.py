"""Readings: what a network sees of labels, tokens, counts and levels, and which parts see a conditioning variable."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import log_prob_by_quadrature, wide_encoder
from torch import Tensor, nn
from torch.distributions import constraints

import pyrovae as pv
from pyrovae.networks import MLP
from pyrovae.readers import check_values
from pyrovae.readings import Ignore, LogCounts, OneHot, Reader, Reading, Scaled, ValuesAndMask, shapes_read
from pyrovae.validation import validating

# ---------------------------------------------------------------------------------------------------------- readers


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
def test_one_hot_is_torchs(dtype: torch.dtype) -> None:
    net = MLP([(5, 3), 2], 4)
    x, other = torch.randint(0, 3, (7, 6, 5)), torch.randn(6, 2)
    expected = net(torch.nn.functional.one_hot(x, 3).float(), other)
    torch.testing.assert_close(Reading(net, OneHot(3))(x.to(dtype), other), expected)
    torch.testing.assert_close(Reading(net, OneHot(3), None)(x.to(dtype), other), expected)


def test_log_counts() -> None:
    net = MLP(4, 3)
    x = torch.tensor([[0.0, 1.0, 500.0, -2.0]])
    torch.testing.assert_close(Reading(net, LogCounts())(x), net(torch.tensor([[1.0, 2.0, 501.0, 1.0]]).log()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_readers_follow_the_program_s_dtype(dtype: torch.dtype) -> None:
    counts = Reading(MLP(4, 3), LogCounts()).to(dtype)
    assert counts(torch.tensor([[0, 1, 500, 2]])).dtype == dtype
    assert counts(torch.tensor([[0, 1, 50, 2]], dtype=torch.uint8)).dtype == dtype
    one_hot = OneHot(3001).to(dtype)(torch.arange(3001))
    assert one_hot.dtype == dtype and torch.equal(one_hot, torch.eye(3001, dtype=dtype))


def test_scaled_levels() -> None:
    net = MLP([4, 2], 3)
    grey, attributes = torch.randint(256, (6, 4)).byte(), torch.rand(6, 2) > 0.5
    expected = net(grey / 255, attributes.float())
    torch.testing.assert_close(Reading(net, Scaled(256), Scaled(2))(grey, attributes), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_an_embedding_of_labels(dtype: torch.dtype) -> None:
    embedding, net = nn.Embedding(5, 3), MLP([2, 3], 4)
    z, y = torch.randn(7, 6, 2), torch.randint(5, (6,))
    torch.testing.assert_close(Reading(net, None, embedding)(z, y.to(dtype)), net(z, embedding.weight[y]))


def test_a_reader_may_give_several_tensors_or_none() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x.square()

    x, y = torch.randn(6, 3), torch.randn(6, 2)
    net = MLP([3, 3], 4)
    torch.testing.assert_close(Reading(net, Both(), Ignore())(x, y), net(x, x.square()))
    assert shapes_read([Both(), Ignore()], [x, y]) == [(3,), (3,)]
    assert shapes_read([OneHot(4), nn.Embedding(9, 2), None], [torch.ones(6, 3), torch.ones(6).long(), y]) == [
        (3, 4), (2,), (2,)
    ]  # fmt: skip


def test_what_a_reading_forwards() -> None:
    net = MLP([2, 3], 7, 4)
    reading = Reading(net, None, OneHot(3))
    assert reading.out_shape == (4,) and reading.output is net.output and not reading.causal
    assert reading.batch_shape(torch.randn(5, 1, 2), torch.ones(6).long()) == (5, 6)
    reading.start_at(torch.arange(4.0))
    assert net.output.bias.tolist() == [0, 1, 2, 3]
    assert reading.double()(torch.randn(6, 2).double(), torch.ones(6).long()).dtype == torch.float64


@pytest.mark.parametrize(
    ("reader", "bad", "message"),
    [
        (OneHot(3), torch.tensor([0, 3]), r"holds 3, and OneHot reads values 0 \.\. 2: labels outside the classes"),
        (OneHot(3), torch.tensor([0.5, 1.0]), "holds 0.5, and OneHot"),
        (nn.Embedding(3, 2), torch.tensor([0, -1]), r"holds -1, and Embedding reads values 0 \.\. 2"),
        (
            nn.Embedding(3, 2),
            torch.eye(3),
            r"an Embedding looks up whole numbers and got torch\.float32.*one_hot=False",
        ),
        (Scaled(256), torch.tensor([0, 256]), r"holds 256, and Scaled reads values 0 \.\. 255"),
    ],
)
def test_values_that_a_reader_does_not_take(reader: nn.Module, bad: Tensor, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        Reading(nn.Identity(), reader)(bad)


def test_readings_that_do_not_fit() -> None:
    with pytest.raises(pv.PyrovaeError, match="2 readers and 1 parents: pass every conditioning variable"):
        Reading(MLP([2, 3], 4), None, OneHot(3))(torch.randn(5, 2))
    with pytest.raises(pv.PyrovaeError, match=r"MLP reads floating-point data and got torch\.int64.*readings\.Reading"):
        MLP([2, 3], 4)(torch.randn(5, 2), torch.ones(5, 3).long())
    with pytest.raises(pv.PyrovaeError, match="at least two levels; got 1"):
        Scaled(1)


@pytest.mark.parametrize("reader", [OneHot(600), Scaled(600), LogCounts()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_whole_numbers_in_the_programs_dtype(reader: nn.Module, dtype: torch.dtype) -> None:
    """As the reader makes of them in float64, to rounding; bfloat16 itself knows whole numbers to 256 only."""
    x = torch.tensor([[0, 1, 255, 257, 599]])
    found = copy.deepcopy(reader).to(dtype)(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), copy.deepcopy(reader).double()(x.double()), rtol=1e-2, atol=0)


class FromOne(Reader):
    """Values 1 .. 3."""

    support = constraints.integer_interval(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert (x >= 1).all()
        return x.float().log()


@pytest.mark.parametrize(
    ("reader", "sentinel", "good", "bad"),
    [
        (OneHot(5), -1, torch.tensor([[-1, 4]]), torch.tensor([[-1, 7]])),
        (OneHot(5), None, torch.tensor([[torch.nan, 4]]), torch.tensor([[torch.nan, 7]])),
        (nn.Embedding(5, 2), None, torch.tensor([[torch.nan, 4]]), torch.tensor([[torch.nan, 7]])),
        (nn.Embedding(5, 2), -1, torch.tensor([[-1, 4]]), torch.tensor([[-2, 4]])),
        (FromOne(), None, torch.tensor([[torch.nan, 3]]), torch.tensor([[torch.nan, 0]])),
    ],
)
def test_values_and_mask_of_what_its_reader_takes(reader: nn.Module, sentinel: Any, good: Tensor, bad: Tensor) -> None:
    whole = ValuesAndMask(reader, sentinel=sentinel)
    read = whole(good)
    alone = reader(good[:, 1:].long()).reshape(1, -1)
    torch.testing.assert_close(read[:, 1, :-1] if read.dim() == 3 else read[:, 1:2], alone)
    for refusing in (Reading(nn.Identity(), whole), whole):
        with pytest.raises(pv.PyrovaeError, match=r"holds (7|-2|0), and"):
            refusing(bad)
    with pytest.raises(pv.PyrovaeError, match=r"x holds (7|-2|0), and ValuesAndMask reads .*, or missing,"):
        check_values(whole, bad, "x")


# ------------------------------------------------------------------------------------- labels outside of the classes


def labelled(wrong: int | None = None, num_data: int = 40) -> tuple[Tensor, Tensor]:
    y = torch.arange(num_data) % 3
    if wrong is not None:
        y[wrong] = 3
    return torch.rand(num_data, 4).round(), y


def of_labels(reader: Any) -> pv.VAE:
    width = 3 if isinstance(reader, OneHot) else reader.embedding_dim
    encoder = pv.Conditional(Reading(MLP([4, width], 6, 4), None, reader), pv.families.normal)
    decoder = pv.Conditional(Reading(MLP([2, width], 6, 4), None, reader), pv.families.bernoulli)
    return pv.VAE(pv.priors.StandardNormal(2), decoder, encoder)


READERS = {"one-hot": lambda: OneHot(3), "embedding": lambda: nn.Embedding(3, 2)}
each_reader = pytest.mark.parametrize("name", READERS)
OUTSIDE = r"given\[0\] holds 3, and (OneHot|Embedding) reads values 0 \.\. 2"


@each_reader
def test_labels_outside_the_classes_are_refused_before_the_first_step(name: str) -> None:
    program = of_labels(READERS[name]())
    before = [p.clone() for p in program.parameters()]
    options: Any = {"epochs": 1, "device": "cpu", "progress": False}
    with pytest.raises(pv.PyrovaeError, match=OUTSIDE):
        pv.fit(program, labelled(wrong=37), **options)
    with pytest.raises(pv.PyrovaeError, match=OUTSIDE):
        pv.fit(program, labelled(), validation=labelled(wrong=11), **options)
    with pytest.raises(pv.PyrovaeError, match=OUTSIDE), validating(False):  # whatever the user's setting
        pv.fit(program, labelled(wrong=37), **options)
    assert all(torch.equal(a, b) for a, b in zip(before, program.parameters(), strict=True))
    assert len(pv.fit(program, labelled(), **options).history) == 1


@each_reader
def test_labels_outside_the_classes_are_refused_elsewhere(name: str) -> None:
    program, message = of_labels(READERS[name]()), r"holds 3, and"
    x, y = labelled(wrong=37)
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.log_marginal(program, x, y, num_particles=10)
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.sample(program, 40, y)
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.encode(program, x, y)


def test_an_embedding_trains_and_is_saved(tmp_path: Path) -> None:
    """One table that both parts share, compiled too."""
    torch.manual_seed(0)
    program = of_labels(nn.Embedding(3, 2))
    before = program.decoder.net.readers[1].weight.clone()
    pv.fit(program, labelled(), epochs=2, device="cpu", progress=False)
    table = program.decoder.net.readers[1].weight
    assert (table != before).all()
    pv.save(program, tmp_path / "program.safetensors")
    again = pv.load(tmp_path / "program.safetensors")
    assert again.encoder.net.readers[1] is again.decoder.net.readers[1]
    assert torch.equal(again.decoder.net.readers[1].weight, table)


# ------------------------------------------------------------------------------------- which parts are conditioned

PARTS = ("prior", "encoder", "decoder")
SUBSETS = [set(s) for k in range(4) for s in itertools.combinations(PARTS, k)]
GIVEN: dict[str, tuple[Any, list[int], Any]] = {  # the values, how wide they are read, their readers
    "one-hot": (lambda: [torch.eye(3)[torch.arange(6) % 3]], [3], lambda: [None]),
    "embedding": (lambda: [torch.arange(6) % 3], [2], lambda: [nn.Embedding(3, 2)]),
    "attributes, and a number": (
        lambda: [torch.rand(6, 2) > 0.5, torch.randn(6, 1)], [2, 1], lambda: [Scaled(2), None],
    ),
}  # fmt: skip


def conditioned(parts: set[str], widths: list[int], readers: list[Any]) -> pv.VAE:
    """A VAE of which only ``parts`` depend on what is given."""

    def net(part: str, own: list[Any], out: int) -> nn.Module:
        if part in parts:
            return Reading(MLP([*own, *widths], 8, out, activation=nn.Tanh), *[None] * len(own), *readers)
        return Reading(MLP([*own], 8, out, activation=nn.Tanh), *[None] * len(own), *[Ignore()] * len(readers))

    encoder = wide_encoder(4)
    encoder.net = Reading(encoder.net, None, *[Ignore()] * len(readers))
    if "encoder" in parts:
        encoder = wide_encoder([4, *widths])
        encoder.net = Reading(encoder.net, None, *readers)
    unconditional = pv.priors.StandardNormal(2)
    prior = pv.Conditional(net("prior", [], 4), pv.families.normal) if "prior" in parts else unconditional
    return pv.VAE(prior, pv.Conditional(net("decoder", [2], 4), pv.families.bernoulli), encoder)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("parts", SUBSETS, ids=lambda parts: "+".join(sorted(parts)) or "none")
def test_any_parts_may_be_conditioned(parts: set[str], given: str) -> None:
    """log_marginal against quadrature, and exactly these parts depend on what is given."""
    torch.manual_seed(0)
    make, widths, readers = GIVEN[given]
    values, x = make(), torch.rand(6, 4).round()
    program = conditioned(parts, widths, readers())
    ev = pv.log_marginal(program, x, *values, num_particles=4000, seed=0)
    expected = log_prob_by_quadrature(program, x, *values)
    assert ((ev.log_prob - expected).abs() < 4 * ev.standard_error + 1e-4).all()
    others, z = [v.roll(1, 0) for v in values], torch.zeros(6, 2)
    with torch.no_grad():
        found = {
            "prior": program.prior(*values).log_prob(z) - program.prior(*others).log_prob(z),
            "encoder": program.encoder(x, *values).log_prob(z) - program.encoder(x, *others).log_prob(z),
            "decoder": program.decoder(z, *values).log_prob(x) - program.decoder(z, *others).log_prob(x),
        }
    assert {part for part, difference in found.items() if difference.abs().max() > 1e-6} == parts
    assert pv.sample(program, 6, *values).shape == (6, 4)


@pytest.mark.parametrize(
    "make",
    [
        pv.networks.ConvEncoder,
        pv.networks.ResidualConvEncoder,
        pv.networks.ConvDecoder,
        pv.networks.ResidualConvDecoder,
    ],
    ids=lambda make: make.__name__,
)
def test_convolutional_networks_take_what_is_given(make: Any) -> None:
    torch.manual_seed(0)
    sizes = {"channels": (4, 8), "hidden": 8}
    image, y = torch.rand(5, 3, 9, 8), torch.arange(5)
    if "Encoder" in make.__name__:
        net, parent = Reading(make([(3, 9, 8), 2], 4, **sizes), None, nn.Embedding(5, 2)), image
    else:
        net, parent = Reading(make([4, 2], (3, 9, 8), **sizes), None, nn.Embedding(5, 2)), torch.randn(5, 4)
    found = net(parent, y)
    assert found.shape == (5, *net.out_shape)
    assert ((found - net(parent, y.roll(1))).abs().flatten(1).max(1).values > 1e-6).all()
