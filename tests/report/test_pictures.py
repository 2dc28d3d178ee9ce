"""Pictures show what they were given: read back from the matplotlib artists."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from striped import HEIGHT, WIDTH, Columns, Striped, cell, shown

import pyrovae as pv
from pyrovae import report


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_row_by_row_with_surface_between(channels: int) -> None:
    x = torch.rand(5, channels, 28, 28) * 0.9
    figure = report.images(x, columns=3)
    grid, gap = shown(figure), 2  # pixels between images 28 wide
    assert grid.shape == (2 * 30 + gap, 3 * 30 + gap, 3)
    for number in range(5):
        expected = x[number].permute(1, 2, 0).expand(28, 28, 3).numpy()
        assert np.array_equal(cell(grid, *divmod(number, 3), 28, 28, gap), expected)
    assert (grid[:, :gap] == 1).all() and (grid[32:, 62:] == 1).all()  # the margin, and the place that stays empty
    assert x.equal(x.clamp(0, 1)) and figure.get_figwidth() <= 5.5


def test_values_outside_the_unit_interval_are_clipped() -> None:
    grid = shown(report.images(torch.tensor([-1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 14, 14), columns=2))
    assert (grid[1:15, 1:15] == 0).all() and (grid[1:15, 16:30] == 1).all()


def test_samples_are_the_means_of_the_likelihood() -> None:
    z = torch.tensor([[-2.0], [0.0], [2.0]])
    grid = shown(report.samples(Striped(), 3, z, columns=3))
    for number, expected in enumerate(z.sigmoid()):
        np.testing.assert_allclose(cell(grid, 0, number, HEIGHT, WIDTH), expected.item(), atol=1e-4)


def test_a_model_that_needs_x_is_drawn_with_like() -> None:
    x = torch.ones(1, 1, HEIGHT, 5)
    torch.manual_seed(0)
    grid = shown(report.samples(Columns(5, needs_x=True), 4, columns=4, like=x))
    torch.manual_seed(0)
    z = torch.randn(4, 5)
    for number in range(4):
        np.testing.assert_allclose(cell(grid, 0, number, HEIGHT, 5)[0, :, 0], z[number].sigmoid(), atol=1e-6)


def test_reconstructions_stand_below_their_data() -> None:
    x = (torch.rand(5, 1, HEIGHT, WIDTH) < 0.5).float()
    figure = report.reconstructions(Striped(), x, columns=3)
    expected = pv.reconstruct(Striped(), x).mean
    grid = shown(figure)
    pair_height = 2 * (HEIGHT + 1) + 1
    for number in range(5):
        pair, column = divmod(number, 3)
        part = grid[pair * (pair_height + HEIGHT // 3) :]
        np.testing.assert_array_equal(cell(part, 0, column, HEIGHT, WIDTH)[..., 0], x[number, 0].numpy())
        np.testing.assert_array_equal(cell(part, 1, column, HEIGHT, WIDTH)[..., 0], expected[number, 0].numpy())
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["x", "E[x | z]"] * 2


def test_a_row_of_a_conditional_grid_has_one_z_under_every_condition() -> None:
    y = torch.tensor([[-1.0], [0.0], [2.0]])
    grid = shown(report.conditional_grid(Columns(5), y, rows=4, labels=["a", "b", "c"]))
    pictures = np.array([[cell(grid, row, column, HEIGHT, 5)[0, :, 0] for column in range(3)] for row in range(4)])
    z = torch.as_tensor(pictures).logit() - y[None]  # (rows, columns, D): what is left when the condition is taken off
    torch.testing.assert_close(z, z[:, :1].expand_as(z), atol=1e-4, rtol=0)
    assert z[:, 0].std(0).min() > 0.01  # rows differ


def test_z_of_a_conditional_prior_is_drawn_under_each_condition_in_turn() -> None:
    y = torch.tensor([[-2.0], [0.5]])  # the prior's mean; its scale is 1e-6
    grid = shown(report.conditional_grid(Striped(), y, rows=3))
    for row, expected in enumerate([-2.0, 0.5, -2.0]):
        for column in range(2):
            value = torch.tensor(expected).sigmoid().item()
            np.testing.assert_allclose(cell(grid, row, column, HEIGHT, WIDTH), value, atol=1e-5)


class NoImages(Striped):
    def model(self, x=None, *given, num_data=None):
        with pyro.plate("data", num_data or len(x), dim=-1):
            return pyro.sample("x", dist.Normal(torch.zeros(3), 1).to_event(1), obs=x)


class Two(Striped):
    def model(self, x=None, *given, num_data=None):
        first = super().model(x, *given, num_data=num_data)
        with pyro.plate("more", num_data, dim=-1):
            return first, pyro.sample("y", dist.Normal(torch.zeros(num_data), 1))


class Levels(Striped):
    def model(self, x=None, *given, num_data=None):
        with pyro.plate("data", num_data, dim=-1):
            return pyro.sample("x", dist.Categorical(torch.ones(num_data, 1, 4, 4, 8)).to_event(3))


class NoPrior(Striped):
    def model(self, x, *given):
        return super().model(x, *given)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (lambda: report.images(torch.rand(2, 2, 8, 8)), r"one channel or three, N > 0; got \(2, 2, 8, 8\)"),
        (lambda: report.images(torch.rand(0, 1, 8, 8)), "N > 0"),
        (lambda: report.images(torch.full((1, 1, 2, 2), torch.nan)), "found nan"),
        (lambda: report.samples(Striped(), 3, torch.zeros(2, 1)), "given has 2 rows for 3 samples"),
        (lambda: report.samples(NoImages(), 3), r"got \(3, 3\)"),
        (lambda: report.samples(Two(), 3), r"found 2 \(x, y\). For tables there is report.marginals"),
        (lambda: report.samples(Levels(), 3), "a likelihood without a mean"),
        (lambda: report.samples(NoPrior(), 3), "cannot run without x"),
        (lambda: report.conditional_grid(Striped()), "needs conditions"),
        (lambda: report.conditional_grid(Striped(), torch.eye(2), labels=["a"]), "1 labels for 2 conditions"),
    ],
)
def test_what_cannot_be_shown_is_refused(figure, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        figure()
