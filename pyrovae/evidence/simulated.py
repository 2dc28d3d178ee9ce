"""Data simulated from a program together with the latents they came from, which are exact draws of p(z | x)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyrovae import trees
from pyrovae.arguments import check_program
from pyrovae.errors import PyrovaeError
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
    for _ in range(TRIES):
        lost = (~result.valid).nonzero()[:, 0]
        if not len(lost):
            return result
        again = _simulated(program, len(lost), *trees.rows(given, lost.cpu()), like=like)
        result = _replaced(result, lost, again)
    raise PyrovaeError(
        f"of {num_data} data {int((~result.valid).sum())} could not be drawn in {TRIES} attempts: the program puts "
        "nearly all its mass where no data are, as a dequantized normal density does outside of [0, 1]. Use a density "
        "on the unit interval, such as pyrovae.families.logit_normal"
    )


def _simulated(program: Any, size: int, *given: Tree, like: Tree) -> Simulated:
    alone = draws_alone(program)
    trace = drawn(program, size, *given, like=None if alone else like)
    sites = dict(samples(trace))
    x = trace.nodes["_RETURN"]["value"] if alone else _in_structure(trace)
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


def _in_structure(trace: Any) -> Tree:
    """The x that the model was run on, with the draws at the observed sites in the places of what they observe."""
    x = trace.nodes["_INPUT"]["args"][0]
    sites = [site for _, site in samples(trace) if site["infer"].get("was_observed")]
    if len(trees.leaves(x)) == len(sites) == 1 and sites[0]["value"].numel() == trees.leaves(x)[0].numel():
        return trees.tree_map(lambda leaf: sites[0]["value"].reshape(leaf.shape).to(leaf.dtype), x)
    return trees.tree_map(lambda leaf: _written(leaf, sites), x)


def _written(leaf: Tensor, sites: list[Any]) -> Tensor:
    """A contiguous leaf overwritten where a site observes it, or a view of it."""
    written, covered = leaf.clone(), torch.zeros_like(leaf, dtype=torch.bool)
    for site in sites:
        seen = site["infer"]["obs"]
        if seen.untyped_storage().data_ptr() == leaf.untyped_storage().data_ptr():
            place = seen.size(), seen.stride(), seen.storage_offset()
            written.as_strided(*place).copy_(site["value"])
            covered.as_strided(*place).fill_(True)
    if not covered.all():
        raise PyrovaeError(
            f"x of shape {tuple(leaf.shape)} cannot be put together from what the model draws at "
            f"{[site['name'] for site in sites]}: it must observe all of x, and x as it is or slices and views of it. "
            "What is not drawn belongs into given"
        )
    return written


def _replaced(old: Simulated, index: Tensor, new: Simulated) -> Simulated:
    def put(a: Tensor, b: Tensor) -> Tensor:
        return a.index_copy(0, index, b)

    latents = {name: put(value, new.latents[name]) for name, value in old.latents.items()}
    return Simulated(trees.tree_map(put, old.x, new.x), latents, old.auxiliary, put(old.valid, new.valid))
