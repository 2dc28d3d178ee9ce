"""The colours of a figure: one small palette that every function here reads, light unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pyrovae.errors import PyrovaeError


@dataclass(frozen=True)
class Theme:
    """Colours by what they are for.

    Attributes:
        surface, gap: behind a figure, and between the images of a grid.
        ink, quiet, faint: of text, of axes and notes, of grid lines and shades.
        first, second, third: of curves and bars; distinct under every common colour blindness.
        classes: ten colours for ten classes, from Petroff 2021, "Accessible color sequences for data visualization"
            (arXiv:2107.02270); the dark ones are lifted where they would sink into a dark surface.
    """

    surface: str
    gap: str
    ink: str
    quiet: str
    faint: str
    first: str
    second: str
    third: str
    classes: tuple[str, ...]


LIGHT = Theme(
    surface="#ffffff",
    gap="#ffffff",
    ink="#1b1f24",
    quiet="#59616b",
    faint="#e4e7ea",
    first="#2b6ca3",
    second="#cf6620",
    third="#3d8c5a",
    classes=(
        "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#5fc3c7",
    ),
)  # fmt: skip
DARK = Theme(
    surface="#16191d",
    gap="#23282e",
    ink="#e6e9ed",
    quiet="#a3abb5",
    faint="#30363d",
    first="#6cb0e6",
    second="#f0a067",
    third="#7cc79a",
    classes=(
        "#5aa5ec", "#ffb938", "#f2644a", "#b3c0be", "#c07bea", "#cf9482", "#ff8b3d", "#d6ca8e", "#8f94a3", "#92dadd",
    ),
)  # fmt: skip
THEMES = {"light": LIGHT, "dark": DARK}
_current: ContextVar[Theme] = ContextVar("theme", default=LIGHT)


@contextmanager
def theme(name: str) -> Iterator[Theme]:
    """Figures made inside are "light" or "dark"; outside it is as before.

    Raises:
        PyrovaeError: another name.

    Example:
        >>> import torch
        >>> from pyrovae import report
        >>> with report.theme("dark"):
        ...     figure = report.images(torch.rand(4, 1, 8, 8))
    """
    if name not in THEMES:
        raise PyrovaeError(f"a theme is {' or '.join(THEMES)}; got {name!r}")
    token = _current.set(THEMES[name])
    try:
        yield THEMES[name]
    finally:
        _current.reset(token)


def colours() -> Theme:
    """The theme that holds here."""
    return _current.get()
