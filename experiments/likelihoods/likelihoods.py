"""Likelihoods of grey images in bits per dimension, comparable with each other: Frey faces and Fashion-MNIST.

    OMP_NUM_THREADS=1 python experiments/likelihoods/likelihoods.py

An image is D levels k in 0 .. 255, and every figure is about the probability P(k) of these levels. Half of the
likelihoods are such probabilities. The others are densities p of dequantized values v = (k + u) / 256, u uniform in
[0, 1): by Jensen's inequality E_u log p(v) - D log 256 <= log P(k), with one draw of u per test image, the same for
all. So the densities pay for a bound that the probabilities do not pay for. It writes ``likelihoods.txt`` and one
figure per data set beside itself.
"""

import functools
import math
import time
import warnings
from pathlib import Path

import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import constraints
from torch.nn.functional import cross_entropy, logsigmoid

import pyrovae as pv
from pyrovae import report

EPOCHS = {"freyfaces": 100, "fashion_mnist": 5}
LATENT, HIDDEN = 20, (300, 300)
BATCH, RATE = 128, 1e-3
FEATURES = 8  # numbers per pixel from which the categorical's 256 logits are made
VALIDATION, TEST, PARTICLES = 500, 500, 200
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/likelihoods/likelihoods.py"
HALF = 0.5 / 255  # half a cell, for grey values x = k / 255


class Levels(dist.TorchDistribution):
    """A probability of each level, for grey values x = k / 255: ``log_mass(x)`` says log P(x), elementwise."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(self, log_mass, batch_shape):
        self.log_mass = log_mass
        super().__init__(batch_shape, validate_args=False)

    def expand(self, batch_shape, _instance=None):
        return Levels(self.log_mass, torch.Size(batch_shape))

    def log_prob(self, x):
        return self.log_mass(x)


class DiscretisedLogistic(pv.families.Family):
    """P = sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(a - b)), so that no difference is ever taken."""

    num_params = 2

    def forward(self, loc, raw_scale):
        def log_mass(x):
            a, b, first, last = cell(x, loc, pv.families.positive(raw_scale))
            width = torch.log(-torch.expm1(a - b)).masked_fill(first | last, 0.0)
            return logsigmoid(b).masked_fill(last, 0.0) + logsigmoid(-a).masked_fill(first, 0.0) + width

        return Levels(log_mass, loc.shape)


class DiscretisedNormal(pv.families.Family):
    """P = Phi(b) - Phi(a), mirrored into the lower tail where Phi is small and its logarithm exact."""

    num_params = 2

    def forward(self, loc, raw_scale):
        def log_mass(x):
            a, b, first, last = cell(x, loc, pv.families.positive(raw_scale))
            upper = a + b > 0
            low, high = torch.where(upper, -b, a), torch.where(upper, -a, b)  # Phi(b) - Phi(a) = Phi(-a) - Phi(-b)
            log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
            inner = log_high + torch.log(-torch.expm1((log_low - log_high).clamp(max=-1e-6)))
            ends = torch.where(first, torch.special.log_ndtr(b), torch.special.log_ndtr(-a))
            return torch.where(first | last, ends, inner)

        return Levels(log_mass, loc.shape)


class CategoricalLevels(pv.families.Family):
    """256 logits per pixel, a shared linear map of a few features: nothing is said about which levels are close."""

    num_params = FEATURES

    def __init__(self):
        super().__init__()
        self.logits = nn.Linear(FEATURES, 256)

    def forward(self, *features):
        logits = self.logits(torch.stack(features, -1))

        def log_mass(x):  # cross_entropy needs half the time of Categorical.log_prob
            levels = (255 * x).round().long().expand(logits.shape[:-1])
            return -cross_entropy(logits.reshape(-1, 256), levels.reshape(-1), reduction="none").view(levels.shape)

        return Levels(log_mass, logits.shape[:-1])


def cell(x, loc, scale):
    """A level's standardised edges a < b, and where the cell is the first or the last, which reach to infinity."""
    return (x - HALF - loc) / scale, (x + HALF - loc) / scale, x < HALF, x > 1 - HALF


