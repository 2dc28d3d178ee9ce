"""Finished blocks of an estimate on disk, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.blocks import Block, Data, Setting
from pyrovae.randomness import seeded
from pyrovae.saving import write_atomically

EVERY = 10.0  # seconds between two writes
ROWS = 1000  # of data read at once
FORMAT = 1  # of the file
WHY = {
    "program": ", its parameters, or what it computes, differ",
    "at once": ", as by another memory",
}


class Checkpoint:
    """The figures of the blocks done so far, stage by stage, in one safetensors file that is only ever whole.

    Args:
        path: of the file.
        about: what the figures are of; those of anything else are refused.

    Raises:
        PyrovaeError: the file holds something else, is not one of ours, or cannot be written.
    """

    def __init__(self, path: str | Path, about: dict[str, Any]) -> None:
        self.path, self.about = Path(path), about
        self.stages: dict[str, Stage] = {}
        self._begun = self._written = time.monotonic()
        if self.path.exists():
            self._read()
        else:
            self.write()  # now, and not after an hour, a path shows that cannot be written

    def stage(self, name: str, how: dict[str, Any]) -> Stage:
        """What is done of one pass over data.

        Args:
            how: what else its random numbers and rounding depend on; figures found otherwise are refused.
        """
        found = self.stages.get(name)
        if found is None or not found.size:
            found = self.stages[name] = Stage(self, how)
        self._refuse_other(found.how, how, f"{name}, ")
        return found

    def due(self) -> None:
        """Write if the last time was some seconds ago."""
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        figures = {
            f"{stage}/{name}": figure.contiguous()
            for stage, kept in self.stages.items()
            for name, figure in Block.joined(kept.blocks).figures.items()
        }
        stages = {name: stage.how for name, stage in self.stages.items()}
        seconds = time.monotonic() - self._begun
        meta = {"pyrovae": json.dumps({"format": FORMAT, "about": self.about, "stages": stages, "seconds": seconds})}
        write_atomically(self.path, safetensors.torch.save(figures, meta))
        self._written = time.monotonic()

    def _read(self) -> None:
        about, stages, seconds, figures = _opened(self.path)
        self._begun -= seconds
        self._refuse_other(about, self.about)
        for name, how in stages.items():
            own = {
                key.removeprefix(f"{name}/"): figure for key, figure in figures.items() if key.startswith(f"{name}/")
            }
            self.stages[name] = Stage(self, how, [Block(own)] if own else [])

    def _refuse_other(self, there: dict[str, Any], here: dict[str, Any], of: str = "") -> None:
        here = json.loads(json.dumps(here))
        if different := [name for name in {**there, **here} if there.get(name) != here.get(name)]:
            said = "; ".join(
                f"{of}{name}: {there.get(name)} there, {here.get(name)} here{WHY.get(name, '')}" for name in different
            )
            raise PyrovaeError(
                f"{self.path} is of another estimate ({said}): finish that one by its own settings, or remove the file"
            )


class Done(NamedTuple):
    """What an unfinished estimate has behind it.

    Attributes:
        data: how many, by the name of the pass over them.
        seconds: what it took.
    """

    data: dict[str, int]
    seconds: float


def done(path: Path) -> Done:
    """What the checkpoint at ``path`` has behind it; nothing where there is none.

    Raises:
        PyrovaeError: a file that is no checkpoint.
    """
    if not path.exists():
        return Done({}, 0.0)
    _, _, seconds, figures = _opened(path)
    sizes = {name.partition("/")[0]: figure.shape[-1] for name, figure in figures.items()}
    return Done(sizes, seconds)


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], float, dict[str, Tensor]]:
    """What it is about, how each stage was computed, the seconds they took, and their figures."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            meta = json.loads((file.metadata() or {})["pyrovae"])
            figures = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if meta.get("format") != FORMAT:
            raise ValueError(f"its format is {meta.get('format')}, not {FORMAT}")
        stages = {name: dict(how) for name, how in meta["stages"].items()}
        return dict(meta["about"]), stages, float(meta["seconds"]), figures
    except (OSError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise PyrovaeError(f"{path} is no checkpoint of an estimate of log p(x): {error}; remove it") from error


class Stage:
    """What a checkpoint keeps of one pass over data.

    How far it is, is told by the figures alone: no count beside them could disagree when it is interrupted.

    Attributes:
        how: what else the figures depend on.
        blocks: what is done, in its order; the first may be several.
    """

    def __init__(self, checkpoint: Checkpoint, how: dict[str, Any], blocks: Iterable[Block] = ()) -> None:
        self.checkpoint, self.how, self.blocks = checkpoint, how, list(blocks)

    @property
    def size(self) -> int:
        """How many data are done."""
        return sum(block.size for block in self.blocks)

    def add(self, block: Block) -> None:
        """Take in a further block; the file is written every few seconds."""
        self.blocks.append(block)
        self.checkpoint.due()

    def write(self) -> None:
        """Write now."""
        self.checkpoint.write()


def digest_of_program(setting: Setting) -> str:
    """Of all its parameters and buffers (those in Pyro's store where it is no module), and of what it computes.

    The latter tells programs apart that have no parameters, or keep them where nobody sees.
    """
    program = setting.program
    tensors = program.state_dict() if isinstance(program, nn.Module) else dict(pyro.get_param_store().items())
    with seeded(0, setting.device):
        computed = setting.terms(program, *setting.probe, num_particles=2).log_point_weight
    return _digest([*(tensors[name] for name in sorted(tensors) if isinstance(tensors[name], Tensor)), computed])


def digest_of_data(data: Data) -> str:
    """Of (x, *given)."""
    parts = (data.rows(slice(start, start + ROWS)) for start in range(0, data.size, ROWS))
    return _digest(leaf for part in parts for leaf in trees.leaves(part))


def _digest(tensors: Iterable[Tensor]) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        whole = tensor.detach().cpu().contiguous()
        sha.update(f"{whole.dtype}{tuple(whole.shape)}".encode())
        sha.update(whole.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
