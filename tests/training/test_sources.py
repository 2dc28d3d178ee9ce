"""What fit takes as data: the same rows give the same training, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from small import D, Point, bits, fit, reals, same, state, vae
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import pyrovae as pv
from pyrovae.training.sources import source


class Items(Dataset[Any]):
    """A dataset of anything that can be indexed."""

    def __init__(self, *columns: Any) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> Any:
        row = tuple(column[index] for column in self.columns)
        return row[0] if len(row) == 1 else row


class Stream(IterableDataset[Any]):
    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.x)


def trained(data: Any, make: Callable[[], nn.Module] = vae, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return state(fit(make(), data, **options).program)


X = bits()
SAME = {
    "array": X.numpy(),
    "float64 array": X.numpy().astype(np.float64),
    "tuple of one": (X,),
    "list of one": [X],
    "TensorDataset": TensorDataset(X),
    "dataset of tensors": Items(X),
    "dataset of arrays": Items(X.numpy().astype(np.float64)),
    "float64": X.double(),
}


@pytest.mark.parametrize("form", SAME)
def test_the_same_rows_train_the_same_program(form: str) -> None:
    assert same(trained(SAME[form]), trained(X))


def test_another_order_or_other_rows_do_not() -> None:
    assert not same(trained(X.flip(0)), trained(X))


def conditional() -> pv.VAE:
    encoder = pv.Conditional(pv.networks.MLP([6, 3], 2 * D), pv.families.normal)
    return pv.VAE(
        pv.Conditional(pv.networks.MLP(3, 2 * D), pv.families.normal),
        pv.Conditional(pv.networks.MLP([D, 3], 6), pv.families.bernoulli),
        encoder,
    )


def test_conditioning_variables() -> None:
    given = torch.eye(3).repeat(10, 1)
    expected = trained((X, given), conditional)
    for form in (TensorDataset(X, given), Items(X, given), [X.numpy(), given.numpy()]):
        assert same(trained(form, conditional), expected)
    assert not same(trained((X, given.roll(1, 1)), conditional), expected)


def table() -> pv.VAE:
    encoder = pv.Conditional(pv.networks.MLP([4, 2], 2 * D), pv.families.normal)
    factors = {
        "a": pv.Conditional(pv.networks.MLP(D, 4), pv.families.bernoulli),
        "b": pv.Conditional(pv.networks.MLP(D, 4), pv.families.normal),
    }
    return pv.VAE(pv.priors.StandardNormal(D), pv.Product(factors), encoder)


def test_trees() -> None:
    x = {"a": X[:, :4], "b": torch.randn(30, 2)}
    expected = trained(x, table)
    rows = [{key: column[i] for key, column in x.items()} for i in range(30)]
    for form in ({key: column.numpy() for key, column in x.items()}, (x,), Items(rows)):
        assert same(trained(form, table), expected)


def test_a_data_set() -> None:
    data = pv.data.load("digits", binarization="static")
    make = partial(pv.vae, data, latent=D, hidden=(4,))
    expected = trained((data.train.x,), make, epochs=1, validation=data.validation.x)
    assert same(trained(data, make, epochs=1), expected)
    labelled = data.conditional()
    made = partial(pv.vae, labelled, latent=D, hidden=(4,))
    assert trained(labelled, made, epochs=1)["encoder.net.hidden.0.0.weight"].shape == (8, 74)


# ---------------------------------------------------------------------------------------------------- loaders


@pytest.mark.parametrize("given", [False, True])
def test_a_loader_brings_its_own_batches(given: bool) -> None:
    """In its own order: without shuffling and with one batch it is training on the whole data."""
    columns = (X, torch.eye(3).repeat(10, 1)) if given else (X,)
    make = conditional if given else vae
    loader = DataLoader(TensorDataset(*columns), batch_size=30)
    assert same(trained(loader, make), trained(DataLoader(Items(*columns), batch_size=30), make))
    sizes: list[int] = []

    def watched(t: pv.LogTerms) -> Tensor:
        sizes.append(t.log_weight.shape[-1])
        return pv.objectives.elbo(t)

    torch.manual_seed(0)
    run = fit(make(), DataLoader(TensorDataset(*columns), batch_size=13, shuffle=True), epochs=2, objective=watched)
    assert sizes[-6:] == [13, 13, 4] * 2
    assert run.history[0]["skipped"] == 0


def test_a_shuffling_loader_is_repeatable() -> None:
    loader = DataLoader(TensorDataset(X), batch_size=7, shuffle=True)
    assert same(trained(loader), trained(loader))
    assert not same(trained(loader), trained(loader, seed=1))


def test_schedules_follow_a_loaders_batches() -> None:
    seen: list[float] = []

    def rate(epoch: float, epochs: int) -> float:
        seen.append(epoch)
        return 1.0

    fit(vae(), DataLoader(TensorDataset(X), batch_size=6), epochs=2, batch_size=1000, learning_rate=rate)
    assert seen == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8]


def test_a_stream_without_a_length() -> None:
    """Its epochs end when it does, and schedules move from epoch to epoch only."""
    seen: list[float] = []

    def rate(epoch: float, epochs: int) -> float:
        seen.append(epoch)
        return 1.0

    loader = DataLoader(Stream(reals()), batch_size=12)
    program = Point()
    run = fit(
        program, loader, epochs=2, learning_rate=rate, validation=loader, optimizer=partial(torch.optim.SGD, lr=0.0)
    )
    assert seen == [0.0] * 3 + [1.0] * 3
    expected = program.value(reals()).mean().item()
    assert run.column("validation") == pytest.approx([expected] * 2, rel=1e-5)
    assert run.column("objective") == pytest.approx([expected] * 2, rel=1e-5)


def test_validation_by_a_loader_that_drops_rows() -> None:
    loader = DataLoader(TensorDataset(reals()), batch_size=12, drop_last=True)
    program = Point()
    run = fit(program, reals(), validation=loader, optimizer=partial(torch.optim.SGD, lr=0.0))
    assert run.history[0]["validation"] == pytest.approx(program.value(reals()[:24]).mean().item(), rel=1e-5)


@pytest.mark.parametrize("streamed", [False, True])
def test_draws_are_of_x_alone(streamed: bool) -> None:
    columns = torch.full((4, 2), 0.5), torch.full((4, 3), 0.5)
    data = DataLoader(TensorDataset(*columns), batch_size=3) if streamed else columns
    rows = source(data, torch.device("cpu"), torch.bernoulli)
    for x, given in (*map(rows.observe, rows.feeds(3, shuffle=True)), rows.probe(2)):
        assert x.unique().tolist() in ([0.0], [1.0], [0.0, 1.0])
        assert given.unique().tolist() == [0.5]


# ------------------------------------------------------------------------------------------------------ refusals

REFUSED: dict[str, tuple[Any, str]] = {
    "an empty stream": (Stream(X[:0]), "empty"),
    "text": ("digits", "got a str"),
    "numbers": ([1.0, 2.0], "got a float"),
    "nothing": (None, "got a NoneType"),
    "an empty tensor": (X[:0], "empty"),
    "an empty dataset": (Items(X[:0]), "empty"),
    "an empty loader": (DataLoader(TensorDataset(X[:0]), batch_size=3), "empty"),
    "a scalar": (torch.tensor(1.0), "leading data dimension"),
    "rows that differ in number": ((X, X[:3]), r"common leading size; got \[30, 3\]"),
    "an empty tree": ({}, "leading data dimension"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_data(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(pv.PyrovaeError, match=message):
        fit(vae(), data)
    with pytest.raises(pv.PyrovaeError, match=message):
        fit(vae(), X, validation=data if data is not None else [data])
