"""Any module as a network."""

from __future__ import annotations

from torch import Tensor, nn

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.networks.base import Network, Shape, as_shape, as_shapes


class BatchFree(Network):
    """Any module that maps rows to rows, such as a torchvision backbone, made free of batch shape.

    Args:
        module: called with the parents as (rows, *event_shape); gives (rows, ...) with the numbers of ``out_shape``.
        in_shapes: the parent's event shape, or a list with one per parent; parents may be integers.
        out_shape: the event shape of the output.

    A backbone's batch normalisation makes each datum's terms depend on the others: ``fit`` refuses it unless it is
    frozen, by ``module.eval()``. A program with a module outside torch.nn and pyrovae is saved without its description:
    load it with ``pyrovae.load(path, program=...)``.

    Example:
        >>> import torch, pyrovae as pv
        >>> rows_only = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 6))
        >>> net = pv.networks.BatchFree(rows_only, (1, 8, 8), 6)
        >>> net(torch.randn(3, 5, 1, 8, 8)).shape
        torch.Size([3, 5, 6])
    """

    reads_integers = True

    def __init__(self, module: nn.Module, in_shapes: Shape | list[Shape], out_shape: Shape) -> None:
        super().__init__()
        self.module, self.in_shapes, self.out_shape = module, as_shapes(in_shapes), as_shape(out_shape)

    def forward(self, *parents: trees.Tree) -> Tensor:
        given, batch = self.parents(parents), self.batch_shape(*parents)
        rows = [p.expand(*batch, *s).reshape(-1, *s) for p, s in zip(given, self.in_shapes, strict=True)]
        found = self.module(*rows)
        if found.shape[:1] != (batch.numel(),) or found[:1].numel() != self.out_shape.numel():
            raise PyrovaeError(
                f"{type(self.module).__name__} gives {tuple(found.shape)} for {batch.numel()} rows: it must give one "
                f"row of {self.out_shape.numel()} numbers for each, to be of shape {tuple(self.out_shape)}"
            )
        made: Tensor = found.reshape(*batch, *self.out_shape)
        return made

    def start_at(self, params: Tensor) -> None:
        """Refused: which layer is the module's last is not known here."""
        raise PyrovaeError("BatchFree cannot tell which of its module's layers is the last: start it yourself")
