"""Tables in units of their own standard deviations, and what that does to a density."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError
from pyrovae.precision import float64


class Standardization(NamedTuple):
    """x_model = (x_own - loc) / scale, column by column; loc and scale (D,) float64, of the training split alone.

    By the change of variables p_own(x_own) = p_model(x_model) |det dx_model/dx_own| = p_model(x_model) / prod scale.
    """

    loc: Tensor
    scale: Tensor

    @property
    def log_jacobian(self) -> float:
        """log |det dx_model/dx_own| = -sum log scale, nats."""
        return -self.scale.log().sum().item()

    def log_jacobian_of(self, x: Tensor) -> Tensor:
        """log |det dx_model/dx_own| of the elements of x (N, D) that are seen, (N,), nats."""
        return -float64(~x.isnan()) @ self.scale.log().to(float64(x).device)

    def apply(self, x: Tensor) -> Tensor:
        """From the data's own units to the model's; in x's dtype, computed in float64."""
        return ((x.double() - self.loc) / self.scale).to(x.dtype)

    def restore(self, x: Tensor) -> Tensor:
        """From the model's units to the data's own, in float64: float32 would round beside a large loc."""
        x = float64(x)
        return x * self.scale.to(x.device) + self.loc.to(x.device)


def standardization(train: Tensor, columns: Sequence[str]) -> Standardization:
    """The mean and the (population) standard deviation of what is seen of each column of the training split (N, D).

    Raises:
        PyrovaeError: a column that is constant there: its density is a point mass, and no scale standardises it; or
            that is missing there.
    """
    seen, x = ~train.isnan(), train.double()
    loc = x.nanmean(0)
    scale = (x - loc).square().nanmean(0).sqrt()
    least, most = (torch.where(seen, x, sign * math.inf) for sign in (1, -1))
    constant = least.amin(0) == most.amax(0)  # the scale may be a rounding error
    for what, which in (("missing everywhere", ~seen.any(0)), ("constant", constant)):
        if which.any():
            names = ", ".join(str(columns[i]) for i in which.nonzero().flatten())
            raise PyrovaeError(
                f"{what} in the training split: {names}; there is no scale, and no density. Leave such columns out of "
                "the data, or pass standardize=False and a likelihood that allows them"
            )
    return Standardization(loc, scale)
