"""log p(x) without an estimate, where a program has it: linear-Gaussian, mixtures of such, discrete latents.

Nothing is known of a program but its model. For every assignment of the discrete latents, log p(x, z) must be a
quadratic function of all continuous latents at once, by its operations and at many points. Else it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.arguments import check_program
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.assignments import Components, check_count, latent_of, refuse
from pyrovae.evidence.blocks import Block
from pyrovae.evidence.degrees import degree
from pyrovae.parameters import Adopted, LocalParameters, floating_dtype, frozen
from pyrovae.randomness import seeded
from pyrovae.terms import log_terms, samples
from pyrovae.trees import Tree
from pyrovae.validation import validating

PROBES = 300  # points about the prior, and as many about the posterior, of all data; for each assignment
DRAWS = 6  # of these for each datum, or more
SPREADS = (1.0, 3.0, 10.0)  # of the points about their mean, in units of the prior's, or the posterior's, own
TOLERANCE = 1e-6  # by which it may miss, nats, where it falls by 1 nat from the mode
MOST_ROWS = 2**14  # that go through the model together


def exact_log_prob(program: Any, *rows: Tree) -> Tensor:
    """log p(x | given) = log sum_y integral p(x, y, z | given) dz, in closed form.

    y are the discrete latents, all of whose values are tried; a mixture of normals as a prior counts as such, by its
    components. For each y, log p(x, y, z) = c - (z - m)^T H (z - m) / 2 in all D continuous latents together, so that
    the integral is exp(c) (2 pi)^(D/2) |H|^(-1/2). Gradients at a draw from the prior and at D points beside it give H
    and m. That it is so is verified twice:

    - For every block of data, log p(x, y, z) is followed through torch's operations. Each must be linear in z, or a
      product, of degree 2 at most; any other (``relu``, ``exp``, a comparison) is refused if its result counts, and so
      is a branch of Python's on a value of z. A clamp at 1e9 or beyond is taken for none, and what leaves torch, as
      through NumPy, is not seen.
    - For every y, values and gradients are compared with this function's, to 1e-6 nats where it falls by 1 nat from
      its peak, at points about the prior, and as many about the posterior, spread 1, 3 and 10 times as widely as
      these: 6 or more for each datum, 300 or more for all data together.

    Args:
        program: any program; its guide is never run. Computed in float64, whatever the program's own precision.
        rows: x, then what is given: tensors or arrays, or trees of them, with n rows.

    Returns:
        (n,) float64 on the CPU, nats.

    Raises:
        PyrovaeError: log p(x, y, z) is not quadratic in z with a peak (a decoder that is not linear, a likelihood or
            prior that is not normal), or its operations do not show it; a latent that does not take all real values;
            discrete latents that cannot be enumerated, or have more than 16,384 values together; a masked latent;
            tensors of another precision that the program does not own, such as a float32 matrix of a closure; see also
            ``pyrovae.log_terms``.

    Example:
        >>> import torch, pyrovae as pv
        >>> from pyrovae.evidence.exact import exact_log_prob
        >>> decoder = pv.Conditional(torch.nn.Linear(2, 6), pv.families.FixedScaleNormal(0.1))
        >>> encoder = pv.Conditional(torch.nn.Linear(6, 4), pv.families.normal)
        >>> exact_log_prob(pv.VAE(pv.priors.StandardNormal(2), decoder, encoder), torch.randn(5, 6)).shape
        torch.Size([5])
    """
    check_program(program, ("model",))
    size = trees.num_data(*rows)
    with _in_float64(program, rows) as (adopted, device):
        data = [trees.to(trees.as_tensors(tree, torch.float64), device) for tree in rows]
        marginal = _Marginal(adopted, [trees.rows(tree, slice(0, 1)) for tree in data], size)
        starts = range(0, size, marginal.block)
        parts = [marginal([trees.rows(tree, slice(i, i + marginal.block)) for tree in data]) for i in starts]
    return torch.cat(parts).cpu()


def exact_block(program: Any, *rows: Tree) -> Block:
    """``exact_log_prob`` as a block of all data, without an error."""
    log_prob = exact_log_prob(program, *rows)
    unknown = torch.full_like(log_prob, math.nan)
    figures = {"standard_error": torch.zeros_like(log_prob), "ess": unknown, "pareto_k": unknown}
    return Block({"log_prob": log_prob, **figures})


@contextmanager
def _in_float64(program: Any, rows: tuple[Tree, ...]) -> Iterator[tuple[Adopted, torch.device]]:
    """The program, with its parameters and buffers in float64 and whatever it makes too; all put back afterwards."""
    met, before = LocalParameters(), torch.get_default_dtype()
    with frozen(program) as device, torch.random.fork_rng(), poutine.block(), met.scope():
        one = [trees.rows(tree, slice(0, 1)) for tree in rows]
        program.model(*(trees.to(trees.as_tensors(tree, floating_dtype(program)), device) for tree in one))
    adopted = Adopted(program, met.own, met.seen, met.constraints)
    parameters = [(p, p.data) for p in adopted.parameters() if p.is_floating_point()]
    buffers = [(module._buffers, dict(module._buffers)) for module in adopted.modules()]
    try:
        for parameter, value in parameters:
            parameter.data = value.double()
        for own, values in buffers:
            own.update({k: v.double() for k, v in values.items() if v is not None and v.is_floating_point()})
        torch.set_default_dtype(torch.float64)
        with frozen(adopted):
            yield adopted, device
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        if not re.search("double|float64", text, re.IGNORECASE):
            raise
        raise PyrovaeError(
            "log p(x) in closed form is computed in float64, and the model meets tensors of another precision that the "
            f"program does not own ({text}): write W.to(z.dtype) in the model, make them parameters or buffers of a "
            "program that is an nn.Module, or make all float64, with torch.set_default_dtype(torch.float64)"
        ) from error
    finally:
        torch.set_default_dtype(before)
        for parameter, value in parameters:
            parameter.data = value
        for own, values in buffers:
            own.update(values)


class _Points(NamedTuple):
    """Points z, (A, P, n, D), with log p(x, y, z), (A, P, n), and its gradient in z; 0 where that is -inf."""

    z: Tensor
    value: Tensor
    gradient: Tensor

    @property
    def possible(self) -> Tensor:
        """Which assignments occur at all, (A, n)."""
        return (self.value != -math.inf).any(1)


class _Marginal:
    """log p(x | given) of a few data at a time.

    Every assignment of the discrete latents is a row of data of its own, and so is every point z: nothing is asked of
    the model but that its rows be independent. Tensors over rows are (A, P, n): assignments, points, data.

    Args:
        program: in float64.
        one: a single row of (x, *given), on which to meet the latents.
        size: N, of all data.
    """

    def __init__(self, program: Adopted, one: list[Tree], size: int) -> None:
        self.program, self.points = program, max(DRAWS, -(-PROBES // size))
        with torch.random.fork_rng(), poutine.block(), LocalParameters().scope():
            sites = samples(poutine.trace(program.model).get_trace(*one))
        self.latents = {name: latent_of(name, site) for name, site in sites if not site["is_observed"]}
        self.size = sum(latent.size for latent in self.latents.values())
        self.assignments = math.prod(latent.number for latent in self.latents.values())
        check_count(self.assignments)
        self.block = max(1, MOST_ROWS // (self.assignments * (DRAWS + self.size)))

    def __call__(self, rows: list[Tree]) -> Tensor:
        """(n,), nats."""
        n, device = trees.num_data(*rows), trees.leaves(rows)[0].device
        if not self.size:
            return self._log_joint(torch.empty(self.assignments, 1, n, 0, device=device), rows).squeeze(1).logsumexp(0)
        with seeded(0, device):
            self._prove(rows)
            return self._integral(rows).logsumexp(0)

    def _prove(self, rows: list[Tree]) -> None:
        """Refuse log p(x, y, z) that is not of degree 2 in z by its operations; the same for all data of a block."""
        one = [trees.rows(tree, slice(0, 1)) for tree in rows]
        with validating(False):
            found, causes = degree(lambda z: self._log_joint(z, one), self._draws(one, 1))
        if found > 2:
            self._refuse(f"; it is computed by {', '.join(dict.fromkeys(causes[:3]))}" if causes else "")

    def _integral(self, rows: list[Tree]) -> Tensor:
        """log of the integral of p(x, y, z) over z, (A, n)."""
        draws = self._draws(rows, self.points)
        spread = torch.tensor(SPREADS).to(draws).repeat(self.points)[: self.points, None, None]
        steps = draws[:, :1] + torch.eye(self.size).to(draws)[:, None]
        far = self._points(torch.cat([draws[:, :1], steps, draws.mean(1, True).lerp(draws, spread)], 1), rows)
        mode, root = self._peak(far)
        noise = torch.linalg.solve_triangular(root.mT[:, None], torch.randn_like(draws).unsqueeze(-1), upper=True)
        offsets = torch.cat([torch.zeros_like(draws[:, :1]), spread * noise.squeeze(-1)], 1)
        near = self._points(mode[:, None] + offsets, rows)
        top = near.value[:, 0]
        self._check(far, mode, root, top)
        self._check(near, mode, root, top)
        return top + self.size / 2 * math.log(2 * math.pi) - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _peak(self, far: _Points) -> tuple[Tensor, Tensor]:
        """Where a quadratic function has its peak, (A, n, D), and L, (A, n, D, D), where L L^T = H = -its Hessian.

        From the gradients g at a point z and at D points z + e_d: g(z) - g(z + e_d) = H e_d, mode = z + H^-1 g(z).
        """
        rows = (far.gradient[:, :1] - far.gradient[:, 1 : 1 + self.size]).transpose(1, 2)  # of H, (A, n, D, D)
        hessian = torch.where(far.possible[..., None, None], (rows + rows.mT) / 2, torch.eye(self.size).to(rows))
        root, failed = torch.linalg.cholesky_ex(hessian)
        if (failed > 0).any() or not hessian.isfinite().all():
            self._refuse()
        return far.z[:, 0] + torch.cholesky_solve(far.gradient[:, 0].unsqueeze(-1), root).squeeze(-1), root

    def _check(self, points: _Points, mode: Tensor, root: Tensor, top: Tensor) -> None:
        """Refuse where a value or gradient is not that of top - |u|^2 / 2 with u = L^T (z - mode)."""
        u = torch.einsum("anij,apni->apnj", root, points.z - mode[:, None])
        slope = torch.linalg.solve_triangular(root[:, None], points.gradient.unsqueeze(-1), upper=False).squeeze(-1)
        squares = u.square().sum(-1)
        fits = (points.value - top[:, None] + squares / 2).abs() <= TOLERANCE * (1 + squares)
        fits &= (slope + u).norm(dim=-1) <= TOLERANCE * (1 + squares).sqrt()
        if not (fits | ~points.possible[:, None]).all():
            self._refuse()

    def _refuse(self, causes: str = "") -> NoReturn:
        names = [name for name, latent in self.latents.items() if latent.values is None]
        refuse(
            f"log p(x, z) is not a quadratic function of {names} with a peak, as in a linear-Gaussian program{causes}"
        )

    def _points(self, z: Tensor, rows: list[Tree]) -> _Points:
        parts = [self._point(part, rows) for part in z.split(self._together(rows), 1)]
        return _Points(*(torch.cat(each, 1) for each in zip(*parts, strict=True)))

    def _together(self, rows: list[Tree]) -> int:
        """How many points of each datum and assignment go through the model together."""
        return max(1, MOST_ROWS // (self.assignments * trees.num_data(*rows)))

    def _point(self, z: Tensor, rows: list[Tree]) -> _Points:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = self._log_joint(z, rows)
            (gradient,) = torch.autograd.grad(value.sum(), z)
        return _Points(z.detach(), value.detach(), torch.where(value[..., None] == -math.inf, 0.0, gradient))

    def _log_joint(self, z: Tensor, rows: list[Tree]) -> Tensor:
        """log p(x, y, z | given) at z (A, P, n, D), for the A assignments of y: (A, P, n)."""
        index = self._index(z.shape[1:3], z.device)
        components = Components(index)
        fixed = self._discrete(index) | self._continuous(z.flatten(0, 2))

        def guide(*_: Any) -> None:
            with pyro.plate("exact", len(z.flatten(0, 2)), dim=-1):
                for name, value in fixed.items():
                    pyro.sample(name, dist.Delta(value, event_dim=value.dim() - 1))

        terms = log_terms(SimpleNamespace(model=components(self.program.model), guide=guide), *self._repeated(z, rows))
        joint: Tensor = (terms.log_px_z + terms.log_pz).squeeze(0) + components.log_weight
        return joint.reshape(z.shape[:3])

    def _draws(self, rows: list[Tree], points: int) -> Tensor:
        """From the prior p(z | y), (A, points, n, D)."""
        together = self._together(rows)
        return torch.cat([self._drawn(rows, min(together, points - i)) for i in range(0, points, together)], 1)

    def _drawn(self, rows: list[Tree], points: int) -> Tensor:
        n, device = trees.num_data(*rows), trees.leaves(rows)[0].device
        shape = torch.empty(self.assignments, points, n, device=device)
        index = self._index(shape.shape[1:], device)
        model = poutine.condition(Components(index)(self.program.model), data=self._discrete(index))
        with LocalParameters().scope(), poutine.block():
            trace: Any = poutine.trace(model).get_trace(*self._repeated(shape, rows))
        own = [trace.nodes[n]["value"].reshape(shape.numel(), -1) for n, latent in self.latents.items() if latent.size]
        return torch.cat(own, 1).double().reshape(*shape.shape, self.size)  # constants may have been float32

    def _repeated(self, like: Tensor, rows: list[Tree]) -> list[Tree]:
        return [trees.repeat(tree, like.shape[0] * like.shape[1]) for tree in rows]

    def _index(self, points: torch.Size, device: torch.device) -> dict[str, Tensor]:
        """By name, which value or component each row has: the digits of the number of its assignment."""
        rest = torch.arange(self.assignments, device=device).repeat_interleave(points.numel())
        digits = {}
        for name, latent in self.latents.items():
            digits[name], rest = rest % latent.number, rest // latent.number
        return digits

    def _discrete(self, index: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: latent.values[index[n]] for n, latent in self.latents.items() if latent.values is not None}

    def _continuous(self, z: Tensor) -> dict[str, Tensor]:
        own = {name: latent for name, latent in self.latents.items() if latent.values is None}
        parts = z.split([latent.size for latent in own.values()], 1) if own else []
        return {n: part.reshape(-1, *own[n].shape) for n, part in zip(own, parts, strict=True)}