def dequantize(x):
    """v = (k + u) / 256 from x = k / 255."""
    return ((255 * x).round() + torch.rand_like(x)) / 256


DENSITIES = {
    "normal, scale 0.1": lambda: pv.families.FixedScaleNormal(0.1),
    "normal, one scale": lambda: pv.families.SharedScaleNormal(0.1),
    "normal, per pixel": lambda: pv.families.normal,
}
MASSES = {
    "discretised normal": DiscretisedNormal,
    "discretised logistic": DiscretisedLogistic,
    "categorical": CategoricalLevels,
}


def check() -> None:
    """Every family's 256 probabilities sum to one, for usual and for extreme parameters."""
    torch.manual_seed(SEED)
    x = (torch.arange(256) / 255).double()
    for name, make in MASSES.items():
        family = make().double()
        params = torch.randn(family.num_params, 1000, 1).double() * torch.logspace(-1, 1, 1000).double()[:, None]
        total = family(*params.expand(-1, -1, 256)).log_prob(x).exp().sum(-1)  # (1000,)
        worst = (total - 1).abs().max().item()
        print(f"{name}: over 1,000 parameters the sum over the levels differs from 1 by at most {worst:.1e}")
        if not worst < 1e-5:
            raise SystemExit(f"{name} does not sum to one")


def evaluate(data, name):
    """The evidence of one likelihood, log-probabilities of the levels; its run; seconds of training and of the test."""
    torch.manual_seed(SEED)
    density = name in DENSITIES
    likelihood = DENSITIES[name]() if density else MASSES[name]()
    vae = pv.vae(data, latent=LATENT, hidden=HIDDEN, likelihood=likelihood)
    torch.manual_seed(SEED)  # the same noise for every density
    test, validation = data.test.x[:TEST], data.validation.x[:VALIDATION]
    if density:
        test, validation = dequantize(test), dequantize(validation)
    start = time.perf_counter()
    run = pv.fit(
        vae,
        data.train.x,
        draw=dequantize if density else None,
        validation=validation,
        epochs=EPOCHS[data.name],
        batch_size=BATCH,
        gradient=pv.gradients.path,
        optimizer=functools.partial(torch.optim.Adam, lr=RATE),
        learning_rate=pv.schedules.Cosine(warmup=1),
        max_grad_norm=1000,
        seed=SEED,
    )
    middle = time.perf_counter()
    cells = test[0].numel() * math.log(256) if density else 0.0
    ev = pv.log_marginal(run.program, test, num_particles=PARTICLES, seed=SEED, log_jacobian=-cells)
    return ev, run, middle - start, time.perf_counter() - middle


def row(name, ev, run, trained, evaluated):
    """One line of the table, in bits per dimension."""
    bits = 1 / (ev.num_dimensions * math.log(2))
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
        title = f"{name}, {len(ev.log_prob):,} test images of {ev.num_dimensions} pixels, {EPOCHS[name]} epochs"
        lines += [title, "", head, *rows, "", "Paired, in nats per image:", str(comparison), ""]
    setting = [
        f"Batch {BATCH}, Adam at {RATE:g} with a cosine schedule; gated layers {HIDDEN}, latent {LATENT}; the epoch",
        f"with the best validation is kept; {PARTICLES:,} particles, seed {SEED}. Figures are lower bounds on log P,",
        "so upper ones in bits; the normals, densities of dequantized values, are bounded by Jensen's inequality too,",
        "with one draw of noise.",
        "Knowing nothing costs 8 bits.",
        f"command: {COMMAND}",
        "versions: " + ", ".join(f"{key} {value}" for key, value in environment.items()),
    ]
    text = "\n".join([*lines, *setting]) + "\n"
    print(text)
    Path(__file__).with_suffix(".txt").write_text(text)


if __name__ == "__main__":
    main()
