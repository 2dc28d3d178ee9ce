"""Two runs datum by datum: how much better does one explain the same test images, and how sure is that?

    pyrovae train experiments/mnist/vae.yaml --directory runs/vae && pyrovae evaluate runs/vae
    pyrovae train experiments/mnist/vamp.yaml --directory runs/vamp && pyrovae evaluate runs/vamp
    python experiments/mnist/compare.py runs/vamp runs/vae

Images differ in difficulty far more than two models differ on one image, so the difference is taken per image: its
standard error is several times smaller than that of either mean.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

RUNS = ("runs/vamp", "runs/vae")  # the difference is first minus second; the command line may name two others
NAME = "evidence"  # of the two files that `pyrovae evaluate` writes; evidence-validation for that split
WIDTH = 26

runs = sys.argv[1:3] if len(sys.argv) == 3 else RUNS
evidence, about = [], []
for run in runs:
    if not Path(run, f"{NAME}.json").exists():
        sys.exit(f"compare: {run} holds no {NAME}.json; first: pyrovae evaluate {run}")
    evidence.append(load_file(Path(run, f"{NAME}.safetensors")))  # per datum
    about.append(json.loads(Path(run, f"{NAME}.json").read_text()))
for key in ("split", "data"):
    if about[0][key] != about[1][key]:
        sys.exit(f"compare: the runs were evaluated on different images: {about[0][key]} and {about[1][key]}")

a, b = evidence
difference = a["log_prob"] - b["log_prob"]  # (N,) nats
N = len(difference)
total = (difference.std() / math.sqrt(N)).item()
# Other particles would move each image's difference by its two standard errors, which are independent of each other.
monte_carlo = (a["standard_error"].square() + b["standard_error"].square()).sum().sqrt().item() / N
sampling = math.sqrt(max(total**2 - monte_carlo**2, 0.0))  # what is left: other images would have come out differently
excess = torch.maximum(a["pareto_k"] - about[0]["pareto_k_threshold"], b["pareto_k"] - about[1]["pareto_k_threshold"])
doubtful = (excess > 0).double().mean().item()

print(f"{N:,} {about[0]['split']} images of {about[0]['data']['name']}, log-likelihoods in nats per image\n")
for run, e in zip(runs, evidence, strict=True):
    error = (e["log_prob"].std() / math.sqrt(N)).item()
    print(f"{run:<{WIDTH}} {e['log_prob'].mean().item():10.3f}   standard error {error:.3f}")
print(f"{'difference, per image':<{WIDTH}} {difference.mean().item():+10.3f}   standard error {total:.3f}")
print(f"{'  of it, the images':<{WIDTH}} {'':10}   sampling       {sampling:.3f}")
print(f"{'  of it, the particles':<{WIDTH}} {'':10}   Monte Carlo    {monte_carlo:.3f}")
print(f"\nThe first run is ahead on {100 * (difference > 0).double().mean().item():.1f} % of the images.")
if doubtful:
    print(
        f"For {100 * doubtful:.1f} % of the images k-hat is above its threshold in one of the runs. There the figures "
        "are lower\nbounds of unknown slack and the Monte Carlo error understates; more particles settle it."
    )
