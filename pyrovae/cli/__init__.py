"""The command line: ``pyrovae demo | train | evaluate``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pyrovae import __version__
from pyrovae.errors import PyrovaeError
from pyrovae.evidence import EvidenceWarning


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 2 for an error (one line on stderr), 130 on Ctrl-C, 143 on SIGTERM."""
    try:
        with _plain_warnings(), _termination_raises():
            arguments, overrides = _parser().parse_known_args(argv)
            arguments.command(arguments, overrides)
            return 0
    except (PyrovaeError, OSError) as error:
        print("pyrovae: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pyrovae: interrupted", file=sys.stderr)
        return 130
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0


def _demo(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from pyrovae.cli.config import trusting
    from pyrovae.cli.demo import demo

    with trusting([]):
        demo(arguments.directory, overrides)


def _train(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from pyrovae.cli.config import trusting
    from pyrovae.cli.experiment import Experiment
    from pyrovae.cli.train import say, train

    with trusting(arguments.trust), _importable(arguments.trust):
        experiment = Experiment(Path(arguments.config), overrides, tuple(arguments.trust))
        if arguments.print_config:
            say(experiment.text.rstrip())
            return
        path = train(experiment, name=Path(arguments.config).stem, directory=arguments.directory)
        say(f"next: pyrovae evaluate {path}")


def _evaluate(arguments: argparse.Namespace, overrides: list[str]) -> None:
    from pyrovae.cli.config import trusting
    from pyrovae.cli.evaluate import evaluate

    if overrides:
        raise PyrovaeError(f"{overrides[0]}: no such option of evaluate; see pyrovae evaluate --help")
    options = {name: getattr(arguments, name) for name in ("split", "device", "num_particles", "seed")}
    with trusting(arguments.trust), _importable(arguments.trust):
        evaluate(arguments.run, trust=tuple(arguments.trust), **options)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PyrovaeError(f"{message}; see {self.prog} --help")


def _parser() -> _Parser:
    parser = _Parser(prog="pyrovae", description="Variational autoencoders as Pyro programs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"pyrovae {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="command", parser_class=_Parser)

    def command(function: Any, name: str, text: str, epilog: str | None = None) -> _Parser:
        formatter = argparse.RawDescriptionHelpFormatter
        options: dict[str, Any] = {"epilog": epilog, "formatter_class": formatter, "allow_abbrev": False}
        made: _Parser = commands.add_parser(name, help=text, description=text, **options)
        made.set_defaults(command=function)
        return made

    demo = command(_demo, "demo", "train and evaluate a small VAE on scikit-learn's digits")
    train = command(_train, "train", "train what a config describes", TRAIN)
    evaluate = command(_evaluate, "evaluate", "estimate the log-likelihood of a trained run")

    train.add_argument("config", metavar="CONFIG", help="a YAML file; a run's config.yaml repeats that run")
    for each in (demo, train):
        each.add_argument("--directory", help="of the run; by default the first of runs/NAME, runs/NAME-2, ...")
    train.add_argument("--print_config", action="store_true", help="print the config with every default, and stop")

    evaluate.add_argument("run", metavar="RUN", help="the directory of a run")
    evaluate.add_argument("--num_particles", type=int, help="particles per datum; by default the config's")
    evaluate.add_argument("--seed", type=int, help="by default the config's")
    evaluate.add_argument("--split", choices=("test", "validation"), default="test")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    for each in (train, evaluate):
        each.add_argument(
            "--trust", nargs="+", action="extend", default=[], metavar="PACKAGE",
            help="import and run code of this package too, from the working directory if it is there",
        )  # fmt: skip
    return parser


TRAIN = """\
Any other option overrides a key of the config, by its path; init_args may be left out:

  pyrovae train experiments/mnist/vae.yaml --fit.epochs 20 --program.latent 20
  pyrovae train config.yaml --program.prior pyrovae.recipes.Vamp --program.prior.num_pseudo_inputs 200

The keys are seed, data (the arguments of pyrovae.data.load), conditional (whether the labels are given), program (a
recipe), fit (the options of pyrovae.fit) and evaluate (those of pyrovae.log_marginal). A class or function stands by
its import path, with its arguments under init_args. Only pyrovae, torch.nn and torch.optim are imported, unless
--trust names a package."""


@contextmanager
def _importable(packages: Sequence[str]) -> Iterator[None]:
    """Trusted packages may lie in the working directory, where a console script does not look by itself."""
    before = list(sys.path)
    if packages:
        sys.path.append(os.getcwd())  # last, so that nothing there stands in for what is installed
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings of pyrovae's estimates in one line, once, without the line of code that a notebook would want."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
            if issubclass(category, EvidenceWarning):
                print("pyrovae: warning:", " ".join(str(message).split()), file=sys.stderr)
            else:
                shown(message, category, *where, **more)

        warnings.filterwarnings("always", category=EvidenceWarning)
        warnings.showwarning = show
        yield


@contextmanager
def _termination_raises() -> Iterator[None]:
    """SIGTERM as SystemExit(143), on which ``fit`` saves its weights before the program ends."""
    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
