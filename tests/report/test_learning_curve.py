"""Curves hold the history's numbers."""

import math
from typing import Any

import pytest
import torch

import pyrovae as pv
from pyrovae import report


def history(epochs: int) -> list[dict[str, Any]]:
    """The best validation is in the epoch before the last; beta rises for three epochs."""
    values = [-20.0 - 10 / (e + 1) for e in range(epochs)]
    return [
        {
            "epoch": e + 1, "objective": v + 0.5, "log_px_z": v + 3, "kl": 2.5 - 1 / (e + 1),
            "grad_norm": 9.0 / (e + 1), "validation": v - 0.25 * (e == epochs - 1), "beta": min(e / 3, 1.0),
        }
        for e, v in enumerate(values)
    ]  # fmt: skip


def test_objective_terms_and_best_epoch_are_those_of_the_history() -> None:
    records = history(12)
    top, reconstruction, kl, norm = report.learning_curve(records).axes
    training, validation, best = top.lines
    weighted, plain = kl.lines
    lines = {"objective": training, "validation": validation, "log_px_z": reconstruction.lines[0], "kl": plain,
             "grad_norm": norm.lines[0]}  # fmt: skip
    for name, line in lines.items():
        assert list(line.get_xdata()) == [r["epoch"] for r in records]
        assert list(line.get_ydata()) == [r[name] for r in records]
    assert list(weighted.get_ydata()) == pytest.approx([r["beta"] * r["kl"] for r in records])
    assert list(best.get_xdata()) == [11]
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    score = f"best: −{-records[10]['validation']:.2f}, epoch 11"
    assert labels == [r"schedule of $\beta$", "training", "validation", score]
    low, high = top.get_ylim()
    assert low < min(r["validation"] for r in records[1:]) and max(r["objective"] for r in records) < high


def test_a_run_without_validation_or_schedule() -> None:
    data = pv.data.digits()
    run = pv.fit(pv.vae(data, latent=2, hidden=(4,)), (data.validation.x,), epochs=1, device="cpu")
    top, reconstruction, kl, _ = report.learning_curve(run).axes
    assert len(top.lines) == 1 and top.get_legend() is None and not top.patches
    assert list(reconstruction.lines[0].get_ydata()) == run.column("log_px_z")
    assert len(kl.lines) == 1


def test_values_that_are_not_finite_leave_a_figure() -> None:
    records = history(3)
    records[0] |= {"validation": math.nan, "objective": -math.inf}
    top = report.learning_curve(records).axes[0]
    assert list(top.lines[2].get_xdata()) == [3] and all(map(math.isfinite, top.get_ylim()))


def test_no_epoch_is_refused() -> None:
    with pytest.raises(pv.PyrovaeError, match="there is no epoch to show"):
        report.learning_curve([])


def test_rate_against_distortion_in_the_order_of_rate() -> None:
    figure = report.rate_distortion({"a": [(5.0, 20.0), (3.0, 25.0), (9.0, 18.0)], "b": [(1.0, 30.0, "beta 4")]})
    (axes,) = figure.axes
    first, second = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert list(first.get_xdata()) == [25.0, 20.0, 18.0] and list(first.get_ydata()) == [3.0, 5.0, 9.0]
    assert list(second.get_xdata()) == [30.0] and [t.get_text() for t in axes.texts] == ["beta 4"]
    for line in axes.lines:  # those of constant rate + distortion
        if line.get_linestyle() == ":":
            assert len({round(x + y, 9) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}) == 1
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b"]


def test_labels_of_points_never_lie_on_each_other() -> None:
    figure = report.rate_distortion({"a": [(5.0, 20.0, "one"), (9.0, 10.0, "two")], "b": [(5.0, 20.0, "three")]})
    assert [text.get_text() for text in figure.axes[0].texts] == ["one", "two"]


@pytest.mark.parametrize("points", [{}, {"a": []}, {"a": [(1.0, math.nan)]}])
def test_points_that_cannot_be_drawn_are_refused(points: Any) -> None:
    with pytest.raises(pv.PyrovaeError, match="needs points, all of them finite"):
        report.rate_distortion(points)


def test_pyplot_knows_of_no_figure() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    report.images(torch.rand(4, 1, 8, 8))
    report.learning_curve(history(3))
    assert plt.get_fignums() == before
