"""The log-densities of a program at a few points per datum: all that objectives and estimators ever see.

This module is where the two columns meet: it runs a program's guide and model under Pyro's handlers and turns the
two traces into ``LogTerms``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import pyro
import pyro.poutine as poutine
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrovae import rows, trees
from pyrovae.arguments import check_program
from pyrovae.errors import PyrovaeError
from pyrovae.parameters import LocalParameters
from pyrovae.precision import float64
from pyrovae.supports import MISSING, outside

ENUMERATION = -3  # dim -1 is the data plate, -2 the particles; enumerated values lie further left


class Site(NamedTuple):
    """One latent or observed site, as both programs saw it.

    Attributes:
        p, q: its distribution in the model and in the guide (None for an observed site).
        value: the value scored, (*points, N, *event_shape).
        log_p, log_q: log-probs in nats, (*points, N) or broadcastable to it; log_q is None for an observed site.
    """

    p: TorchDistribution | None
    q: TorchDistribution | None
    value: Tensor
    log_p: Tensor
    log_q: Tensor | None


class LogTerms(NamedTuple):
    """log p and log q of every site, per point and datum.

    Attributes:
        sites: by name, in the model's order.
        log_w: log quadrature weight of a point, broadcastable to (*points, N): -log S for one of S particles;
            log q(y | x) - log S where y was enumerated by the guide.
        penalty: training penalties, (N,) or 0; never part of evidence.
        guide_order: the names of the latent sites in the order in which the guide samples them.
        unreparameterised: the latent sites whose values carry no gradient, neither reparameterised nor enumerated.
    """

    sites: dict[str, Site]
    log_w: Tensor
    penalty: Tensor
    guide_order: tuple[str, ...] = ()
    unreparameterised: tuple[str, ...] = ()

    @property
    def latents(self) -> dict[str, Site]:
        """The latent sites."""
        return {name: site for name, site in self.sites.items() if site.log_q is not None}

    @property
    def observed(self) -> dict[str, Site]:
        """The observed sites."""
        return {name: site for name, site in self.sites.items() if site.log_q is None}

    @property
    def log_px_z(self) -> Tensor:
        """sum of log p over the observed sites, (*points, N)."""
        return self._sum(site.log_p for site in self.observed.values())

    @property
    def log_pz(self) -> Tensor:
        """sum of log p over the latent sites, (*points, N)."""
        return self._sum(site.log_p for site in self.latents.values())

    @property
    def log_qz_x(self) -> Tensor:
        """sum of log q over the latent sites, (*points, N)."""
        return self._sum(site.log_q for site in self.latents.values() if site.log_q is not None)

    @property
    def log_weight(self) -> Tensor:
        """log p(x, z) - log q(z | x), the importance log-weight of each point, (*points, N)."""
        return self.log_px_z + self.log_pz - self.log_qz_x

    @property
    def log_point_weight(self) -> Tensor:
        """log of each point's share of the estimate of p(x): log_w + log_weight, in float64, (*points, N)."""
        terms = [float64(site.log_p) for site in self.sites.values()]
        terms += [-float64(site.log_q) for site in self.latents.values() if site.log_q is not None]
        return sum(terms, start=float64(self.log_w))

    def _sum(self, terms: Iterable[Tensor]) -> Tensor:
        return sum(terms, start=torch.zeros_like(self.log_w))


Program = Any  # an object with .model(x, *given) and .guide(x, *given), its data plate at dim -1


def log_terms(
    program: Program,
    x: trees.Tree,
    *given: trees.Tree,
    num_particles: int = 1,
    scorer: Callable[..., Any] | None = None,
) -> LogTerms:
    """Run guide and model once and collect every site's log-densities.

    Args:
        program: any object with ``model(x, *given)`` and ``guide(x, *given)`` whose data plate is at dim -1.
        x, given: tensors, or trees of them, with N rows.
        num_particles: S points per datum, drawn in one vectorized run (a plate at dim -2).
        scorer: a guide to score q with, at the values that ``program.guide`` drew; by default that guide itself.

    Returns:
        LogTerms with points (S,), or (K, ..., S) with enumerated values further left. A discrete latent of the model
        that the guide does not have is summed out exactly; what it touched is credited to the last of those sites.

    Raises:
        PyrovaeError: a guide site the model lacks, or that is observed (``pyro.factor``); a latent the guide lacks and
            that cannot be enumerated; terms that are not one per datum (a site outside the data plate, a mistaken
            ``to_event``); a term scaled by ``poutine.scale`` or by plate subsampling; values outside the support.
    """
    check_program(program)
    if num_particles < 1:
        raise PyrovaeError(f"num_particles must be at least 1; got {num_particles}")
    size = trees.num_data(x, *given)
    with LocalParameters().scope(), _vectorized(num_particles):
        guide = _run(program.guide, x, given, scored=scorer is None)
        latent = _latent(guide)
        score = guide if scorer is None else _run(poutine.replay(scorer, trace=_renewed(guide)), x, given)
        free = min(_enumeration_dims(guide), default=ENUMERATION + 1) - 1  # left of what the guide enumerates
        drawn = guide if scorer is None else _renewed(guide)
        model = _run(poutine.replay(_enumerating(program.model, latent), trace=drawn), x, given, free)
    return _assemble(model, score, latent, size, num_particles)


