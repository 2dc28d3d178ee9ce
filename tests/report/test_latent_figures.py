"""Figures of the latent space hold guide means, principal components and exact densities."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from striped import HEIGHT, Columns, Striped

import pyrovae as pv
from pyrovae import report


def data(latent: int, n: int = 60) -> torch.Tensor:
    return torch.randn(n, 1, HEIGHT, latent, generator=torch.Generator().manual_seed(0))


def offsets(figure, number: int = 0) -> np.ndarray:
    return np.asarray(figure.axes[0].collections[number].get_offsets())


def test_two_dimensions_are_shown_as_they_are() -> None:
    x = data(2)
    figure = report.latents(Columns(2), x)
    np.testing.assert_allclose(offsets(figure), x.mean((1, 2)), rtol=1e-6)
    assert figure.axes[0].get_xlabel() == "$z_{1}$"


def test_more_dimensions_are_shown_as_principal_components_with_their_share() -> None:
    x = data(5)
    means = x.mean((1, 2)).double().numpy()
    pca = PCA(2).fit(means)
    figure = report.latents(Columns(5), x)
    scores, expected = offsets(figure), pca.transform(means)
    signs = np.sign((scores * expected).sum(0))
    np.testing.assert_allclose(scores, expected * signs, atol=1e-5)
    share = 100 * pca.explained_variance_ratio_
    assert f"{share[0]:.0f} %" in figure.axes[0].get_xlabel() and f"{share[1]:.0f} %" in figure.axes[0].get_ylabel()


def test_labels_colour_the_points_and_stand_at_the_median() -> None:
    x, labels = data(2), torch.arange(60) % 3
    figure = report.latents(Columns(2), x, labels=labels)
    faces = figure.axes[0].collections[0].get_facecolors()
    assert len({tuple(face) for face in faces}) == 3 and all(
        len({tuple(face) for face in faces[labels.numpy() == kind]}) == 1 for kind in range(3)
    )
    for kind, text in enumerate(figure.axes[0].texts):
        assert text.get_text() == str(kind)
        assert text.get_position() == pytest.approx(np.median(x.mean((1, 2)).numpy()[labels == kind], 0))


def test_active_units_are_bars_of_variance_and_kl_the_most_active_first() -> None:
    x = data(3) * torch.tensor([0.01, 2.0, 1.0])
    measured = pv.activity(Columns(3), x)
    top, bottom = report.active_units(Columns(3), x, threshold=0.01).axes
    order = [1, 2, 0]
    assert [bar.get_height() for bar in top.patches] == pytest.approx(measured.variance[order].tolist())
    assert [bar.get_height() for bar in bottom.patches] == pytest.approx(measured.kl[order].tolist())
    assert top.get_title(loc="left").startswith("2 of 3 latent dimensions active")
    assert top.get_yscale() == "log"


def test_contours_of_a_standard_normal_are_circles_that_hold_their_share() -> None:
    """Of a standard normal in the plane, the circle of radius sqrt(-2 log(1 - m)) holds the mass m."""
    figure = report.prior_density(pv.priors.StandardNormal(2))
    (axes,) = figure.axes
    paths = axes.collections[1].get_paths()
    for mass, path in zip([0.95, 0.8, 0.6, 0.4, 0.2], paths, strict=True):
        radius = np.linalg.norm(path.vertices, axis=1)
        assert radius.min() == pytest.approx(radius.max(), rel=0.03)
        assert radius.mean() == pytest.approx(math.sqrt(-2 * math.log(1 - mass)), rel=0.05)


def test_the_aggregate_posterior_lies_on_top() -> None:
    x = data(2)
    figure = report.prior_density(Columns(2), x)
    drawn = offsets(figure, 2)
    error = drawn - x.mean((1, 2)).numpy()
    assert len(drawn) == 60 and abs(error.std() / 0.5 - 1) < 4 / math.sqrt(2 * 120)
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["z ~ q(z | x)"]


def test_of_more_dimensions_there_are_draws() -> None:
    figure = report.prior_density(Columns(4, needs_x=True), data(4))
    assert len(offsets(figure, 0)) == 2000 and len(offsets(figure, 1)) == 60
    assert "4 dimensions" in figure.axes[0].get_xlabel()


class Collapsed(Columns):
    """The guide's mean is the same for every x."""

    def guide(self, x: torch.Tensor, *given) -> None:
        super().guide(torch.zeros_like(x), *given)


@pytest.mark.parametrize("latent", [2, 5])
def test_a_collapsed_encoder_is_shown_as_one_point(latent: int) -> None:
    figure = report.latents(Collapsed(latent), data(latent), labels=torch.arange(60) % 3)
    assert not offsets(figure).any() and all(math.isfinite(inches) for inches in figure.get_size_inches())
    figure.canvas.draw()
    assert "nan" not in figure.axes[0].get_xlabel()
    report.active_units(Collapsed(latent), data(latent)).canvas.draw()
    report.prior_density(Collapsed(latent), data(latent)).canvas.draw()


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (lambda: report.latents(Striped(), torch.rand(5, 1, 4, 6)), "two latent dimensions and three data; got 1, 5"),
        (lambda: report.latents(Columns(2), data(2), labels=[1, 2]), r"one per datum, \(60,\)"),
        (lambda: report.latents(Columns(2), data(2), labels=torch.arange(60)), "60 different labels"),
        (lambda: report.active_units(Columns(2), data(2)[:1]), "pass at least two"),
        (lambda: report.prior_density(Striped()), "this prior has one"),
        (lambda: report.prior_density(pv.priors.StandardNormal(2), data(2)), "pass it, not its prior alone"),
    ],
)
def test_what_cannot_be_shown_is_refused(figure, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        figure()
