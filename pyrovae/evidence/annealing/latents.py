"""The continuous latents of a program as one unconstrained vector per datum, and its densities at any such vector."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.parameters import LocalParameters
from pyrovae.placed import placed
from pyrovae.precision import float64
from pyrovae.rows import repeated
from pyrovae.supports import of_distribution
from pyrovae.terms import LogTerms, Terms, log_terms, repeated_log_terms
from pyrovae.trees import Tree
from pyrovae.unconstrained import innermost, unconstraining


class Point(NamedTuple):
    """Where chains stand, and the densities there.

    Attributes:
        u: unconstrained vectors, (C, n, D).
        log_q, log_p: log q(u | x) and log p(x, u), the Jacobian of u included, (C, n) float64, nats.
        grad_q, grad_p: their gradients in u, (C, n, D).
    """

    u: Tensor
    log_q: Tensor
    log_p: Tensor
    grad_q: Tensor
    grad_p: Tensor


class Joint:
    """log q(z | x) and log p(x, z) of a program, of all its continuous latents z jointly.

    Every latent lives where ``biject_to`` of its support in the guide puts it, so that z = T(u) with u any vector of
    real numbers; the guide's order decides which latent's support may depend on which. Discrete latents are summed out:
    q(u) = sum_y q(y) q(u | y), p(x, u) = sum_y p(x, u, y).

    Args:
        program: any program.
        terms: ``log_terms``, or what stands for it, see ``terms_for``.
        rows: a few rows of (x, *given), to try it on.

    Attributes:
        size: D.

    Raises:
        PyrovaeError: no continuous latent; a discrete one that cannot be enumerated; a guide whose density cannot be
            evaluated at given values (as a flow's without an inverse).
    """

    def __init__(self, program: Any, terms: Terms, rows: list[Tree]) -> None:
        self.program, self.terms = program, terms
        self.shapes: dict[str, torch.Size] = {}  # of the unconstrained values of each latent
        with torch.random.fork_rng():
            u = self.draw(2, *rows)
            self.densities(u, *rows)

    @property
    def size(self) -> int:
        """D."""
        return sum(shape.numel() for shape in self.shapes.values())

    def draw(self, count: int, *rows: Tree) -> Tensor:
        """u ~ q(u | x) for each datum, (count, n, D)."""
        return self._read(self.program, rows, count)

    def unconstrained(self, latents: dict[str, Tensor], *rows: Tree) -> Tensor:
        """u of given latents (n, *event_shape) by name, (1, n, D)."""
        return self._read(placed(self.program, latents), rows, 1)

    def _read(self, program: Any, rows: tuple[Tree, ...], count: int) -> Tensor:
        reading = _Reading()
        with reading:
            self._draw(_sampling(program.guide), rows, count)
        if not reading.values:
            raise PyrovaeError(
                "annealing moves continuous latents, and this program has none: its log p(x) is a sum over its "
                "discrete latents, which method='exact' and method='importance' carry out"
            )
        parts = {name: value.reshape(count, -1, *shape) for name, (value, shape) in reading.values.items()}
        self.shapes = {name: part.shape[2:] for name, part in parts.items()}
        return torch.cat([part.reshape(*part.shape[:2], -1) for part in parts.values()], -1)

    def _draw(self, guide: Callable[..., Any], rows: tuple[Tree, ...], count: int) -> None:
        """Run the guide alone, with particles as ``terms`` has them."""
        with LocalParameters().scope():
            if self.terms is repeated_log_terms:
                with repeated(count):
                    guide(*(trees.repeat(tree, count) for tree in rows))
            else:
                with pyro.plate("particles", count, dim=-2) if count > 1 else nullcontext():
                    guide(*rows)

    def densities(self, u: Tensor, *rows: Tree) -> tuple[Tensor, Tensor]:
        """log q(u | x) and log p(x, u), each (C, n) float64."""
        t, log_det = self._at(u, rows)
        return _summed([s.log_q for s in t.latents.values()]) + log_det, _log_joint(t) + log_det

    def terms_at(self, u: Tensor, *rows: Tree) -> LogTerms:
        """The terms of the program at u; discrete latents enumerated further left."""
        return self._at(u, rows)[0]

    def point(self, u: Tensor, *rows: Tree) -> Point:
        """The densities and their gradients at u."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            log_q, log_p = self.densities(u, *rows)
            (grad_q,) = torch.autograd.grad(log_q.sum(), u, retain_graph=True, materialize_grads=True)
            (grad_p,) = torch.autograd.grad(log_p.sum(), u, materialize_grads=True)
        return Point(u.detach(), log_q.detach(), log_p.detach(), grad_q, grad_p)

    def _at(self, u: Tensor, rows: tuple[Tree, ...]) -> tuple[LogTerms, Tensor]:
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = u.split(sizes, -1)
        as_rows = len(u) == 1 or self.terms is repeated_log_terms  # no plate of particles: they are rows
        batch = (u.shape[:2].numel(),) if as_rows else u.shape[:2]
        values = {n: part.reshape(*batch, *shape) for (n, shape), part in zip(self.shapes.items(), parts, strict=True)}
        writing = _Writing(values, len(batch))
        t = self._terms(_enumerating(self.program.guide), writing, rows, len(u))
        return t, sum((float64(d).reshape(u.shape[:2]) for d in writing.log_dets), start=float64(u.new_zeros(())))

    def _terms(self, guide: Callable[..., Any], handler: Messenger, rows: tuple[Tree, ...], count: int) -> LogTerms:
        def handled(*args: Any) -> Any:
            with handler:
                return guide(*args)

        return self.terms(SimpleNamespace(model=self.program.model, guide=handled), *rows, num_particles=count)


def _summed(terms: list[Any]) -> Tensor:
    """log sum over the enumerated values of exp of the sum of the terms, (C, n) float64."""
    total = sum((float64(term) for term in terms[1:]), start=float64(terms[0]))
    return total.flatten(0, -3).logsumexp(0) if total.dim() > 2 else total


def _log_joint(t: LogTerms) -> Tensor:
    return _summed([site.log_p for site in t.sites.values()])


def from_prior(program: Any) -> Any:
    """The program with its prior for a guide: the model itself, its observations hidden.

    Once it is known what latents there are, it is run as far as the last of them, and not through its decoder.
    """
    latents: set[str] = set()

    def hidden(site: Any) -> bool:
        return site["type"] == "sample" and bool(site["is_observed"])

    def guide(*args: Any) -> None:
        with poutine.block(hide_fn=hidden), suppress(_Enough), _Until(latents) as until:
            program.model(*args)
        latents.update(until.seen)

    return SimpleNamespace(model=program.model, guide=guide)


class _Enough(Exception):  # noqa: N818 - none is at fault
    """The last latent has been sampled."""


class _Until(Messenger):
    """Ends a run by ``_Enough`` when all of some latents, if there are any, have been sampled.

    Attributes:
        seen: the latents sampled.
    """

    def __init__(self, latents: set[str]) -> None:
        super().__init__()
        self.latents, self.seen = frozenset(latents), set[str]()

    def _pyro_post_sample(self, msg: Any) -> None:
        if _is_latent(msg):
            self.seen.add(msg["name"])
            if self.latents and self.seen >= self.latents:
                raise _Enough


def starting(program: Any, rows: list[Tree], start: str) -> Any:
    """The program with the guide that chains start from: its own, or the prior, which "auto" takes for points."""
    return from_prior(program) if start == "prior" or (start == "auto" and points(program, rows)) else program


def points(program: Any, rows: list[Tree]) -> list[str]:
    """The latents that the guide gives as points, without a density, and the model does not."""
    with torch.random.fork_rng():
        latents = log_terms(program, *rows).latents
    return [name for name, site in latents.items() if is_point(site.q) and not is_point(site.p)]


def _is_latent(site: Any) -> bool:
    if site["type"] != "sample":  # infer_config asks about parameters too
        return False
    return not (site["is_observed"] or site_is_subsample(site) or site["infer"].get("_deterministic"))


def _is_discrete(site: Any) -> bool:
    support = of_distribution(site["fn"])
    return support is not None and bool(support.is_discrete)


def _is_enumerable(distribution: Any) -> bool:
    """Whether it is in fact: a binomial distribution is not where the data have different totals."""
    try:
        return bool(distribution.has_enumerate_support and len(distribution.enumerate_support(expand=False)))
    except NotImplementedError:
        return False


def _sampling(guide: Callable[..., Any]) -> Callable[..., Any]:
    """The guide with its discrete latents sampled."""

    def config(site: Any) -> Any:
        return {"enumerate": None} if _is_latent(site) else {}

    return poutine.infer_config(guide, config)


def _enumerating(guide: Callable[..., Any]) -> Callable[..., Any]:
    """The guide with its discrete latents enumerated."""

    def config(site: Any) -> Any:
        if not _is_latent(site) or not _is_discrete(site):
            return {}
        if not _is_enumerable(site["fn"]):
            raise PyrovaeError(
                f"annealing moves continuous latents and sums discrete ones out, and the discrete latent "
                f"{site['name']!r} cannot be enumerated: use method='importance'"
            )
        return {"enumerate": "parallel"}

    return poutine.infer_config(guide, config)


def is_point(distribution: Any) -> bool:
    """Whether it is a Delta, which a guide computes and no chain moves."""
    return isinstance(innermost(distribution), dist.Delta)


def _transform(site: Any) -> Any:
    return unconstraining(site["name"], site["fn"], use="annealing moves in", instead="use method='importance'")


class _Reading(Messenger):
    """Keeps the unconstrained values of the continuous latents that a guide draws, with their event shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, tuple[Tensor, torch.Size]] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if _is_latent(msg) and not _is_discrete(msg) and not is_point(msg["fn"]):
            transform = _transform(msg)
            value = transform.inv(msg["value"])
            batch = msg["value"].dim() - len(msg["fn"].event_shape)
            self.values[msg["name"]] = value, value.shape[batch:]


class _Writing(Messenger):
    """Gives the continuous latents of a guide their values, from unconstrained ones (*batch, *shape).

    Args:
        values: by name.
        batch: the number of batch dimensions: (C, n), or (C * n,) where particles are rows.

    Attributes:
        log_dets: log |det dz/du| of each, (*batch).
    """

    def __init__(self, values: dict[str, Tensor], batch: int) -> None:
        super().__init__()
        self.values, self.batch = values, batch
        self.log_dets: list[Tensor] = []

    def _pyro_sample(self, msg: Any) -> None:
        if not _is_latent(msg) or msg["name"] not in self.values:
            return
        transform, u = _transform(msg), self.values[msg["name"]]
        value = transform(u)
        if value.shape[: value.dim() - len(msg["fn"].event_shape)] != u.shape[: self.batch]:
            raise PyrovaeError(
                f"the support of latent {msg['name']!r} depends on a discrete latent, so that no chain can move on it: "
                "use method='importance'"
            )
        log_det = transform.log_abs_det_jacobian(u, value)
        self.log_dets.append(log_det.flatten(self.batch).sum(-1) if log_det.dim() > self.batch else log_det)
        msg["value"], msg["done"] = value, True
