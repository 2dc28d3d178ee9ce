"""The commands, their options and what their help says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pyrovae import __version__
from pyrovae.cli import commands, records
from pyrovae.errors import PyrovaeError
from pyrovae.evidence.options import METHODS
from pyrovae.nearest import nearest

TRAIN = """\
Any other option overrides a key of the config, by its path; init_args may be left out:

  pyrovae train experiments/mnist/vae.yaml --fit.epochs 20 --program.latent 20
  pyrovae train config.yaml --program.prior pyrovae.recipes.Vamp --program.prior.num_pseudo_inputs 200
  pyrovae train config.yaml --fit.objective pyrovae.objectives.iwae --fit.num_particles 10
  pyrovae train config.yaml --data.name my_images/ --print_config

The keys are seed, data (the arguments of pyrovae.data.load), conditional (whether the labels are given), program (a
recipe), fit (the options of pyrovae.fit) and evaluate (those of pyrovae.log_marginal). A class or function stands by
its import path, with its arguments under init_args. Only pyrovae, torch.nn and torch.optim are imported, unless
--trust names a package; data.name may then be a function of that package, which returns a pyrovae.data.Data."""

EVALUATE = """\
Estimates log p(x) of every datum, prints the table and writes it into the run's directory, by each method into files of
its own. Importance sampling is quick; where its k-hat is too high, annealing tells more. A tolerance, in nats, decides
datum by datum. Options of another method than that of the config's section evaluate start from their defaults:

  pyrovae evaluate runs/vae
  pyrovae evaluate runs/vae --split validation --num_particles 500
  pyrovae evaluate runs/vae --method annealed --num_steps 300 --num_particles 16
  pyrovae evaluate runs/vae --tolerance 0.1

What is done is kept in the run's directory, in a file that ends in .unfinished: where it was stopped, the same command
goes on."""

SANDWICH = """\
Draws data from the trained program, so that draws from their posteriors are known, and bounds their log p(x) from both
sides (bidirectional Monte Carlo). In expectation, the gap bounds what evaluate misses of such data, by the same method
with as many particles and steps; these are by default those of the config's section evaluate, where the method is its:

  pyrovae sandwich runs/vae
  pyrovae sandwich runs/vae --num_data 50 --num_steps 1000 --num_particles 16
  pyrovae sandwich runs/vae --method importance --num_particles 5000"""

SAMPLE = """\
Writes the draws, and a figure of them beside, into the run's directory or to --output: images as arrays (.npz, with
the draws as x and the mean of p(x | z) as mean), tables as .csv in the data's own units, texts as .txt.

  pyrovae sample runs/vae
  pyrovae sample runs/conditional --given 3 8 --num_samples 20
  pyrovae sample runs/table --num_samples 10000 --output synthetic.csv"""

RECONSTRUCT = """\
Encodes data to the mean of q(z | x), decodes that, and writes data and reconstructions, with a figure, as sample does:

  pyrovae reconstruct runs/vae
  pyrovae reconstruct runs/vae --split validation --rows 3 100:120 --output some.npz"""

REPORT = """\
One page that needs no other file: curves, samples, reconstructions, the latent space, and the log-likelihood with its
errors where the run was evaluated. A run that was interrupted, or is still going on, can be reported too.

  pyrovae evaluate runs/vae && pyrovae report runs/vae"""

COMPARE = """\
Paired differences in log p(x), datum by datum, each run's minus the first's, with their standard errors. All must have
been evaluated on the same data, row by row; standardised or not, what is compared is in the data's own units:

  pyrovae evaluate runs/vae && pyrovae evaluate runs/vamp
  pyrovae compare runs/vae runs/vamp --output vae-vamp.png
  pyrovae compare runs/vae runs/vamp --method annealed

One run alone is compared with itself, by the methods by which it was evaluated:

  pyrovae evaluate runs/vae && pyrovae evaluate runs/vae --method annealed
  pyrovae compare runs/vae"""

DATA = """\
  pyrovae data             all data sets, where they are, and how to get those that are not there
  pyrovae data mnist       one of them in full; the checksums of its files are verified

