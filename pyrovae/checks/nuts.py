"""The guide against NUTS: Pyro's Hamiltonian Monte Carlo on the latents of a few data."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyro.poutine as poutine
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor
from tqdm.auto import tqdm

from pyrovae import trees
from pyrovae.arguments import whole
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.marginal import log_marginal
from pyrovae.evidence.result import Evidence
from pyrovae.lines import aligned
from pyrovae.parameters import LocalParameters, floating_dtype, frozen
from pyrovae.randomness import seeded
from pyrovae.terms import log_terms, samples
from pyrovae.trees import Tree
from pyrovae.unconstrained import unconstraining
from pyrovae.validation import validating

ROWS = 30  # of a summary
R_HAT = 1.01  # Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021
MIXED = 100  # effective draws per chain that they ask for
FAR = 4.0  # standard errors


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws of NUTS from p(z | x, given) of N data, beside the guide's.

    K is the number of continuous latent numbers of a datum, in the order of ``names``.

    Attributes:
        posterior: by site, (chains, draws, N, *event_shape).
        guide: by site, independent draws from q(z | x), (G, N, *event_shape).
        resampled: the like, resampled by importance weight, (G, N, *event_shape).
        divergences: how many trajectories of each chain diverged, (chains, N).
        evidence: of the importance sampling that ``resampled`` comes from: its k-hat says how far to trust it.
        observed: by observed site, (N, *event_shape).
        num_warmup, seed: as asked for.
    """

    posterior: Mapping[str, Tensor]
    guide: Mapping[str, Tensor] = field(repr=False)
    resampled: Mapping[str, Tensor] = field(repr=False)
    divergences: Tensor
    evidence: Evidence
    observed: Mapping[str, Tensor] = field(repr=False)
    num_warmup: int
    seed: int | None

    @property
    def num_data(self) -> int:
        """N."""
        return self.divergences.shape[1]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the K numbers."""
        return tuple(
            f"{name}[{', '.join(map(str, index))}]" if index else name
            for name, draws in self.posterior.items()
            for index in torch.ones(draws.shape[3:]).nonzero().tolist()
        )

    @cached_property
    def figures(self) -> dict[str, Tensor]:
        """By name, (N, K): ``mean`` and ``sd`` of NUTS, ``guide_mean``, ``guide_sd``, ``resampled_mean``,
        ``resampled_sd``, ``r_hat``, ``ess`` (bulk), ``mean_error`` and ``sd_error`` of NUTS; ``mean_z`` and ``sd_z``,
        the guide's mean and log sd less those of NUTS over the standard error of the difference.
        """
        from pyrovae.evidence.arviz_adapter import diagnosed  # ArviZ takes seconds to import

        chains, q, w = _flat(self.posterior, 3), _flat(self.guide, 2), _flat(self.resampled, 2)
        found = {key: torch.as_tensor(value).double() for key, value in diagnosed({"z": chains})["z"].items()}
        found |= {"mean": chains.mean((0, 1)), "sd": chains.flatten(0, 1).std(0)}
        found |= {"guide_mean": q.mean(0), "guide_sd": q.std(0), "resampled_mean": w.mean(0), "resampled_sd": w.std(0)}
        count, m, s = len(q), found["guide_mean"], found["guide_sd"]
        kurtosis = ((q - m) / s).pow(4).mean(0)
        of_mean = (found["mean_error"].square() + s.square() / count).sqrt()
        of_log_sd = ((found["sd_error"] / found["sd"]).square() + (kurtosis - 1) / (4 * count)).sqrt()
        found["mean_z"] = (m - found["mean"]) / of_mean
        found["sd_z"] = (s / found["sd"]).log() / of_log_sd
        return found

    @property
    def differs(self) -> Tensor:
        """Where the guide's mean or sd is more than four standard errors from that of NUTS, (N, K) bool."""
        return (self.figures["mean_z"].abs() > FAR) | (self.figures["sd_z"].abs() > FAR)

    @property
    def mixed(self) -> Tensor:
        """Where the chains agree, (N, K) bool: R-hat at most 1.01, and 100 effective draws per chain."""
        return (self.figures["r_hat"] <= R_HAT) & (self.figures["ess"] >= MIXED * len(self.divergences))

    def summary(self) -> str:
        """A row per datum and latent number, the guide's farthest from NUTS first; then what to doubt."""
        chains, draws = next(iter(self.posterior.values())).shape[:2]
        f, names = self.figures, self.names
        worst = torch.maximum(f["mean_z"].abs(), f["sd_z"].abs()).flatten().argsort(descending=True)[:ROWS]
        rows = [self._row(f, names, *divmod(int(i), len(names))) for i in worst]
        heading = ["datum", "latent", "NUTS mean", "sd", "guide mean", "sd", "resampled", "sd", "z of mean", "of sd",
                   "R-hat", "ESS"]  # fmt: skip
        seed = "not set" if self.seed is None else self.seed
        total = self.differs.numel()
        return "\n".join([
            f"Guide against NUTS: {self.num_data:,} data, {chains} chains of {draws:,} draws after "
            f"{self.num_warmup:,} of warm-up, seed {seed}",
            *aligned([heading, *rows], right=[0, *range(2, 12)]),
            *([f"... and {total - ROWS:,} further rows, which agree better"] if total > ROWS else []),
            f"The guide is more than {FAR:g} standard errors from NUTS in {int(self.differs.sum()):,} of {total:,}",
            *self._doubts(),
        ])  # fmt: skip

    @staticmethod
    def _row(f: dict[str, Tensor], names: tuple[str, ...], n: int, k: int) -> list[str]:
        pairs = [f"{f[key][n, k]:.3f}" for key in
                 ("mean", "sd", "guide_mean", "guide_sd", "resampled_mean", "resampled_sd")]  # fmt: skip
        z = [f"{f[key][n, k]:+.1f}" for key in ("mean_z", "sd_z")]
        return [str(n), names[k], *pairs, *z, f"{f['r_hat'][n, k]:.3f}", f"{f['ess'][n, k]:,.0f}"]

    def _doubts(self) -> list[str]:
        doubts = []
        if count := int((~self.mixed).sum()):
            doubts.append(
                f"R-hat above {R_HAT}, or fewer than {MIXED} effective draws per chain, in {count:,}: there NUTS is no "
                "reference; take more draws"
            )
        if count := int(self.divergences.sum()):
            doubts.append(f"{count:,} trajectories diverged: NUTS may miss a part of the posterior")
        if share := self.evidence.share_unreliable:
            doubts.append(f"k-hat is too high for {100 * share:.1f} % of the data: do not trust their resampled draws")
        return doubts

    def to_arviz(self) -> Any:
        """ArviZ data with the groups posterior (chain, draw, datum, ...) and observed_data.

        ``arviz.summary``, ``arviz.plot_rank`` and the like work on it; see ``Evidence.to_arviz`` for its type.
        """
        from pyrovae.evidence.arviz_adapter import chains_to_arviz

        attrs = {"num_warmup": self.num_warmup, "divergences": int(self.divergences.sum())}
        return chains_to_arviz(self.posterior, self.observed, attrs)

    def __repr__(self) -> str:
        return self.summary()


