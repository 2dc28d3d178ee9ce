"""Rate and distortion of VAEs on MNIST, for several latent sizes and weights of the KL.

    OMP_NUM_THREADS=1 python experiments/rate_distortion/rate_distortion.py

Rate is KL(q(z | x) || p(z)), distortion -E_q log p(x | z), both in nats in the mean over test images; their sum is the
negative ELBO, which the weight beta = 1 minimises. It writes ``rate_distortion.txt`` and ``rate_distortion.png``
beside itself.
"""

import functools
import math
import time
import warnings
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import report

DATA = "mnist"
LATENTS = (2, 8, 32)
BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)
HIDDEN = (300, 300)
EPOCHS, BATCH, RATE = 15, 256, 3e-3
TEST, PARTICLES = 1000, 500
DRAWS = 20  # of z per image, for rate and distortion
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/rate_distortion/rate_distortion.py"
COLUMNS = {
    **dict.fromkeys(("rate", "distortion", "-ELBO", "log p(x)"), 16),
    **{"active": 7, "Monte Carlo": 12, "k-hat high": 11, "time": 6},
}


def train(data, latent, beta):
    """The run of one program."""
    torch.manual_seed(SEED)
    return pv.fit(
        pv.vae(data, latent=latent, hidden=HIDDEN),
        data,
        objective=functools.partial(pv.objectives.elbo, beta=beta),
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=functools.partial(torch.optim.Adam, lr=RATE),
        learning_rate=pv.schedules.Cosine(warmup=1),
        max_grad_norm=100,
        seed=SEED,
    )


def rate_and_distortion(program, x):
    """Both per image, (N,) nats."""
    torch.manual_seed(SEED)
    with torch.no_grad():
        t = pv.log_terms(program, x, num_particles=DRAWS)
    return (t.log_qz_x - t.log_pz).mean(0).double(), -t.log_px_z.mean(0).double()


def mean_and_error(values):
    """'mean ± standard error over the images' of an (N,) tensor."""
    return f"{values.mean():8.2f} ± {values.std() / math.sqrt(len(values)):.2f}"


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is a column
    data = pv.data.load(DATA)
    x = data.test.x[:TEST]
    lines = [
        f"{DATA}, first {len(x):,} test images; nats, with the standard error over images",
        "",
        "latent  beta " + " ".join(f"{name:>{width}}" for name, width in COLUMNS.items()),
    ]
    curves, environment = {}, {}
    for latent in LATENTS:
        points = curves[f"{latent} dimensions"] = []
        for beta in BETAS:
            start = time.perf_counter()
            run = train(data, latent, beta)
            rate, distortion = rate_and_distortion(run.program, x)
            ev = pv.log_marginal(run.program, x, num_particles=PARTICLES, seed=SEED)
            active = pv.activity(run.program, x).active().sum().item()  # Burda et al. 2016
            figures = " ".join(f"{mean_and_error(v):>16}" for v in (rate, distortion, rate + distortion, ev.log_prob))
            doubt = f"{ev.mean_standard_error:12.3f} {100 * ev.share_unreliable:9.1f} %"
            lines.append(f"{latent:6} {beta:5g} {figures} {active:7} {doubt} {time.perf_counter() - start:4.0f} s")
            print(lines[-1], flush=True)
            points.append((rate.mean(), distortion.mean(), f"β = {beta:g}"))
            environment = run.manifest["environment"]
    report.rate_distortion(curves).savefig(Path(__file__).with_suffix(".png"), dpi=200)
    lines += [
        "",
        f"{EPOCHS} epochs of batch {BATCH}, Adam at {RATE:g} with a cosine schedule, gated layers {HIDDEN}, dynamic",
        f"binarization; {DRAWS} draws for rate and distortion, {PARTICLES:,} particles for log p(x), seed {SEED}.",
        "log p(x) is a lower bound in expectation; its Monte Carlo error stands in a column of its own. Time is of",
        "training and test.",
        f"command: {COMMAND}",
        "versions: " + ", ".join(f"{key} {value}" for key, value in environment.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".txt").write_text(text)


if __name__ == "__main__":
    main()
