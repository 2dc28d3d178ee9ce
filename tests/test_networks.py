"""Networks and families: any batch shape, any image size, errors that say what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import families, networks
from pyrovae.families import MIN_SCALE, inverse_positive, positive
from pyrovae.networks import (
    MLP,
    BatchFree,
    ConvDecoder,
    ConvEncoder,
    GatedMLP,
    MaskedMLP,
    RecurrentDecoder,
    RecurrentEncoder,
    ResidualConvDecoder,
    ResidualConvEncoder,
    ResidualMLP,
)

BATCHES = [(), (1,), (4,), (3, 4), (2, 3, 4)]
SMALL: dict[str, Any] = {"channels": (3, 5), "hidden": 7}

# ------------------------------------------------------------------------------------------------------- batches


class Rows(nn.Module):
    """Of an image and a vector; takes rows alone."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(2, 3, 3), nn.Linear(3 * 3 * 5 + 3, 4)

    def forward(self, image: Tensor, y: Tensor) -> Tensor:
        assert image.dim() == 4 and y.dim() == 2
        return self.linear(torch.cat([self.convolution(image).flatten(1), y], 1))


# Beside those of the board, which tests/board holds to the same.
NETWORKS: dict[str, tuple[Callable[[], networks.Network], list[tuple[int, ...]], tuple[int, ...]]] = {
    "no hidden layer": (lambda: MLP(6, 4), [(6,)], (4,)),
    "images": (lambda: MLP((2, 3, 5), 7, (3, 2)), [(2, 3, 5)], (3, 2)),
    "parents": (lambda: MLP([6, (2, 3), 1], 7, 4), [(6,), (2, 3), (1,)], (4,)),
    "residual, no hidden layer": (lambda: ResidualMLP(6, 4), [(6,)], (4,)),
    "any module": (lambda: BatchFree(Rows(), [(2, 5, 7), 3], (2, 2)), [(2, 5, 7), (3,)], (2, 2)),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@each_network
def test_any_batch_shape(name: str, batch: tuple[int, ...]) -> None:
    """The same as row by row."""
    torch.manual_seed(0)
    make, shapes, out = NETWORKS[name]
    net = make()
    parents = [torch.randn(*batch, *shape) for shape in shapes]
    found = net(*parents)
    assert found.shape == (*batch, *out)
    assert net.out_shape == out
    rows = [parent.reshape(-1, *shape) for parent, shape in zip(parents, shapes, strict=True)]
    one_by_one = torch.stack([net(*(row[i] for row in rows)) for i in range(len(rows[0]))])
    torch.testing.assert_close(found, one_by_one.reshape(*batch, *out), rtol=1e-4, atol=1e-6)


SEVERAL = [name for name, (_, shapes, _) in NETWORKS.items() if len(shapes) > 1]


@pytest.mark.parametrize("name", SEVERAL)
def test_parents_broadcast(name: str) -> None:
    """A batch (S, N) of latents beside conditioning variables of batch (N,), and the other way round."""
    torch.manual_seed(0)
    make, shapes, out = NETWORKS[name]
    net = make()
    first, *others = (torch.randn(4, *shape) for shape in shapes)
    many = torch.randn(3, 4, *shapes[0])
    found = net(many, *others)
    assert found.shape == (3, 4, *out)
    expanded = [other.expand(3, *other.shape) for other in others]
    torch.testing.assert_close(found, net(many, *expanded), rtol=1e-4, atol=1e-6)
    wide = [torch.randn(3, 1, *shape) for shape in shapes[1:]]
    assert net(first, *wide).shape == (3, 4, *out)


@each_network
def test_every_parameter_matters(name: str) -> None:
    torch.manual_seed(0)
    make, shapes, _ = NETWORKS[name]
    net = make()
    parents = [torch.randn(20, *shape).requires_grad_() for shape in shapes]
    net(*parents).square().sum().backward()
    assert net.batch_shape(*parents) == (20,)
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert all(p.grad is not None and p.grad.any() for p in parents)


@pytest.mark.parametrize("channels", [(3,), (3, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 7, 7), (2, 5, 9), (1, 13, 4), (4, 28, 28)], ids=str)
def test_any_size_of_image(shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    for encode, decode in ((ConvEncoder, ConvDecoder), (ResidualConvEncoder, ResidualConvDecoder)):
        encoder = encode(shape, 4, channels=channels, hidden=6)
        decoder = decode(4, shape, channels=channels, hidden=6)
        assert decoder(encoder(torch.randn(2, *shape))).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)], ids=str)
