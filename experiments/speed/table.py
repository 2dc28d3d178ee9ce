"""The figures as text."""

from itertools import starmap
from statistics import mean

from rounds import ratio, spread, strays
from work import gradients

TOLERANCE = {"held_out": 0.02, "log_prob": 0.005}  # of the reference's, which all must reach
REFERENCE = "PyTorch by hand"
TRAIN_RATIOS = ("NumPyro", REFERENCE, "Pyro SVI")
EVALUATE_RATIOS = ("floor", "floor, compiled", REFERENCE, "pythae")
NOTES = """\
Times are medians over the rounds [least, greatest]; "/ NumPyro" is the time divided by NumPyro's in the same round, so
less than 1 is faster. The contestants take turns, in an order that rotates. Compile, which is not in the times: the
first epoch's seconds beyond those of a usual one, or the seconds within a call of log_marginal; the most of all rounds,
with an empty cache. Nats: the objective on the same held-out images, or log p(x), mean over the rounds.
"*": further than {held_out:.0%} ({log_prob:.1%} for log p(x)) from PyTorch by hand, so not the same work.
PyTorch by hand: float32 products by PyTorch's default; tuned: fused Adam, set_float32_matmul_precision("medium").
NumPyro: an epoch is one jitted lax.scan (the conv network: one jitted step after another, which is faster there).
pythae: its own DataLoader, progress bar and closed-form KL; fresh bits by the batch.
Floor: the decoder's matrix products alone, on as many rows, by the faster of PyTorch's float32 libraries.
Floor, annealed: log p(x | z) and its gradient in z, as often as pyrovae takes them, with that library; compiled: by
torch.compile. Of these, {pilot} a chain are pyrovae's pilot; by hand there is none, the step size being known.
""".format(**TOLERANCE, pilot=gradients(1))


def text(results):
    """All sections that there are."""
    parts = []
    if "train" in results:
        parts += ["TRAINING, milliseconds per step", *map(training, results["train"]["measured"])]
    if "evaluate" in results:
        parts += ["EVALUATION, microseconds per datum and particle", *map(evaluation, results["evaluate"]["measured"])]
    if "anneal" in results:
        parts += ["ANNEALED, microseconds per datum, chain and step", *map(evaluation, results["anneal"]["measured"])]
    if "scaling" in results:
        parts += ["SCALING, milliseconds per step", *starmap(curve, results["scaling"]["measured"].items())]
    if "memory" in results:
        parts += ["PEAK MEMORY of log_marginal, the process's, MB", memory(results["memory"]["measured"])]
    return "\n\n".join([*parts, NOTES.strip(), *settings(results)]) + "\n"


def training(cell):
    """The table of one cell."""
    work = cell["work"]
    about = f": {work['images']:,} images, {work['epochs'] - 1} epochs counted in each of {rounds(cell, 'ms')} rounds"
    return cell["title"] + about + "\n" + contest(cell, "ms", "held_out", TRAIN_RATIOS)


def evaluation(cell):
    """The table of one cell."""
    return f"{cell['title']}: {rounds(cell, 'us')} rounds\n" + contest(cell, "us", "log_prob", EVALUATE_RATIOS)


def rounds(cell, unit):
    """How many rounds a cell was measured in."""
    return len(cell["results"][REFERENCE][unit])


def contest(cell, unit, reached, references):
    """A line for each contestant: its time, its ratio to each reference that took part, and what it reached."""
    results = cell["results"]
    references = [name for name in references if name in results]
    finished = {name: result[reached] for name, result in results.items() if None not in result[reached]}
    marked = strays(finished, REFERENCE, TOLERANCE[reached])
    lines = [["", unit, *(f"/ {name}" for name in references), "compile, s", "nats"]]
    for name, result in results.items():
        ratios = [str(ratio(result[unit], results[other][unit])) for other in references]
        nats = f"{mean(finished[name]):.2f}" if name in finished else ""
        compiled = f"{max(result['compile']):.1f}" if max(result["compile"]) > 0.05 else ""
        lines.append([name + " *" * (name in marked), str(spread(result[unit])), *ratios, compiled, nats])
    return "\n".join([grid(lines), *(f"left out: {name} ({reason})" for name, reason in cell["absent"].items())])


def curve(axis, cells):
    """A column per value on the axis."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["results"]))
    lines = [[axis, *(f"{cell['work'][axis]:,}" for cell in cells)]]
    for name in names:
        lines.append([name, *(f"{spread(cell['results'][name]['ms']).median:.3g}" for cell in cells)])
    return f"along {axis}: medians of {rounds(cells[0], 'ms')} rounds\n" + grid(lines)


def memory(cases):
    """A line for each (data, particles)."""
    lines = [["data", "particles", "before", "peak", "seconds"]]
    for case in cases:
        before, peak = (f"{case[key] / 1e6:,.0f}" for key in ("before", "peak"))
        lines.append([f"{case['data']:,}", f"{case['particles']:,}", before, peak, f"{case['seconds']:.1f}"])
    return grid(lines)


def grid(lines):
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def settings(results):
    """Command, seed, versions and hardware, once for all sections that share them."""
    sections = {}
    for name, section in results.items():
        sections.setdefault(setting(section), []).append(f"{name} ({section['seconds']:.0f} s)")
    return [f"{', '.join(names)}: {each}" for each, names in sections.items()]


def setting(section):
    """Command, seed, versions and hardware of one section."""
    versions = ", ".join(f"{package} {version}" for package, version in section["versions"].items())
    cores = f"cores {section['cores']}, threads of PyTorch {section['threads']}"
    return (
        f"{section['command']}\n"
        f"  {section['date']}, data {section['data']}, seed {section['seed']}\n"
        f"  {section['processor']} ({section['capability']}), {cores}\n"
        f"  {versions}"
    )
