"""Figures of log-likelihoods hold the numbers of the evidence."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import pyrovae as pv
from pyrovae import report
from pyrovae.evidence.plan import Plan
from pyrovae.report import canvas


def result(n: int = 50) -> pv.Evidence:
    log_prob, k = torch.linspace(-30, -10, n).double(), torch.linspace(0, 1, n).double()
    return pv.Evidence(log_prob, k, torch.linspace(1, 5000, n).double(), k, num_particles=5000, num_dimensions=64)


def test_evidence_marks_mean_and_threshold() -> None:
    left, right = report.evidence(result()).axes
    assert sum(bar.get_height() for bar in left.patches) == sum(bar.get_height() for bar in right.patches) == 50
    assert left.lines[0].get_xdata()[0] == pytest.approx(-20)
    assert right.lines[0].get_xdata()[0] == pytest.approx(0.7)
    assert "30.0 % of 50 above 0.7" in right.get_title(loc="left")


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


def few_chains(n: int = 50) -> pv.Evidence:
    """Four runs of each datum, apart by 2 s / sqrt 3 / sqrt 4."""
    spread = torch.logspace(-3, 1, n).double()
    runs = torch.tensor([-1.0, -1, 1, 1]).double()[:, None] * spread * math.sqrt(3)
    return replace(result(n), runs=runs, standard_error=spread / 2, method="annealed", num_particles=16, num_steps=100)


def test_few_chains_are_judged_by_the_spread_of_their_runs() -> None:
    ev = few_chains()
    assert ev.spread == pytest.approx(torch.logspace(-3, 1, 50).double())
    _, right = report.evidence(ev).axes
    assert right.get_xlabel() == "spread of runs, nats" and right.get_xscale() == "log"
    assert right.lines[0].get_xdata()[0] == pytest.approx(0.1)
    assert sum(bar.get_height() for bar in right.patches) == 50
    above = [bar for bar in right.patches if bar.get_x() > 0.0999]
    assert sum(bar.get_height() for bar in above) == int((ev.spread > 0.1).sum())
    assert right.get_title(loc="left") == f"{100 * ev.share_unreliable:.1f} % of 50 above 0.1"
    left, _, scatter = report.weights(ev).axes
    assert left.get_xlabel() == "spread of runs, nats" and scatter.get_yscale() == "log"
    assert [len(c.get_offsets()) for c in scatter.collections] == [
        int((ev.spread <= 0.1).sum()),
        int(ev.unreliable.sum()),
    ]


def test_exact_values_are_not_judged() -> None:
    exact = replace(result(), method="exact", is_bound=False)
    (axes,) = report.evidence(exact).axes
    assert "exact" in axes.get_title(loc="left")
    with pytest.raises(pv.PyrovaeError, match="no weights"):
        report.weights(exact)


def test_of_a_tolerance_each_datum_is_judged_by_its_own_sign() -> None:
    annealed = torch.arange(50) % 5 == 0
    number, steps = torch.where(annealed, 16, 5000), torch.where(annealed, 100, 1)
    plan = Plan(0.1, annealed, number, steps, number * steps, number)
    ev = replace(few_chains(), method="mixed", num_particles=5000, plan=plan)
    _, khat, spread = report.evidence(ev).axes
    assert [sum(bar.get_height() for bar in axes.patches) for axes in (khat, spread)] == [40, 10]
    assert len(report.weights(ev).axes) == 6


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


@pytest.mark.parametrize(("low", "high"), [(0.11, 0.19), (0.08, 0.6), (1e-3, 5.0), (1e-8, 1e3), (1.0, 1.0)])
def test_labels_of_a_logarithmic_axis_do_not_overprint(low: float, high: float) -> None:
    figure, ((axes, *_),) = canvas.panels(1, 3, height=2)
    axes.plot([low, high], [0, 1])
    canvas.logarithmic(axes.xaxis)
    canvas.style(axes)
    figure.draw_without_rendering()
    labels = [text for text in axes.xaxis.get_ticklabels(which="both") if text.get_text()]
    boxes = sorted((text.get_window_extent() for text in labels), key=lambda box: box.x0)
    inside = [box for box in boxes if axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1]
    assert inside and all(left.x1 < right.x0 for left, right in pairwise(inside))


@pytest.mark.parametrize("noise", [0.0, 1e-14])
def test_equal_values_are_one_bar(noise: float) -> None:
    equal = replace(result(), log_prob=torch.full((50,), -26.0).double() + noise * torch.arange(50))
    bars = [bar.get_height() for bar in report.evidence(equal).axes[0].patches]
    assert max(bars) == sum(bars) == 50


def test_few_data_have_few_bars() -> None:
    assert [canvas.num_bins(size) for size in (0, 12, 100, 10_000)] == [5, 7, 20, 40]
