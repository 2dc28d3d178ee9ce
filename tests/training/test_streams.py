"""Data larger than memory: streamed they train the same program, and leave no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import Point, bits, fit, reals, same, state, vae
from test_sources import Items, Stream, conditional, table, trained
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import pyrovae as pv
from pyrovae.compiled.backends import interpreted
from pyrovae.training import streams
from pyrovae.training.prefetch import AHEAD, prefetched
from pyrovae.training.sources import Resident, source
from pyrovae.training.streams import Mapped

X = bits()
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("pyrovae")]


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[Any], np.ndarray]:
    """Makes a memory-mapped array of the values of another."""

    def mapped(values: Any, mode: Any = "r") -> np.ndarray:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, np.asarray(values))
        return np.load(path, mmap_mode=mode)

    return mapped


# -------------------------------------------------------------------------------------------------- memory maps


@pytest.mark.parametrize("block", [1, 400, 10_000])
def test_a_memory_map_trains_the_same_program(on_disk: Any, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, shuffled, with validation: however much is read at once, all is as with resident data."""
    monkeypatch.setattr(streams, "BLOCK", block)
    x = on_disk(X)
    expected = fit_state(X, validation=X[:9])
    assert same(fit_state(x, validation=x[:9]), expected)
    assert same(fit_state(on_disk(X.double()), validation=X[:9]), expected)
    assert not same(fit_state(x, validation=x[:9], seed=1), expected)


