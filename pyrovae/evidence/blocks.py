"""Data a block at a time, and how large a block and a chunk of particles may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyrovae import trees
from pyrovae.compiled import Fast
from pyrovae.compiled.choice import Flops, chosen, pays
from pyrovae.evidence.result import Draws
from pyrovae.evidence.weights.expectations import Expectation
from pyrovae.terms import Terms
from pyrovae.trees import Tree
from pyrovae.validation import validating

MEMORY = {"cpu": 2**28, "cuda": 2**31, "mps": 2**30}  # bytes of working memory, by type of device
MOST_ROWS = {"cpu": 2048, "cuda": 2**18, "mps": 2**16}  # beyond these, larger chunks are no faster (on CPUs: cache)


class Data(NamedTuple):
    """(x, *given) as it came, made tensors on the device a few rows at a time: it may be a memory map."""

    columns: tuple[Tree, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def size(self) -> int:
        return trees.num_data(*self.columns)

    def rows(self, part: Any) -> list[Tree]:
        taken = (trees.rows(tree, part) for tree in self.columns)
        return [trees.to(trees.as_tensors(tree, self.dtype), self.device) for tree in taken]


class Setting(NamedTuple):
    """What an estimator works on: a program, its terms, its data and the machine.

    Attributes:
        probe: a few rows, to try things on.
        memory: bytes of working memory; None for the usual.
        compile: True, False or "auto".
    """

    program: Any
    terms: Terms
    data: Data
    probe: list[Tree]
    memory: int | None
    compile: bool | Literal["auto"]

    @property
    def device(self) -> torch.device:
        return self.data.device


class Sizes(NamedTuple):
    """How much is computed at once: ``chunk`` particles of each of ``block`` data."""

    block: int
    chunk: int


class Block(NamedTuple):
    """Found of a block of n data: figures by the names of ``Evidence``, each ending in n; draws and expectations."""

    figures: dict[str, Tensor]
    draws: Draws | None = None
    expectations: Mapping[str, Expectation] = {}

    @property
    def size(self) -> int:
        """n."""
        return next(iter(self.figures.values())).shape[-1]

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """Several as one of all their data; nan where a method has no figure that another has."""
        like = {name: figure for block in blocks for name, figure in block.figures.items()}

        def figure(name: str, block: Block) -> Tensor:
            absent = like[name].new_full((*like[name].shape[:-1], block.size), math.nan)
            return block.figures.get(name, absent)

        figures = {name: torch.cat([figure(name, block) for block in blocks], -1) for name in like}
        draws = [block.draws for block in blocks if block.draws is not None]
        expected = {
            name: Expectation.joined([block.expectations[name] for block in blocks])
            for name in (blocks[0].expectations if blocks else {})
        }
        return cls(figures, Draws.joined(draws) if draws else None, expected)

    def taken(self, order: Tensor) -> Block:
        """The data at these places."""
        figures = {name: figure[..., order] for name, figure in self.figures.items()}
        expected = {name: every.taken(order) for name, every in self.expectations.items()}
        return Block(figures, self.draws and self.draws.taken(order), expected)


class Estimator(Protocol):
    """Estimates log p(x) of one block of data after another."""

    sizes: Sizes

    @property
    def start(self) -> str:
        """Where its particles come from, or its chains begin: "guide" or "prior"."""

    @property
    def compiled(self) -> bool:
        """Whether it runs as a compiled graph, whose random numbers and rounding are its own."""

    def begin(self) -> None:
        """Called before each block, once the generators are seeded for it."""

    def block(self, rows: list[Tree]) -> Block: ...


def sizes(num_data: int, num_particles: int, limit: int, together: int) -> Sizes:
    """Even blocks and chunks of at most ``limit`` rows in all, and ``together`` data or more."""
    chunk = even(num_particles, max(1, limit // min(num_data, together)))
    return Sizes(even(num_data, max(1, limit // chunk)), chunk)


def even(number: int, most: int) -> int:
    """The size of chunks of at most ``most``, as few and as even as can be."""
    return -(-number // -(-number // most))


def padded(rows: list[Tree], block: int) -> list[Tree]:
    """``rows`` filled up to ``block`` with repeats of the last, so that a compiled graph takes them."""
    size = trees.num_data(*rows)
    if size == block:
        return rows
    last = torch.arange(block, device=trees.leaves(rows)[0].device).clamp(max=size - 1)
    filled: list[Tree] = trees.rows(rows, last)
    return filled


class _Bytes(TorchDispatchMode):
    """Adds up the memory of everything computed."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += sum(t.numel() * t.element_size() for t in trees.leaves(result) if isinstance(t, Tensor))
        return result


def most_rows(setting: Setting, run: Callable[[int, list[Tree]], Any]) -> int:
    """How many (datum x particle) rows fit: the memory over what one more particle of one datum computes.

    All intermediate results are counted as if none were ever freed, so the estimate is on the safe side.

    Args:
        run: computes so many particles of such rows.
    """
    datum = [trees.rows(tree, slice(0, 1)) for tree in setting.probe]

    def cost(particles: int) -> int:
        with torch.random.fork_rng(), _Bytes() as counter:
            run(particles, datum)
        return counter.total

    kind = setting.device.type
    per_row = max((cost(12) - cost(4)) / 8, 1.0)
    memory = setting.memory or MEMORY.get(kind, MEMORY["cpu"])
    return int(max(1, min(memory / per_row, MOST_ROWS.get(kind, MOST_ROWS["cpu"]))))


def compiled(
    setting: Setting, function: Callable[..., Tree], *like: Tree, calls: int, rows: float, run: Callable[..., Any]
) -> Fast:
    """``function`` of a block of data as one graph, where that is asked for or pays.

    Args:
        like: its arguments.
        calls, rows: how often it will be called, and for how many (datum x particle) rows in all.
        run: as for ``most_rows``.
    """

    def worth() -> bool:
        with torch.random.fork_rng(), Flops() as counter:
            run(8, [trees.rows(tree, slice(0, 1)) for tree in setting.probe])
        return pays(calls, counter.total / 8 * rows)

    program = setting.program
    own = [*program.parameters(), *program.buffers()] if isinstance(program, nn.Module) else []
    backend = chosen("log_marginal", setting.compile, setting.device, worth=worth)
    fast = Fast("log_marginal", function, like=like, constants=own, backend=backend, device=setting.device)
    if backend is not None:
        with torch.random.fork_rng(), validating(False):
            fast(*like)  # compiles, or says why not, before the first block draws its random numbers
    return fast