def repeated_log_terms(program: Program, x: trees.Tree, *given: trees.Tree, num_particles: int = 1) -> LogTerms:
    """``log_terms`` for programs whose networks cannot take a particle dimension: runs on num_particles * N rows."""
    repeated = [trees.repeat(tree, num_particles) for tree in (x, *given)]
    with rows.repeated(num_particles):
        terms = log_terms(program, *repeated)
    size = trees.num_data(x, *given)

    def fold(tensor: Tensor) -> Tensor:  # (*enumerated, 1, S * N) to (*enumerated, S, N)
        return tensor.squeeze(-2).unflatten(-1, (num_particles, size))

    points = terms.log_weight.dim() - 1

    def fold_value(value: Tensor, event_dim: int) -> Tensor:  # (*points, N or 1, *event_shape)
        dim = value.dim() - event_dim - 1
        if value.shape[dim] == num_particles * size:  # else an enumerated value, the same for all rows
            value = value.unflatten(dim, (num_particles, size))
            value = value.squeeze(dim - 1) if dim else value
        return value.reshape(*[1] * (points + 1 + event_dim - value.dim()), *value.shape)

    def fold_site(site: Site) -> Site:
        log_q = None if site.log_q is None else fold(site.log_q)
        value = fold_value(site.value, site.p.event_dim if site.p else 0)
        return Site(None, None, value, fold(site.log_p), log_q)

    sites = {name: fold_site(site) for name, site in terms.sites.items()}
    log_w = (terms.log_w - math.log(num_particles)).expand(*terms.log_w.shape[:-1], num_particles * size)
    return terms._replace(sites=sites, log_w=fold(log_w))


Terms = Callable[..., LogTerms]


def terms_for(program: Program, x: trees.Tree, *given: trees.Tree) -> Terms:
    """``log_terms`` where it gives what ``repeated_log_terms`` gives with the same random numbers; else the latter.

    A network may take the particle dimension for another one without an error, as a softmax over dim 1 does. Repeated
    rows ask nothing of a network but that its rows be independent.

    Args:
        program: any program.
        x, given: a few rows to try it on.

    Raises:
        PyrovaeError: a fault of the program's own, see ``log_terms``.
    """

    def attempt(terms: Terms) -> Tensor | Exception:
        with torch.random.fork_rng():
            try:
                return terms(program, x, *given, num_particles=2).log_point_weight
            except Exception as error:  # whatever a foreign network raises
                return error

    with torch.random.fork_rng():
        log_terms(program, x, *given)  # a fault of the program's own shows here, without particles
    vectorized, repeated = attempt(log_terms), attempt(repeated_log_terms)
    if isinstance(vectorized, Exception):
        if isinstance(repeated, Exception):
            raise vectorized
        return repeated_log_terms
    return log_terms if isinstance(repeated, Exception) or _agree(vectorized, repeated) else repeated_log_terms


def _agree(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-3, equal_nan=True)


def _vectorized(num_particles: int) -> Any:
    """The plate of particles; none for a single one, so that networks without batch freedom run too."""
    return pyro.plate("particles", num_particles, dim=-2) if num_particles > 1 else nullcontext()


def _run(
    program: Callable[..., Any],
    x: trees.Tree,
    given: tuple[trees.Tree, ...],
    free: int = ENUMERATION,
    scored: bool = True,
) -> Any:
    enumerated = poutine.enum(program, first_available_dim=free)
    try:
        with _Scored() if scored else nullcontext():
            return poutine.trace(enumerated).get_trace(x, *given)
    except ValueError as error:  # Pyro's and torch's validation of shapes, plates and supports
        if "nan" in str(error) and (names := _with_nan(x, given)):
            raise PyrovaeError(f"{' and '.join(names)} contains NaN; see pyrovae.Missing. {MISSING}") from error
        raise PyrovaeError(f"the program does not fit the data: {error}") from error


def _with_nan(x: trees.Tree, given: tuple[trees.Tree, ...]) -> list[str]:
    """Where NaN are, by the names of the leaves."""
    named = trees.named("x", x) | (trees.named("given", given) if given else {})
    return [name for name, leaf in named.items() if leaf.is_floating_point() and leaf.isnan().any()]


