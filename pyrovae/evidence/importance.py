"""log p(x) by importance sampling from the guide, streamed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm.auto import tqdm

from pyrovae import trees
from pyrovae.compiled import Fast
from pyrovae.compiled.backends import Backend
from pyrovae.compiled.choice import Flops, chosen, pays
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.expectations import Expectation, Function, Weighted, evaluated, joined
from pyrovae.evidence.result import Draws, Evidence
from pyrovae.evidence.streaming import Accumulator, Reservoir, blank
from pyrovae.parameters import floating_dtype, frozen
from pyrovae.precision import float32_matmul
from pyrovae.randomness import seeded
from pyrovae.sampling import observed_values
from pyrovae.terms import LogTerms, Site, Terms, log_terms, terms_for
from pyrovae.trees import Tree
from pyrovae.validation import validating

MEMORY = {"cpu": 2**28, "cuda": 2**31, "mps": 2**30}  # bytes of working memory, by type of device
MOST_ROWS = {"cpu": 2048, "cuda": 2**18, "mps": 2**16}  # beyond these, larger chunks are no faster (on CPUs: cache)
FIGURES = ("log_mean", "standard_error", "ess", "pareto_k", "jackknife", "truncated")  # of an Accumulator
BLOCK = 16  # data handled together, where there are so many: many particles of few data keep the guide's share small


class EvidenceWarning(UserWarning):
    """An estimate of log p(x) that should not be taken at face value."""


def log_marginal(
    program: Any,
    x: Tree,
    *given: Tree,
    num_particles: int = 5000,
    seed: int | None = None,
    num_draws: int = 0,
    expectations: Mapping[str, Function] | None = None,
    log_jacobian: float | Tensor = 0.0,
    compile: bool | Literal["auto"] = "auto",
    memory: int | None = None,
    progress: bool | None = None,
) -> Evidence:
    """log p(x | given) per datum by importance sampling: log 1/S sum_s p(x, z_s) / q(z_s | x), z_s ~ q.

    Args:
        program: any object with ``model(x, *given)`` and ``guide(x, *given)``, a data plate at dim -1 and one term per
            datum: ours, or a plain Pyro model and guide (trained by stock SVI too: their parameters are read from
            Pyro's store, which stays as it is). Networks that cannot take a particle dimension run on repeated rows.
        x, given: tensors or arrays, or trees of them, with N rows; observations, not pixel probabilities.
        num_particles: S, for every datum.
        seed: makes the result repeatable, for the same ``memory`` and ``compile``; the global generator is left as it
            was. None draws from the global generator.
        num_draws: R posterior draws to keep per datum, resampled by weight: ``ev.draws.posterior`` by site name,
            (R, N, *event), and ``ev.draws.posterior_predictive``; for ``ev.to_arviz()`` and ``predictive_check``.
        expectations: functions f by name, for E[f(z) | x] of each datum by self-normalised weights in
            ``ev.expectations[name]``, with its standard error: f takes the latents by site name, each (S, n, *event),
            to a tensor (S, n, *shape). Values that the guide enumerates are further points, weighted as they are.
        log_jacobian: log |det dx/dx_own| of the change of variables from the data's own units to those of x, nats: a
            number, or one per datum (N,). For x = (x_own - loc) / scale it is -sum log scale, ``Data.log_jacobian``.
            As log p_own(x_own) = log p(x) + log |det dx/dx_own|, it is added to every ``log_prob``.
        compile: trace a chunk of particles once (guide, model, log-weights, random numbers) and run it as one compiled
            graph. "auto" does so where there is enough to compute to pay for compiling, about 5 s. A program that
            cannot be traced runs eagerly, with a ``CompileWarning`` that says why.
        memory: bytes of working memory that decide the size of a chunk; memory grows with neither S (but for the
            tail that k-hat needs, about 3 sqrt S weights per datum of a block) nor N.
        progress: a progress bar; by default where standard error is a terminal.

    Returns:
        Evidence: ``log_prob``, ``standard_error``, ``ess``, ``pareto_k``, each (N,) float64 on the CPU, in nats.
        ``log_prob`` is the raw log-mean-exp: E[log p-hat] <= log p(x), a lower bound in expectation.

    Raises:
        PyrovaeError: see ``pyrovae.log_terms``; empty data; num_particles below 1; a guide that gives points, as
            an autoencoder's does, which have no density; a log-Jacobian that is not finite, or neither a number nor one
            for each datum; an expectation that does not give one value per point and datum.

    Warns:
        EvidenceWarning: data whose k-hat is above the threshold, whose weights are all zero, or are no numbers.

    References:
        Burda, Grosse & Salakhutdinov 2016; Vehtari, Simpson, Gelman, Yao & Gabry 2024 (k-hat).

    Example:
        >>> import torch, pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> ev = pv.log_marginal(pv.vae(data, latent=2), data.test.x[:4], num_particles=50, seed=0)
        >>> ev.log_prob.shape
        torch.Size([4])
    """
    for name, value in (
        ("num_particles", num_particles),
        ("num_draws", num_draws + 1),
        ("memory", 1 if memory is None else memory),
    ):
        if value < 1:
            raise PyrovaeError(f"{name} must be positive; got {value}")
    with frozen(program) as device, seeded(seed, device), float32_matmul(device):
        data = _Data((x, *given), floating_dtype(program), device)
        size, probe = data.size, data.rows(slice(0, 3))
        shift = _per_datum(log_jacobian, size)
        terms = terms_for(program, *probe)
        _check_density(program, probe)
        limit = _most_rows(program, terms, probe, memory or MEMORY.get(device.type, MEMORY["cpu"]), device)
        chunk = _even(num_particles, max(1, limit // min(size, BLOCK)))
        block = _even(size, max(1, limit // chunk))
        points = _Points(program, terms, values=num_draws > 0, expectations=expectations or {})
        worth = partial(_worth, points, data, num_particles, chunk * block)
        if backend := chosen("log_marginal", compile, device, worth=worth):
            points.compile(backend, data.rows(slice(0, block)), chunk, device)
        estimator = _Estimator(program, points, num_particles, num_draws)
        starts = range(0, size, block)
        bar = tqdm(starts, desc="log_marginal", unit="block", disable=None if progress is None else not progress)
        seen = _validate(program, data, limit)
        with validating(False):
            parts = [estimator.block(data.rows(slice(i, i + block)), chunk) for i in bar]
    evidence = _evidence(parts, num_particles, seed, seen / size, shift)
    _warn(evidence)
    return evidence


class _Data(NamedTuple):
    """(x, *given) as it came, made tensors on the device a few rows at a time: it may be a memory map."""

    columns: tuple[Tree, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def size(self) -> int:
        return trees.num_data(*self.columns)

    def rows(self, part: slice) -> list[Tree]:
        taken = (trees.rows(tree, part) for tree in self.columns)
        return [trees.to(trees.as_tensors(tree, self.dtype), self.device) for tree in taken]


def _check_density(program: Any, probe: list[Tree]) -> None:
    """Refuse a guide that gives points: log q would be infinite, and Delta says 0."""
    with torch.random.fork_rng():
        latents = log_terms(program, *probe).latents
    if points := [name for name, site in latents.items() if _is_point(site.q) and not _is_point(site.p)]:
        raise PyrovaeError(
            f"the guide gives {points} as points (Delta), as an autoencoder does: a point has no density in z, so the "
            "ELBO is minus infinity and importance sampling cannot estimate log p(x). Use a guide with a density, such "
            "as pyrovae.families.normal"
        )


def _validate(program: Any, data: _Data, limit: int) -> int:
    """One particle of every datum under Pyro's validation (unless that is off), of the data too; the others without.

    Returns:
        how many numbers of x are seen; 0 where a mask is observed too.
    """
    seen = 0
    with torch.random.fork_rng():
        for start in range(0, data.size, limit):
            rows = data.rows(slice(start, start + limit))
            observed = log_terms(program, *rows).observed
            seen += _num_seen(rows[0], observed)
    return seen


def _num_seen(x: Tree, observed: Mapping[str, Site]) -> int:
    """The numbers of x that log p is of, those that are missing left out; 0 where it is of more than these."""
    leaves = trees.named("x", x)
    if any(name.rpartition(".")[0] in leaves for name in observed):  # a mask "x.seen" has bits of its own
        return 0
    return sum(leaf.numel() for leaf in leaves.values()) - sum(_num_missing(site) for site in observed.values())


def _num_missing(site: Site) -> int:
    count: Any = getattr(site.p, "missing", None)  # of what pyrovae.Missing makes
    return 0 if count is None else int(count(site.value).sum())


def _even(number: int, most: int) -> int:
    """The size of chunks of at most ``most``, as few and as even as can be."""
    return -(-number // -(-number // most))


def _is_point(distribution: Any) -> bool:
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return isinstance(distribution, dist.Delta)


class _Bytes(TorchDispatchMode):
    """Adds up the memory of everything computed."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += sum(t.numel() * t.element_size() for t in trees.leaves(result) if isinstance(t, Tensor))
        return result


def _most_rows(program: Any, terms: Terms, rows: list[Tree], memory: int, device: torch.device) -> int:
    """How many (datum x particle) rows fit: ``memory`` over what one more particle of one datum computes.

    All intermediate results are counted as if none were ever freed, so the estimate is on the safe side.
    """
    datum = [trees.rows(tree, slice(0, 1)) for tree in rows]

    def cost(particles: int) -> int:
        with torch.random.fork_rng(), _Bytes() as counter:
            terms(program, *datum, num_particles=particles)
        return counter.total

    per_row = max((cost(12) - cost(4)) / 8, 1.0)
    return int(max(1, min(memory / per_row, MOST_ROWS.get(device.type, MOST_ROWS["cpu"]))))


class _Points:
    """Particles of a block of data: their log-weights and, where wanted, what a draw consists of.

    Args:
        program, terms: of the estimate.
        values: whether draws are wanted.
        expectations: of which functions of the latents the values are wanted.
    """

    def __init__(self, program: Any, terms: Terms, *, values: bool, expectations: Mapping[str, Function]) -> None:
        self.program, self.terms, self.values, self.expectations = program, terms, values, expectations
        self._fast: Fast | None = None
        self._block = self._chunk = 0

    def compile(self, backend: Backend, block: list[Tree], chunk: int, device: torch.device) -> None:
        """Run chunks of ``chunk`` particles for such blocks of data as one graph."""
        own = [*self.program.parameters(), *self.program.buffers()] if isinstance(self.program, nn.Module) else []
        run = partial(self._run, chunk)
        self._fast = Fast("log_marginal", run, like=block, constants=own, backend=backend, device=device)
        self._block, self._chunk = trees.num_data(*block), chunk

    def __call__(self, rows: list[Tree], count: int) -> tuple[Tensor, Any]:
        """(*points, n) log-weights, nats; and the values of the draws, where they are wanted."""
        size = trees.num_data(*rows)
        valued = self.values or self.expectations
        if self._fast is None or (valued and (size, count) != (self._block, self._chunk)):
            return self._run(count, *rows)
        last = torch.arange(self._block, device=trees.leaves(rows)[0].device).clamp(max=size - 1)
        log_weight, values = self._fast(*rows if size == self._block else trees.rows(rows, last))
        return log_weight[..., :count, :size], values  # a chunk or block that is smaller is computed whole and cut

    def _run(self, count: int, *rows: Tree) -> tuple[Tensor, Any]:
        t = self.terms(self.program, *rows, num_particles=count)
        log_weight = t.log_point_weight + math.log(count)
        if not (self.values or self.expectations):
            return log_weight, ()
        values = _values(t, log_weight)
        return log_weight, (values if self.values else (), evaluated(self.expectations, values["latents"]))


def _worth(points: _Points, data: _Data, num_particles: int, at_once: int) -> bool:
    """Whether there is enough to compute to pay for compiling."""
    with torch.random.fork_rng(), Flops() as counter:
        points(data.rows(slice(0, 1)), 8)
    number = num_particles * data.size
    return pays(number // at_once, counter.total / 8 * number)


class _Estimator:
    """Streams the particles of one block of data after another."""

    def __init__(self, program: Any, points: _Points, num_particles: int, num_draws: int) -> None:
        self.program, self.points = program, points
        self.num_particles, self.num_draws = num_particles, num_draws

    def block(self, rows: list[Tree], chunk: int) -> tuple[Tensor, Draws | None, dict[str, Expectation]]:
        """(6, n): ``FIGURES`` of a block of data; its draws, and its expectations."""
        size = trees.num_data(*rows)
        accumulator = Accumulator(size, self.num_particles, _float64_device(rows))
        reservoir = Reservoir(self.num_draws) if self.num_draws else None
        expectations = {name: Weighted() for name in self.points.expectations}
        for start in range(0, self.num_particles, chunk):
            log_weight, values = self.points(rows, min(chunk, self.num_particles - start))
            accumulator.add(torch.logsumexp(log_weight.flatten(0, -3), 0) if log_weight.dim() > 2 else log_weight)
            if reservoir:
                reservoir.add(log_weight.flatten(0, -2), values[0])
            for name, expectation in expectations.items():
                expectation.add(log_weight, values[1][name])
        figures = torch.stack([getattr(accumulator, name) for name in FIGURES]).cpu()
        draws = self._draws(reservoir, rows) if reservoir else None
        return figures, draws, {name: expectation.result for name, expectation in expectations.items()}

    def _draws(self, reservoir: Reservoir, rows: list[Tree]) -> Draws:
        kept = reservoir.values
        predictive = self._predict(reservoir.slots["latents"], rows)  # a model need not take nan
        predictive = trees.tree_map(lambda leaf: blank(leaf, reservoir.valid), predictive)
        seen = {name: site.value for name, site in log_terms(self.program, *rows).observed.items()}
        by_name = predictive if isinstance(predictive, dict) else {next(iter(seen)): predictive}
        return Draws(kept["latents"], by_name, kept["log_px_z"], seen)

    def _predict(self, latents: dict[str, Tensor], rows: list[Tree]) -> Any:
        """x ~ p(x | z) at every draw, on repeated rows, which every program can do."""
        size, draws, device = trees.num_data(*rows), self.num_draws, trees.leaves(rows)[0].device
        flat = {name: value.flatten(0, 1).to(device) for name, value in latents.items()}
        values = observed_values(self.program, flat, *(trees.repeat(tree, draws) for tree in rows))
        return trees.tree_map(lambda v: v.unflatten(0, (draws, size)), values)


def _values(t: LogTerms, log_weight: Tensor) -> dict[str, dict[str, Tensor]]:
    """What a draw consists of: the latents, and log p(x | z) of each observed site; (points, n, *event)."""

    def spread(tensor: Tensor, event_dim: int) -> Tensor:
        shape = [*log_weight.shape, *tensor.shape[tensor.dim() - event_dim :]]
        return tensor.expand(shape).flatten(0, log_weight.dim() - 2)

    def event_dim(site: Site) -> int:
        return site.q.event_dim if site.q is not None else site.value.dim() - log_weight.dim()

    latents = {name: spread(site.value, event_dim(site)) for name, site in t.latents.items()}
    return {"latents": latents, "log_px_z": {name: spread(site.log_p, 0) for name, site in t.observed.items()}}


def _float64_device(rows: list[Tree]) -> torch.device:
    device = trees.leaves(rows)[0].device
    return torch.device("cpu") if device.type == "mps" else device


def _per_datum(log_jacobian: float | Tensor, size: int) -> Tensor:
    """The log-Jacobian as (N,) float64 on the CPU."""
    value = torch.as_tensor(log_jacobian, dtype=torch.float64, device="cpu")
    if value.shape not in ((), (size,)) or not value.isfinite().all():
        raise PyrovaeError(
            f"log_jacobian must be a finite number, or one for each of the {size} data, (N,); got "
            f"shape {tuple(value.shape)}"
        )
    return value.expand(size)


def _evidence(
    parts: list[tuple[Tensor, Draws | None, dict[str, Expectation]]],
    num_particles: int,
    seed: int | None,
    dimensions: float,
    log_jacobian: Tensor,
) -> Evidence:
    log_prob, standard_error, ess, pareto_k, jackknife, truncated = torch.cat([part[0] for part in parts], 1)
    kept = [draws for _, draws, _ in parts if draws is not None]
    return Evidence(
        log_prob + log_jacobian,
        standard_error,
        ess,
        pareto_k,
        num_particles,
        int(dimensions) if dimensions == int(dimensions) else dimensions,
        seed=seed,
        log_jacobian=log_jacobian.mean().item(),
        draws=_joined(kept) if kept else None,
        jackknife=jackknife + log_jacobian,
        truncated=truncated + log_jacobian,
        expectations=joined([expectations for *_, expectations in parts]),
    )


def _joined(parts: list[Draws]) -> Draws:
    def joined(name: str, dim: int) -> dict[str, Tensor]:
        groups = [getattr(part, name) for part in parts]
        return {key: torch.cat([group[key].cpu() for group in groups], dim) for key in groups[0]}

    return Draws(
        joined("posterior", 1), joined("posterior_predictive", 1), joined("log_likelihood", 1), joined("observed", 0)
    )


def _warn(evidence: Evidence) -> None:
    if share := 100 * evidence.share_unreliable:
        warnings.warn(
            f"k-hat is above {evidence.threshold:.2f}, or no error can be given, for {share:.1f} % of the data: there "
            "the estimate is likely too low and its standard error understates",
            EvidenceWarning,
            stacklevel=3,
        )
    if (evidence.log_prob == -math.inf).any():
        count = int((evidence.log_prob == -math.inf).sum())
        warnings.warn(f"all weights are zero for {count} data: their log_prob is -inf", EvidenceWarning, stacklevel=3)
    if count := int((evidence.log_prob.isnan() | (evidence.log_prob == math.inf)).sum()):
        warnings.warn(f"a log-density is nan or infinite for {count} data", EvidenceWarning, stacklevel=3)
