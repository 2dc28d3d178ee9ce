"""Likelihoods of grey images in bits per dimension, comparable with each other: Frey faces and Fashion-MNIST.

    OMP_NUM_THREADS=1 python experiments/likelihoods/likelihoods.py

An image is D levels k in 0 .. 255, and every figure is about the probability P(k) of these levels. Some of the
likelihoods are such probabilities. The others are densities p of real numbers v, whose integral over the cell of a
level is its probability: ``pyrovae.Dequantized`` integrates the place within the cell out as z is, one draw per
particle. All figures are lower bounds on log P(k), those of the densities with more to integrate. It writes
``likelihoods.txt`` and one figure per data set beside itself.
"""

import functools
import time
import warnings
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import families, report

EPOCHS = {"freyfaces": 32, "fashion_mnist": 4}
TRAIN = {"freyfaces": None, "fashion_mnist": 12_000}  # images
LATENT, HIDDEN, NOISE_HIDDEN = 20, (300, 300), (200,)
BATCH, RATE = 64, 1e-3
VALIDATION, TEST, PARTICLES = 200, 200, 50
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/likelihoods/likelihoods.py"

DENSITIES = {
    "normal, scale 0.1": lambda: families.FixedScaleNormal(0.1),
    "normal, learned scale": lambda: families.SharedScaleNormal(0.1),
    "normal, optimal scale": lambda: families.OptimalScaleNormal(0.1),
    "normal, per pixel": families.Normal,
    "normal, noise of x": families.Normal,  # per pixel too, dequantized variationally
    "laplace": families.Laplace,
    "student t": families.StudentT,
    "logit-normal": families.LogitNormal,
    "beta": families.Beta,
    "continuous bernoulli": families.ContinuousBernoulli,
}
MASSES = {
    "discretized normal": families.DiscretizedNormal,
    "discretized logistic": families.DiscretizedLogistic,
    "mixture of 5 logistics": families.DiscretizedLogisticMixture,
    "categorical": families.CategoricalLevels,
}


def check() -> None:
    """Every family's 256 probabilities sum to one, for usual and for extreme parameters."""
    torch.manual_seed(SEED)
    x = (torch.arange(256) / 255).double()
    for name, make in MASSES.items():
        family = make().double()
        params = torch.randn(family.num_params, 1000, 1).double() * torch.logspace(-1, 1, 1000).double()[:, None]
        total = family(*params).log_prob(x).exp().sum(-1)  # (1000,)
        worst = (total - 1).abs().max().item()
        print(f"{name}: over 1,000 parameters the sum over the levels differs from 1 by at most {worst:.1e}")
        if not worst < 1e-4:
            raise SystemExit(f"{name} does not sum to one")


def program(data, name):
    """The VAE of a likelihood; a density is dequantized, with noise uniform or from a network of x."""
    torch.manual_seed(SEED)
    likelihood = (DENSITIES | MASSES)[name]()
    vae = pv.vae(data, latent=LATENT, hidden=HIDDEN, likelihood=likelihood)
    if name in MASSES:
        return vae
    noise, shape = None, tuple(data.event_shape)
    if name == "normal, noise of x":
        net = pv.networks.GatedMLP(shape, *NOISE_HIDDEN, families.out_shape(families.logit_normal, shape))
        noise = pv.Conditional(net, families.logit_normal)
    return pv.VAE(vae.prior, pv.Dequantized(vae.decoder, num_levels=256, noise=noise), vae.encoder)


def evaluate(data, name):
    """The evidence of one likelihood, log-probabilities of the levels; its run; seconds of training and of the test."""
    start = time.perf_counter()
    run = pv.fit(
        program(data, name),
        data.train.x[: TRAIN[data.name]],
        validation=data.validation.x[:VALIDATION],
        epochs=EPOCHS[data.name],
        batch_size=BATCH,
        gradient=pv.gradients.path,
        optimizer=functools.partial(torch.optim.Adam, lr=RATE),
        learning_rate=pv.schedules.Cosine(warmup=1),
        max_grad_norm=1000,
        seed=SEED,
    )
    middle = time.perf_counter()
    ev = pv.log_marginal(run.program, data.test.x[:TEST], num_particles=PARTICLES, seed=SEED)
    return ev, run, middle - start, time.perf_counter() - middle


def row(name, ev, run, trained, evaluated):
    """One line of the table, in bits per dimension."""
    bits = ev.bits_per_dim / -ev.mean
    errors = f"{ev.mean_standard_error * bits:12.4f} {ev.mean_sampling_error * bits:9.4f}"
    skipped = sum(run.column("skipped"))
    doubt = f"{100 * ev.share_unreliable:9.1f} %"
    effort = f"{run.best_epoch:6} {skipped:8} {trained:6.0f} s {evaluated:5.0f} s"
    return f"{name:22} {ev.bits_per_dim:8.4f} {errors} {doubt} {effort}"


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is a column
    check()
    columns = ("bits/dim", "Monte Carlo", "sampling", "k-hat high", "epoch", "skipped", "training", "test")
    head = "{:22} {:>8} {:>12} {:>9} {:>11} {:>6} {:>8} {:>8} {:>7}".format("", *columns)
    lines, environment = [], {}
    for name in EPOCHS:
        data = pv.data.load(name, binarization="none")
        evidences, rows = {}, []
        for likelihood in [*DENSITIES, *MASSES]:
            ev, run, trained, evaluated = evaluate(data, likelihood)
            evidences[likelihood], environment = ev, run.manifest["environment"]
            rows.append(row(likelihood, ev, run, trained, evaluated))
            print(f"{name}: {rows[-1]}", flush=True)
        comparison = pv.compare(*evidences.values(), names=list(evidences))
        report.comparison(evidences).savefig(Path(__file__).with_name(f"likelihoods_{name}.png"), dpi=200)
        images = len(data.train.x[: TRAIN[name]])
        title = f"{name}, {len(ev.log_prob):,} test images of {ev.num_dimensions} pixels, {EPOCHS[name]} epochs of "
        lines += [title + f"{images:,} images", "", head, *rows, "", "Paired, in nats per image:", str(comparison), ""]
    setting = [
        f"Batch {BATCH}, Adam at {RATE:g} with a cosine schedule; gated layers {HIDDEN}, latent {LATENT}; the epoch",
        f"with the best validation is kept; {PARTICLES:,} particles, seed {SEED}. Figures are lower bounds on log P,",
        "so upper ones in bits. Those above the discretized ones are densities, dequantized: uniformly, or, as noise",
        "of x, by a logit-normal that sees the image; their particles integrate over the cells of the levels too, so",
        "their bounds are further off. The continuous bernoulli is one of them: a density on [0, 1], no probability",
        "of levels by itself. Knowing nothing costs 8 bits.",
        f"command: {COMMAND}",
        "versions: " + ", ".join(f"{key} {value}" for key, value in environment.items()),
    ]
    text = "\n".join([*lines, *setting]) + "\n"
    print(text)
    Path(__file__).with_suffix(".txt").write_text(text)


if __name__ == "__main__":
    main()