def test_residual_convolutions_of_images_of_usual_sizes(shape: tuple[int, ...]) -> None:
    """They train in a VAE, and a row's terms depend on that row alone."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channels": (8, 16, 16), "hidden": 16, "blocks": 2}
    encoder = pv.Conditional(ResidualConvEncoder(shape, 6, **sizes), families.normal)
    decoder = pv.Conditional(ResidualConvDecoder(3, shape, **sizes), families.bernoulli)
    program = pv.VAE(pv.priors.StandardNormal(3), decoder, encoder)
    x = torch.rand(4, *shape).round()
    run = pv.fit(program, x, epochs=2, batch_size=2, progress=False, device="cpu", compile=False)
    assert run.history[1]["objective"] > run.history[0]["objective"]
    with torch.no_grad():
        alone, together = pv.encode(program, x[:1]).mean, pv.encode(program, x).mean[:1]
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", [2, 30])
def test_residual_networks_start_near_their_skips(depth: int) -> None:
    """So what reaches the last layer is what the first gave, at any depth, and so are its gradients."""
    torch.manual_seed(0)
    net = ResidualMLP(6, *[64] * depth, 4)
    first = net.first(torch.randn(200, 6)).detach().requires_grad_()
    last = net.blocks(first)
    (gradient,) = torch.autograd.grad(last.sum(), first)
    assert (last - first).norm() < 0.1 * math.sqrt(depth) * first.norm()
    assert (gradient - 1).norm() < 0.1 * math.sqrt(depth) * math.sqrt(gradient.numel())
    stage = ResidualConvEncoder((1, 8, 8), 4, channels=(16,), blocks=depth).convolutions[0]
    image = stage[0](torch.randn(5, 1, 8, 8))
    assert (stage[1:-1](image) - image).norm() < 0.1 * math.sqrt(depth) * image.norm()


def test_a_block() -> None:
    net = ResidualMLP(6, 5, 8, 3)
    x = torch.randn(4, 6)
    h = net.first(x)
    for block in net.blocks:
        norm, _, one, _, two = block.branch
        skip = h if isinstance(block.skip, nn.Identity) else block.skip(h)
        h = skip + two(nn.functional.silu(one(nn.functional.silu(norm(h)))))
    assert [type(block.skip) for block in net.blocks] == [nn.Identity, nn.Linear]
    torch.testing.assert_close(net(x), net.output(nn.functional.silu(net.last[0](h))))


# ------------------------------------------------------------------------------------------------- any module


class Normalised(nn.Module):
    """A small backbone of a foreign kind, with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2)
        self.head = nn.Linear(2 * 3 * 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.convolution(x)).relu().flatten(1))


def on_backbone(backbone: nn.Module, shape: tuple[int, ...] = (1, 8, 8)) -> pv.VAE:
    encoder = pv.Conditional(BatchFree(backbone, shape, 4), families.normal)
    return pv.VAE(pv.priors.StandardNormal(2), pv.Conditional(MLP(2, shape), families.bernoulli), encoder)


def test_batch_normalisation_is_refused_unless_frozen() -> None:
    program, x = on_backbone(Normalised()), torch.rand(12, 1, 8, 8).round()
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "progress": False, "num_particles": 2}
    with pytest.raises(pv.PyrovaeError, match=r"encoder\.net\.module\.norm is a batch normalisation.*\.eval\(\)"):
        pv.fit(program, x, **options)
    program.encoder.net.module.norm.eval()
    mean = program.encoder.net.module.norm.running_mean.clone()
    pv.fit(program, x, **options)
    assert torch.equal(program.encoder.net.module.norm.running_mean, mean)


def test_a_torchvision_backbone(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    backbone = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=4).eval()
    program, x = on_backbone(backbone, (3, 32, 32)), torch.rand(2, 3, 32, 32).round()
    assert pv.log_terms(program, x, num_particles=3).log_px_z.shape == (3, 2)
    pv.fit(program, x, epochs=1, device="cpu", progress=False, compile=False)
    pv.save(program, tmp_path / "program.safetensors")
    with pytest.raises(pv.PyrovaeError, match=r"build it and pass load\(path, program=\.\.\.\)"):
        pv.load(tmp_path / "program.safetensors")
    other = on_backbone(torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=4), (3, 32, 32))
    again = pv.load(tmp_path / "program.safetensors", program=other)
    torch.testing.assert_close(pv.encode(again, x).mean, pv.encode(program, x).mean)


