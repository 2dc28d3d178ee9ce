"""An estimator run over the data, block by block, each block with random numbers of its own."""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from pyrovae.errors import PyrovaeError
from pyrovae.evidence.blocks import Block, Estimator, Setting
from pyrovae.evidence.checkpoint import Checkpoint
from pyrovae.randomness import reseed, seeded
from pyrovae.validation import validating

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: seeds of blocks that lie far apart


class Passes:
    """Passes of estimators over the data, each block with random numbers of its own.

    These are decided by the seed, by the turn of the pass and by the place of the block in it, and by nothing that
    happened before: so a run that was stopped goes on with the same ones.

    Args:
        seed: None draws one from the global generator.
        checkpoint: where the blocks of all passes are kept, if anywhere.
        title: of the progress bar.
    """

    def __init__(
        self,
        setting: Setting,
        seed: int | None,
        checkpoint: Checkpoint | None = None,
        progress: bool | None = None,
        title: str = "log_marginal",
    ) -> None:
        self.setting, self.checkpoint, self.progress, self.title = setting, checkpoint, progress, title
        self._seeds = torch.Generator().manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)

    def __call__(self, name: str, estimator: Estimator, index: np.ndarray | None = None) -> list[Block]:
        """The blocks of the data at ``index``, by default of all."""
        data, block = self.setting.data, estimator.sizes.block
        size = data.size if index is None else len(index)
        base = int(torch.randint(2**62, (), generator=self._seeds))
        how = {"at once": list(estimator.sizes), "compiled": estimator.compiled}
        stage = self.checkpoint.stage(name, how) if self.checkpoint else None
        blocks = list(stage.blocks) if stage else []
        starts = range(stage.size if stage else 0, size, block)
        desc, disable = f"{self.title}, {name}", None if self.progress is None else not self.progress
        with seeded(base, self.setting.device), validating(False):
            try:
                for start in tqdm(starts, desc=desc, unit="block", disable=disable):
                    part = slice(start, start + block)
                    reseed((base + GOLDEN * (start // block)) % 2**64, self.setting.device)
                    estimator.begin()
                    blocks.append(estimator.block(data.rows(part if index is None else index[part])))
                    if stage:
                        stage.add(blocks[-1])
            finally:  # where it is stopped, too
                if stage and starts:
                    stage.write()
        if stage and stage.size != size:
            raise PyrovaeError(f"{stage.checkpoint.path} holds {stage.size} data of {size}, {name}: remove it")
        return blocks
