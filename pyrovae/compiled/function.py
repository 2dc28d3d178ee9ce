"""A function of tensors that is traced once for each kind of input and runs as one compiled graph from then on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from pyrovae import trees
from pyrovae.compiled.backends import CHEAPER, Backend
from pyrovae.compiled.philox import Noise
from pyrovae.compiled.trace import UntraceableError, copies, reason, restore, rewritten, trace
from pyrovae.compiled.watch import generators
from pyrovae.errors import PyrovaeError
from pyrovae.randomness import seeded
from pyrovae.trees import Tree

TOLERANCE = 1e-5  # between a graph and its function, which carry out the same operations

CHANGES = "something in Python changes from call to call (a counter, a generator of Python or NumPy)"

Function = Callable[..., Tree]


class Compiled:
    """``function`` as one graph, traced anew for other shapes and types of its arguments.

    The graph is checked before it goes to the backend: with the same random numbers it must do what the function does,
    on half the rows of the feed, each twice. What changes in Python from call to call is noticed, which a trace
    freezes: so far as ``watch`` sees it, or as it changes the result.

    Args:
        function: of trees of tensors; returns a tree of tensors, and may change the tensors of ``state`` in place.
            It may run any Python, but not depend on a tensor's value.
        state: tensors that the function reads and may change; parameters among them.
        constants: tensors that it reads only.
        backend: makes a graph fast, see ``pyrovae.compiled.backends``.
        device: where all of this lies.
        watch: what must be the same before and after a call, such as a program's numbers in Python.

    Raises:
        UntraceableError: on the first call, the arguments and ``state`` being as they were.
    """

    def __init__(
        self,
        function: Function,
        *,
        state: Sequence[Tensor],
        constants: Sequence[Tensor],
        backend: Backend,
        device: torch.device,
        watch: Callable[[], Any] = list,
    ) -> None:
        self.function, self.backend, self.watch = function, backend, watch
        self.noise = Noise(device)
        self.state = list({id(t): t for t in state}.values())
        known = {id(t) for t in self.state}
        self.constants = [t for t in {id(t): t for t in constants}.values() if id(t) not in known]
        self.seconds = 0.0  # spent on tracing and compiling
        self._graphs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *feed: Tree) -> Tree:
        of = kind(feed)
        if of not in self._graphs:
            self._graphs[of] = self._compile(feed)
        with torch.no_grad():
            return self._graphs[of](trees.leaves(feed))

    def _compile(self, feed: tuple[Tree, ...]) -> Callable[..., Any]:
        changed = [*self.state, self.noise.step]
        started, before = time.perf_counter(), copies(changed)
        feed = trees.tree_map(torch.clone, feed)  # a program may change its arguments
        try:
            with seeded(0, self.noise.key.device):
                graph, structure = self._checked(feed, before[:-1])
                run = self._fast(graph, trees.leaves(feed))
        finally:
            restore(changed, before)
            self.seconds += time.perf_counter() - started
        if not self._graphs:  # only now, so that a function that cannot be traced leaves the generator alone
            self.noise.draw_key()
        return lambda leaves: pytree.tree_unflatten(run(leaves), structure)

    def _checked(self, feed: tuple[Tree, ...], before: list[Tensor]) -> tuple[GraphModule, pytree.TreeSpec]:
        """The function's graph with torch's own random numbers, compared with the function; and what it returns."""
        inputs = [*self.state, *self.constants]
        structure = None

        def flat(*tensors: Tensor) -> list[Tensor]:
            nonlocal structure
            result, structure = pytree.tree_flatten(self.function(*_unflatten(feed, tensors[len(inputs) :])))
            return result

        held = [self.watch(), generators()]
        graph = trace(flat, [*inputs, *trees.leaves(feed)])
        if [self.watch(), generators()] != held:
            raise UntraceableError(CHANGES)
        other = [leaf.flip(0)[torch.arange(len(leaf), device=leaf.device) // 2] for leaf in trees.leaves(feed)]
        by_function = self._outcome(lambda: _run(flat, *inputs, *other), before)
        by_graph = self._outcome(lambda: _run(graph, *_detached(inputs), *other), before)
        if not all(_close(a, b) for a, b in zip(by_graph, by_function, strict=True)):
            raise UntraceableError(f"its traced graph gives other values: {CHANGES}")
        assert structure is not None
        return graph, structure

    def _outcome(self, run: Callable[[], list[Tensor]], before: list[Tensor]) -> list[Tensor]:
        """What a run returns and leaves in the state, from the same start with the same random numbers."""
        restore(self.state, before)
        with seeded(0, self.noise.key.device):
            returned = run()
        return [*(t.detach() for t in returned), *copies(self.state)]

    def _fast(self, graph: GraphModule, feed: list[Tensor]) -> Callable[..., Any]:
        """The graph with random numbers of its own, a step further with every call, given to the backend."""
        key, step = self.noise.key, self.noise.step

        def stepping(key: Tensor, step: Tensor, *tensors: Tensor) -> Any:
            result = graph(*tensors)
            step.add_(1)
            return result

        self.noise.draws = 0
        fixed = [key, step, *_detached([*self.state, *self.constants])]
        try:
            with torch.no_grad():
                return self.backend(rewritten(stepping, [*fixed, *feed], self._decompositions()), fixed, feed)
        except (PyrovaeError, UntraceableError):
            raise
        except Exception as error:  # whatever a compiler raises
            raise UntraceableError(reason(error)) from error

    def _decompositions(self) -> dict[Any, Callable[..., Any]]:
        """On a CPU, cheaper words for some operations; a GPU has fast random numbers of its own."""
        on_cpu = self.noise.key.device.type != "cuda"
        return self.noise.decompositions() | CHEAPER if on_cpu else {}


def _run(function: Callable[..., Any], *inputs: Tensor) -> Any:
    try:
        return function(*inputs)
    except (RuntimeError, ValueError) as error:
        raise UntraceableError(f"it fails on other values: {reason(error)}") from error


def _detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same memory without gradients, which lie inside the graph already."""
    return [t.detach() for t in tensors]


def kind(feed: Tree) -> tuple[Any, ...]:
    """What a graph is made for: the shapes, types and layouts of the arguments."""
    return tuple((leaf.shape, leaf.dtype, leaf.stride()) for leaf in trees.leaves(feed))


def _unflatten(structure: tuple[Tree, ...], leaves: Sequence[Tensor]) -> tuple[Tree, ...]:
    remaining = iter(leaves)
    return tuple(trees.tree_map(lambda _: next(remaining), tree) for tree in structure)


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.float(), b.float(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