class _Scored(Messenger):
    """Scores every site while the program runs, into ``site["log_p"]``.

    A flow reads its parameters when it scores, and under the path gradients those are exchanged during the run only.
    """

    def _pyro_post_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg) and not msg["infer"].get("_deterministic"):
            msg["log_p"] = _log_prob(msg)


def _renewed(trace: Any) -> Any:
    """The trace with its values as new objects: a flow that meets the object it made answers from its cache.

    What it would answer is the noise that the value was made of, which is not the inverse under the parameters that
    score, and exists for flows without an inverse too.
    """
    renewed = trace.copy()
    for name, site in samples(renewed):
        renewed.nodes[name] = site | {"value": site["value"].view_as(site["value"])}
    return renewed


def samples(trace: Any) -> list[tuple[str, Any]]:
    """The random sites of a trace: neither subsampling nor ``pyro.deterministic``."""
    return [
        (name, site)
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site) and not site["infer"].get("_deterministic")
    ]


def _latent(guide: Any) -> list[str]:
    """The names of the guide's sites; it may only sample."""
    if observed := [name for name, site in samples(guide) if site["is_observed"]]:
        raise PyrovaeError(
            f"the guide observes {observed} (pyro.factor, or obs=): no density of a latent, so log q would lack it. "
            "Put such a factor into the distribution of a latent, or into the model"
        )
    return [name for name, _ in samples(guide)]


def _enumeration_dims(trace: Any) -> set[int]:
    dims = {n: s["infer"]["_enumerate_dim"] for n, s in samples(trace) if "_enumerate_dim" in s["infer"]}
    if masked := [name for name in dims if trace.nodes[name]["mask"] is not None]:
        raise PyrovaeError(
            f"the enumerated sites {masked} are masked: each of their values would count once, which adds log K. Mask "
            "the observations instead, or sample these sites in the guide without enumeration"
        )
    if len(set(dims.values())) < len(dims):
        raise PyrovaeError(
            f"the enumerated sites {list(dims)} share dimensions (pyro.markov does that) and cannot be told apart: "
            "write the loop without pyro.markov, or sample them without enumeration in the guide"
        )
    return set(dims.values())


def _enumerating(model: Callable[..., Any], latent: list[str]) -> Callable[..., Any]:
    """Marks the model's discrete latents that the guide does not sample for enumeration."""

    def config(site: Any) -> dict[str, Any]:
        absent = not site["is_observed"] and site["name"] not in latent
        enumerable = absent and getattr(site["fn"], "has_enumerate_support", False)
        return {"enumerate": "parallel"} if enumerable else {}

    return poutine.infer_config(model, config)  # type: ignore[arg-type]


def _assemble(model: Any, guide: Any, latent: list[str], size: int, num_particles: int) -> LogTerms:
    p_sites, q_sites = dict(samples(model)), {n: s for n, s in samples(guide) if n in latent}
    if missing := [name for name in latent if name not in p_sites or p_sites[name]["is_observed"]]:
        raise PyrovaeError(
            f"the guide samples {missing}, which the model does not; the model's latents are "
            f"{[n for n, s in p_sites.items() if not s['is_observed']]}: give both programs the same site names"
        )
    dims = _enumeration_dims(model) | _enumeration_dims(guide)
    log_p = {name: _score(name, site, size, num_particles, dims) for name, site in p_sites.items()}
    log_q = {name: _score(name, site, size, num_particles, dims) for name, site in q_sites.items()}
    log_p = _sum_out(log_p, p_sites, latent)
    sites = {
        name: Site(_masked(p_sites[name]), _masked(q_sites[name]) if name in q_sites else None,
                   p_sites[name]["value"], term, log_q.get(name))
        for name, term in log_p.items()
    }  # fmt: skip
    enumerated = [log_q[name] for name, site in q_sites.items() if "_enumerate_dim" in site["infer"]]
    reference = next(iter(log_p.values()))
    log_w = sum(enumerated, start=reference.new_full((1, 1), -math.log(num_particles)))
    return LogTerms(sites, log_w, reference.new_zeros(()), tuple(latent), _unreparameterised(q_sites))


def _unreparameterised(q_sites: dict[str, Any]) -> tuple[str, ...]:
    sampled = [name for name, site in q_sites.items() if "_enumerate_dim" not in site["infer"]]
    return tuple(name for name in sampled if not getattr(q_sites[name]["fn"], "has_rsample", False))


def _masked(site: Any) -> TorchDistribution:
    """The distribution with ``poutine.mask`` applied, so that closed forms see the mask as log-probs do."""
    return site["fn"] if site["mask"] is None else site["fn"].mask(site["mask"])


