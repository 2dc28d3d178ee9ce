"""Priors on MNIST and Fashion-MNIST at equal budget: log-likelihoods with their errors, and paired differences.

    OMP_NUM_THREADS=1 python experiments/priors/priors.py [mnist | fashion_mnist] ...

The same networks, epochs and seed for each prior; images are binarized dynamically, and the same fixed test bits are
used for all. It writes a table and a figure per data set beside itself.
"""

import functools
import itertools
import sys
import time
import warnings
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import report

DATA = ("mnist", "fashion_mnist")
LATENT, HIDDEN = 40, (300, 300)
COMPONENTS = 200  # of the mixture of normals, and pseudo-inputs of the VampPrior
EXEMPLARS, SAMPLED = 2000, 500  # training images that the exemplar prior is made of, and a step takes of them
EPOCHS, BATCH, RATE = 20, 256, 3e-3
WARMUP = 5  # epochs in which the KL's weight rises to 1
TEST, PARTICLES = 2000, 1000
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/priors/priors.py"


def flow(transforms):
    """A flow prior over a standard normal."""
    return pv.priors.Flow(pv.priors.StandardNormal(LATENT), transforms)


PRIORS = {
    "standard normal": lambda: pv.priors.StandardNormal(LATENT),
    "learned normal": lambda: pv.priors.Normal(LATENT),
    "Laplace": lambda: pv.priors.Laplace(LATENT),
    "Student-t": lambda: pv.priors.StudentT(LATENT),
    "mixture of normals": lambda: pv.priors.NormalMixture(LATENT, COMPONENTS),
    "mixture, full": lambda: pv.priors.FullNormalMixture(LATENT, 20),
    "VampPrior": lambda: pv.recipes.Vamp(COMPONENTS),
    "exemplar": lambda: pv.recipes.Exemplar(EXEMPLARS, num_sampled=SAMPLED),
    "affine coupling": lambda: flow(pv.flows.affine_coupling(LATENT, num_layers=6, hidden=(100,))),
    "spline coupling": lambda: flow(pv.flows.spline_coupling(LATENT, num_layers=4, hidden=(100,))),
    "masked autoregressive": lambda: flow(pv.flows.masked_autoregressive(LATENT, num_layers=3, hidden=(200,))),
}
# The order of the Exemplar VAE paper's table (Norouzi et al. 2020), its VAE with one stochastic layer, nats.
PUBLISHED = {
    "mnist": {"standard normal": -84.45, "VampPrior": -82.43, "exemplar": -82.09},
    "fashion_mnist": {"standard normal": -228.70, "VampPrior": -227.35, "exemplar": -226.75},
}
LIMITS = (
    f"Exemplars are all training images in the paper and {EXEMPLARS:,} here. One run of each: the errors are those of",
    "test images and particles, and other initial weights would move the figures too.",
)


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


def order(name, evidences):
    """The published order beside ours: of each neighbouring pair, whether it shows at three standard errors."""
    published = sorted(PUBLISHED[name], key=PUBLISHED[name].get)
    lines = ["Published: " + " < ".join(f"{prior} {PUBLISHED[name][prior]:.2f}" for prior in published)]
    for worse, better in itertools.pairwise(published):
        pair = pv.compare(evidences[worse], evidences[better], names=[worse, better])
        difference, error = pair.mean.item(), pair.standard_error.item()
        shown = "shows" if difference > 3 * error else "does not show" if difference > -3 * error else "is reversed"
        lines.append(f"{better} over {worse}: {difference:+.3f}, standard error {error:.3f}: the order {shown}")
    return [*lines, *LIMITS]


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is a column
    for name in sys.argv[1:] or DATA:
        data = pv.data.load(name)
        evidences, times, environment = {}, [], {}
        for prior in PRIORS:
            run, trained = train(data, prior)
            start = time.perf_counter()
            ev = pv.log_marginal(run.program, data.test.x[:TEST], num_particles=PARTICLES, seed=SEED)
            times.append(f"{prior} {trained:.0f} and {time.perf_counter() - start:.0f} s")
            evidences[prior], environment = ev, run.manifest["environment"]
            print(f"{name}: {prior}, log p(x) {ev.mean:.3f}; {times[-1]}", flush=True)
        comparison = pv.compare(*evidences.values(), names=list(evidences))
        report.comparison(evidences).savefig(Path(__file__).with_name(f"priors_{name}.png"), dpi=200)
        lines = [
            f"{name}, first {comparison.num_data:,} test images",
            "",
            str(comparison),
            "",
            *order(name, evidences),
            "",
            "training and test: " + ", ".join(times),
            "",
            f"{EPOCHS} epochs of batch {BATCH}, Adam at {RATE:g} with a cosine schedule, KL warm-up over {WARMUP}",
            f"epochs; gated layers {HIDDEN}, latent {LATENT}, {COMPONENTS} components or pseudo-inputs, {EXEMPLARS:,}",
            f"exemplars; dynamic binarization; {PARTICLES:,} particles, seed {SEED}. Log-likelihoods are lower bounds",
            "in expectation.",
            f"command: {COMMAND} {name}",
            "versions: " + ", ".join(f"{key} {value}" for key, value in environment.items()),
        ]
        text = "\n".join(lines) + "\n"
        print(text)
        Path(__file__).with_name(f"priors_{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
