"""Whether transforms from elsewhere say the log-determinant that they have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import Transform
from torch.distributions.transforms import _InverseTransform
from torch.distributions.utils import _sum_rightmost

from pyrovae.errors import PyrovaeError
from pyrovae.flows.transformed import Transformed
from pyrovae.parameters import forget

TESTED = ("pyrovae", "zuko")  # whose transforms are held to their Jacobians by their own tests
MOST = 1024  # dimensions: of more, the Jacobian takes too long
NEAR = 0.01  # relative; a factor that is counted once, and not once for each dimension, is farther off


def check_log_determinants(distribution: Any) -> None:
    """Raises PyrovaeError where a transform's log |det df/du| is not that of its Jacobian by autograd, at one draw."""
    if not isinstance(distribution, Transformed) or distribution.base_dist.batch_shape:
        return
    u = distribution.base_dist.sample()
    if u.dim() != 1 or len(u) > MOST:
        return
    for transform in distribution.transforms:
        x = transform(u)
        if isinstance(transform, _InverseTransform):  # the other way is as good, and may be the fast one
            _check(transform.inv, x)
        else:
            _check(transform, u)
        forget(transform)
        u = x


def _check(transform: Transform, u: Tensor) -> None:
    if type(transform).__module__.split(".")[0] in TESTED:
        return
    try:
        said = _sum_rightmost(transform.log_abs_det_jacobian(u, transform(u)), 1 - transform.codomain.event_dim)
        is_so = torch.linalg.slogdet(jacobian(transform, u)).logabsdet
    except (NotImplementedError, RuntimeError):  # no density, or another number of dimensions: others say so
        return
    finally:
        forget(transform)
    if is_so.isfinite() and (said - is_so).abs() > NEAR * (1 + is_so.abs()):
        raise PyrovaeError(
            f"{type(transform).__name__} says that its log |det df/du| is {said.item():.4g}, and by its Jacobian it is "
            f"{is_so.item():.4g}: densities would be wrong. Torch counts a scale without dimensions once for all: give "
            f"it one number per dimension, torch.full(({len(u)},), scale)"
        )
