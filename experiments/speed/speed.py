"""pyrovae beside PyTorch by hand, Pyro, NumPyro and pythae: the time of a training step, and of a log-likelihood.

    python experiments/speed/speed.py train|evaluate|anneal|scaling|memory|all [--quick]

All do the same work: the same networks, initial weights, images, batch, Adam at 1e-3, one draw of z (or the stated
number), pixels binarized afresh at every step, data shuffled and resident. The contestants take turns within a round,
in an order that rotates from round to round; times are medians over the rounds, ratios are taken within a round. Every
contestant's trained weights are put into one function for the objective on held-out images, and one that does not end
where the loop by hand ends is marked.

It writes ``speed.txt``, ``speed.json`` and ``speed.png`` beside itself; what is not run again stays as it was. With
``--quick``, a minute on the 8x8 digits, it writes to a temporary folder. The peers are left out by name where they are
not installed; they come with

    pip install numpyro jax pythae
"""

import argparse
import json
import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import measuring
from machine import about
from plot import draw
from table import text
from work import LATENT, Work, load

from pyrovae.saving import write_atomically

SEED = 0
SECTIONS = ("train", "evaluate", "anneal", "scaling", "memory")
WIDE, CONV = LATENT["wide MLP"], LATENT["conv network"]


class Full:
    """The whole: a quarter of an hour on two cores."""

    data, folder = "mnist", Path(__file__).parent
    train = (  # what, and how many rounds of it
        (Work("small MLP", 128, epochs=8), 5),
        (Work("small MLP", 512, epochs=8), 4),
        (Work("wide MLP", 128, WIDE, images=2560, epochs=4), 2),
        (Work("wide MLP", 512, WIDE, images=2560, epochs=4), 2),
        (Work("conv network", 128, CONV, images=2560, epochs=3), 2),
        (Work("conv network", 512, CONV, images=5120, epochs=3), 2),
        (Work("small MLP", 128, particles=50, images=1280, epochs=4), 3),
    )
    evaluate = (  # what, how many data, particles and rounds: multiples of what the loop by hand takes at once
        (Work("small MLP"), 512, 4096, 3),
        (Work("wide MLP", 128, WIDE, images=2560), 128, 2048, 2),
    )
    anneal = ((Work("small MLP"), 128, 16, 4, 100),)  # the same, and how many steps
    scaling_rounds, base = 1, Work(images=5120, epochs=4)
    scaling = (
        (base, "batch", (32, 128, 512, 2048)),
        (base, "latent", (5, 40, 320)),
        (replace(base, images=1280), "particles", (1, 10, 50)),
        (base, "images", (2560, 10_240, 40_960)),
    )
    memory = ((1000, 1000), (1000, 5000), (10_000, 5000))


class Quick:
    """Every part, small."""

    data, folder = "digits", Path(tempfile.gettempdir()) / "pyrovae_speed"
    train = ((Work(images=1152, epochs=4), 2), (Work(particles=5, images=1152, epochs=3), 2))
    evaluate = ((Work(images=1152), 64, 256, 2),)
    anneal = ((Work(images=1152), 32, 8, 2, 10),)
    scaling_rounds, base = 1, Work(images=1024, epochs=3)
    scaling = ((base, "batch", (64, 128)),)
    memory = ((100, 200),)


def measured(plan, section):
    """One section of the plan."""
    if section == "memory":
        return measuring.memory(plan.memory)
    images = load(plan.data)
    if section == "scaling":
        return measuring.scaling(plan.scaling, images, rounds=plan.scaling_rounds, seed=SEED)
    if section in ("evaluate", "anneal"):
        names = ("num_data", "particles", "rounds", "num_steps")
        return [
            measuring.evaluate(work, images, seed=SEED, **dict(zip(names, how, strict=False)))
            for work, *how in getattr(plan, section)
        ]
    return [measuring.train(work, images, rounds=rounds, seed=SEED) for work, rounds in plan.train]


@contextmanager
def empty_cache():
    """PyTorch's compiler without what it may have kept of earlier runs, so that compiling takes as long as at first."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        yield


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
    parser.add_argument("subject", choices=(*SECTIONS, "all"))
    parser.add_argument("--quick", action="store_true", help="small images and few steps, into a temporary folder")
    args = parser.parse_args(argv)
    plan = Quick if args.quick else Full
    stored = plan.folder / "speed.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    command = f"python experiments/speed/speed.py {args.subject}" + " --quick" * args.quick
    for section in SECTIONS if args.subject == "all" else (args.subject,):
        begin = time.perf_counter()
        with empty_cache():
            result = measured(plan, section)
        setting = about(command=command, seed=SEED, data=plan.data, seconds=time.perf_counter() - begin)
        results[section] = {**setting, "measured": result}
        keep(plan.folder, results)  # at once: what comes later may be interrupted
    print(text(results) + f"\nwritten to {plan.folder}")


if __name__ == "__main__":
    main()
