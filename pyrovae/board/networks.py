"""The networks of the board."""

from __future__ import annotations

from torch import nn

from pyrovae import networks, readings
from pyrovae.board.part import HIDDEN, Part
from pyrovae.networks import Shape, as_shape


def any_module(in_shape: Shape, out_shape: Shape) -> nn.Module:
    """A linear layer stands for it."""
    module = nn.Linear(as_shape(in_shape).numel(), as_shape(out_shape).numel())
    return networks.BatchFree(module, in_shape, out_shape)


def values_and_mask(in_shape: Shape, out_shape: Shape) -> nn.Module:
    """An MLP of a vector of which numbers are missing."""
    net = networks.MLP(2 * as_shape(in_shape).numel(), HIDDEN, out_shape)
    return readings.Reading(net, readings.ValuesAndMask())


NETWORKS: dict[str, Part] = {
    "MLP": Part(
        lambda in_shapes, out_shape: networks.MLP(in_shapes, HIDDEN, out_shape), "h = relu(W h + b)", "Rosenblatt 1958"
    ),
    "gated MLP": Part(
        lambda in_shapes, out_shape: networks.GatedMLP(in_shapes, HIDDEN, out_shape),
        "h = (W h + b) * sigmoid(V h + c)",
        "Dauphin et al. 2017",
    ),
    "residual MLP": Part(
        lambda in_shapes, out_shape: networks.ResidualMLP(in_shapes, HIDDEN, HIDDEN, out_shape),
        "h = h + V silu(W silu(norm(h)))",
        "He et al. 2016",
    ),
    "masked MLP": Part(
        lambda in_shapes, out_shape: networks.MaskedMLP(in_shapes, HIDDEN, out_shape),
        "h = relu((M * W) h + b), M so that output t sees x_<t",
        "Germain et al. 2015",
    ),
    "any module": Part(
        any_module,
        "a torch module of rows, whatever the batch",
        "Paszke et al. 2019",
    ),
    "convolutions": Part(
        lambda in_shapes, out_shape: networks.ConvEncoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = silu(w * h + b), each halving the image",
        "LeCun et al. 1989",
        "images",
    ),
    "transposed convolutions": Part(
        lambda in_shapes, out_shape: networks.ConvDecoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = silu(w *' h + b), each doubling the image",
        "Zeiler et al. 2010",
        "to images",
    ),
    "residual convolutions": Part(
        lambda in_shapes, out_shape: networks.ResidualConvEncoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = h + v * silu(norm(w * silu(norm(h))))",
        "He et al. 2016",
        "images",
    ),
    "residual transposed convolutions": Part(
        lambda in_shapes, out_shape: networks.ResidualConvDecoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = h + v * silu(norm(w * silu(norm(h))))",
        "He et al. 2016",
        "to images",
    ),
    "recurrent encoder": Part(
        lambda in_shapes, out_shape: networks.RecurrentEncoder(in_shapes, out_shape, width=HIDDEN),
        "h_t = LSTM(h_(t-1), x_t), in both directions",
        "Hochreiter & Schmidhuber 1997",
        "sequences",
    ),
    "recurrent decoder, word dropout": Part(
        lambda in_shapes, out_shape: networks.RecurrentDecoder(in_shapes, out_shape, width=HIDDEN, word_dropout=0.2),
        "h_t = LSTM(h_(t-1), x_(t-1) or a gap, z)",
        "Bowman et al. 2016",
        "to sequences",
    ),
    "values and mask": Part(
        values_and_mask,
        "h = MLP(x where seen and 0 elsewhere, seen)",
        "Collier et al. 2020",
        "reals, some missing",
    ),
}
