"""One contract for every network of the board: batches, gradients, precision, copies, moves."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Size, Tensor, nn

import pyrovae as pv
from pyrovae import board

Shapes = tuple[Any, list[tuple[int, ...]], Any]  # in_shapes, those of the parents, out_shape
SHAPES: dict[str, Shapes] = {
    "real": ([6, 2], [(6,), (2,)], 12),
    "reals, some missing": (6, [(6,)], 4),
    "images": ([(2, 5, 7), 3], [(2, 5, 7), (3,)], (2, 2)),
    "to images": ([4, 3], [(4,), (3,)], (2, 5, 7)),
    "sequences": ([(5, 3), 2], [(5, 3), (2,)], 4),
    "to sequences": ([(5, 3), 2, 1], [(5, 3), (2,), (1,)], 10),
}
ONE_PARENT = {"any module": (6, [(6,)], (2, 2))}
BATCHES = [(), (4,), (2, 3)]
each_network = pytest.mark.parametrize("name", board.NETWORKS)


def shapes(name: str) -> Shapes:
    return ONE_PARENT.get(name) or SHAPES[board.NETWORKS[name].values]


def made(name: str) -> Any:
    torch.manual_seed(0)
    in_shapes, _, out_shape = shapes(name)
    return board.NETWORKS[name].make(in_shapes, out_shape).eval()


def parents(name: str, *batch: int) -> list[Tensor]:
    torch.manual_seed(1)
    found = [torch.randn(*batch, *shape) for shape in shapes(name)[1]]
    if "missing" in board.NETWORKS[name].values:
        found[0][..., 0] = torch.nan
    return found


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@each_network
def test_any_batch_shape_and_rows_independent(name: str, batch: tuple[int, ...]) -> None:
    net, given = made(name), parents(name, *batch)
    found = net(*given)
    assert found.shape == (*batch, *net.out_shape)
    rows = [parent.reshape(-1, *shape) for parent, shape in zip(given, shapes(name)[1], strict=True)]
    one_by_one = torch.stack([net(*(row[i] for row in rows)) for i in range(Size(batch).numel())])
    torch.testing.assert_close(found, one_by_one.reshape(found.shape), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in board.NETWORKS if len(shapes(name)[1]) > 1])
def test_parents_broadcast(name: str) -> None:
    """A batch (S, N) of the first beside others of batch (N,), and the other way round."""
    net, given = made(name), parents(name, 3, 4)
    expected = net(*given)
    first, *others = given
    narrow = [first, *(other[0] for other in others)]
    torch.testing.assert_close(net(*narrow)[0], expected[0], rtol=1e-4, atol=1e-6)
    assert net(*narrow).shape == net(first[0], *others).shape == expected.shape


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@each_network
def test_gradients_reach_every_parameter_and_every_parent(name: str, training: bool) -> None:
    net, given = made(name).train(training), [parent.requires_grad_() for parent in parents(name, 20)]
    net(*given).square().sum().backward()
    named = dict(net.named_parameters())
    if not training:
        named.pop("unknown", None)  # of word dropout: what stands for a token that is not shown
    for p in (*named.values(), *given):
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any()


@each_network
def test_float64_is_float32_with_more_digits(name: str) -> None:
    net, given = made(name), parents(name, 4)
    single = net(*given)
    double = net.double()(*(parent.double() for parent in given))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


@each_network
def test_copies_are_the_same_network(name: str, tmp_path: Path) -> None:
    """deepcopy, pickle, save and load, after the network was used."""
    net, given = made(name), parents(name, 4)
    expected = net(*given)
    pv.save(net, tmp_path / "net.safetensors")
    copies: dict[str, Callable[[], nn.Module]] = {
        "deepcopy": lambda: copy.deepcopy(net),
        "pickle": lambda: pickle.loads(pickle.dumps(net)),
        "save and load": lambda: pv.load(tmp_path / "net.safetensors").eval(),
    }
    for how, other in copies.items():
        torch.testing.assert_close(other()(*given), expected, rtol=0, atol=0, msg=how)


@each_network
def test_nothing_is_left_behind_by_a_move(name: str) -> None:
    """On the meta device, where any tensor that stayed on the CPU is an error."""
    net = made(name).to("meta")
    assert net(*(parent.to("meta") for parent in parents(name, 4))).device.type == "meta"
