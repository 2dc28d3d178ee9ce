"""A compiled run is the run it replaces: the same losses, gradient norms and weights, whatever a step is made of."""

from __future__ import annotations

import math
import os
import random
import shutil
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from cases import BOARD, CASES, EAGER, Case
from torch import Tensor
from torch.fx import GraphModule, Node
from torchs_noise import TorchsNoise

import pyrovae as pv
from pyrovae.compiled import CompileWarning, function
from pyrovae.compiled.backends import Backend, Run, inductor, interpreted

SGD = partial(torch.optim.SGD, lr=0.1)  # a change of the weights is then a gradient
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 7, "optimizer": SGD, "device": "cpu", "seed": 3}
TRACED = CASES | BOARD
HANDFUL = 0  # the seed of the cases that Inductor compiles in every test run; --inductor-all takes all


def has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


class Seen:
    """The graphs that a backend was given."""

    def __init__(self, backend: Backend = interpreted) -> None:
        self.backend, self.graphs = backend, []

    def __call__(self, graph: GraphModule, fixed: Sequence[Tensor], feed: Sequence[Tensor]) -> Run:
        self.graphs.append(graph)
        return self.backend(graph, fixed, feed)


@pytest.fixture(autouse=True)
def everywhere(empty_store: None) -> None:
    pass


def made(name: str) -> Case:
    torch.manual_seed(1)
    return TRACED[name]()


def trained(case: Case, compile: bool) -> tuple[pv.Run, list[Tensor]]:
    """The run, and how far it moved each parameter."""
    run = pv.fit(case.program, case.data, compile=compile, **OPTIONS | case.options)
    return run, [p.detach().clone() for p in run.program.parameters()]


def backed(backend: Backend | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """``fit`` compiles with ``backend``, and compiled steps draw torch's own random numbers."""
    monkeypatch.setattr("pyrovae.compiled.choice.backend_for", lambda device: backend)
    monkeypatch.setattr(function, "Noise", TorchsNoise)


def compiled_as_eager(name: str, backend: Backend, monkeypatch: pytest.MonkeyPatch, tolerance: float = 1e-4) -> None:
    backed(backend, monkeypatch)
    eager, expected = trained(made(name), compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        compiled, found = trained(made(name), compile=True)
    assert compiled.manifest["compiled"] and not eager.manifest["compiled"]
    for one, two in zip(compiled.history, eager.history, strict=True):
        for key in one.keys() - {"seconds"}:
            assert math.isfinite(two[key]) and one[key] == pytest.approx(two[key], rel=tolerance, abs=tolerance), key
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", TRACED)
def test_a_run_by_graphs_is_the_run_by_functions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each graph looks at no value, and has no shape that depends on one."""
    seen = Seen(interpreted)
    compiled_as_eager(name, seen, monkeypatch)
    assert len(seen.graphs) == 1
    nodes = [node for node in seen.graphs[0].graph.nodes if node.op == "call_function"]
    assert not [node for node in nodes if looks(node)]


LOOKS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
FIXED_SHAPE = {torch.ops.aten.index.Tensor}  # with whole numbers; masks are refused by the trace itself


def looks(node: Node) -> bool:
    tags = set(getattr(node.target, "tags", ()))
    return bool(tags & LOOKS) and node.target not in FIXED_SHAPE


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "inductor_case" in metafunc.fixturenames:
        every = metafunc.config.getoption("--inductor-all")
        handful = ["by Adam", *random.Random(HANDFUL).sample(list(TRACED), 2)]  # the usual step, and others
        metafunc.parametrize("inductor_case", TRACED if every else handful)


@pytest.mark.skipif(not has_compiler(), reason="Inductor needs a C++ compiler, and there is none")
def test_a_run_by_inductor_is_the_run_by_functions(inductor_case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch._inductor.config.patch(fallback_random=True):  # type: ignore[attr-defined]
        compiled_as_eager(inductor_case, inductor, monkeypatch, tolerance=1e-3)


@pytest.mark.parametrize("name", EAGER)
def test_what_cannot_be_traced_runs_eagerly_and_says_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, reason = EAGER[name]
    backed(interpreted, monkeypatch)
    runs = []
    for compile in (False, True):
        torch.manual_seed(1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runs.append(trained(make(), compile))
        said = [str(w.message) for w in caught if issubclass(w.category, CompileWarning)]
        assert len(said) == compile and all(reason in text for text in said)
    (eager, expected), (fallen, found) = runs
    assert not fallen.manifest["compiled"] and reason in fallen.manifest["eager"]
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))  # the failed trace left nothing
    assert fallen.column("objective") == eager.column("objective")
