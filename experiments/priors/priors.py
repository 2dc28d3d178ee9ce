"""Three priors on MNIST and Fashion-MNIST: log-likelihoods with their errors, and paired differences.

    OMP_NUM_THREADS=1 python experiments/priors/priors.py

The same networks, epochs and seed for each prior; images are binarized dynamically, and the same fixed test bits are
used for all. It writes ``priors.txt`` and one figure per data set beside itself.
"""

import functools
import time
import warnings
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import report

DATA = ("mnist", "fashion_mnist")
LATENT, HIDDEN = 40, (300, 300)
COMPONENTS = 200  # of the mixture of normals, and pseudo-inputs of the VampPrior
EPOCHS, BATCH, RATE = 30, 256, 3e-3
WARMUP = 5  # epochs in which the KL's weight rises to 1
TEST, PARTICLES = 2000, 1000
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/priors/priors.py"

PRIORS = {
    "standard normal": lambda: pv.priors.StandardNormal(LATENT),
    "mixture of normals": lambda: pv.priors.NormalMixture(LATENT, COMPONENTS),
    "VampPrior": lambda: pv.recipes.Vamp(COMPONENTS),
}


def train(data, prior):
    """The run of one program, and the seconds it took."""
    torch.manual_seed(SEED)
    vae = pv.vae(data, latent=LATENT, hidden=HIDDEN, prior=PRIORS[prior]())
    start = time.perf_counter()
    run = pv.fit(
        vae,
        data,
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=functools.partial(torch.optim.Adam, lr=RATE),
        learning_rate=pv.schedules.Cosine(warmup=1),
        schedules={"beta": pv.schedules.Warmup(WARMUP)},
        max_grad_norm=100,
        seed=SEED,
    )
    return run, time.perf_counter() - start


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is a column
    lines, environment = [], {}
    for name in DATA:
        data = pv.data.load(name)
        evidences, times = {}, []
        for prior in PRIORS:
            run, trained = train(data, prior)
            start = time.perf_counter()
            ev = pv.log_marginal(run.program, data.test.x[:TEST], num_particles=PARTICLES, seed=SEED)
            times.append(f"{prior} {trained:.0f} and {time.perf_counter() - start:.0f} s")
            evidences[prior], environment = ev, run.manifest["environment"]
            print(f"{name}: {prior}, log p(x) {ev.mean:.3f}; {times[-1]}", flush=True)
        comparison = pv.compare(*evidences.values(), names=list(evidences))
        report.comparison(evidences).savefig(Path(__file__).with_name(f"priors_{name}.png"), dpi=200)
        title = f"{name}, first {comparison.num_data:,} test images"
        lines += [title, "", str(comparison), "", "training and test: " + ", ".join(times), "", ""]
    setting = [
        f"{EPOCHS} epochs of batch {BATCH}, Adam at {RATE:g} with a cosine schedule, KL warm-up over {WARMUP} epochs;",
        f"gated layers {HIDDEN}, latent {LATENT}, {COMPONENTS} components or pseudo-inputs; dynamic binarization;",
        f"{PARTICLES:,} particles, seed {SEED}. Log-likelihoods are lower bounds in expectation.",
        f"command: {COMMAND}",
        "versions: " + ", ".join(f"{key} {value}" for key, value in environment.items()),
    ]
    text = "\n".join([*lines, *setting]) + "\n"
    print(text)
    Path(__file__).with_suffix(".txt").write_text(text)


if __name__ == "__main__":
    main()
