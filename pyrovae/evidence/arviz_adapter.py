"""Results for ArviZ: the only module that imports it, hence the only one that knows its versions.

ArviZ 0.23 keeps groups of data sets in its ``InferenceData``, ArviZ 1.x in xarray's ``DataTree``. Their ``from_dict``
differ; so the data sets are built here, by xarray alone, and only the outermost container depends on the version.
Importing ArviZ takes seconds: import this module where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import arviz
import numpy as np
import xarray as xr
from torch import Tensor

from pyrovae.errors import PyrovaeError

SAMPLING = {
    "inference_library": "pyrovae",
    "sampling_method": "importance resampling",
    "sampling_note": (
        "The draws were resampled with replacement in proportion to importance weight. They are not MCMC: R-hat and "
        "MCMC effective sample sizes do not apply, and draw i of one datum has nothing to do with draw i of another."
    ),
}
"""Attributes of every group: ArviZ computes R-hat and ESS of whatever it is given, so the reader must be told."""

Values = Mapping[str, Any]  # by name: arrays or tensors


def to_arviz(
    *,
    posterior: Values,
    posterior_predictive: Values | None = None,
    log_likelihood: Values | None = None,
    observed_data: Values | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Gather resampled draws for ArviZ's summaries and plots.

    Dimensions are chain (one), draw, datum, then ``<name>_dim_<i>``. Booleans become integers, which plots can count.

    ``arviz.loo`` runs on the result, but means something else than usual: each datum has latents of its own, so leaving
    it out leaves the prior, and the result is the smoothed harmonic mean estimate of log p(x). Use ``log_marginal``.

    Args:
        posterior: latents by site name, (draws, N, *event).
        posterior_predictive: simulated data by site name, (draws, N, *event).
        log_likelihood: log-likelihood of each datum by site name, (draws, N) or (draws, N, *event), nats.
        observed_data: data by site name, (N, *event).
        attrs: further attributes of every group; text and numbers can be written to netCDF.

    Returns:
        ``arviz.InferenceData`` under ArviZ 0.23, ``xarray.DataTree`` under ArviZ 1.x.

    Raises:
        PyrovaeError: numbers of draws or data differ, or a name is that of a dimension.
    """
    sampled = {"posterior": posterior, "posterior_predictive": posterior_predictive, "log_likelihood": log_likelihood}
    dims = ["chain", "draw", "datum"]
    groups = {name: (dims, _arrays(group, chain=True)) for name, group in sampled.items() if group}
    if observed_data:
        groups["observed_data"] = (["datum"], _arrays(observed_data, chain=False))
    _check_sizes(groups)
    attributes = {**SAMPLING, **(attrs or {})}
    return _container({name: _dataset(*group, attributes) for name, group in groups.items()}, attributes)


MCMC = {"inference_library": "pyro", "sampling_method": "NUTS, for each datum by itself"}


def chains_to_arviz(posterior: Values, observed_data: Values, attrs: Mapping[str, Any]) -> Any:
    """Chains of MCMC (chains, draws, N, *event) and data (N, *event) for ArviZ, R-hat and all; see ``to_arviz``."""
    dims = ["chain", "draw", "datum"]
    groups = {
        "posterior": (dims, _arrays(posterior, chain=False)),
        "observed_data": (["datum"], _arrays(observed_data, chain=False)),
    }
    _check_sizes(groups)
    attributes = {**MCMC, **attrs}
    return _container({name: _dataset(*group, attributes) for name, group in groups.items()}, attributes)


def diagnosed(posterior: Values) -> dict[str, dict[str, np.ndarray]]:
    """R-hat, bulk ESS, and the Monte Carlo errors of mean and sd of chains (chains, draws, *event), by name."""
    data = _dataset(["chain", "draw"], _arrays(posterior, chain=False), {})
    found = {
        "r_hat": arviz.rhat(data),
        "ess": arviz.ess(data, method="bulk"),
        "mean_error": arviz.mcse(data, method="mean"),
        "sd_error": arviz.mcse(data, method="sd"),
    }
    return {name: {key: figures[name].values for key, figures in found.items()} for name in posterior}


def _arrays(group: Values, *, chain: bool) -> dict[str, np.ndarray]:
    return {name: _array(value)[None] if chain else _array(value) for name, value in group.items()}


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() and value.itemsize < 4 else value).numpy()
    array = np.asarray(value)
    return array.astype(np.int64) if array.dtype == bool else array


def _check_sizes(groups: Mapping[str, tuple[list[str], dict[str, np.ndarray]]]) -> None:
    """Raise PyrovaeError unless every array has the group's leading dimensions, in sizes common to all groups."""
    sizes: dict[str, int] = {}
    for group, (dims, arrays) in groups.items():
        for name, array in arrays.items():
            if name in ("chain", "draw", "datum"):
                raise PyrovaeError(f"{group}: a site cannot be called {name!r}, which is the name of a dimension")
            if array.ndim < len(dims):
                raise PyrovaeError(f"{group}: {name!r} lacks one of the dimensions {dims}; got shape {array.shape}")
            for dim, size in zip(dims, array.shape, strict=False):
                if sizes.setdefault(dim, size) != size:
                    raise PyrovaeError(f"{group}: {name!r} has {size} along {dim}, others have {sizes[dim]}")


def _dataset(dims: list[str], arrays: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> xr.Dataset:
    variables = {
        name: ([*dims, *(f"{name}_dim_{i}" for i in range(array.ndim - len(dims)))], array)
        for name, array in arrays.items()
    }
    dataset = xr.Dataset(variables, attrs=dict(attrs))
    return dataset.assign_coords({dim: np.arange(size) for dim, size in dataset.sizes.items()})  # plots label by them


def _container(datasets: Mapping[str, Any], attrs: Mapping[str, Any]) -> Any:
    if arviz.__version__.startswith("0."):  # hasattr would lie: 1.x answers to InferenceData, with a DataTree
        return arviz.InferenceData(**datasets, attrs=dict(attrs))
    tree = xr.DataTree.from_dict(dict(datasets))
    tree.attrs.update(attrs)
    return tree
