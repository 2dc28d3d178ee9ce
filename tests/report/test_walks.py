"""Walks through the latent space visit the points that they say."""

import numpy as np
import pytest
import torch
from striped import HEIGHT, Columns, Striped, cell, shown
from torch.distributions import Normal

import pyrovae as pv
from pyrovae import report


def values(figure, rows: int, columns: int, latent: int, gap: int = 1) -> torch.Tensor:
    """The z that each picture tells, (rows, columns, D)."""
    grid = shown(figure)
    pictures = [[cell(grid, r, c, HEIGHT, latent, gap)[0, :, 0] for c in range(columns)] for r in range(rows)]
    return torch.as_tensor(np.array(pictures)).logit()


def test_a_manifold_lies_on_the_quantiles_of_the_prior_with_z2_upwards() -> None:
    figure = report.manifold(Columns(2), size=6)
    z = values(figure, 6, 6, 2)
    expected = Normal(0, 1).icdf((torch.arange(6) + 0.5) / 6)
    torch.testing.assert_close(z[..., 0], expected.expand(6, 6), atol=1e-4, rtol=0)
    torch.testing.assert_close(z[..., 1], expected.flip(0)[:, None].expand(6, 6), atol=1e-4, rtol=0)


def test_a_manifold_on_an_even_grid_under_one_condition_and_coloured() -> None:
    figure = report.manifold(Columns(2, channels=3), torch.tensor([[1.0]]), size=5, extent=2)
    z = values(figure, 5, 5, 2) - 1
    torch.testing.assert_close(z[0, :, 0], torch.linspace(-2, 2, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(z[:, 0, 1], torch.linspace(2, -2, 5), atol=1e-4, rtol=0)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["−2", "−1", "0", "1", "2"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["−2", "−1", "0", "1", "2"]
    assert list(figure.axes[0].get_yticks()) == [2.5 + 5 * row for row in (4, 3, 2, 1, 0)]  # upwards


def test_the_quantiles_of_a_prior_without_a_closed_form_are_those_of_draws() -> None:
    torch.manual_seed(0)
    prior = pv.priors.NormalMixture(2, 2)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([[-3.0, 0.0], [3.0, 0.0]]))
    decoder = pv.Conditional(pv.networks.MLP(2, 8, (1, 4, 4)), pv.families.bernoulli)
    program = pv.VAE(prior, decoder, pv.Conditional(pv.networks.MLP((1, 4, 4), 8, 4), pv.families.normal))
    state = torch.random.get_rng_state()
    levels = torch.tensor([0.25, 0.75])  # of the first dimension: the medians of the components
    _, quantiles = pv.latent.prior_quantiles(program, levels)
    assert torch.random.get_rng_state().equal(state)
    torch.testing.assert_close(quantiles[:, 0], torch.tensor([-3.0, 3.0]), atol=0.2, rtol=0)
    report.manifold(program, size=3)


def data(latent: int, scales: list[float]) -> torch.Tensor:
    """Images whose columns vary so much: (50, 1, H, D)."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(50, 1, 1, latent, generator=generator) * torch.tensor(scales)).expand(50, 1, HEIGHT, latent)


def test_traversals_move_one_dimension_at_a_time_the_most_active_first() -> None:
    x = data(3, [0.5, 2.0, 1.0])
    program = Columns(3, needs_x=True)
    figure = report.traversals(program, x, steps=5)
    z, start = values(figure, 3, 5, 3), x[0, 0, 0]
    bounds = Normal(0, 1).icdf(torch.tensor([0.01, 0.99]))
    for row, dim in enumerate([1, 2, 0]):
        torch.testing.assert_close(z[row, :, dim], torch.linspace(*bounds.tolist(), 5), atol=1e-3, rtol=0)
        others = [d for d in range(3) if d != dim]
        torch.testing.assert_close(z[row][:, others], start[others].expand(5, 2), atol=1e-3, rtol=0)
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    variance = x[:, 0, 0].var(0)
    assert labels == [f"$z_{{{d + 1}}}$, Var {variance[d]:.2f}" for d in (1, 2, 0)]


def test_traversals_of_chosen_dimensions() -> None:
    figure = report.traversals(Columns(3), data(3, [0.5, 2.0, 1.0]), dims=[0, 1], steps=3)
    assert len(figure.axes[0].get_yticklabels()) == 2


def test_an_interpolation_is_the_straight_line_between_the_means() -> None:
    a, b = torch.rand(2, 1, HEIGHT, 3), torch.rand(2, 1, HEIGHT, 3)
    grid, space = shown(report.interpolation(Columns(3), a, b, steps=4)), 5 // 3
    ends = a.mean((1, 2)), b.mean((1, 2))
    line = grid[:, 5 + space :]
    for row in range(2):
        np.testing.assert_array_equal(cell(grid, row, 0, HEIGHT, 3)[..., 0], a[row, 0])
        np.testing.assert_array_equal(cell(grid[:, -5:], row, 0, HEIGHT, 3)[..., 0], b[row, 0])
        for step in range(4):
            expected = torch.lerp(ends[0][row], ends[1][row], step / 3).sigmoid()
            np.testing.assert_allclose(cell(line, row, step, HEIGHT, 3)[0, :, 0], expected, atol=1e-6)


def test_every_pair_keeps_its_own_condition() -> None:
    a, y = torch.zeros(2, 1, HEIGHT, 3), torch.tensor([[1.0], [-2.0]])
    grid = shown(report.interpolation(Columns(3), a, a, y, steps=2))[:, 5 + 1 :]
    for row in range(2):
        np.testing.assert_allclose(cell(grid, row, 1, HEIGHT, 3)[0, :, 0], y[row].sigmoid().item(), atol=1e-6)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (lambda: report.manifold(Columns(3)), "this program has 3: train one with latent=2"),
        (lambda: report.manifold(Columns(2), torch.zeros(2, 1)), "with one row, not 2"),
        (lambda: report.manifold(Columns(2), size=1), "size >= 2"),
        (lambda: report.manifold(Columns(2), extent=-1.0), "extent > 0"),
        (lambda: report.traversals(Columns(2), torch.rand(5, 1, HEIGHT, 2), dims=[2]), r"dims \[2\]"),
        (lambda: report.traversals(Striped(), torch.rand(1, 1, 4, 6)), "pass at least two"),
        (lambda: report.interpolation(Striped(), torch.rand(2, 1, 4, 6), torch.rand(1, 1, 4, 6)), "got 2 and 1"),
        (lambda: report.interpolation(Striped(), torch.rand(1, 1, 4, 6), torch.rand(1, 1, 4, 6), steps=1), "steps=1"),
    ],
)
def test_what_cannot_be_walked_is_refused(figure, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        figure()
