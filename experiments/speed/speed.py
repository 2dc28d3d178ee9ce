"""pyrovae beside PyTorch by hand, Pyro, NumPyro and pythae: the time of a training step, and of a log-likelihood.

    python experiments/speed/speed.py train|evaluate|scaling|memory|all [--quick]

All do the same work: the same networks, initial weights, images, batch, Adam at 1e-3, one draw of z (or the stated
number), pixels binarized afresh at every step, data shuffled and resident. The contestants take turns within a round,
in an order that rotates from round to round; times are medians over the rounds, ratios are taken within a round. Every
contestant's trained weights are put into one function for the objective on held-out images, and one that does not end
where the loop by hand ends is marked.

It writes ``speed.txt``, ``speed.json`` and ``speed.png`` beside itself; what is not run again stays as it was. With
``--quick``, a minute on the 8x8 digits, it writes to ``runs/speed``. The peers are left out by name where they are not
installed; they come with

    pip install numpyro jax pythae
"""

import argparse
import json
import sys
from pathlib import Path

import measuring
from machine import about
from plot import draw
from table import text
from work import LATENT, Work, load

from pyrovae.saving import write_atomically

SEED = 0
WIDE, CONV = LATENT["wide MLP"], LATENT["conv network"]


class Full:
    """The whole: a quarter of an hour on two cores."""

    data, rounds, scaling_rounds, folder = "mnist", 5, 2, Path(__file__).parent
    cells = (
        Work("small MLP", 128),
        Work("small MLP", 512),
        Work("wide MLP", 128, WIDE, images=5120, epochs=4),
        Work("wide MLP", 512, WIDE, images=5120, epochs=4),
        Work("conv network", 128, CONV, images=2560, epochs=3),
        Work("conv network", 512, CONV, images=2560, epochs=3),
        Work("small MLP", 128, particles=50, images=1280, epochs=4),
    )
    evaluated = (Work("small MLP"), Work("wide MLP", 128, WIDE, images=5120))
    num_data, particles = 64, 2048  # of an evaluation: multiples of what the loop by hand takes at once
    base = Work(images=5120, epochs=4)
    curves = {  # noqa: RUF012
        "batch": (64, 128, 256, 512, 1024),
        "latent": (5, 20, 80, 320),
        "particles": (1, 5, 20, 50),
        "images": (2560, 10_240, 40_960),
    }
    memory = ((1000, 1000), (1000, 5000), (10_000, 5000))


class Quick:
    """Every part, small."""

    data, rounds, scaling_rounds, folder = "digits", 2, 1, Path("runs/speed")
    cells = (Work(images=1152, epochs=4), Work(particles=5, images=1152, epochs=3))
    evaluated = (Work(images=1152),)
    num_data, particles = 64, 256
    base, curves = Work(images=1024, epochs=3), {"batch": (64, 128)}
    memory = ((100, 200),)


def sections(plan, subject):
    """What of the plan was asked for, measured: (name, result) one after another."""
    images, options = load(plan.data), {"rounds": plan.rounds, "seed": SEED}
    if subject in ("train", "all"):
        yield "train", [measuring.train(work, images, **options) for work in plan.cells]
    if subject in ("evaluate", "all"):
        size = {"num_data": plan.num_data, "particles": plan.particles}
        yield "evaluate", [measuring.evaluate(work, images, **size, **options) for work in plan.evaluated]
    if subject in ("scaling", "all"):
        options["rounds"] = plan.scaling_rounds
        yield "scaling", measuring.scaling(plan.base, plan.curves, images, **options)
    if subject in ("memory", "all"):
        yield "memory", measuring.memory(plan.memory)


def keep(folder, results):
    """The figures, and the table and plot that are made of them alone."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "speed.json", json.dumps(rounded(results), indent=1).encode())
    write_atomically(folder / "speed.txt", text(results).encode())
    draw(results).savefig(folder / "speed.png", dpi=110)


def rounded(value):
    """Floats to five digits: no time is known better."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("train", "evaluate", "scaling", "memory", "all"))
    parser.add_argument("--quick", action="store_true", help="small images and few steps, into runs/speed")
    args = parser.parse_args(argv)
    plan = Quick if args.quick else Full
    stored = plan.folder / "speed.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    command = f"python experiments/speed/speed.py {args.subject}" + " --quick" * args.quick
    for name, measured in sections(plan, args.subject):
        rounds = plan.scaling_rounds if name == "scaling" else plan.rounds
        results[name] = {**about(command=command, seed=SEED, rounds=rounds, data=plan.data), "measured": measured}
        keep(plan.folder, results)  # at once: what comes later may be interrupted
    sys.stdout.write(text(results))


if __name__ == "__main__":
    main()
