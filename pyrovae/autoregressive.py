"""Distributions whose every element depends on those before it: p(x | parents) = prod_t p(x_t | x_<t, parents)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NoReturn

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints

from pyrovae.conditional import Conditional
from pyrovae.errors import PyrovaeError
from pyrovae.parameters import frozen
from pyrovae.randomness import seeded
from pyrovae.trees import Tree


class Autoregressive(Conditional):
    """p(x | parents) = prod_t p(x_t | x_<t, parents), the factors family(net(x, *parents)).

    Args:
        net: maps x and the parents to the numbers of every factor; those of factor t depend on x_<t alone:
            ``networks.MaskedMLP``, ``networks.RecurrentDecoder``, or a ``networks.Network`` of your own that says
            ``causal = True``.
        family: elementwise: its distribution of element t is p(x_t | x_<t, parents).

    One pass scores, as many as x has elements draw. As a decoder it is the likelihood of a text, as a prior it is
    p(z | given) = prod_d p(z_d | z_<d, given). It does not factorise over elements, so that missing ones cannot be left
    out; it has no mean in closed form, and its draws no gradient.

    Raises:
        PyrovaeError: a network that does not say that it is causal, or that is tried and is not; a family that is not
            elementwise.

    Example:
        >>> import torch, pyrovae as pv
        >>> prior = pv.Autoregressive(pv.networks.MaskedMLP(3, 16, 6), pv.families.normal)
        >>> prior().log_prob(torch.zeros(5, 3)).shape
        torch.Size([5])
    """

    def __init__(self, net: nn.Module, family: Callable[..., TorchDistribution]) -> None:
        super().__init__(net, family)
        if not getattr(net, "causal", False):
            raise PyrovaeError(
                f"{type(net).__name__} does not say that its numbers for an element depend on earlier ones only: use "
                "networks.MaskedMLP or networks.RecurrentDecoder, or a Network of your own with causal = True"
            )
        factors = self._distribution(self._zeros(), 0)
        if factors.event_dim:
            raise PyrovaeError(f"{family!r} describes several elements at once: a factor is of one element alone")
        self._event_shape = factors.batch_shape
        with torch.random.fork_rng(devices=[]):
            self._integer = not factors.sample().is_floating_point()
        self._check_causal()

    def forward(self, *parents: Tree) -> TorchDistribution:
        def factors(x: Tensor) -> TorchDistribution:
            return self._of(self.net(x, *parents))

        batch: Size = self.net.batch_shape(self._start(), *parents)  # type: ignore[operator]
        return Chain(factors, self._start(), self._shown, batch)

    def example(self) -> TorchDistribution:
        """See ``Conditional.example``."""
        return Chain(partial(_repeated, self._shown()), self._start(), self._shown, Size())

    def _check_causal(self) -> None:
        """Try a few elements: were a factor to see itself or later ones, the product would be no density."""
        number = torch.arange(self._event_shape.numel()).reshape(self._event_shape)
        start = self._start()
        for t in {0, number.numel() // 2, number.numel() - 1}:
            later = (number >= t).to(start)
            before, after = (self._first_factors(x, t + 1) for x in (start, start + later))
            if not torch.allclose(before, after, atol=1e-6):
                raise PyrovaeError(
                    f"the numbers of element {t} and before change with what comes after: the first reader of "
                    f"{type(self.net).__name__}, or the network, mixes elements, and the product of the factors would "
                    "be no density. Read each element by itself"
                )

    def _first_factors(self, x: Tensor, count: int) -> Tensor:
        """The numbers of the first ``count`` factors, (k, count), with zeros for the parents."""
        with frozen(self.net), seeded(0, x.device):
            params: Tensor = self.net.of_first(x[None])  # type: ignore[operator]
        return params.reshape(-1, x.numel())[:, :count]

    def _shown(self) -> TorchDistribution:
        """The factors where the network gives zeros."""
        return self._of(self._zeros())

    def _zeros(self) -> Tensor:
        like = next(self.parameters(), torch.empty(0))  # its dtype and device
        shape: Any = self.net.out_shape
        return like.new_zeros(shape)

    def _start(self) -> Tensor:
        """What stands for x before anything is drawn; no factor sees more of it than was drawn."""
        zeros = self._zeros()
        return zeros.new_zeros(self._event_shape, dtype=torch.long if self._integer else zeros.dtype)


class Chain(TorchDistribution):
    """prod_t p(x_t | x_<t), of elements in the order of their memory.

    Args:
        factors: maps x (*batch, *event_shape) to the distribution of all elements, each given the earlier ones.
        start: zeros of the event shape, in x's dtype.
        example: makes the factors without data, which show the support.
        batch_shape: that of ``factors``.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        factors: Callable[[Tensor], TorchDistribution],
        start: Tensor,
        example: Callable[[], TorchDistribution],
        batch_shape: Size,
    ) -> None:
        self.factors, self.start, self.example = factors, start, example
        super().__init__(batch_shape, start.shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.example().support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Chain:
        return Chain(self.factors, self.start, self.example, Size(batch_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        log_p: Tensor = self.factors(x).log_prob(x)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        number = torch.arange(self.start.numel(), device=self.start.device).reshape(self.event_shape)
        x = self.start.expand(*sample_shape, *self.batch_shape, *self.event_shape)
        for t in range(self.start.numel()):
            x = torch.where(number == t, self.factors(x).sample(), x)
        return x

    def _refused(self) -> NoReturn:
        raise NotImplementedError("an autoregressive distribution has no moments in closed form: average its draws")

    mean = property(_refused)
    variance = property(_refused)
    mode = property(_refused)


def _repeated(distribution: TorchDistribution, x: Tensor) -> TorchDistribution:
    return distribution.expand(x.shape[: x.dim() - distribution.event_dim])
