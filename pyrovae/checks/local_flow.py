"""A flow of each datum's own behind a refined guide: a family that bends and correlates the latents jointly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrovae.checks.local import Local, is_own, tiled
from pyrovae.errors import PyrovaeError
from pyrovae.unconstrained import unconstraining

HIDDEN = 16
COUPLINGS = 4


class Drawn(NamedTuple):
    """One continuous site as the refined guide drew it: its value, log q, and how its event is unconstrained."""

    value: Tensor
    log_q: Tensor  # (*points, rows)
    transform: Any
    infer: Any

    @property
    def free(self) -> Tensor:
        """The unconstrained value, (*points, rows, numbers)."""
        return self._flat(self.transform.inv(self.value))

    def bound(self, free: Tensor) -> Tensor:
        """The value of an unconstrained one."""
        shape = self.transform.inv(self.value).shape[self.log_q.dim() :]
        value: Tensor = self.transform(free.reshape(*free.shape[:-1], *shape))
        return value

    def log_det(self, free: Tensor) -> Tensor:
        """log |d value / d free|, (*points, rows)."""
        shape = self.transform.inv(self.value).shape[self.log_q.dim() :]
        inner = free.reshape(*free.shape[:-1], *shape)
        log_det = self.transform.log_abs_det_jacobian(inner, self.transform(inner))
        return self._flat(log_det).sum(-1)

    def _flat(self, tensor: Tensor) -> Tensor:
        dim = self.log_q.dim()
        return tensor.flatten(dim) if tensor.dim() > dim else tensor.unsqueeze(-1)


class _Draws(Messenger):
    """Lets the guide draw its continuous sites under other names, which log q leaves out, and collects them."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[str, Drawn] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if is_own(msg) and not msg["fn"].support.is_discrete:
            _check(msg)
            msg["infer"] = {**msg["infer"], "_deterministic": True, "_of": (msg["name"], msg["infer"])}
            msg["name"] = f"{msg['name']}/before the flow"

    def _pyro_post_sample(self, msg: Any) -> None:
        if "_of" in msg["infer"]:
            name, infer = msg["infer"]["_of"]
            log_q = scale_and_mask(msg["fn"].log_prob(msg["value"]), mask=msg["mask"])
            transform = unconstraining(name, msg["fn"], use="a flow bends", instead="flow=False")
            self.drawn[name] = Drawn(msg["value"], log_q, transform, infer)


def _check(msg: Any) -> None:
    base = msg["fn"]
    while hasattr(base, "base_dist"):
        if isinstance(base, dist.MaskedDistribution):
            break
        base = base.base_dist
    if msg["mask"] is not None or isinstance(base, dist.MaskedDistribution):
        raise PyrovaeError(f"the latent {msg['name']!r} is masked, and a flow would mix it with others: flow=False")


class LocalFlow:
    """A ``Local`` program with a flow of each datum's own behind its continuous latents, taken together.

    With u all unconstrained continuous latents of a draw and e = (u - m) / s, for the mean m and standard deviation s
    that the refined guide gives each datum: e goes through an elementwise sinh-arcsinh, a triangular matrix and affine
    couplings with one hidden layer; log q is that of u less the log-determinant. It begins as the identity. Discrete
    latents are drawn, or enumerated, as before.

    Args:
        local: the refined guide, whose offsets are refined further here.
        draw: runs a guide once for many particles, so that m and s can be found.

    Reference:
        Jones & Pewsey 2009 (sinh-arcsinh); Dinh, Sohl-Dickstein & Bengio 2017 (couplings).
    """

    def __init__(self, local: Local, draw: Callable[[Any], Any]) -> None:
        self.local = Local(local.program, local.num_data)
        offsets = {key: value.detach().clone().requires_grad_() for key, value in local.parameters.items()}
        self.local.parameters = offsets
        self._flow: _Flow | None = None
        draw(self)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """All free parameters, (N, ...) by name."""
        flow = {} if self._flow is None else self._flow.parameters
        return {**self.local.parameters, **{f"flow.{name}": value for name, value in flow.items()}}

    @property
    def model(self) -> Any:
        return self.local.program.model

    def guide(self, *args: Any) -> None:
        with _Draws() as draws:
            self.local.guide(*args)
        if draws.drawn:
            self._carry(draws.drawn)

    def _carry(self, drawn: dict[str, Drawn]) -> None:
        shape = torch.broadcast_shapes(*(site.log_q.shape for site in drawn.values()))
        before = [site.free.expand(*shape, -1) for site in drawn.values()]
        u = torch.cat(before, -1)
        if self._flow is None:
            self._flow = _Flow(u, self.local.num_data)
        carried, log_det = self._flow(u)
        after = carried.split([part.shape[-1] for part in before], -1)
        log_q = -log_det
        for site, old, new in zip(drawn.values(), before, after, strict=True):
            log_q = log_q + site.log_q + site.log_det(old) - site.log_det(new)
        for (name, site), new in zip(drawn.items(), after, strict=True):
            value = site.bound(new)
            point = dist.Delta(value, log_density=log_q, event_dim=value.dim() - len(shape))
            pyro.sample(name, point, infer=site.infer)  # the first carries the density of all
            log_q = torch.zeros_like(log_q)