def test_modules_of_torch_are_saved_with_their_description(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.SiLU(), nn.Flatten(), nn.Linear(108, 4))
    program, x = on_backbone(module), torch.rand(3, 1, 8, 8).round()
    pv.save(program, tmp_path / "program.safetensors")
    again = pv.load(tmp_path / "program.safetensors")
    assert torch.equal(pv.encode(again, x).mean, pv.encode(program, x).mean)


def test_modules_that_do_not_give_what_was_said() -> None:
    with pytest.raises(pv.PyrovaeError, match=r"Linear gives \(12, 4\) for 12 rows.* of 5 numbers"):
        BatchFree(nn.Linear(6, 4), 6, 5)(torch.randn(3, 4, 6))
    with pytest.raises(pv.PyrovaeError, match=r"Flatten gives \(72,\) for 12 rows"):
        BatchFree(nn.Flatten(0), 6, 6)(torch.randn(3, 4, 6))
    with pytest.raises(pv.PyrovaeError, match="cannot tell which of its module's layers is the last"):
        BatchFree(nn.Linear(6, 4), 6, 4).start_at(torch.zeros(4))


def test_integers_for_any_module() -> None:
    net = BatchFree(nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2)), 4, 2)
    assert net(torch.randint(5, (3, 6, 4))).shape == (3, 6, 2)


def test_convolutions_see_neighbours() -> None:
    """An impulse in one corner does not reach a feature of the other."""
    encoder = ConvEncoder((1, 16, 16), 4, **SMALL)
    image = torch.zeros(1, 16, 16).requires_grad_()
    features = encoder.convolutions(image.unsqueeze(0))
    (gradient,) = torch.autograd.grad(features[0, :, 0, 0].sum(), image)
    assert gradient[0, :4, :4].any()
    assert not gradient[0, 8:, 8:].any()


def test_depth_and_widths() -> None:
    net = MLP(6, 7, (2, 4), 3, activation=nn.Tanh)
    assert [tuple(p.shape) for p in net.parameters()] == [(7, 6), (7,), (8, 7), (8,), (3, 8), (3,)]
    x = torch.randn(5, 6)
    one, two = net.hidden
    torch.testing.assert_close(net(x), net.output(two[0](one[0](x).tanh()).tanh()))


def test_the_gate() -> None:
    net = GatedMLP(6, 7, 3)
    x = torch.randn(5, 6)
    value, gate = net.hidden[0][0](x).chunk(2, -1)
    torch.testing.assert_close(net(x), net.output(value * gate.sigmoid()))


# ------------------------------------------------------------------------------------------------------ start_at


@pytest.mark.parametrize(
    "net",
    [
        MLP(2, 7, (2, 3, 3)),
        GatedMLP(2, 7, (2, 3, 3)),
        ResidualMLP(2, 7, (2, 3, 3)),
        ConvDecoder(2, (2, 3, 3), **SMALL),
        ResidualConvDecoder(2, (2, 3, 3), **SMALL),
    ],
    ids=lambda net: type(net).__name__,
)
def test_start_at(net: Any) -> None:
    params = torch.tensor([-2.0, 5.0]).reshape(2, 1, 1) + torch.zeros(2, 3, 3)
    net.start_at(params)
    with torch.no_grad():
        net.output.weight.zero_()
    torch.testing.assert_close(net(torch.randn(4, 2)), params.expand(4, 2, 3, 3))


def test_a_convolution_starts_at_the_channels_mean() -> None:
    net = ConvDecoder(2, (1, 2, 2), **SMALL)
    net.start_at(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]))
    assert net.output.bias.tolist() == [3.0]


