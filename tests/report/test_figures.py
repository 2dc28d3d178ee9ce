"""Figures show what they were given: read back from the matplotlib artists."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure

import pyrovae as pv
from pyrovae import report


class Striped(torch.nn.Module):
    """A program whose x tells its z apart: every pixel of datum n is sigmoid(z_n), and the guide's mean is x's mean."""

    def model(self, x=None, *given, num_data=None):
        size = num_data if num_data is not None else len(x)
        with pyro.plate("data", size, dim=-1):
            z = pyro.sample("z", dist.Normal(given[0][:, 0] if given else torch.zeros(size), 1e-6))
            logits = z[:, None, None, None].expand(size, 1, 4, 6)
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)

    def guide(self, x, *given):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.mean((1, 2, 3)), 1.0))


def shown(figure: Figure) -> np.ndarray:
    """The one picture in a figure."""
    (axes,) = figure.axes
    (image,) = axes.images
    return np.asarray(image.get_array())


def history(epochs: int) -> list[dict[str, float]]:
    """The best validation is in the epoch before the last."""
    values = [-20.0 - 10 / (e + 1) for e in range(epochs)]
    return [
        {
            "epoch": e + 1, "objective": v + 0.5, "log_px_z": v + 3, "kl": 2.5 - 1 / (e + 1),
            "validation": v - 0.25 * (e == epochs - 1), "beta": min(e / 3, 1.0), "skipped": 0, "seconds": 0.1,
        }
        for e, v in enumerate(values)
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_row_by_row_with_white_between(channels: int) -> None:
    x = torch.rand(5, channels, 28, 28) * 0.9
    figure = report.images(x, columns=3)
    grid, gap = shown(figure), 2  # pixels of white for images 28 wide
    assert grid.shape[:2] == (2 * 30 + gap, 3 * 30 + gap)
    for number in range(5):
        row, column = divmod(number, 3)
        part = grid[gap + 30 * row :, gap + 30 * column :][:28, :28].reshape(28, 28, channels)
        assert np.array_equal(part, x[number].permute(1, 2, 0).numpy())
    assert (grid[:, :gap] == 1).all() and (grid[32:, 62:] == 1).all()  # the margin, and the place that stays empty
    assert x.equal(x.clamp(0, 1)) and figure.get_figwidth() <= report.figures.WIDTH


def test_values_outside_the_unit_interval_are_clipped() -> None:
    grid = shown(report.images(torch.tensor([-1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 14, 14), columns=2))
    assert (grid[1:15, 1:15] == 0).all() and (grid[1:15, 16:30] == 1).all()


def test_samples_are_the_means_of_the_likelihood() -> None:
    z = torch.tensor([[-2.0], [0.0], [2.0]])
    grid = shown(report.samples(Striped(), 3, z, columns=3))
    pictures = [grid[1:5, 1 + 7 * n : 7 + 7 * n] for n in range(3)]
    for picture, expected in zip(pictures, z.sigmoid(), strict=True):
        np.testing.assert_allclose(picture, expected.item(), atol=1e-4)


def test_reconstructions_stand_below_their_data() -> None:
    x = (torch.rand(5, 1, 4, 6) < 0.5).float()
    figure = report.reconstructions(Striped(), x, columns=3)
    expected = pv.reconstruct(Striped(), x).mean
    grid, height = shown(figure), 4 + 2
    starts = [0, height, 2 * height + height // 5, 3 * height + height // 5]  # two pairs, white between them
    for number in range(5):
        pair, column = divmod(number, 3)
        for start, value in zip(starts[2 * pair : 2 * pair + 2], (x, expected), strict=True):
            part = grid[start + 1 :, 1 + 7 * column :][:4, :6]
            np.testing.assert_array_equal(part, value[number, 0].numpy())
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["x", "E[x | z]"] * 2


def test_learning_curve_shows_both_objectives_the_parts_and_the_best_epoch() -> None:
    records = history(12)
    left, right, other = report.learning_curve(records).axes
    training, validation, best = left.lines
    for line, name in ((training, "objective"), (validation, "validation"), (right.lines[0], "log_px_z")):
        assert list(line.get_xdata()) == [r["epoch"] for r in records]
        assert list(line.get_ydata()) == [r[name] for r in records]
    assert list(other.lines[0].get_ydata()) == [r["kl"] for r in records]
    assert list(best.get_xdata()) == [11]
    assert all("nats" in axes.get_ylabel() for axes in (left, right, other))
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == [
        r"schedule of $\beta$",
        "training",
        "validation",
        f"best: {records[10]['validation']:.2f}, epoch 11",
    ]
    low, high = left.get_ylim()
    assert low < min(r["validation"] for r in records[1:]) and max(r["objective"] for r in records) < high


def test_learning_curve_of_a_run_and_without_validation() -> None:
    data = pv.data.digits()
    run = pv.fit(pv.vae(data, latent=2, hidden=(4,)), (data.validation.x,), epochs=1, device="cpu")
    left, right, _ = report.learning_curve(run).axes
    assert len(left.lines) == 1 and left.get_legend() is None
    assert list(right.lines[0].get_ydata()) == run.column("log_px_z")


def test_values_that_are_not_finite_leave_a_figure() -> None:
    records = history(3)
    records[0] |= {"validation": math.nan, "objective": -math.inf}
    left = report.learning_curve(records).axes[0]
    assert list(left.lines[2].get_xdata()) == [3] and all(map(math.isfinite, left.get_ylim()))


def test_evidence_marks_mean_and_threshold() -> None:
    log_prob, k = torch.linspace(-30, -10, 50).double(), torch.linspace(0, 1, 50).double()
    result = pv.Evidence(log_prob, k, k, k, num_particles=5000, num_dimensions=64)
    left, right = report.evidence(result).axes
    assert sum(bar.get_height() for bar in left.patches) == sum(bar.get_height() for bar in right.patches) == 50
    assert left.lines[0].get_xdata()[0] == pytest.approx(result.mean)
    assert right.lines[0].get_xdata()[0] == pytest.approx(0.7)
    assert "30.0 % of 50 data above 0.70" in right.get_title()


def test_pyplot_knows_of_no_figure() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    report.images(torch.rand(4, 1, 8, 8))
    report.learning_curve(history(3))
    assert plt.get_fignums() == before


class NoImages(Striped):
    def model(self, x=None, *given, num_data=None):
        with pyro.plate("data", num_data or len(x), dim=-1):
            return pyro.sample("x", dist.Normal(torch.zeros(3), 1).to_event(1), obs=x)


class NoPrior(Striped):
    def model(self, x, *given):
        return super().model(x, *given)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (lambda: report.images(torch.rand(2, 2, 8, 8)), r"one channel or three, N > 0; got \(2, 2, 8, 8\)"),
        (lambda: report.images(torch.rand(0, 1, 8, 8)), "N > 0"),
        (lambda: report.samples(Striped(), 3, torch.zeros(2, 1)), "given has 2 rows for 3 samples"),
        (lambda: report.samples(NoImages(), 3), r"got \(3, 3\)"),
        (lambda: report.samples(NoPrior(), 3), "cannot run without x"),
        (lambda: report.learning_curve([]), "there is no epoch to show"),
    ],
)
def test_what_cannot_be_shown_is_refused(figure, message: str) -> None:
    with pytest.raises(pv.PyrovaeError, match=message):
        figure()
