"""Figures of log-likelihoods hold the numbers of the evidence."""

import math

import numpy as np
import pytest
import torch

import pyrovae as pv
from pyrovae import report


def result(n: int = 50) -> pv.Evidence:
    log_prob, k = torch.linspace(-30, -10, n).double(), torch.linspace(0, 1, n).double()
    return pv.Evidence(log_prob, k, torch.linspace(1, 5000, n).double(), k, num_particles=5000, num_dimensions=64)


def test_evidence_marks_mean_and_threshold() -> None:
    left, right = report.evidence(result()).axes
    assert sum(bar.get_height() for bar in left.patches) == sum(bar.get_height() for bar in right.patches) == 50
    assert left.lines[0].get_xdata()[0] == pytest.approx(-20)
    assert right.lines[0].get_xdata()[0] == pytest.approx(0.7)
    assert "30.0 % of 50 data above 0.70" in right.get_title(loc="left")


def test_bars_of_k_hat_end_at_the_threshold_and_change_colour_there() -> None:
    ev = result(1000)
    _, axes = report.evidence(ev).axes
    colours = {True: 0.0, False: 0.0}
    above = [bar for bar in axes.patches if bar.get_facecolor() != axes.patches[0].get_facecolor()]
    for bar in axes.patches:
        assert not bar.get_x() < 0.7 - 1e-9 < bar.get_x() + bar.get_width() - 2e-9
        colours[bar in above] += bar.get_height()
    assert colours[True] == int((ev.pareto_k > 0.7).sum()) and min(bar.get_x() for bar in above) == pytest.approx(0.7)


def test_weights_show_every_finite_datum() -> None:
    ev = result()
    ev.pareto_k[0] = math.inf
    left, middle, right = report.weights(ev).axes
    assert sum(bar.get_height() for bar in left.patches) == 49
    assert sum(bar.get_height() for bar in middle.patches) == 50
    below, above = (np.asarray(c.get_offsets()) for c in right.collections)
    assert len(above) == int((ev.pareto_k[1:] > 0.7).sum()) and len(below) + len(above) == 49
    np.testing.assert_allclose(above[:, 0], ev.log_prob[1:][ev.pareto_k[1:] > 0.7])


def test_a_comparison_is_paired() -> None:
    torch.manual_seed(0)
    base, gain = 100 * torch.randn(400).double(), 1 + torch.randn(400).double()
    figure = report.comparison({"vae": base, "vamp": base + gain, "same": base})
    left, right = figure.axes
    thin, thick, point = left.lines[:3]
    error = gain.std().item() / 20
    assert point.get_xdata()[0] == pytest.approx(gain.mean().item())
    assert list(thick.get_xdata()) == pytest.approx([gain.mean().item() - error, gain.mean().item() + error])
    assert list(thin.get_xdata()) == pytest.approx([gain.mean().item() - 2 * error, gain.mean().item() + 2 * error])
    assert [t.get_text() for t in left.get_yticklabels()] == [
        f"vamp\n{gain.mean():+.3f} ± {error:.3f}", "same\n+0.000 ± 0.000",
    ]  # fmt: skip
    assert "vae" in left.get_xlabel()
    assert len(right.patches) == 2


def test_a_comparison_takes_evidence() -> None:
    a, b = result(), result()
    left, _ = report.comparison({"a": a, "b": b.log_prob + 2}).axes
    assert left.lines[2].get_xdata()[0] == pytest.approx(2)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"a": torch.zeros(5)}, "from two or more programs"),
        ({"a": torch.zeros(5), "b": torch.zeros(4)}, r"'a': \(5,\), 'b': \(4,\)"),
        ({"a": torch.zeros(1), "b": torch.zeros(1)}, "N >= 2"),
        ({"a": torch.zeros(5), "b": torch.full((5,), -math.inf)}, r"not finite for some data of \['b'\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(results, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        report.comparison(results)
