"""A guide whose distributions each datum moves by parameters of its own: the guide's family without amortization."""

from __future__ import annotations

import inspect
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Size, Tensor
from torch.distributions import constraints, transform_to
from torch.distributions.transformed_distribution import TransformedDistribution

from pyrovae.errors import PyrovaeError

SAME = (("logits", "probs"), ("scale_tril", "covariance_matrix", "precision_matrix"))  # of which the first is moved


class Local(Messenger):
    """The program whose guide's distributions are moved, at every site, by free parameters of each datum.

    A parameter v of a site's distribution becomes t(t^-1(v) + offset), where t maps the real numbers to what v may be
    (``arg_constraints``) and the offset is the datum's own. Where a site depends on earlier ones the guide's network
    still says how, and the offset comes on top of what it gives. A flow is moved by its base distribution. Auxiliary
    sites, such as the noise of dequantization, stay as they are.

    Offsets begin at zero, where this is the program itself, and are in units of the distribution's own scale where
    they move a location.

    Args:
        program: any program.
        num_data: N, of the rows that it will run on, always the same ones.

    Attributes:
        parameters: the offsets (N, ...) by the names of site and parameter; made when the guide first runs.
    """

    def __init__(self, program: Any, num_data: int) -> None:
        super().__init__()
        self.program, self.num_data = program, num_data
        self.parameters: dict[str, Tensor] = {}

    @property
    def model(self) -> Any:
        return self.program.model

    def guide(self, *args: Any) -> Any:
        with self:
            return self.program.guide(*args)

    def _pyro_sample(self, msg: Any) -> None:
        if is_own(msg):
            msg["fn"] = self._moved(msg["name"], msg["fn"], msg["fn"].batch_shape, 0)

    def _moved(self, name: str, given: Any, batch: Size, right: int) -> Any:
        """``given`` of batch shape ``batch``, moved; ``right`` of these dimensions lie right of the data's."""
        if isinstance(given, torch.distributions.Independent):
            n = given.reinterpreted_batch_ndims
            inner = given.base_dist.batch_shape
            return dist.Independent(self._moved(name, given.base_dist, batch + inner[len(inner) - n :], right + n), n)
        if isinstance(given, dist.MaskedDistribution):
            return self._moved(name, given.base_dist, batch, right).mask(given._mask)
        if isinstance(given, dist.ExpandedDistribution):
            return self._moved(name, given.base_dist, batch, right)
        if isinstance(given, TransformedDistribution) and not given.arg_constraints:
            return type(given)(self._moved(name, given.base_dist, batch, right), given.transforms)
        return self._rebuilt(name, given, batch, right)

    def _rebuilt(self, name: str, given: Any, batch: Size, right: int) -> Any:
        movable, arguments = _movable(name, given), _arguments(name, given)
        fresh = False
        for key, constraint in movable.items():
            value = getattr(given, key)
            value = value.expand(batch + value.shape[value.dim() - constraint.event_dim :])
            fresh = fresh or f"{name}.{key}" not in self.parameters
            offset = self._offset(f"{name}.{key}", value, len(batch) - 1 - right)
            arguments[key] = _shifted(given, key, constraint, value, offset)
        made = type(given)(**arguments)
        if fresh:
            _check_same(name, given, made)
        return made

    def _offset(self, key: str, value: Tensor, data_dim: int) -> Tensor:
        rows, *rest = value.shape[data_dim:]
        if rows % self.num_data:
            raise PyrovaeError(
                f"{key} has {rows} values for {self.num_data} data: a guide's sites must lie in the data plate"
            )
        if key not in self.parameters:
            self.parameters[key] = value.new_zeros(self.num_data, *rest).requires_grad_()
        return tiled(self.parameters[key], rows)


def is_own(msg: Any) -> bool:
    """Whether a site of the guide is a latent that stands for something, and not only integrates x out."""
    infer = msg["infer"] or {}
    return not (site_is_subsample(msg) or msg["is_observed"] or infer.get("auxiliary") or infer.get("_deterministic"))


def tiled(parameter: Tensor, rows: int) -> Tensor:
    """(N, ...) as (rows, ...), for a program that runs on the whole data several times over."""
    return parameter.repeat(rows // len(parameter), *[1] * (parameter.dim() - 1))


def _movable(name: str, given: Any) -> dict[str, Any]:
    """The constraints of the parameters that can be moved, by name."""
    if isinstance(given, dist.Delta):
        raise PyrovaeError(f"the guide gives {name!r} as a point (Delta): its ELBO is minus infinity, with no gap")
    doubles = {key for first, *others in SAME if first in given.arg_constraints for key in others}
    movable = {
        key: constraint
        for key, constraint in given.arg_constraints.items()
        if key not in doubles and not constraints.is_dependent(constraint) and not constraint.is_discrete
    }
    if not movable:
        raise PyrovaeError(
            f"the guide's distribution of {name!r}, {type(given).__name__}, declares no arg_constraints by which each "
            "datum could move it: declare them, or mark the site with infer={'auxiliary': True} to leave it as it is"
        )
    return movable


def _arguments(name: str, given: Any) -> dict[str, Any]:
    """What the distribution's constructor was given, one of several equivalent parameters only."""
    doubles = {key for first, *others in SAME if first in given.arg_constraints for key in others}
    accepted = [key for key in inspect.signature(type(given)).parameters if key not in {*doubles, "validate_args"}]
    if missing := [key for key in accepted if not hasattr(given, key)]:
        raise PyrovaeError(
            f"the guide's distribution of {name!r}, {type(given).__name__}, cannot be built anew: it does not keep "
            f"its arguments {missing} as attributes"
        )
    return {key: getattr(given, key) for key in accepted}


def _shifted(given: Any, key: str, constraint: Any, value: Tensor, offset: Tensor) -> Tensor:
    to_allowed = transform_to(constraint)
    if isinstance(constraint, type(constraints.lower_cholesky)):
        shifted: Tensor = value @ to_allowed(offset)  # a product of triangles: in units of the scale itself
        return shifted
    if key == "loc" and hasattr(given, "scale_tril"):
        return value + (given.scale_tril @ offset.unsqueeze(-1)).squeeze(-1)
    if key == "loc" and hasattr(given, "scale"):
        return value + given.scale * offset
    free: Tensor = to_allowed(to_allowed.inv(value) + offset)
    return free


def _check_same(name: str, given: Any, made: Any) -> None:
    """Refuse a distribution that its parameters do not determine."""
    with torch.no_grad(), torch.random.fork_rng():
        draw = given.sample()
        same = torch.allclose(given.log_prob(draw), made.log_prob(draw), rtol=1e-3, atol=1e-2, equal_nan=True)
    if not same:
        raise PyrovaeError(
            f"the guide's distribution of {name!r}, {type(given).__name__}, is another one when built anew from "
            f"{list(given.arg_constraints)}: its constructor must take, and keep as attributes, all that it is made of"
        )
