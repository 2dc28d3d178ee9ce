"""Bags of words, 20 newsgroups: likelihoods of the counts of 2,000 words, and the perplexity of a multinomial VAE.

    OMP_NUM_THREADS=1 python experiments/newsgroups/newsgroups.py

A multinomial says which words a document of n words has, p(x | n); the others say how many of each, n with them, so
only they can be compared with each other in log p(x). Perplexity is exp(-mean log-probability of a word), where the
log-probability of a document's words is log p(x | n) less the logarithm of the number of their orders. It writes
``newsgroups.txt`` and a figure, the latent means of test documents coloured by subject, beside itself.
"""

import functools
import math
import time
import warnings
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import report

LATENT, HIDDEN = 50, (500,)
EPOCHS, BATCH, RATE = 60, 200, 1e-3
WARMUP = 20  # epochs in which the KL's weight rises to 1
TEST, PARTICLES = 2000, 500  # the test documents stand in the order of their groups: these are of the first six
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/newsgroups/newsgroups.py"

COUNTS = {
    "Poisson": lambda: pv.families.Poisson(),
    "negative binomial": lambda: pv.families.NegativeBinomial(),
    "zero-inflated": lambda: pv.families.ZeroInflatedNegativeBinomial(),
}


def evaluate(data, likelihood):
    """The evidence of the test documents under one likelihood; its run; seconds."""
    torch.manual_seed(SEED)
    vae = pv.vae(data, latent=LATENT, hidden=HIDDEN, likelihood=likelihood, network=pv.networks.MLP)
    start = time.perf_counter()
    run = pv.fit(
        vae,
        data,
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=functools.partial(torch.optim.Adam, lr=RATE),
        schedules={"beta": pv.schedules.Warmup(WARMUP)},
        max_grad_norm=100,
        patience=WARMUP,
        seed=SEED,
    )
    ev = pv.log_marginal(run.program, data.test.x[:TEST], num_particles=PARTICLES, seed=SEED)
    return ev, run, time.perf_counter() - start


def perplexity(log_prob, x):
    """exp of minus the mean log-probability of a word, and its standard error over documents (delta method)."""
    n = x.sum(-1).double()
    orders = torch.lgamma(n + 1) - torch.lgamma(x.double() + 1).sum(-1)
    words = log_prob - orders
    mean = words.sum() / n.sum()
    error = ((words - mean * n).std() * math.sqrt(len(n)) / n.sum()).item()
    value = torch.exp(-mean).item()
    return value, value * error


def unigram(data, x):
    """The perplexity of the words' frequencies in the training documents, one added to each count."""
    frequency = (data.train.x.double().sum(0) + 1) / (data.train.x.double().sum() + data.train.x.shape[1])
    return math.exp(-(x.double() @ frequency.log()).sum() / x.sum())


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is printed
    data = pv.data.load("20newsgroups")
    x = data.test.x[:TEST]
    ev, run, seconds = evaluate(data, pv.families.Multinomial(total_count=100))
    value, error = perplexity(ev.log_prob, x)
    print(f"multinomial: perplexity {value:.1f} ± {error:.1f}, {seconds:.0f} s", flush=True)
    figure = report.latents(run.program, x, labels=data.test.labels[:TEST])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=200)
    lines = [
        f"20 newsgroups, first {len(x):,} test documents (of six groups: they stand in order), "
        f"{int(x.sum()):,} words of a vocabulary of {x.shape[1]:,}",
        "",
        f"perplexity of the words' frequencies {unigram(data, x):8.1f}",
        f"perplexity of the multinomial VAE    {value:8.1f}  upper bound; sampling error {error:.1f};",
        f"    log p(x | n) {ev.mean:.3f} nats per document, Monte Carlo error {ev.mean_standard_error:.3f};",
        f"    k-hat too high for {100 * ev.share_unreliable:.1f} %; epoch {run.best_epoch}; {seconds:.0f} s",
        "",
        "Likelihoods of all counts, n with them:",
        "",
    ]
    evidences, times = {}, []
    for name, make in COUNTS.items():
        evidences[name], run, seconds = evaluate(data, make())
        times.append(f"{name} {seconds:.0f} s, epoch {run.best_epoch}")
        print(f"{name}: log p(x) {evidences[name].mean:.3f}; {times[-1]}", flush=True)
    lines += [
        str(pv.compare(*evidences.values(), names=list(evidences))),
        "",
        "training and test: " + "; ".join(times),
        "",
        f"At most {EPOCHS} epochs of batch {BATCH}, the best on validation documents kept; Adam at {RATE:g}, KL",
        f"warm-up over {WARMUP} epochs; layers {HIDDEN}, latent {LATENT}; {PARTICLES} particles, seed {SEED}.",
        "Log-likelihoods are lower bounds in expectation.",
        f"command: {COMMAND}",
        "versions: " + ", ".join(f"{key} {each}" for key, each in run.manifest["environment"].items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".txt").write_text(text)


if __name__ == "__main__":
    main()
