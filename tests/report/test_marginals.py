"""Histograms of columns against closed-form shares."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae as pv
from pyrovae import report


class Table:
    """Two columns in x.a, a binary one in x.b, whatever z is."""

    def model(self, x=None, num_data=None):
        size = num_data if num_data is not None else len(x["a"])
        with pyro.plate("data", size, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(size), 1))
            a = pyro.sample("x.a", dist.Normal(torch.zeros(size, 2), 1).to_event(1), obs=x and x["a"])
            b = pyro.sample("x.b", dist.Bernoulli(torch.full((size,), 0.25)), obs=x and x["b"])
            return {"a": a, "b": b}


def heights(axes, number: int) -> np.ndarray:
    """The shares in the bars of the data (0), or along the line of the samples (1)."""
    patches = [p for p in axes.patches if (type(p).__name__ == "Polygon") == bool(number)]
    if number:
        return patches[0].get_xy()[1:-1:2, 1]
    return np.array([p.get_height() for p in patches])


def test_each_column_of_a_tree_has_its_panel_and_its_shares() -> None:
    torch.manual_seed(0)
    n = 2000
    x = {"a": torch.randn(n, 2), "b": (torch.rand(n) < 0.5).float()}
    x["a"][:10, 0] = math.nan  # missing
    axes = [a for a in report.marginals(Table(), x).axes if a.get_visible()]
    assert [a.get_title(loc="left") for a in axes] == ["a 1", "a 2", "b"]
    assert heights(axes[2], 0) == pytest.approx([1 - x["b"].mean().item(), x["b"].mean().item()])
    assert heights(axes[2], 1)[1] == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / n))
    assert heights(axes[0], 0).sum() == pytest.approx(0.99, abs=0.002)  # the middle 99 %


def test_columns_can_be_named() -> None:
    x = {"a": torch.randn(50, 2), "b": torch.ones(50)}
    figure = report.marginals(Table(), x, columns=["age", "income", "owner"])
    assert [a.get_title(loc="left") for a in figure.axes if a.get_visible()] == ["age", "income", "owner"]


def test_both_sides_can_be_restored_to_their_own_units() -> None:
    torch.manual_seed(0)
    x = {"a": torch.randn(500, 2), "b": torch.zeros(500)}
    axes = report.marginals(Table(), x, restore=lambda values: 1000 + 10 * values).axes[0]
    for number in range(2):
        patch = [p for p in axes.patches if (type(p).__name__ == "Polygon") == bool(number)]
        edges = patch[0].get_xy()[:, 0] if number else np.array([p.get_x() for p in patch])
        assert 960 < edges.min() < 985 and 1015 < edges.max() < 1040
        assert heights(axes, number).sum() > 0.9


class Wide(Table):
    def model(self, x=None, num_data=None):
        size = num_data if num_data is not None else len(x)
        with pyro.plate("data", size, dim=-1):
            return pyro.sample("x", dist.Normal(torch.zeros(size, 61), 1).to_event(1), obs=x)


class Halves(Table):
    """Observes the columns of one table apart."""

    def model(self, x):
        with pyro.plate("data", len(x), dim=-1):
            for number in range(2):
                pyro.sample(f"x_{number}", dist.Normal(torch.zeros(len(x)), 1), obs=x[:, number])


class Picture(Table):
    def model(self, x=None, num_data=None):
        size = num_data if num_data is not None else len(x)
        with pyro.plate("data", size, dim=-1):
            return pyro.sample("x", dist.Normal(torch.zeros(size, 1, 4, 4), 1).to_event(3), obs=x)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (lambda: report.marginals(Wide(), torch.randn(5, 61)), "at most 60 columns of a table; got 61"),
        (lambda: report.marginals(Picture(), torch.randn(5, 1, 4, 4)), "for images there is report.samples"),
        (lambda: report.marginals(Halves(), torch.randn(5, 2)), "data have 1 parts and the program draws 2"),
        (
            lambda: report.marginals(Table(), {"a": torch.randn(5, 2), "b": torch.ones(5)}, columns=["age"]),
            "1 names for 3 columns",
        ),
    ],
)
def test_what_is_no_table_is_refused(figure, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        figure()
