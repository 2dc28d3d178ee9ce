"""Light and dark, and nothing left behind."""

import pytest
import torch
from matplotlib import rcParams
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text
from striped import HEIGHT, Columns, cell, shown

import pyrovae as pv
from pyrovae import report
from pyrovae.report.theme import DARK, LIGHT, colours

X = torch.rand(30, 1, HEIGHT, 3, generator=torch.Generator().manual_seed(0))
EVIDENCE = pv.Evidence(*torch.rand(4, 30).double(), num_particles=100, num_dimensions=12)
RECORDS = [{"epoch": e, "objective": -e, "log_px_z": -e, "kl": 1.0, "validation": -e, "beta": e / 3} for e in (1, 2, 3)]
FIGURES = {
    "images": lambda: report.images(X[:4]),
    "samples": lambda: report.samples(Columns(3), 4),
    "reconstructions": lambda: report.reconstructions(Columns(3), X[:4]),
    "conditional_grid": lambda: report.conditional_grid(Columns(3), torch.eye(2), labels="ab"),
    "manifold": lambda: report.manifold(Columns(2), size=3),
    "traversals": lambda: report.traversals(Columns(3), X),
    "interpolation": lambda: report.interpolation(Columns(3), X[:2], X[2:4]),
    "latents": lambda: report.latents(Columns(3), X, labels=torch.arange(30) % 2),
    "active_units": lambda: report.active_units(Columns(3), X),
    "prior_density": lambda: report.prior_density(Columns(2), X[..., :2]),
    "evidence": lambda: report.evidence(EVIDENCE),
    "weights": lambda: report.weights(EVIDENCE),
    "comparison": lambda: report.comparison({"a": torch.zeros(5), "b": torch.rand(5), "c": torch.rand(5)}),
    "rate_distortion": lambda: report.rate_distortion({"a": [(1.0, 2.0, "b"), (2.0, 1.0)]}),
    "learning_curve": lambda: report.learning_curve(RECORDS),
}


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours by WCAG 2, from 1 to 21."""

    def luminance(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted([luminance(a), luminance(b)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("figure", FIGURES)
def test_all_text_can_be_read_on_the_surface_and_fits_paper(figure: str, name: str) -> None:
    with report.theme(name) as palette:
        made = FIGURES[figure]()
    assert to_hex(made.get_facecolor()) == palette.surface and made.get_figwidth() <= 5.51
    made.draw_without_rendering()
    texts = [text for text in made.findobj(Text) if text.get_text().strip() and text.get_visible()]
    for text in texts:
        assert contrast(to_hex(text.get_color()), palette.surface) >= 4.5, text.get_text()
        assert text.get_fontsize() >= 7, text.get_text()
    box, page = made.get_tightbbox(), made.bbox_inches  # what is drawn, and the paper
    assert box.x0 >= -0.02 and box.y0 >= -0.02 and box.x1 <= page.x1 + 0.02 and box.y1 <= page.y1 + 0.02


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_stand_out_from_their_surface(palette) -> None:
    assert min(contrast(colour, palette.surface) for colour in (palette.first, palette.second, palette.third)) >= 3
    assert min(contrast(colour, palette.surface) for colour in palette.classes) >= 1.7
    assert len(set(palette.classes)) == 10


def test_the_gap_of_a_grid_is_the_themes() -> None:
    with report.theme("dark"):
        grid = shown(report.images(torch.ones(3, 1, 8, 8), columns=2))
    assert grid[0, 0] == pytest.approx(to_rgb(DARK.gap)) and grid[-1, -1] == pytest.approx(to_rgb(DARK.surface))
    assert (cell(grid, 0, 0, 8, 8) == 1).all()


def test_a_theme_ends_with_its_block_also_after_an_error() -> None:
    before = dict(rcParams)
    with pytest.raises(RuntimeError), report.theme("dark"):
        assert colours() is DARK
        FIGURES["latents"]()
        raise RuntimeError
    assert colours() is LIGHT and dict(rcParams) == before


def test_another_theme_is_refused() -> None:
    with pytest.raises(pv.PyrovaeError, match="a theme is light or dark; got 'sepia'"), report.theme("sepia"):
        pass


def test_a_notebook_shows_a_figure_by_itself() -> None:
    figure = report.images(X[:4])
    payload, size = figure._repr_png_()
    assert payload.startswith(b"\x89PNG") and size["width"] == round(100 * figure.get_figwidth())
