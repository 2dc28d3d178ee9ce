"""A base distribution and a chain of transforms: one mechanism for priors, posteriors and likelihoods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.conditional import ConditionalTransform
from torch import Size, Tensor, nn
from torch.distributions import ComposeTransform, Transform
from torch.distributions.transforms import _InverseTransform
from torch.distributions.utils import _sum_rightmost

from pyrovae.errors import PyrovaeError
from pyrovae.flows.adapter import ComposedTransform, ZukoFlow
from pyrovae.parameters import forget, within
from pyrovae.recorded import Recorded


class Transformed(dist.TransformedDistribution):
    """x = f_K(... f_1(u)) with u ~ base: log p(x) = log p(u) - sum_k log |det df_k|, in nats.

    The last draw is remembered with its log-density, which the way from u to x gives: a flow without an inverse scores
    what it drew itself, and an inverse autoregressive one does so in a single pass. Any other value takes the inverse.
    The transforms' own caches are emptied after every use, so that a program can be copied at any time.
    """

    _drawn: tuple[Any, Any, bool] = (None, None, False)

    @property
    def _flow(self) -> Any:
        return ComposedTransform(*self.transforms)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._carried(self.base_dist.rsample(Size(sample_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            draw = self.base_dist.rsample if self.has_rsample else self.base_dist.sample
            return self._carried(draw(Size(sample_shape)))

    def _carried(self, u: Tensor) -> Tensor:
        """f(u), remembered with its log-density."""
        x, log_det = self._flow.call_and_ladj(u)
        self._forget()
        self._drawn = x, self._log_prob(u, log_det), torch.is_grad_enabled()
        return x

    def log_prob(self, value: Tensor) -> Tensor:
        drawn, log_prob, differentiable = self._drawn
        if value is drawn and differentiable >= torch.is_grad_enabled():
            return log_prob
        if self._validate_args:
            self._validate_sample(value)
        batch = torch.broadcast_shapes(value.shape[: value.dim() - self.event_dim], self.batch_shape)
        u, log_det = self._flow.inv.call_and_ladj(value.expand(batch + self.event_shape))
        self._forget()
        return self._log_prob(u, -log_det)

    def _forget(self) -> None:
        for transform in self.transforms:
            forget(transform)

    def _log_prob(self, u: Tensor, log_det: Tensor) -> Tensor:
        """log p of f(u); ``log_det`` of elementwise transforms still has event dimensions."""
        return self.base_dist.log_prob(u) - _sum_rightmost(log_det, self.event_dim - self._flow.codomain.event_dim)


def transformed(base: TorchDistribution, transforms: Sequence[Any], context: Tensor | None = None) -> TorchDistribution:
    """``base`` carried through ``transforms``, those that are conditional being conditioned on ``context``.

    Args:
        base: batch shape (*batch), event shape (D,).
        transforms: in the order from the base to x; see ``Transforms``.
        context: (*batch, C).

    Raises:
        PyrovaeError: a layer of another dimension than the base, or of another context.
    """
    for transform in transforms:
        if getattr(transform, "latent", None) not in (None, *base.event_shape):
            raise PyrovaeError(
                f"{type(transform).__name__} is of {transform.latent} dimensions, the base distribution has event "
                f"shape {tuple(base.event_shape)}: build the flow with as many"
            )
    made = [at(transform, context) for transform in transforms]
    return Transformed(base, made) if made else base


def at(transform: Any, context: Tensor | None) -> Transform:
    """The transform itself where it has no context; one of Pyro's or zuko's conditional ones, or ours, at a context."""
    if isinstance(transform, Transform):
        return transform
    if isinstance(transform, ConditionalTransform):
        if context is None:
            raise PyrovaeError(
                f"{type(transform).__name__} is conditional, and nothing is there to condition it on: a family has "
                "it, pyrovae.families.Flow(family, transforms, context=n)"
            )
        return transform.condition(context)
    made: Transform = transform(context)
    return made


class Inverse(Recorded, nn.Module):
    """The inverse of a transform: what was fast one way is now fast the other way."""

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.transform = transform
        if hasattr(transform, "latent"):
            self.latent, self.context = transform.latent, transform.context
        if isinstance(transform, Transform):
            self.context = 0

    def forward(self, context: Tensor | None = None) -> Transform:
        return at(self.transform, context).inv


def inverse(transforms: Sequence[Any]) -> list[nn.Module]:
    """The inverse of a chain: the inverses, in the opposite order."""
    return [Inverse(transform) for transform in reversed(transforms)]


class Transforms(nn.Module):
    """A chain of transforms, from the base to x, as one module: ``forward(base, context)`` is the distribution of x.

    Args:
        transforms: one, or a list of them: the layers of ``pyrovae.flows``; Pyro's and torch's transforms; Pyro's
            conditional transforms; zuko's lazy transforms. A whole zuko flow stands for its transform, the way
            from its base to x; the base is the one given here.

    Raises:
        PyrovaeError: something else; one of torch's transforms with a parameter in it, which nothing would train.
    """

    def __init__(self, transforms: Any) -> None:
        super().__init__()
        self.each = list(_flat(transforms))
        self.held = nn.ModuleList(module for t in self.each for module in _modules(t))  # torch's own are no modules

    @property
    def conditional(self) -> bool:
        """Whether any of them may depend on a context."""
        return any(getattr(t, "context", 1) for t in self.each if not isinstance(t, Transform))

    def forward(self, base: TorchDistribution, context: Tensor | None = None) -> TorchDistribution:
        return transformed(base, self.each, context)


def _modules(transform: Any) -> Iterator[nn.Module]:
    """The modules of which a transform is made, which hold its parameters."""
    if isinstance(transform, nn.Module):
        yield transform
    inside = transform.transform if isinstance(transform, Inverse) else transform
    if isinstance(inside, nn.Module):
        return
    if learned := [name for name, value in vars(inside).items() if torch.is_tensor(value) and value.requires_grad]:
        raise PyrovaeError(
            f"{type(inside).__name__} is no module, so that its {learned} would neither be trained nor saved: use a "
            "layer of pyrovae.flows, Pyro's transforms, or an nn.Module of yours whose forward(context) gives it"
        )
    for part in within(inside):
        yield from _modules(part)


def _flat(transforms: Any) -> Iterator[Any]:
    """One after the other; inverses as modules, so that the parameters in them are known."""
    if isinstance(transforms, list | tuple | ComposeTransform):
        for each in transforms.parts if isinstance(transforms, ComposeTransform) else transforms:
            yield from _flat(each)
    elif isinstance(transforms, ZukoFlow):
        yield Inverse(transforms.transform)
    elif isinstance(transforms, _InverseTransform):
        yield Inverse(transforms.inv)
    elif isinstance(transforms, Transform | nn.Module):
        yield transforms
    else:
        raise PyrovaeError(
            f"a flow is made of transforms, and a {type(transforms).__name__} is none: give layers of pyrovae.flows, "
            "transforms of torch, Pyro or zuko, or a list of them"
        )
