"""What importance sampling and the ELBO miss of log p(x), for a VAE and an IWAE: paired, on MNIST.

    OMP_NUM_THREADS=1 python experiments/evidence/pairs.py VAE IWAE [OUTPUT]

VAE and IWAE are the directories of ``pyrovae train experiments/evidence/vae.yaml`` and ``iwae.yaml``, which differ in
the objective alone (the IWAE's has 50 particles); OUTPUT is a folder, by default this script's. On the same images: the
ELBO, the importance bound with 5,000 particles and annealing; it writes pairs.txt.
"""

import sys
import warnings
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae.lines import aligned
from pyrovae.training.run import environment

TEST = 500  # images
PARTICLES, CHAINS, STEPS = 5_000, 16, 300
ELBO = 200  # particles
SEED = 0
COMMAND = "OMP_NUM_THREADS=1 python experiments/evidence/pairs.py VAE IWAE"


def elbo(program, x):
    """The ELBO of every image, (N,)."""
    torch.manual_seed(SEED)
    program.eval()
    with torch.no_grad():
        terms = (pv.log_terms(program, rows, num_particles=ELBO) for rows in x.split(20))
        return torch.cat([pv.objectives.elbo(t) for t in terms]).double()


def mean(values):
    return [f"{values.mean():+.3f}", f"{values.std() / len(values) ** 0.5:.3f}"]


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)  # the share of doubtful data is in the tables
    folder = Path(sys.argv[3] if len(sys.argv) > 3 else __file__).resolve()
    folder = folder if folder.is_dir() else folder.parent
    x = pv.data.load("mnist", binarization="dynamic", validation=1000).test.x[:TEST]
    gaps, tables = {}, []
    for name, run in zip(("VAE", "IWAE"), sys.argv[1:3], strict=True):
        program = pv.load(Path(run) / "program.safetensors")
        bound = elbo(program, x)
        importance = pv.log_marginal(program, x, num_particles=PARTICLES, seed=SEED)
        annealed = pv.log_marginal(program, x, method="annealed", num_particles=CHAINS, num_steps=STEPS, seed=SEED)
        gaps[name] = (annealed.log_prob - bound, annealed.log_prob - importance.log_prob)
        tables += [name, str(importance), "", str(annealed), ""]
        print(*tables[-5:], sep="\n", flush=True)
    rows = [["paired over the images, nats", "AIS - ELBO", "error", "AIS - IS", "error"]]
    rows += [[name, *mean(first), *mean(second)] for name, (first, second) in gaps.items()]
    differences = [a - b for a, b in zip(gaps["VAE"], gaps["IWAE"], strict=True)]
    rows += [["VAE less IWAE", *mean(differences[0]), *mean(differences[1])]]
    lines = [
        f"VAE and IWAE (50 particles) on the first {TEST} test images of MNIST",
        "",
        *aligned(rows, right=range(1, 5)),
        "",
        f"AIS: {CHAINS} chains of {STEPS} steps; IS: {PARTICLES:,} particles; ELBO: {ELBO} particles; seed {SEED}.",
        "Errors: of the mean over images, Monte Carlo's included. One training run of each.",
        "",
        *tables,
        f"command: {COMMAND}, by pyrovae train experiments/evidence/vae.yaml and iwae.yaml",
        "versions: " + ", ".join(f"{key} {value}" for key, value in environment().items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (folder / "pairs.txt").write_text(text)


if __name__ == "__main__":
    main()
