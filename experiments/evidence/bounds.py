"""What settles log p(x) of a VAE on MNIST: importance bounds against annealing, with time, and both bounds.

    OMP_NUM_THREADS=1 python experiments/evidence/bounds.py RUN [OUTPUT]

RUN is a directory of ``pyrovae train experiments/mnist/vae.yaml``; OUTPUT a folder, by default this script's. On the
first test images it estimates log p(x) by importance sampling with more and more particles and by annealing with
more and more steps, twice with at most 300 steps and independent seeds, and bounds log p(x) from both sides on images
drawn from the VAE. It writes bounds.txt and bounds.png.
"""

import sys
import time
import warnings
from pathlib import Path

import matplotlib

import pyrovae as pv
from pyrovae.lines import aligned
from pyrovae.report.canvas import panels
from pyrovae.report.theme import colours
from pyrovae.training.run import environment

matplotlib.use("agg")
TEST = 100  # images
PARTICLES = (50, 500, 5_000, 50_000)
STEPS = (100, 1_000, 10_000)
CHAINS = 16
AGREE = ((300, 0), (300, 1), (3_000, 2))  # steps and seeds of the runs that have to agree
SANDWICHES = (("importance", 5_000, None), ("annealed", CHAINS, 100), ("annealed", CHAINS, 1_000))
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/evidence/bounds.py RUN"


def estimated(program, x, **options):
    """The evidence, and the seconds it took."""
    start = time.perf_counter()
    ev = pv.log_marginal(program, x, **options)
    return ev, time.perf_counter() - start


def row(name, ev, seconds):
    doubt = f"{100 * ev.share_unreliable:.0f} %"
    return [name, f"{ev.mean:.3f}", f"{ev.mean_standard_error:.3f}", doubt, f"{seconds:.1f} s"]


def drawn(found, best):
    """Mean log p(x) against seconds, a line for each method."""
    figure, ((axes,),) = panels(1, 1, height=2.6)
    for (label, runs), colour in zip(found.items(), (colours().first, colours().second), strict=True):
        seconds = [seconds for _, _, seconds in runs]
        means = [ev.mean for _, ev, _ in runs]
        errors = [2 * ev.mean_standard_error for _, ev, _ in runs]
        axes.errorbar(seconds, means, yerr=errors, marker="o", ms=4, lw=1.2, color=colour, label=label)
        for number, ev, second in runs:
            axes.annotate(f"{number:,}", (second, ev.mean), textcoords="offset points", xytext=(5, -10), fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds for {TEST} images")
    axes.set_ylabel("mean log p(x), nats")
    axes.margins(x=0.12, y=0.15)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is a column
    run, folder = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else __file__).resolve()
    folder = folder if folder.is_dir() else folder.parent
    program = pv.load(run / "program.safetensors")
    data = pv.data.load("mnist", binarization="dynamic", validation=1000)
    x = data.test.x[:TEST]
    found = {"importance sampling, particles": [], f"annealing, {CHAINS} chains, steps": []}
    importance, annealed = found.values()
    rows = [["", "mean", "Monte Carlo", "doubtful", "time"]]
    for number in PARTICLES:
        importance.append((number, *estimated(program, x, num_particles=number, seed=SEED)))
        rows.append(row(f"importance, {number:,} particles", *importance[-1][1:]))
        print(rows[-1], flush=True)
    for steps in STEPS:
        options = {"method": "annealed", "num_particles": CHAINS, "num_steps": steps}
        annealed.append((steps, *estimated(program, x, **options, seed=SEED)))
        rows.append(row(f"annealed, {steps:,} steps", *annealed[-1][1:]))
        print(rows[-1], flush=True)
    agree, means = [["independent runs", "mean", "Monte Carlo", "doubtful", "time"]], []
    for steps, seed in AGREE:
        options = {"method": "annealed", "num_particles": CHAINS, "num_steps": steps, "seed": SEED + 1 + seed}
        ev, seconds = estimated(program, x, **options)
        agree.append(row(f"annealed, {steps:,} steps, seed {SEED + 1 + seed}", ev, seconds))
        means.append(ev.mean)
        print(agree[-1], flush=True)
    best = annealed[-1][1]
    against = [["against the longest annealing", "difference", "standard error", "Monte Carlo"]]
    for name, number, ev in [(label, number, ev) for label, runs in found.items() for number, ev, _ in runs]:
        if ev is not best:
            pair = pv.compare(best, ev)
            errors = (f"{float(each):.3f}" for each in (pair.standard_error, pair.monte_carlo_error))
            against.append([f"{name.split(',')[0]}, {number:,}", f"{float(pair.mean):+.3f}", *errors])
    both = [str(pv.sandwich(program, num_data=TEST, method=method, num_particles=number, seed=SEED,
                            **({"num_steps": steps} if steps else {})))
            for method, number, steps in SANDWICHES]  # fmt: skip
    drawn(found, best).savefig(folder / "bounds.png", dpi=200)
    about = environment()
    lines = [
        f"log p(x) of the first {TEST} test images of MNIST (dynamic binarization, seed 0), nats per image",
        "",
        *aligned(rows, right=range(1, 5)),
        "",
        "Doubtful: k-hat above its threshold; of annealing, runs that differ by more than 0.1 nats. All means are",
        "lower bounds in expectation. Times with compiling, on a shared machine: read them as orders of magnitude.",
        "",
        *aligned(against, right=range(1, 4)),
        "",
        *aligned(agree, right=range(1, 5)),
        f"largest difference between these means: {max(means) - min(means):.3f} nats",
        "",
        *(line for table in both for line in [*table.splitlines(), ""]),
        f"command: {COMMAND}, RUN by pyrovae train experiments/mnist/vae.yaml",
        "versions: " + ", ".join(f"{key} {value}" for key, value in about.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (folder / "bounds.txt").write_text(text)


if __name__ == "__main__":
    main()
