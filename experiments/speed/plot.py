"""The figures as one picture: times relative to PyTorch by hand, and the scaling curves."""

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rounds import ratio, spread
from table import REFERENCE

COLOURS = {
    "pyrovae compiled": "#c1272d",
    "pyrovae compiled, bf16": "#e8888c",
    "pyrovae eager": "#f2c4c5",
    "NumPyro": "#1f5a99",
    "PyTorch by hand": "#333333",
    "PyTorch by hand, tuned": "#8a8a8a",
    "Pyro SVI": "#d98c1f",
    "pythae": "#5d9148",
    "floor": "#bbbbbb",
    "floor, compiled": "#dddddd",
}
AXES = {"batch": "batch", "latent": "latent size", "particles": "particles (IWAE)", "images": "training images"}


def draw(results):
    """The figure of all sections that there are."""
    sections = [results.get(name, {}) for name in ("train", "evaluate", "anneal")]
    bars = [cell for section in sections for cell in section.get("measured", [])]
    curves = results.get("scaling", {}).get("measured", {})
    parts = [(part, data) for part, data in ((relative, bars), (scaling, curves)) if data]
    figure = Figure(figsize=(10, 3.6 * len(parts) or 1), layout="constrained")
    if parts:
        for (part, data), place in zip(parts, figure.subfigures(len(parts), 1, squeeze=False)[:, 0], strict=True):
            part(place, data)
    return figure


def relative(figure, cells):
    """A group of bars for each cell, with the range over the rounds."""
    axes = figure.subplots()
    names = [name for name in COLOURS if any(name in cell["results"] for cell in cells)]
    width = 0.85 / len(names)
    for number, name in enumerate(names):
        shift = (number - (len(names) - 1) / 2) * width
        ratios = {
            place + shift: relative_time(cell, name) for place, cell in enumerate(cells) if name in cell["results"]
        }
        heights = [each.median for each in ratios.values()]
        errors = list(
            zip(*((each.median - each.low, each.high - each.median) for each in ratios.values()), strict=True)
        )
        axes.bar([*ratios], heights, width, yerr=errors, color=COLOURS[name], label=name, ecolor="#555555")
    axes.axhline(1, color="#333333", linewidth=0.6)
    axes.set_xticks(range(len(cells)), [label(cell) for cell in cells], fontsize=7)
    axes.set_ylabel(f"time / {REFERENCE}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=7, frameon=False, ncols=5, loc="outside upper center")


def relative_time(cell, name):
    """The spread of a contestant's time divided by that of the loop by hand."""
    unit = "us" if "us" in cell["results"][name] else "ms"
    return ratio(cell["results"][name][unit], cell["results"][REFERENCE][unit])


def label(cell):
    """A cell in three short lines."""
    work = cell["work"]
    if any("us" in result for result in cell["results"].values()):
        return f"log p(x){', annealed' * cell.get('annealed', False)}\n{work['network']}"
    particles = f"\nIWAE {work['particles']}" if work["particles"] > 1 else ""
    return f"{work['network']}\nbatch {work['batch']}{particles}"


def scaling(figure, curves):
    """Milliseconds per step along each axis, both logarithmic."""
    for axes, (axis, cells) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        values = [cell["work"][axis] for cell in cells]
        for name in cells[0]["results"]:
            times = [spread(cell["results"][name]["ms"]).median for cell in cells]
            axes.loglog(values, times, "o-", ms=3, lw=1, color=COLOURS[name], label=name)
        axes.set_xlabel(AXES[axis])
        axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=7)
        axes.tick_params(which="minor", bottom=False, labelbottom=False)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("ms per step")
    figure.axes[0].legend(fontsize=7, frameon=False)