def fit_state(data: Any, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return state(fit(vae(), data, draw=torch.bernoulli, **options).program)


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_order_is_that_of_resident_data(on_disk: Any, shuffle: bool) -> None:
    sources = source(X, CPU), source(on_disk(X), CPU)
    found = []
    for rows in sources:
        torch.manual_seed(0)
        found.append(torch.cat([rows.observe(feed)[0] for feed in rows.feeds(8, shuffle=shuffle)]))
    assert torch.equal(*found)
    assert torch.equal(found[0], X) is not shuffle


def test_memory_maps_beside_arrays_and_in_trees(on_disk: Any) -> None:
    given = torch.eye(3).repeat(10, 1)
    expected = trained((X, given), conditional)
    for form in ((on_disk(X), on_disk(given)), [on_disk(X), given], (X, on_disk(given)), (on_disk(X), given.numpy())):
        assert same(trained(form, conditional), expected)
    x = {"a": X[:, :4], "b": torch.randn(30, 2)}
    assert same(trained({"a": on_disk(x["a"]), "b": x["b"]}, table), trained(x, table))


def test_what_is_streamed_and_what_is_kept(on_disk: Any) -> None:
    x = on_disk(X)
    for mapped in (x, x[3:9], np.asarray(x), x.reshape(-1, 2, 3), on_disk(X, "c"), {"a": (x,)}):
        assert isinstance(source(mapped, CPU), Mapped)
    for kept in (np.array(x), x.astype(np.float64), x[[1, 2]], x + 1.0):
        assert isinstance(source(kept, CPU), Resident)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64", "bool"])
def test_types_are_those_of_resident_data(on_disk: Any, dtype: str) -> None:
    values = X.numpy().astype(dtype)
    (found,) = source(on_disk(values), CPU, None, torch.float32).probe(5)
    (expected,) = source(values, CPU, None, torch.float32).probe(5)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_a_step_works_on_copies(on_disk: Any) -> None:
    """A batch that is changed in place changes no file, and a later change of the file no batch."""
    x = on_disk(X, "r+")
    with closing(source(x, CPU).feeds(30, shuffle=False)) as feeds:
        _, batch = next(feeds)
    batch.add_(1.0)
    assert np.array_equal(x, X.numpy())
    x[:] = 7.0
    assert torch.equal(batch, X + 1.0)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled steps are traced, and run without a compiler."""
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("compiled", [False, True])
def test_the_stepper_takes_them(on_disk: Any, compiled: bool) -> None:
    """The step is traced with the batches as its feed; it gives what the step of resident data gives."""
    run = fit(Point(), on_disk(reals()), compile=compiled, batch_size=10, epochs=4)
    assert run.manifest["compiled"] is compiled
    assert same(run.program, fit(Point(), reals(), compile=compiled, batch_size=10, epochs=4).program)


# ---------------------------------------------------------------------------------------------------- iterables


class Batches:
    """An iterable that begins anew, of a length that it tells."""

    def __init__(self, *batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def test_iterables_of_batches(on_disk: Any) -> None:
    """An iterable and a function are the same data; a stream of rows is what a loader makes of it."""
    expected = trained(Batches(*X.split(8)))
    for form in (lambda: iter(X.split(8)), partial(map, Tensor.double, X.split(8)), lambda: Batches(*X.split(8))):
        assert same(trained(form), expected)
    assert same(trained(Stream(X)), trained(DataLoader(TensorDataset(X), batch_size=8)))
    given = torch.eye(3).repeat(10, 1)
    pairs = partial(zip, X.split(8), given.split(8), strict=True)
    assert same(trained(pairs, conditional), trained(Batches(*pairs()), conditional))
    assert not same(trained(pairs, conditional), trained(Batches((X, given)), conditional))


def test_the_length_of_an_iterable_is_its_number_of_batches() -> None:
    assert source(Batches(X, X, X), CPU).num_batches(8) == 3
    assert source(Stream(X), CPU).num_batches(8) is None
    assert source(lambda: iter([X]), CPU).num_batches(8) is None


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("compiled", [False, True])
def test_batches_of_differing_sizes(compiled: bool) -> None:
    """Those of another size than the first are taken eagerly."""
    sizes = [10, 7, 10, 3]
    run = fit(Point(), Batches(*reals().split(sizes)), compile=compiled, epochs=2)
    expected = fit(Point(), DataLoader(Items(reals()), batch_sampler=Batches(*torch.arange(30).split(sizes))), epochs=2)
    assert run.column("objective") == pytest.approx(expected.column("objective"), rel=1e-4)


class Noisy(IterableDataset[Any]):
    """Rows that are drawn when they are read, from torch's global generator."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.bernoulli(row) for row in torch.rand(30, 6))


@pytest.mark.parametrize("make", [Noisy, lambda: DataLoader(TensorDataset(X), batch_size=4, shuffle=True)])
def test_reading_that_draws_random_numbers_is_repeatable(make: Callable[[], Any]) -> None:
    """Of what draws in its rows nothing is read ahead: thread and step would draw in an order left to chance."""

    assert same(trained(make(), batch_size=4), trained(make(), batch_size=4))
    assert not same(trained(make(), batch_size=4), trained(make(), batch_size=4, seed=1))


# ---------------------------------------------------------------------------------------------- reading ahead


def test_batches_are_read_ahead_in_order_by_one_thread() -> None:
    seen: list[int] = []

    def batches() -> Iterator[tuple[Tensor]]:
        for i in range(20):
            seen.append(threading.get_ident())
            yield (torch.tensor([i]),)

    found = []
    for (batch,) in prefetched(batches(), CPU):
        found.append(batch.item())
        assert len(seen) <= len(found) + AHEAD
    assert found == list(range(20))
    assert set(seen).isdisjoint({threading.get_ident()})
    assert len(set(seen)) == 1


def test_reading_ahead_happens_while_a_batch_is_used() -> None:
    """So many batches are read before the second is asked for."""
    enough = threading.Event()

    def batches() -> Iterator[tuple[Tensor]]:
        yield from [(X,)] * AHEAD
        enough.set()
        yield (X,)

    with closing(prefetched(batches(), CPU)) as reading:
        next(reading)
        assert enough.wait(60)


def test_a_generator_that_is_closed_early_reads_no_more() -> None:
    count = 0

    def batches() -> Iterator[tuple[Tensor]]:
        nonlocal count
        while True:
            count += 1
            yield (X,)

    reading = prefetched(batches(), CPU)
    next(reading)
    reading.close()
    assert count <= 1 + AHEAD


def failing() -> Iterator[Tensor]:
    yield from X.split(5)
    raise OSError("the disk is gone")


def test_an_error_in_the_thread_is_raised_as_it_is() -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        fit(vae(), failing)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_a_run_that_ends_early_leaves_no_thread(
    on_disk: Any, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BLOCK", 1)
    calls = 0

    def objective(t: pv.LogTerms) -> Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls == 3:
            raise error
        return pv.objectives.elbo(t)

    with pytest.raises(error) as caught:  # whose traceback keeps the frames alive
        fit(vae(), on_disk(X), objective=objective, batch_size=3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pyrovae")], caught


def test_a_validation_that_fails_leaves_no_thread(on_disk: Any) -> None:
    seen = False

    def objective(t: pv.LogTerms) -> Tensor:
        nonlocal seen
        seen = seen or torch.is_grad_enabled()
        if seen and not torch.is_grad_enabled():
            raise ZeroDivisionError
        return pv.objectives.elbo(t)

    with pytest.raises(ZeroDivisionError) as caught:
        fit(vae(), X, validation=on_disk(X), objective=objective, compile=False)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pyrovae")], caught


# ---------------------------------------------------------------------------------------------------- refusals


class Once:
    """An iterable that is exhausted after one epoch."""

    def __init__(self, x: Tensor) -> None:
        self.iterator = iter(x.split(6))

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.iterator


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (lambda: (batch for batch in [X]), "generator can be iterated only once.*function"),
    "a map": (lambda: map(Tensor.float, [X]), "map can be iterated only once"),
    "exhausted": (lambda: Once(X), "iterated only once"),
    "a function of nothing": (lambda: lambda: None, "an epoch's iterator; it gave None"),
    "no batches": (Batches, "empty"),
    "batches of text": (lambda: Batches("a"), "got a str"),
    "batches whose rows differ in number": (lambda: Batches(X, {"a": X, "b": X[:3]}), r"leading size; got \[30, 3\]"),
    "an empty batch": (lambda: Batches(X, X[:0]), "empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_streams_that_are_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(pv.PyrovaeError, match=message):
        fit(vae(), make())


MAPS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "texts": (lambda disk: disk(np.array(["a", "b"])), "array of <U1"),
    "records": (lambda disk: disk(np.zeros(3, [("a", "f4"), ("b", "i4")])), "numbers that torch knows"),
    "another byte order": (lambda disk: disk(X.numpy().astype(">f4")), "numbers that torch knows.*>f4"),
    "a scalar": (lambda disk: disk(X).reshape(-1)[:1].reshape(()), "leading data dimension"),
    "rows that differ in number": (lambda disk: (disk(X), X[:3]), r"common leading size; got \[30, 3\]"),
    "no rows": (lambda disk: disk(X)[:0], "empty"),
    "beside a number": (lambda disk: (disk(X), 1.0), "got a float"),
    "not finite": (lambda disk: disk(np.full((3, 6), np.nan)), "holds nan at index"),
    "outside the support": (lambda disk: disk(7 * X), "lies outside the likelihood's support"),
}


@pytest.mark.parametrize("name", MAPS)
def test_memory_maps_that_are_refused(name: str, on_disk: Any) -> None:
    make, message = MAPS[name]
    with pytest.raises(pv.PyrovaeError, match=message):
        fit(vae(), make(on_disk))


def test_data_are_looked_at_before_they_are_drawn_from(on_disk: Any) -> None:
    """torch.bernoulli would raise an error of its own, which does not say where."""
    values = np.full((3, 6), 0.5)
    values[1, 2] = np.nan
    with pytest.raises(pv.PyrovaeError, match=r"x holds nan at index \[1, 2\]"):
        fit(vae(), on_disk(values), draw=torch.bernoulli)