class _Flow:
    """The flow itself: (*points, rows, D) to the same and log |det|, with parameters (N, ...)."""

    def __init__(self, u: Tensor, num_data: int) -> None:
        width = u.shape[-1]
        draws = u.detach().unflatten(-2, (-1, num_data)).flatten(0, -3)  # (draws, N, D)
        self.loc, self.scale = draws.mean(0), draws.std(0).clamp(min=1e-6)

        def zeros(*shape: int) -> Tensor:
            return u.new_zeros(num_data, *shape).requires_grad_()

        self.parameters = {name: zeros(width) for name in ("skew", "tail", "shift")} | {"mix": zeros(width, width)}
        self.couplings = COUPLINGS if width > 1 else 0
        for layer in range(self.couplings):
            seen, moved = self._halves(layer, width)
            into = torch.randn(len(seen), HIDDEN, dtype=u.dtype, device=u.device) / math.sqrt(len(seen))
            self.parameters |= {
                f"{layer}.in": into.expand(num_data, -1, -1).clone().requires_grad_(),
                f"{layer}.bias": torch.randn(HIDDEN).to(u).expand(num_data, -1).clone().requires_grad_(),
                f"{layer}.out": zeros(HIDDEN, 2 * len(moved)),
            }

    @staticmethod
    def _halves(layer: int, width: int) -> tuple[list[int], list[int]]:
        """Which numbers a coupling looks at, and which it moves: halves first, then every other one."""
        first = [i for i in range(width) if (i < width // 2 if layer % 4 < 2 else i % 2 == 0)]
        second = [i for i in range(width) if i not in first]
        return (first, second) if layer % 2 == 0 else (second, first)

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        now = {name: tiled(value, u.shape[-2]) for name, value in self.parameters.items()}
        loc, scale = (tiled(value, u.shape[-2]) for value in (self.loc, self.scale))
        e = (u - loc) / scale
        bent = torch.exp(now["tail"]) * torch.asinh(e) + now["skew"]
        log_det = (now["tail"] + _log_cosh(bent) - 0.5 * torch.log1p(e.square())).sum(-1)
        mix, diagonal = now["mix"].tril(-1), now["mix"].diagonal(dim1=-2, dim2=-1)
        sinh = torch.sinh(bent)
        e = sinh * diagonal.exp() + torch.einsum("...nd,ncd->...nc", sinh, mix) + now["shift"]
        log_det = log_det + diagonal.sum(-1)
        for layer in range(self.couplings):
            e, change = self._coupling(e, layer, now)
            log_det = log_det + change
        return loc + scale * e, log_det

    def _coupling(self, e: Tensor, layer: int, now: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        seen, moved = self._halves(layer, e.shape[-1])
        hidden = torch.tanh(torch.einsum("...nd,ndh->...nh", e[..., seen], now[f"{layer}.in"]) + now[f"{layer}.bias"])
        shift, raw = torch.einsum("...nh,nhd->...nd", hidden, now[f"{layer}.out"]).chunk(2, -1)
        log_scale = 2 * torch.tanh(raw / 2)  # within a factor of e^2
        after = e.clone()
        after[..., moved] = e[..., moved] * log_scale.exp() + shift
        return after, log_scale.sum(-1)


def _log_cosh(a: Tensor) -> Tensor:
    return a.abs() + torch.log1p(torch.exp(-2 * a.abs())) - math.log(2)