def _flat(draws: Mapping[str, Tensor], dims: int) -> Tensor:
    """The sites side by side, their first ``dims`` dimensions kept: (*kept, K), float64."""
    return torch.cat([v.reshape(*v.shape[:dims], -1).double() for v in draws.values()], -1)


def nuts(
    program: Any,
    x: Tree,
    *given: Tree,
    num_chains: int = 4,
    num_draws: int = 500,
    num_warmup: int = 500,
    num_guide: int = 5000,
    seed: int | None = None,
    progress: bool | None = None,
) -> Chains:
    """Draws from p(z | x, given) by Pyro's NUTS for a few data, beside draws of the guide.

    Each datum is sampled by itself, chain after chain: seconds to minutes for each. Constrained latents move in
    Pyro's unconstrained space; discrete ones are summed out, and not returned; auxiliary ones, such as the noise of
    dequantization, are moved with the others, and not returned either. Chains start from the guide and from the prior
    in turn: were all to start where the guide is, a mode that it misses might go unseen.

    Args:
        program: any program; its model must be differentiable in the latents.
        x, given: tensors or arrays, or trees of them, with N rows: few.
        num_chains, num_draws, num_warmup: of NUTS, for each datum; the warm-up's draws are left out.
        num_guide: draws from the guide, and particles of the importance sampling that resamples as many.
        seed: makes the result repeatable; the global generator is left as it was. None draws from the global one.
        progress: a progress bar of chains; by default where standard error is a terminal.

    Returns:
        Chains: draws of both on the CPU, ``summary()`` with R-hat and effective sample sizes, and ``to_arviz()``.

    Raises:
        PyrovaeError: fewer than 2 chains, 4 draws, 1 of warm-up or 2 draws of the guide; no continuous latent, or one
            on a circle or a surface; see also ``log_terms`` and ``log_marginal``.

    References:
        Hoffman & Gelman 2014; Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021 (R-hat, ESS).

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> chains = pv.nuts(pv.vae(data, latent=2), data.test.x[:1], num_chains=2, num_draws=10, num_warmup=10, seed=0)
        >>> chains.posterior["z"].shape
        torch.Size([2, 10, 1, 2])
    """
    whole("num_chains", num_chains, 2)  # R-hat compares them
    whole("num_draws", num_draws, 4)
    whole("num_warmup", num_warmup)
    whole("num_guide", num_guide, 2)
    size = trees.num_data(x, *given)
    with frozen(program) as device, seeded(seed, device), LocalParameters().scope():
        data = [trees.to(trees.as_tensors(tree, floating_dtype(program)), device) for tree in (x, *given)]
        observed = {name: site.value for name, site in log_terms(program, *data).observed.items()}
        auxiliary = _auxiliary(program, data)
        hidden = None if progress is None else not progress
        bar = tqdm(total=size * num_chains, desc="nuts", unit="chain", disable=hidden)
        with bar, validating(False):
            columns = [
                _Sampler(program, trees.rows(data, slice(n, n + 1)), num_draws, num_warmup).run(num_chains, bar)
                for n in range(size)
            ]
        names = [name for name in columns[0][0] if name not in auxiliary]
        posterior = {name: torch.cat([draws[name] for draws, _ in columns], 2).cpu() for name in names}
        drawn = _guided(program, data, num_guide)
        guide = {name: drawn[name] for name in posterior}
        again = None if seed is None else seed + 1
        evidence = log_marginal(
            program, *data, num_particles=num_guide, num_draws=num_guide, seed=again, compile=False, progress=False
        )
    draws = evidence.draws
    assert draws is not None  # as many as were asked for
    resampled = {name: draws.posterior[name] for name in posterior}
    divergences = torch.stack([count for _, count in columns], 1)
    return Chains(posterior, guide, resampled, divergences, evidence, observed, num_warmup, seed)


