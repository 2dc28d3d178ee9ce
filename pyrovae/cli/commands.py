"""From the words of a command to the function that does it; what it needs is imported when it is called."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrovae.cli.words import say

if TYPE_CHECKING:
    from pyrovae.cli.stored import Stored


def demo(words: Namespace) -> None:
    from pyrovae.cli.demo import demo

    demo(words.directory, words.overrides)


def train(words: Namespace) -> None:
    from pyrovae.cli.experiment import Experiment
    from pyrovae.cli.train import train

    experiment = Experiment(Path(words.config), words.overrides, tuple(words.trust))
    if words.print_config:
        say(experiment.text.rstrip())
        return
    path = train(experiment, name=Path(words.config).stem, directory=words.directory)
    say(f"next: pyrovae evaluate {path}{_trusting(words)}")


def evaluate(words: Namespace) -> None:
    from pyrovae.cli.evaluate import evaluate

    options = ("method", "num_particles", "num_steps", "tolerance", "seed")
    evaluate(_stored(words), **_options(words, "split", "device", *options))
    split = "" if words.split == "test" else f" --split {words.split}"
    say(f"next: pyrovae report {words.run}{split}{_trusting(words)}")


def sandwich(words: Namespace) -> None:
    from pyrovae.cli.sandwich import sandwich

    options = ("num_data", "method", "num_particles", "num_steps", "seed")
    sandwich(_stored(words), **_options(words, "device", *options))
    say(f"next: pyrovae report {words.run}{_trusting(words)}")


def sample(words: Namespace) -> None:
    from pyrovae.cli.sample import sample

    sample(_stored(words), **_options(words, "num_samples", "seed", "given", "output", "device"))


def reconstruct(words: Namespace) -> None:
    from pyrovae.cli.reconstruct import reconstruct

    reconstruct(_stored(words), **_options(words, "split", "rows", "output", "device"))


def report(words: Namespace) -> None:
    from pyrovae.cli.report import report

    report(_stored(words), **_options(words, "split", "device", "output"))


def compare(words: Namespace) -> None:
    from pyrovae.cli.compare import compare

    compare(words.runs, **_options(words, "split", "method", "output"))


def data(words: Namespace) -> None:
    from pyrovae.cli.datasets import every, one

    every() if words.dataset is None else one(words.dataset)


def board(words: Namespace) -> None:
    from pyrovae.board import SLOTS, table
    from pyrovae.lines import aligned

    for slot in SLOTS:
        say("\n".join(aligned(table(slot))) + "\n")


def _stored(words: Namespace) -> Stored:
    from pyrovae.cli.stored import Stored

    return Stored.at(words.run, tuple(words.trust))


def _options(words: Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(words, name) for name in names}


def _trusting(words: Namespace) -> str:
    return f" --trust {' '.join(words.trust)}" if words.trust else ""
