"""The exemplar prior: training data as the components of a mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrovae import trees
from pyrovae.distributions import DiagonalNormalMixture
from pyrovae.errors import PyrovaeError
from pyrovae.families import inverse_positive, positive
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.priors.base import Prior
from pyrovae.rows import current_rows

CHUNK = 512  # exemplars encoded together in an evaluation


class ExemplarPrior(Prior):
    """p(z) = 1/K sum_k Normal(z; m(x_k), s^2 I), m(x) the encoder's mean, s learned (Norouzi, Fleet & Norouzi 2020).

    While ``pyrovae.fit`` trains, a datum that is an exemplar is left out of its own mixture: with it, the mean of its
    posterior would always be a component, and the bound that of a prior that has seen the datum. Everywhere else the
    mixture is over all exemplars: for validation, ``log_marginal`` and samples, whose data are others. So it is under
    stock ``SVI`` and in a loop of your own, whose bound is flattered, of which a ``RowsWarning`` tells once; such a
    loop says its rows by ``pyrovae.rows.training_on(index)``.

    Args:
        encoder: the program's own encoder; the weights are shared, in memory and in training.
        exemplars: the x_k, (K, *event_shape), K >= 2, which are copied; with a conditional encoder (x, *given).
        rows: the numbers of the exemplars among the training data, (K,); by default they are the first K.
        num_sampled: how many of the exemplars a training step takes, drawn anew without replacement; by default all.
            The mean of a random part of a mixture is unbiased, so the log-prior is a lower bound in expectation.

    A training step encodes the K (or ``num_sampled``) exemplars besides its batch, forwards and backwards: with two
    gated layers of 300 on 28 x 28 pixels and a batch of 128 it takes 2.3 times as long as with a standard normal for
    500 exemplars, and 13 times for 5,000. An evaluation encodes them once, some hundreds at a time.

    Raises:
        PyrovaeError: fewer than two exemplars; numbers out of range; an encoder whose distribution has no mean; when
            training begins, data without row numbers (a stream), or whose rows are not the exemplars, each another.

    Example:
        >>> import torch, pyrovae as pv
        >>> x = torch.rand(20, 6).round()
        >>> encoder = pv.Conditional(pv.networks.MLP(6, 16, 4), pv.families.normal)
        >>> prior = pv.priors.ExemplarPrior(encoder, x[:10]).eval()
        >>> prior().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    rows: Tensor
    means: Tensor

    def __init__(
        self, encoder: nn.Module, exemplars: trees.Tree, *, rows: Tensor | None = None, num_sampled: int | None = None
    ) -> None:
        super().__init__()
        parents = exemplars if isinstance(exemplars, tuple) else (exemplars,)
        parents = trees.as_tensors(parents, floating_dtype(encoder))
        count = trees.num_data(*parents)
        _check_numbers(count, rows, num_sampled)
        self.encoder, self.num_sampled = encoder, num_sampled
        self._names = _numbered(parents)
        for name, leaf in zip(trees.leaves(self._names), trees.leaves(parents), strict=True):
            self.register_buffer(name, leaf.detach().clone())
        self.register_buffer("rows", torch.arange(count) if rows is None else rows.detach().long().clone())
        self.raw_scale = nn.Parameter(torch.tensor(inverse_positive(1.0)))
        with frozen(encoder):
            one = self._encoded(torch.arange(1))
        self.register_buffer("means", one.new_zeros(count, one.shape[-1]), persistent=False)
        self._settled = False

    @property
    def exemplars(self) -> trees.Tree:
        """(x, *given) of the exemplars."""
        return trees.tree_map(lambda name: getattr(self, name), self._names)

    def forward(self, *given: trees.Tree) -> TorchDistribution:
        index = current_rows(self)
        if index is None:
            means = self.means if self._settled else self._encoded(slice(None))
            return self._mixture(means, means.new_zeros(len(means)))
        chosen = self._chosen()
        own = index.unsqueeze(-1) == self.rows[chosen]  # (N, K)
        means = self._encoded(chosen)
        return self._mixture(means, torch.zeros_like(own, dtype=means.dtype).masked_fill(own, -torch.inf))

    def example(self) -> TorchDistribution:
        """See ``Prior.example``; of a single exemplar."""
        return self._mixture(self.means[:1], self.means.new_zeros(1))

    def _mixture(self, means: Tensor, logits: Tensor) -> TorchDistribution:
        return DiagonalNormalMixture(logits, means, positive(self.raw_scale).expand(means.shape))

    def _chosen(self) -> Any:
        """Of the exemplars, those that this step takes."""
        if self.num_sampled is None:
            return slice(None)
        return torch.rand(len(self.rows), device=self.rows.device).topk(self.num_sampled).indices

    def _encoded(self, index: Any) -> Tensor:
        posterior = self.encoder(*trees.rows(self.exemplars, index))
        try:
            mean: Tensor = posterior.mean
        except NotImplementedError as error:
            raise PyrovaeError(
                "an exemplar prior is made of the encoder's means, and this posterior has none in closed form: use a "
                "normal or a mixture of normals, or another prior"
            ) from error
        return mean

    def check_rows(self, count: int, take: Callable[[Tensor], Any]) -> None:
        """Refuse training data, ``count`` rows of which ``take(index)`` gives some, that the exemplars are not from."""
        if len(self.rows.unique()) < len(self.rows):
            raise PyrovaeError(
                "rows= numbers some row twice, whose datum could be left without any other: give each once"
            )
        mine = trees.leaves(self.exemplars)
        theirs = trees.leaves(take(self.rows)) if self.rows.min() >= 0 and self.rows.max() < count else []
        same = len(mine) == len(theirs) and all(map(_equal, mine, theirs))
        if not same:
            raise PyrovaeError(
                f"the {len(self.rows)} exemplars are not the rows of the training data that ExemplarPrior was told, so "
                "that a datum's own would stay in its prior: pass rows=, their numbers in the data that fit gets"
            )

    @contextmanager
    def settled(self) -> Iterator[None]:
        """The means of all exemplars computed once, for as long as no weight changes; see ``pyrovae.parameters``.

        And at once, not when they are first read: a compiled graph that reads them calls no ``forward``.
        """
        if self._settled:
            yield
            return
        for index in torch.arange(len(self.means), device=self.means.device).split(CHUNK):
            self.means[index] = self._encoded(index)
        self._settled = True
        try:
            yield
        finally:
            self._settled = False


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.to(b.dtype), b, rtol=0, atol=0, equal_nan=b.is_floating_point())


def _numbered(parents: tuple[trees.Tree, ...]) -> trees.Tree:
    """The structure of the exemplars with the name of a buffer at each leaf."""
    names = iter(f"exemplars_{i}" for i in range(len(trees.leaves(parents))))
    return trees.tree_map(lambda leaf: next(names), parents)


def _check_numbers(count: int, rows: Tensor | None, num_sampled: int | None) -> None:
    if count < 2:
        raise PyrovaeError("an exemplar prior needs at least two exemplars: a datum is left out of its own mixture")
    if rows is not None and rows.shape != (count,):
        raise PyrovaeError(f"rows must number the {count} exemplars, ({count},); got shape {tuple(rows.shape)}")
    if num_sampled is not None and not 2 <= num_sampled <= count:
        raise PyrovaeError(f"num_sampled must be from 2 to the number of exemplars, {count}; got {num_sampled}")
