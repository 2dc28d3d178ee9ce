"""Programs whose pictures tell their latents: every pixel is the sigmoid of a number that the tests know."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import Tensor

HEIGHT, WIDTH = 4, 6


class Striped:
    """Every pixel of datum n is sigmoid(z_n); the prior's mean is what is given, and the guide's is x's mean."""

    def model(self, x: Any = None, *given: Any, num_data: int | None = None) -> Any:
        size = num_data if num_data is not None else len(x)
        with pyro.plate("data", size, dim=-1):
            z = pyro.sample("z", dist.Normal(given[0][:, 0] if given else torch.zeros(size), 1e-6))
            logits = z[:, None, None, None].expand(size, 1, HEIGHT, WIDTH)
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)

    def guide(self, x: Any, *given: Any) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.mean((1, 2, 3)), 1.0))


class Columns:
    """z ~ Normal(0, 1)^D; column d of the image is sigmoid(z_d + y), and the guide's mean of z_d is that column's mean.

    It is coloured where ``channels`` is 3, and has its dimensions in an order of activity that the data decide.
    """

    def __init__(self, latent: int, channels: int = 1, needs_x: bool = False) -> None:
        self.latent, self.channels = latent, channels
        self.model = self._model_of_x if needs_x else self._model

    def _model(self, x: Any = None, *given: Any, num_data: int | None = None) -> Any:
        size = num_data if num_data is not None else len(x)
        with pyro.plate("data", size, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            logits = z + given[0][:, :1] if given else z
            shape = (size, self.channels, HEIGHT, self.latent)
            return pyro.sample("x", dist.Bernoulli(logits=logits[:, None, None].expand(shape)).to_event(3), obs=x)

    def _model_of_x(self, x: Tensor, *given: Any) -> Any:
        return self._model(x, *given)

    def guide(self, x: Tensor, *given: Any) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.mean((1, 2)), 0.5).to_event(1))


def shown(figure: Figure) -> np.ndarray:
    """The one picture in a figure, (H, W, 3)."""
    (axes,) = figure.axes
    (image,) = axes.images
    return np.asarray(image.get_array())


def cell(grid: np.ndarray, row: int, column: int, height: int, width: int, gap: int = 1) -> np.ndarray:
    """One image of a tiled picture."""
    top, left = gap + row * (height + gap), gap + column * (width + gap)
    return grid[top : top + height, left : left + width]