class _Sampler:
    """NUTS on the latents of one datum."""

    def __init__(self, program: Any, rows: list[Tree], num_draws: int, num_warmup: int) -> None:
        self.program, self.rows = program, rows
        self.num_draws, self.num_warmup = num_draws, num_warmup

    def run(self, num_chains: int, bar: Any) -> tuple[dict[str, Tensor], Tensor]:
        """By name (chains, draws, 1, *event_shape), and how many trajectories of each chain diverged."""
        chains = []
        for number in range(num_chains):
            chains.append(self._chain(self._start(from_prior=number % 2 == 1)))
            bar.update()
        draws = {name: torch.stack([chain[name] for chain, _ in chains]) for name in chains[0][0]}
        return draws, torch.tensor([count for _, count in chains])

    def _chain(self, start: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
        with torch.enable_grad(), _LoggerAsBefore():
            kernel = NUTS(self.program.model, jit_compile=False, max_plate_nesting=1)
            mcmc = MCMC(kernel, self.num_draws, self.num_warmup, initial_params=start, disable_progbar=True)
            mcmc.run(*self.rows)
        draws = {name: value.detach() for name, value in mcmc.get_samples().items()}
        return draws, len(mcmc.diagnostics()["divergences"]["chain 0"])

    def _start(self, *, from_prior: bool) -> dict[str, Tensor]:
        """Unconstrained values of the continuous latents."""
        model = poutine.trace(self.program.model).get_trace(*self.rows)
        guide = poutine.trace(self.program.guide).get_trace(*self.rows)
        sites = {
            name: site for name, site in samples(model) if not (site["is_observed"] or site["fn"].support.is_discrete)
        }
        if all(site["infer"].get("auxiliary") for site in sites.values()):
            raise PyrovaeError("the program has no continuous latent on which NUTS could move")
        values = {name: site["value"] if from_prior else guide.nodes[name]["value"] for name, site in sites.items()}
        return {name: _transform(name, sites[name]["fn"]).inv(value) for name, value in values.items()}


def _auxiliary(program: Any, data: list[Tree]) -> set[str]:
    """Latents that only integrate x out, such as the noise of dequantization: they are moved, and not compared."""
    rows = trees.rows(data, slice(0, 1))
    traces = [poutine.trace(part).get_trace(*rows) for part in (program.model, program.guide)]
    return {name for trace in traces for name, site in samples(trace) if site["infer"].get("auxiliary")}


def _transform(name: str, distribution: Any) -> Any:
    instead = "look at the draws of log_marginal(..., num_draws=400)"
    return unconstraining(name, distribution, use="NUTS moves in", instead=instead)


class _LoggerAsBefore:
    """Pyro's logger of MCMC as it was: each run gives it a handler of its own."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("pyro.infer.mcmc")
        self.before = (list(self.logger.handlers), self.logger.level, self.logger.propagate)

    def __exit__(self, *exception: Any) -> None:
        self.logger.handlers, self.logger.level, self.logger.propagate = self.before


def _guided(program: Any, data: list[Tree], count: int) -> dict[str, Tensor]:
    """``count`` draws from the guide, (count, N, *event_shape) by name, on repeated rows, as every program can."""
    trace = poutine.trace(program.guide).get_trace(*(trees.repeat(tree, count) for tree in data))
    size = trees.num_data(*data)
    return {name: site["value"].unflatten(0, (count, size)).cpu() for name, site in samples(trace)}
