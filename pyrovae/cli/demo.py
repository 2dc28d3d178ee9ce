"""``pyrovae demo``: a small VAE on scikit-learn's digits, from nothing to a log-likelihood, in half a minute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from pyrovae.cli.evaluate import evaluate
from pyrovae.cli.experiment import Experiment
from pyrovae.cli.stored import Stored
from pyrovae.cli.train import train
from pyrovae.cli.words import say

CONFIG = Path(__file__).with_name("demo.yaml")


def demo(directory: str | None = None, overrides: Sequence[str] = ()) -> Path:
    """Train, evaluate, draw; returns the run's directory."""
    experiment = Experiment(CONFIG, overrides)
    say("A variational autoencoder on scikit-learn's handwritten digits")
    with _one_thread():
        path = train(experiment, name="demo", directory=directory)
        evaluate(Stored.at(str(path)), device="cpu")
    say(f"\nIn {path}:")
    for name, what in FILES.items():
        say(f"  {name:<22} {what}")
    say(f"Next: pyrovae report {path}")
    say(f"      pyrovae sample {path}")
    say(f"      pyrovae train {path / 'config.yaml'} --program.prior pyrovae.recipes.Vamp")
    return path


FILES = {
    "samples.png": "images drawn from the prior",
    "reconstructions.png": "test images and what the program makes of them",
    "learning_curve.png": "the objective over the epochs",
    "evidence.png": "how log p(x) and k-hat are spread over the test images",
    "evidence.json": "the table above; per image in evidence.safetensors",
    "program.safetensors": "the trained program: pyrovae.load(...) gives it back",
    "config.yaml": "the whole run as a config; manifest.json says where it ran, history.jsonl how it went",
}


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a program gains nothing by a second thread, and loses much where another process wants it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
