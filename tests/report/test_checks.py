"""The figure of a predictive check shows what the result says."""

from __future__ import annotations

import math

import torch

import pyrovae as pv
from pyrovae import report


def test_a_row_per_statistic_with_its_figures() -> None:
    torch.manual_seed(0)
    x, drawn = torch.randn(2, 60).double(), torch.randn(2, 99, 60).double()
    x[1, 0] = math.nan
    result = pv.PredictiveCheck({"mean": x[0], "sd": x[1]}, {"mean": drawn[0], "sd": drawn[1]})
    figure = report.predictive_check(result)
    left, right, _, below = figure.axes
    assert left.get_title(loc="left") == f"mean: p = {result.pooled['mean']:.3f}"
    assert sum(bar.get_height() for bar in left.patches) == 99 and sum(bar.get_height() for bar in right.patches) == 60
    assert left.lines[0].get_xdata()[0] == result.means["mean"][0].item()
    assert below.get_title(loc="left") == "59 data"
    assert figure._repr_png_()[0].startswith(b"\x89PNG")
