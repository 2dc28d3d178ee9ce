"""What to_arviz returns is read by ArviZ itself: its summaries, its loo and its plots, under the version installed."""

from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")

import arviz
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from pyrovae.errors import PyrovaeError
from pyrovae.evidence.arviz_adapter import to_arviz

OLD_ARVIZ = arviz.__version__.startswith("0.")
DRAWS, N, LATENT, WIDTH = 60, 3, 2, 4
GROUPS = {"posterior", "posterior_predictive", "log_likelihood", "observed_data"}


def draws() -> dict[str, dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(DRAWS, N, LATENT, generator=generator, requires_grad=True)
    level = np.random.default_rng(0).normal(size=(DRAWS, N))
    x = torch.randn(DRAWS, N, WIDTH, generator=generator)
    log_prob = torch.randn(DRAWS, N, generator=generator, dtype=torch.float64)
    return {
        "posterior": {"z": z, "level": level},
        "posterior_predictive": {"x": x},
        "log_likelihood": {"x": log_prob},
        "observed_data": {"x": x[0]},
    }


@pytest.fixture
def result() -> Any:
    return to_arviz(**draws(), attrs={"program": "toy"})


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def test_container_groups_dims_and_values(result: Any) -> None:
    if OLD_ARVIZ:
        assert isinstance(result, arviz.InferenceData) and set(result.groups()) == GROUPS
    else:
        import xarray

        assert isinstance(result, xarray.DataTree) and set(result.children) == GROUPS
    assert result["posterior"]["z"].dims == ("chain", "draw", "datum", "z_dim_0")
    assert result["posterior"]["level"].dims == ("chain", "draw", "datum")
    assert result["posterior_predictive"]["x"].dims == ("chain", "draw", "datum", "x_dim_0")
    assert result["log_likelihood"]["x"].dims == ("chain", "draw", "datum")
    assert result["observed_data"]["x"].dims == ("datum", "x_dim_0")
    given = draws()
    np.testing.assert_array_equal(result["posterior"]["z"].values[0], given["posterior"]["z"].detach().numpy())
    np.testing.assert_array_equal(result["observed_data"]["x"].values, given["observed_data"]["x"].numpy())
    assert all(set(result[name].coords) == set(result[name].dims) for name in GROUPS)  # plots label by coordinates


def test_attributes_say_that_the_draws_are_not_mcmc(result: Any) -> None:
    for holder in (result, *(result[name] for name in GROUPS)):
        assert holder.attrs["sampling_method"] == "importance resampling"
        assert "R-hat" in holder.attrs["sampling_note"] and "not MCMC" in holder.attrs["sampling_note"]
        assert holder.attrs["program"] == "toy"


def test_survives_netcdf(result: Any, tmp_path: Any) -> None:
    pytest.importorskip("h5netcdf")
    path = tmp_path / "draws.nc"
    result.to_netcdf(str(path), engine="h5netcdf")
    again = arviz.from_netcdf(str(path), engine="h5netcdf")
    np.testing.assert_array_equal(again["posterior"]["z"].values, result["posterior"]["z"].values)
    assert again["posterior"].attrs["sampling_method"] == "importance resampling"


def test_summary_has_a_row_per_latent(result: Any) -> None:
    table = arviz.summary(result, round_to="none")
    z_names = {f"z[{n}, {i}]" for n in range(N) for i in range(LATENT)}
    assert set(table.index) == {f"level[{n}]" for n in range(N)} | z_names
    z = draws()["posterior"]["z"]
    assert table.loc["z[1, 0]", "mean"] == pytest.approx(z[:, 1, 0].mean().item(), abs=1e-6)


def test_loo_is_pointwise_over_data(result: Any) -> None:
    loo = arviz.loo(result, pointwise=True)
    pointwise = loo.loo_i if OLD_ARVIZ else loo.elpd_i
    assert pointwise.dims == ("datum",) and pointwise.shape == (N,) and np.isfinite(pointwise.values).all()
    assert loo.n_samples == DRAWS and loo.n_data_points == N


# By version: the name of the plot, its options, and the least number of panels that it must have drawn.
PLOTS = {
    True: [
        ("plot_trace", {}, 4),
        ("plot_forest", {}, 1),
        ("plot_posterior", {}, 9),
        ("plot_ppc", {}, 1),
        ("plot_density", {}, 9),
        ("plot_pair", {"var_names": ["level"]}, 3),
    ],
    False: [
        ("plot_trace", {}, 9),
        ("plot_trace_dist", {}, 4),
        ("plot_forest", {}, 1),
        ("plot_dist", {}, 9),
        ("plot_ppc_dist", {}, 1),
        ("plot_pair", {"var_names": ["level"]}, 3),
    ],
}


@pytest.mark.parametrize(("plot", "options", "panels"), PLOTS[OLD_ARVIZ], ids=lambda v: v if isinstance(v, str) else "")
def test_plots(result: Any, plot: str, options: dict[str, Any], panels: int) -> None:
    getattr(arviz, plot)(result, **options)
    figure = plt.gcf()
    figure.canvas.draw()
    drawn = [axes for axes in figure.axes if axes.lines or axes.collections or axes.patches]
    assert len(drawn) >= panels


def test_binary_data_are_counted() -> None:
    """Booleans, as a Bernoulli decoder may draw them, and half precision, which numpy may lack."""
    given = draws()
    on = given["posterior_predictive"]["x"] > 0
    result = to_arviz(
        posterior={"z": given["posterior"]["z"].bfloat16()},
        posterior_predictive={"x": on},
        observed_data={"x": on[0]},
    )
    assert result["posterior_predictive"]["x"].dtype == np.int64 and result["posterior"]["z"].dtype == np.float32
    arviz.plot_ppc(result) if OLD_ARVIZ else arviz.plot_ppc_dist(result)
    plt.gcf().canvas.draw()


def test_posterior_alone() -> None:
    result = to_arviz(posterior=draws()["posterior"])
    assert (set(result.groups()) if OLD_ARVIZ else set(result.children)) == {"posterior"}
    assert len(arviz.summary(result)) == 9


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        ("posterior_predictive", {"x": torch.zeros(DRAWS + 1, N)}, "61 along draw"),
        ("log_likelihood", {"x": torch.zeros(DRAWS, N + 1)}, "4 along datum"),
        ("observed_data", {"x": torch.zeros(N - 1, WIDTH)}, "2 along datum"),
        ("posterior", {"z": torch.zeros(DRAWS)}, "lacks"),
        ("posterior", {"draw": torch.zeros(DRAWS, N)}, "name of a dimension"),
    ],
)
def test_refusals(group: str, values: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(PyrovaeError, match=message):
        to_arviz(**{**draws(), group: values})