Files are looked for in the folder that PYROVAE_DATA names, then in the cache. Your own data need no name here: a folder
of images, a .csv, an .npy or .npz stands in a config by its path."""


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The words of the command line; what ``train`` and ``demo`` do not know themselves are overrides of the config.

    Raises:
        PyrovaeError: an unknown command, option or choice, with the nearest known one.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    words, rest = _parser().parse_known_args(argv)
    if rest and words.name not in ("train", "demo"):
        raise PyrovaeError(f"{rest[0]}: no such option of {words.name}{nearest(rest[0], words.known)}; "
                           f"see pyrovae {words.name} --help")  # fmt: skip
    if words.name == "train":
        _check_first(words.config, rest, argv)
    words.overrides = rest
    return words


def _check_first(config: str, overrides: Sequence[str], argv: Sequence[str]) -> None:
    """What stands behind an override is its value, and not the config for which argparse takes it."""
    before = argv[argv.index(config) - 1]
    if before in overrides and before.startswith("--") and "=" not in before:
        raise PyrovaeError(f"CONFIG comes first, and what overrides it behind: pyrovae train CONFIG {before} {config}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PyrovaeError(f"{message}; see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = nearest(str(value), known) or f"; there are {', '.join(known)}"
            raise argparse.ArgumentError(action, f"there is no {value!r}{hint}")


def _parser() -> _Parser:
    parser = _Parser(
        prog="pyrovae", description="Variational autoencoders as Pyro programs.", allow_abbrev=False,
        epilog="pyrovae COMMAND --help shows examples. What a newcomer runs first: pyrovae demo",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"pyrovae {__version__}")
    made = parser.add_subparsers(dest="name", required=True, metavar="command", parser_class=_Parser)

    def command(function: Callable[..., None], text: str, epilog: str | None = None) -> _Parser:
        options: dict[str, Any] = {"epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}
        one: _Parser = made.add_parser(function.__name__, help=text, description=text, allow_abbrev=False, **options)
        one.set_defaults(command=function)
        return one

    demo = command(commands.demo, "train and evaluate a small VAE on scikit-learn's digits")
    train = command(commands.train, "train what a config describes", TRAIN)
    evaluate = command(commands.evaluate, "estimate the log-likelihood of a trained run", EVALUATE)
    sandwich = command(commands.sandwich, "bound the log-likelihood of simulated data from both sides", SANDWICH)
    sample = command(commands.sample, "draw from a trained run", SAMPLE)
    reconstruct = command(commands.reconstruct, "set data beside what a trained run makes of them", RECONSTRUCT)
    report = command(commands.report, "write a run's report.html", REPORT)
    compare = command(commands.compare, "compare the log-likelihoods of runs, or methods, datum by datum", COMPARE)
    data = command(commands.data, "list the data sets, and where they are", DATA)
    command(commands.board, "list every prior, likelihood, posterior and network, with equation and source")

    train.add_argument("config", metavar="CONFIG", help="a YAML file; a run's config.yaml repeats that run")
    for each in (demo, train):
        each.add_argument("--directory", help="of the run; by default the first of runs/NAME, runs/NAME-2, ...")
    train.add_argument("--print_config", action="store_true", help="print the config with every default, and stop")

    for each in (evaluate, sandwich, sample, reconstruct, report):
        each.add_argument("run", metavar="RUN", help="the directory of a run")
        each.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    for each in (evaluate, report, compare):
        each.add_argument("--split", choices=("test", "validation"), default="test")
    for each in (evaluate, sandwich, sample):
        each.add_argument("--seed", type=int, help="by default the config's")
    for each in (sample, reconstruct, report):
        each.add_argument("--output", metavar="FILE", help="by default a file in the run's directory")
    for each in (train, evaluate, sandwich, sample, reconstruct, report):
        each.add_argument(
            "--trust", nargs="+", action="extend", default=[], metavar="PACKAGE",
            help="import and run code of this package too, from the working directory if it is there",
        )  # fmt: skip

    evaluate.add_argument("--method", choices=METHODS, help="by default the config's")
    evaluate.add_argument("--tolerance", type=float, metavar="NATS", help="of each datum's error, in place of a method")
    sandwich.add_argument("--num_data", type=int, default=100, help="how many to simulate, by default 100")
    sandwich.add_argument("--method", choices=("annealed", "importance"), help="by default annealed")
    for each in (evaluate, sandwich):
        each.add_argument("--num_particles", type=int, help="particles, or chains, per datum")
        each.add_argument("--num_steps", type=int, help="temperatures of each chain")
    sample.add_argument("-n", "--num_samples", type=int, default=64, help="how many draws, by default 64")
    sample.add_argument("--given", nargs="+", default=[], metavar="LABEL", help="of a conditional run, taken in turn")
    reconstruct.add_argument("--split", choices=("train", "validation", "test"), default="test")
    reconstruct.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="numbers from 0, or ranges 20:40")
    compare.add_argument("runs", metavar="RUN", nargs="+", help="directories of runs; the first is the reference")
    compare.add_argument("--method", choices=records.METHODS,
                         help="by default the first of these by which all were evaluated")  # fmt: skip
    compare.add_argument("--output", metavar="FILE", help="draw the differences too, into this .png")
    data.add_argument("dataset", metavar="NAME", nargs="?", help="show this one in full, and verify its checksums")
    for one in made.choices.values():
        one.set_defaults(known=[option for action in one._actions for option in action.option_strings])
    return parser
