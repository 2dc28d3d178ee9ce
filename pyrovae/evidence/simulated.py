"""Data simulated from a program together with the latents they came from, which are exact draws of p(z | x)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyro.poutine as poutine
import torch
from pyro.distributions import Unit
from torch import Tensor

from pyrovae import trees
from pyrovae.arguments import check_program
from pyrovae.errors import PyrovaeError
from pyrovae.parameters import LocalParameters, frozen
from pyrovae.sampling import drawn, draws_alone
from pyrovae.terms import samples
from pyrovae.trees import Tree

TRIES = 100


class Simulated(NamedTuple):
    """N draws (x, z) ~ p(x, z | given); so z is a draw from p(z | x, given), of all latents jointly.

    Attributes:
        x: in the structure of the program's data, with N rows; NaN where the program drew a mask that hides a value.
        latents: by site name, (N, *event_shape), those included that only integrate an observation out.
        auxiliary: the names of these.
        valid: which rows are draws at all, (N,) bool: a density may put mass where there are no data.
    """

    x: Tree
    latents: dict[str, Tensor]
    auxiliary: frozenset[str]
    valid: Tensor


def simulate(program: Any, num_data: int, *given: Tree, like: Tree = None) -> Simulated:
    """``num_data`` rows of data and latents from the program's joint distribution, from Torch's global generator.

    Args:
        program: any program.
        given: conditioning variables with ``num_data`` rows.
        like: data of the right structure and shape, for programs whose model needs an ``x`` to run.

    Raises:
        PyrovaeError: see ``pyrovae.sample``; a model whose x cannot be put together from its sites, or that loses
            nearly all its draws where its densities put mass outside of the data's range.
    """
    check_program(program)
    try:
        result = _simulated(program, num_data, *given, like=like)
    except PyrovaeError as error:
        if not given:
            raise
        raise PyrovaeError(
            f"{error}. The data are simulated: pass no x, but what is given, if anything, with num_data rows"
        ) from error
    attempts = num_data
    for _ in range(TRIES):
        lost = (~result.valid).nonzero()[:, 0]
        if not len(lost):
            return result
        attempts += len(lost)
        again = _simulated(program, len(lost), *trees.rows(given, lost.cpu()), like=like)
        result = _replaced(result, lost, again)
    missing = int((~result.valid).sum())
    if not missing:
        return result
    raise PyrovaeError(
        f"of {num_data} data {missing} could not be drawn in {TRIES} attempts each, and of all {attempts:,} draws "
        f"{1 - (num_data - missing) / attempts:.1%} were lost: the program puts that mass where no data are, as a "
        "dequantized normal density does outside of [0, 1]. Use a density on the unit interval, such as "
        "pyrovae.families.logit_normal"
    )


def _simulated(program: Any, size: int, *given: Tree, like: Tree) -> Simulated:
    alone = draws_alone(program)
    trace = drawn(program, size, *given, like=None if alone else like)
    sites = dict(samples(trace))
    if factors := [name for name, site in sites.items() if isinstance(site["fn"], Unit)]:
        raise PyrovaeError(
            f"the model weighs what it draws by {factors} (pyro.factor), which no draw follows: write the factor as a "
            "distribution of a site"
        )
    x = trace.nodes["_RETURN"]["value"] if alone else _in_structure(program, trace)
    names = [name for name, site in sites.items() if not site["infer"].get("was_observed")]
    auxiliary = [name for name in names if sites[name]["infer"].get("auxiliary")]
    if auxiliary and not alone:
        raise PyrovaeError(
            f"{auxiliary} belong to x, and are drawn together with it only by a model that runs without x: give the "
            "program's model an argument num_data, as pyrovae.VAE has"
        )
    valid = torch.ones(size, dtype=torch.bool, device=trees.leaves(x)[0].device)
    for name in auxiliary:
        valid = valid & sites[name]["fn"].support.check(sites[name]["value"])
    latents = {name: sites[name]["value"] for name in names}
    x, latents, masks = _hidden(x, latents, sites)
    return Simulated(x, latents, frozenset(auxiliary) - masks | (latents.keys() - set(names)), valid)


def _hidden(x: Tree, latents: dict[str, Tensor], sites: dict[str, Any]) -> tuple[Tree, dict[str, Tensor], set[str]]:
    """Masks put into effect: what is not seen is NaN in x, and its value a latent; and their names."""
    masks = {name: site["infer"]["hides"] for name, site in sites.items() if "hides" in site["infer"]}
    for mask, (name, hidden) in masks.items():
        whole = sites[name]["value"]
        shown = torch.where(latents[mask] > 0, whole, math.nan)
        x = trees.tree_map(lambda leaf, whole=whole, shown=shown: shown if leaf is whole else leaf, x)
        latents = {n: value for n, value in latents.items() if n != mask} | {hidden: whole}
    return x, latents, set(masks)


def _in_structure(program: Any, trace: Any) -> Tree:
    """The x that the model was run on, with the draws at the observed sites in the places of what they observe.

    Whether these places are the right ones is seen by running the model on the result.
    """
    x, *given = trace.nodes["_INPUT"]["args"]
    sites = {name: site for name, site in samples(trace) if site["infer"].get("was_observed")}
    alone = len(trees.leaves(x)) == len(sites) == 1
    drawn_x = trees.tree_map(lambda leaf: _written(leaf, list(sites.values()), alone), x)
    if any(leaf is None for leaf in trees.leaves(drawn_x)) or not _observed_again(program, trace, drawn_x, *given):
        raise PyrovaeError(
            f"x of shape {[tuple(leaf.shape) for leaf in trees.leaves(x)]} cannot be put together from what the model "
            f"draws at {list(sites)}: it must observe all of x, and x as it is or slices and views of it, neither "
            "rescaled nor reordered, by densities that do not depend on x. What is not drawn belongs into given"
        )
    return drawn_x


def _written(leaf: Tensor, sites: list[Any], alone: bool) -> Tensor | None:
    """A contiguous leaf overwritten where a site observes it, or a view of it; None where some of it is not observed.

    Args:
        alone: one leaf and one site, which may also observe a copy of it, as one of another dtype.
    """
    written, covered = leaf.clone(), torch.zeros_like(leaf, dtype=torch.bool)
    for site in sites:
        seen, value = site["infer"]["obs"], site["value"]
        if seen.untyped_storage().data_ptr() == leaf.untyped_storage().data_ptr() and seen.shape == value.shape:
            place = torch.arange(leaf.numel(), device=leaf.device)
            place = place.as_strided(seen.size(), seen.stride(), seen.storage_offset())
            written.put_(place, value.to(leaf.dtype))
            covered.put_(place, torch.ones_like(place, dtype=torch.bool))
        elif alone and value.numel() == leaf.numel():
            return value.reshape(leaf.shape).to(leaf.dtype)
    return written if covered.all() else None


def _observed_again(program: Any, trace: Any, x: Tree, *given: Tree) -> bool:
    """Whether the model, run on x at the drawn latents, observes what was drawn, and scores every site as it was."""
    before = dict(samples(trace))
    latents = {name: site["value"] for name, site in before.items() if not site["infer"].get("was_observed")}
    model = poutine.condition(program.model, data=latents)
    with frozen(program), LocalParameters().scope():
        after = dict(samples(poutine.trace(model).get_trace(x, *given)))
        return (
            before.keys() == after.keys()
            and all(_same(before[name]["value"], site["value"]) for name, site in after.items())
            and all(_scored_alike(before[name], site) for name, site in after.items())
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _scored_alike(before: Any, after: Any) -> bool:
    value = after["value"]  # of both: a flow that meets the very object it drew answers from its cache
    old, new = (site["fn"].log_prob(value.clone()) for site in (before, after))
    return old.shape == new.shape and torch.allclose(old, new, rtol=1e-4, atol=1e-4, equal_nan=True)


def _replaced(old: Simulated, index: Tensor, new: Simulated) -> Simulated:
    def put(a: Tensor, b: Tensor) -> Tensor:
        return a.index_copy(0, index, b)

    latents = {name: put(value, new.latents[name]) for name, value in old.latents.items()}
    return Simulated(trees.tree_map(put, old.x, new.x), latents, old.auxiliary, put(old.valid, new.valid))
