"""Posterior families on MNIST and Fashion-MNIST at equal budget: bounds and log-likelihoods, paired.

    OMP_NUM_THREADS=1 python experiments/posteriors/posteriors.py [mnist | fashion_mnist] ...

The same generative networks, epochs and seed for each; a richer posterior can bring the ELBO closer to log p(x), and
with it a better model. The gap of the bound is log p(x) - ELBO, by importance sampling on the same images. It writes a
table and a figure per data set beside itself.
"""

import functools
import sys
import time
import warnings
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import report

DATA = ("mnist", "fashion_mnist")
LATENT, HIDDEN = 40, (300, 300)
CONTEXT = 100  # numbers from the encoder that condition the flows
EPOCHS, BATCH, RATE = 10, 256, 1e-3
WARMUP = 3  # epochs in which the KL's weight rises to 1
TEST, PARTICLES = 1000, 1000
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/posteriors/posteriors.py"


def flow(make, **options):
    """A flow posterior over diagonal normals, conditioned on what the encoder says."""
    return pv.families.Flow(pv.families.normal, make(LATENT, context=CONTEXT, **options), context=CONTEXT)


POSTERIORS = {
    "diagonal normal": lambda: pv.families.normal,
    "full covariance": lambda: pv.families.full_normal,
    "inverse autoregressive": lambda: flow(pv.flows.inverse_autoregressive, num_layers=2, hidden=(200,)),
    "affine coupling": lambda: flow(pv.flows.affine_coupling, num_layers=4, hidden=(100,)),
}


def train(data, posterior):
    """The run of one program, and the seconds it took."""
    torch.manual_seed(SEED)
    vae = pv.vae(data, latent=LATENT, hidden=HIDDEN, posterior=POSTERIORS[posterior]())
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


def elbo(program, x, particles=20):
    """The ELBO of every datum, from a few particles, (N,)."""
    torch.manual_seed(SEED)
    program.eval()
    device = next(program.parameters()).device
    with torch.no_grad():
        terms = (pv.log_terms(program, rows.to(device), num_particles=particles) for rows in x.split(200))
        return torch.cat([pv.objectives.elbo(t) for t in terms]).double().cpu()


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is a column
    for name in sys.argv[1:] or DATA:
        data = pv.data.load(name)
        x = data.test.x[:TEST]
        evidences, rows, environment = {}, [], {}
        for posterior in POSTERIORS:
            run, trained = train(data, posterior)
            start = time.perf_counter()
            ev = pv.log_marginal(run.program, x, num_particles=PARTICLES, seed=SEED)
            gap = ev.log_prob - elbo(run.program, x)
            error = gap.std().item() / len(gap) ** 0.5
            evaluated = time.perf_counter() - start
            evidences[posterior], environment = ev, run.manifest["environment"]
            rows.append(f"{posterior:24} {gap.mean():9.3f} {error:9.3f} {trained:9.0f} s {evaluated:6.0f} s")
            print(f"{name}: log p(x) {ev.mean:.3f}; {rows[-1]}", flush=True)
        comparison = pv.compare(*evidences.values(), names=list(evidences))
        report.comparison(evidences).savefig(Path(__file__).with_name(f"posteriors_{name}.png"), dpi=200)
        lines = [
            f"{name}, first {comparison.num_data:,} test images",
            "",
            str(comparison),
            "",
            f"{'log p(x) - ELBO, nats':24} {'mean':>9} {'error':>9} {'training':>11} {'test':>8}",
            *rows,
            "",
            f"{EPOCHS} epochs of batch {BATCH}, Adam at {RATE:g} with a cosine schedule, KL warm-up over {WARMUP}",
            f"epochs; gated layers {HIDDEN}, latent {LATENT}, standard normal prior; {CONTEXT} numbers from the",
            f"encoder condition the flows; dynamic binarization; {PARTICLES:,} particles, seed {SEED}. Log-likelihoods",
            "are lower bounds in expectation, so the gaps are too.",
            "The rate, and how small the full covariance's correlations start, were changed after earlier runs on "
            "these images.",
            f"command: {COMMAND} {name}",
            "versions: " + ", ".join(f"{key} {value}" for key, value in environment.items()),
        ]
        text = "\n".join(lines) + "\n"
        print(text)
        Path(__file__).with_name(f"posteriors_{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
