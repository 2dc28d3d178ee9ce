"""Figures of calibration show the ranks."""

import pytest
import torch
from exact import LinearGaussian

import pyrovae as pv
from pyrovae import report
from pyrovae.checks import Calibration, uniformity


def test_bars_and_curves_are_those_of_the_worst_dimensions() -> None:
    found = pv.calibration(LinearGaussian(3, 5, shift=0.2).program, num_data=200, num_draws=39, seed=0)
    figure = report.calibration(found, most=2)
    bars, _, curves, _ = figure.axes
    name, dimension, p = found.worst(1)[0]
    assert bars.get_title(loc="left") == f"{name}[{dimension}]\np = {found.p_value:.2g}"
    assert p < found.p_value
    assert sum(bar.get_height() for bar in bars.patches if hasattr(bar, "get_height")) == 200
    ranks = found.ranks[name][:, dimension, None]
    uniform = torch.arange(1, 40) / 40
    torch.testing.assert_close(torch.tensor(curves.lines[0].get_ydata()), uniformity.ecdf(ranks, 39)[0] - uniform)


@pytest.mark.parametrize(("num_data", "num_draws"), [(2, 1), (30, 6), (1000, 99)])
def test_few_ranks_are_drawn_too(num_data: int, num_draws: int) -> None:
    ranks = {"z": torch.randint(num_draws + 1, (num_data, 2))}
    figure = report.calibration(Calibration(ranks, num_draws))
    figure.draw_without_rendering()
    assert len(figure.axes) == 4


def test_no_dimension_is_refused() -> None:
    with pytest.raises(pv.PyrovaeError, match="at least 1; got 0"):
        report.calibration(Calibration({"z": torch.zeros(4, 1, dtype=torch.long)}, 3), most=0)
