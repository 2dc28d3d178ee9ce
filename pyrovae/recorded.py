"""Objects that remember how they were built, so that a program can be saved as a description and its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only


class Recorded:
    """Keeps the constructor's arguments in ``_arguments``.

    ``pyrovae.save`` writes them as JSON and ``pyrovae.load`` calls the constructor again, so a subclass needs no
    serialisation code: tensors passed to a constructor must become parameters or buffers, whose values come from
    the weights. deepcopy and pickle keep the arguments consistent with the copied submodules, because both restore
    the instance's dict as one object graph.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Recorded:
        self = super().__new__(cls)
        # Of a tensor, shape and dtype are all that is needed; the tensor itself might be a view of a whole data set.
        arguments = tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), (args, kwargs))
        # object.__setattr__: nn.Module's own is unusable before nn.Module.__init__
        object.__setattr__(self, "_arguments", arguments)
        return self
