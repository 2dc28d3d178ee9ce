"""An estimator run over the data, block by block, each block with random numbers of its own."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from pyrovae.evidence.blocks import Block, Estimator, Setting
from pyrovae.evidence.checkpoint import Checkpoint, Stage
from pyrovae.randomness import reseed, seeded
from pyrovae.validation import validating

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: seeds of blocks that lie far apart


def estimated(
    setting: Setting,
    estimator: Estimator,
    seed: int | None,
    *,
    index: np.ndarray | None = None,
    stage: Stage | None = None,
    progress: bool | None = None,
    desc: str = "log_marginal",
) -> list[Block]:
    """Every block of the data, each with random numbers of its own, which the seed and its place decide.

    Args:
        index: of which data; all by default.
        stage: of a checkpoint, where blocks are kept.
    """
    size, block = setting.data.size if index is None else len(index), estimator.sizes.block
    base = int(torch.randint(2**62, ())) if seed is None else seed
    blocks = [Block(figures) for figures in stage.parts] if stage else []
    starts = range((stage.blocks if stage else 0) * block, size, block)
    bar = tqdm(starts, desc=desc, unit="block", disable=None if progress is None else not progress)
    with seeded(base, setting.device), validating(False):
        for start in bar:
            part = slice(start, start + block)
            reseed((base + GOLDEN * (start // block)) % 2**64, setting.device)
            estimator.begin()
            blocks.append(estimator.block(setting.data.rows(part if index is None else index[part])))
            if stage:
                stage.add(blocks[-1])
    if stage:
        stage.write()
    return blocks


class Passes:
    """Several passes over (some of) the data, each with random numbers of its own, which the seed and its turn decide.

    Args:
        checkpoint: where the blocks of all of them are kept, if anywhere.
    """

    def __init__(
        self, setting: Setting, seed: int | None, checkpoint: Checkpoint | None = None, progress: bool | None = None
    ) -> None:
        self.setting, self.checkpoint, self.progress = setting, checkpoint, progress
        self._seeds = torch.Generator().manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)

    def __call__(self, name: str, estimator: Estimator, index: np.ndarray) -> list[Block]:
        """The blocks of the data at ``index``."""
        seed = int(torch.randint(2**62, (), generator=self._seeds))
        stage = self.checkpoint.stage(name) if self.checkpoint else None
        desc = f"log_marginal, {name}"
        return estimated(self.setting, estimator, seed, index=index, stage=stage, progress=self.progress, desc=desc)