def _score(name: str, site: Any, size: int, num_particles: int, enumeration: set[int]) -> Tensor:
    """log p of a site, (*points, N), masks applied; refuses whatever is not one term per datum."""
    if not (isinstance(site["scale"], int | float) and site["scale"] == 1):
        raise PyrovaeError(
            f"site {name!r} is scaled by {site['scale']} (poutine.scale, or a subsampled plate): log-densities would "
            "be raised to a power; weight terms in the objective, and make the plate as large as the batch"
        )
    distribution, value, log_p = site["fn"], site["value"], site["log_p"]
    batch = value.shape[: value.dim() - distribution.event_dim]
    if log_p.shape[-1:] != (size,) or (site["is_observed"] and batch[-1:] != (size,)):
        raise PyrovaeError(
            f"site {name!r} does not give one term per datum: log-prob {tuple(log_p.shape)} and value "
            f"{tuple(value.shape)} with event dimension {distribution.event_dim}, for {size} data. Put it in the data "
            "plate at dim -1, and declare with to_event what belongs to one datum, no more and no less"
        )
    allowed = {-1: size, -2: num_particles} | {dim: log_p.shape[dim] for dim in enumeration if -dim <= log_p.dim()}
    if any(log_p.shape[dim] not in (1, allowed.get(dim, 1)) for dim in range(-log_p.dim(), 0)):
        raise PyrovaeError(
            f"site {name!r} has log-prob {tuple(log_p.shape)}: dim -1 is for the {size} data, dim -2 for the "
            f"{num_particles} particles, only enumerated values lie further left. Declare inner plates with to_event"
        )
    return log_p.unsqueeze(0) if log_p.dim() == 1 else log_p


def _log_prob(site: Any) -> Tensor:
    """log p of a site's value, masks applied."""
    name = site["name"]
    try:
        log_p: Tensor = scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])
        return log_p
    except (NotImplementedError, KeyError) as error:
        raise PyrovaeError(
            f"the distribution of site {name!r} cannot score a given value: it has no inverse. Use an invertible "
            "transform, or the plain gradient"
        ) from error
    except (ValueError, RuntimeError) as error:  # of shapes, where validation is off, torch's own
        if isinstance(error, RuntimeError) and _event(site) == site["fn"].event_shape:
            raise
        raise PyrovaeError(_misfit(name, site, error)) from error


def _event(site: Any) -> torch.Size:
    """The shape of one datum of a site's value, taken to have as many dimensions as in its distribution."""
    shape: torch.Size = site["value"].shape[site["value"].dim() - len(site["fn"].event_shape) :]
    return shape


def _misfit(name: str, site: Any, error: Exception) -> str:
    """What Pyro's validation found, in words of the data where x lies outside its support."""
    own, event = tuple(_event(site)), tuple(site["fn"].event_shape)
    if site["is_observed"] and own != event:
        return f"a datum of site {name!r} has shape {own}, and the model draws {event}: x must be of that shape"
    text = outside(f"site {name!r}", site["value"], site["fn"].support) if site["is_observed"] else None
    reason = str(error).splitlines()[0].rstrip(":. ")
    return text or (
        f"site {name!r} cannot score its value: {reason}. The model, its guide and the data must agree on the shape "
        "and the support of what is scored"
    )


def _sum_out(log_p: dict[str, Tensor], sites: dict[str, Any], latent: list[str]) -> dict[str, Tensor]:
    """Variable elimination of the discrete latents that only the model has."""
    hidden = [n for n, s in sites.items() if not s["is_observed"] and n not in latent]
    reference = next(iter(log_p.values()))
    for name in reversed(hidden):
        dim = sites[name]["infer"].get("_enumerate_dim")
        if dim is None:
            raise PyrovaeError(
                f"the model samples {name!r}, the guide does not, and it cannot be enumerated: sample it in the guide"
            )
        touched = [n for n, term in log_p.items() if term.dim() >= -dim and term.shape[dim] > 1]
        if not touched:  # a single value, of probability one
            continue
        total = torch.logsumexp(sum((log_p[n] for n in touched), start=torch.zeros(())), dim, keepdim=True)
        last = [n for n in touched if n not in hidden][-1:]
        log_p = {n: term for n, term in log_p.items() if n not in touched} | {n: total for n in last}
    nothing = reference.new_zeros(1, reference.shape[-1])  # credited to another site
    return {n: _narrow(log_p.get(n, nothing)) for n in sites if n not in hidden}


def _narrow(term: Tensor) -> Tensor:
    """Drops the leading dimensions of size one that elimination left."""
    while term.dim() > 2 and term.shape[0] == 1:
        term = term.squeeze(0)
    return term