def test_a_decoder_starts_at_the_mean_of_the_data() -> None:
    mean = torch.tensor([0.0, 0.2, 0.9, 1.0])
    for family, expected in ((families.bernoulli, mean.clamp(0.001, 0.999)), (families.normal, mean)):
        net = MLP(2, 7, 4 * family.num_params)
        net.start_at(family.params_at(mean))
        with torch.no_grad():
            net.output.weight.zero_()
        torch.testing.assert_close(pv.Conditional(net, family)(torch.randn(3, 2)).mean, expected.expand(3, 4))


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLP(6, 4)(torch.randn(3, 5)), r"MLP expects data of shape \(\.\.\., 6\); got \(\.\.\., 5\)"),
        (lambda: MLP((2, 3), 4)(torch.randn(3)), r"\(\.\.\., 2, 3\); got \(\.\.\.\)"),
        (lambda: GatedMLP(6, 4)(torch.ones(3, 6).long()), "GatedMLP reads floating-point data and got torch.int64"),
        (lambda: MLP([6, 2], 4)(torch.randn(3, 6)), r"has 2 parent\(s\) of event shape \[\(6,\), \(2,\)\] and got 1"),
        (lambda: MLP(6, 4)(torch.randn(3, 6), torch.randn(3, 2)), "has 1 parent.*got 2: pass every condition"),
        (lambda: ConvEncoder((3, 8, 8), 4)(torch.randn(2, 1, 8, 8)), r"\(\.\.\., 3, 8, 8\); got \(\.\.\., 1, 8, 8\)"),
        (lambda: ConvEncoder((8, 8), 4), r"\(channels, height, width\); got \(8, 8\)"),
        (lambda: ConvDecoder(4, 64), r"\(channels, height, width\); got \(64,\)"),
        (lambda: MLP(0, 4), r"at least 1; got \(0,\)"),
        (lambda: MLP(4, 0, 4), r"at least 1; got \(0,\)"),
        (lambda: MLP(4, (2, -1)), r"at least 1; got \(2, -1\)"),
        (lambda: MaskedMLP(4, 7), r"\(k \* 4, \.\.\.\); got \(7,\)"),
        (lambda: MaskedMLP((2, 3), (2, 4)), r"reads x as \(2, 3\) gives k numbers.*got \(2, 4\)"),
        (lambda: RecurrentEncoder(5, 4), r"\(steps, numbers in each\); got \(5,\).*nn\.Embedding"),
        (lambda: RecurrentDecoder([(5, 3), 2], 8), r"5 steps gives \(k \* 5,\); got \(8,\)"),
        (lambda: RecurrentDecoder([(5, 3), 2], 5, word_dropout=1.5), "a probability; got 1.5"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        call()


# -------------------------------------------------------------------------------------------------- Conditional

FAMILIES: dict[str, tuple[Any, Callable[[Tensor], Any]]] = {
    "bernoulli": (families.bernoulli, lambda p: dist.Bernoulli(logits=p)),
    "normal": (families.normal, lambda p: dist.Normal(*_halves(p, positive))),
    "fixed scale": (families.FixedScaleNormal(0.3), lambda p: dist.Normal(p, 0.3)),
    "shared scale": (families.SharedScaleNormal(0.3), lambda p: dist.Normal(p, 0.3)),
    "categorical": (families.Categorical(3), lambda p: dist.Categorical(logits=torch.stack(p.chunk(3, 1), -1))),
    "a function": (lambda loc: dist.Laplace(loc, 1.0), lambda p: dist.Laplace(p, 1.0)),
}


def _halves(p: Tensor, link: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    loc, raw = p.chunk(2, 1)
    return loc, link(raw)


@pytest.mark.parametrize("event", [(4,), (2, 3), (1, 3, 5)], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_conditional_gives_one_log_prob_per_datum(name: str, event: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    family, formula = FAMILIES[name]
    count = getattr(family, "num_params", 1)
    net = MLP(2, 7, (count * event[0], *event[1:]))
    z = torch.randn(6, 2)
    distribution = pv.Conditional(net, family)(z)
    assert distribution.batch_shape == (6,)
    assert distribution.event_shape == event
    x = distribution.sample()
    expected = formula(net(z)).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(distribution.log_prob(x), expected)
    many = pv.Conditional(net, family)(torch.randn(3, 6, 2))
    assert many.batch_shape == (3, 6)
    assert many.log_prob(x).shape == (3, 6)


def test_a_family_with_an_event_of_its_own() -> None:
    """What it leaves of the batch is declared to be the event, no more."""

    def correlated(loc: Tensor) -> Any:
        return dist.MultivariateNormal(loc, torch.eye(loc.shape[-1]))

    made = pv.Conditional(MLP(2, 7, (3, 4)), correlated)(torch.randn(5, 2))
    assert made.batch_shape == (5,)
    assert made.event_shape == (3, 4)
    alone = pv.Conditional(MLP(2, 7, 4), correlated)(torch.randn(5, 2))
    assert alone.batch_shape == (5,)


def test_event_dim_for_networks_that_do_not_say() -> None:
    net = nn.Sequential(nn.Linear(2, 12), nn.Unflatten(-1, (3, 4)))
    assert pv.Conditional(net, families.bernoulli, event_dim=2)(torch.randn(5, 2)).event_shape == (3, 4)
    assert pv.Conditional(net, families.bernoulli)(torch.randn(5, 2)).batch_shape == (5, 3)  # one where it is not told
    assert pv.Conditional(nn.Linear(2, 6), families.normal)(torch.randn(5, 2)).event_shape == (3,)


def test_conditionals_that_do_not_fit() -> None:
    with pytest.raises(pv.PyrovaeError, match=r"Normal wants 2 numbers per element.*gives 5, which 2 does not"):
        pv.Conditional(MLP(2, 5), families.normal)(torch.randn(3, 2))
    with pytest.raises(pv.PyrovaeError, match="swallowed data dimensions"):
        pv.Conditional(MLP(2, 5), lambda loc: dist.Normal(loc, 1.0).to_event(2))(torch.randn(3, 2))


def test_products() -> None:
    factors = {"a": pv.Conditional(MLP(2, 4), families.bernoulli), "b": pv.Conditional(MLP(2, 6), families.normal)}
    by_name = pv.Product(factors)(torch.randn(5, 2))
    assert {key: d.event_shape for key, d in by_name.items()} == {"a": (4,), "b": (3,)}
    in_order = pv.Product(list(factors.values()))(torch.randn(5, 2))
    assert [d.event_shape for d in in_order] == [(4,), (3,)]
    assert len(list(pv.Product(factors).parameters())) == 4


# ------------------------------------------------------------------------------- families: finite at the extremes


def test_scales_are_bounded_below() -> None:
    raw = torch.tensor([-1e30, -1e4, -50.0, 0.0, 50.0, 1e4], dtype=torch.float64).requires_grad_()
    scale = positive(raw)
    assert (scale >= MIN_SCALE).all()
    assert scale.isfinite().all()
    assert scale[0] == MIN_SCALE
    (gradient,) = torch.autograd.grad(scale.log().sum(), raw)
    assert gradient.isfinite().all()
    for value in (2e-4, 0.1, 1.0, 30.0):
        assert positive(torch.tensor(inverse_positive(value), dtype=torch.float64)).item() == pytest.approx(value)


@pytest.mark.parametrize("size", [-1e30, -1e4, 1e4, 1e30])
@pytest.mark.parametrize("name", ["bernoulli", "normal", "shared scale", "categorical"])
def test_extreme_parameters_give_finite_terms(name: str, size: float) -> None:
    """In float32, at data as far off as can be: a vanishing scale, a logit of any size."""
    family = FAMILIES[name][0] if name != "shared scale" else families.SharedScaleNormal()
    if name == "shared scale":
        with torch.no_grad():
            family.raw_scale.fill_(size)
    raw = [torch.tensor([0.3 if name == "shared scale" else size]).requires_grad_() for _ in range(family.num_params)]
    if name == "normal":
        raw[0] = torch.tensor([0.3]).requires_grad_()
    x = torch.tensor([1.0]) if size < 0 else torch.tensor([0.0])
    term = family(*raw).log_prob(x)
    assert term.isfinite().all()
    gradients = torch.autograd.grad(term.sum(), [*raw, *family.parameters()], allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_an_extreme_logit_is_worth_what_it_says() -> None:
    """Through probabilities it would be worth 16 nats at most, without a gradient."""
    logit = torch.tensor(-1e4).requires_grad_()
    term = families.bernoulli(logit).log_prob(torch.tensor(1.0))
    assert term.item() == -1e4
    assert torch.autograd.grad(term, logit)[0] == 1.0


def test_a_vanishing_scale_is_worth_what_it_says() -> None:
    found = families.normal(torch.tensor(0.0), torch.tensor(-1e4)).log_prob(torch.tensor(0.0))
    assert found.item() == pytest.approx(-math.log(MIN_SCALE * math.sqrt(2 * math.pi)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: families.FixedScaleNormal(0.0), "must be positive; got 0.0"),
        (lambda: families.FixedScaleNormal(-1.0), "must be positive; got -1.0"),
        (lambda: families.FixedScaleNormal(math.nan), "must be positive; got nan"),
        (lambda: families.SharedScaleNormal(1e-5), "must exceed"),
        (lambda: families.Categorical(1), "at least two categories; got 1"),
    ],
)
def test_families_out_of_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        make()


def test_params_at() -> None:
    mean = torch.tensor([[0.0, 0.3], [0.5, 1.0]])
    torch.testing.assert_close(families.bernoulli.params_at(mean).sigmoid(), mean.clamp(0.001, 0.999))
    assert families.normal.params_at(mean).shape == (4, 2)
    assert families.Categorical(3).params_at(mean).shape == (6, 2)
    torch.testing.assert_close(families.FixedScaleNormal().params_at(mean), mean)
