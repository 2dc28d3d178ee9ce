"""Every estimator of log p(x) on programs whose log p(x) is known: are errors as large as their standard errors say?

    OMP_NUM_THREADS=1 python experiments/evidence/solvable.py [OUTPUT]

OUTPUT is a folder, by default this script's; it writes solvable.txt. The programs and estimators are those of
the tests, tests/evidence/solvable.py and estimators.py, which say what each is.
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/evidence")]  # the tests' table, which is no package
from estimators import ESTIMATORS, HALF, LEVEL, SANDWICHES, SHARE, STRAY, found, p_values, sides  # noqa: E402

from pyrovae.lines import aligned  # noqa: E402
from pyrovae.training.run import environment  # noqa: E402

COMMAND = "OMP_NUM_THREADS=1 python experiments/evidence/solvable.py"
HEAD = ["trusted", "mean error", "s.e.", "largest |z|", "p, KS", "p, chi2", "verdict"]

EXPLAINED = f"""Estimators of log p(x) on programs whose log p(x) is known

trusted: the share of the data where k-hat < 0.5 and ESS > 200; by annealing, where four runs of 16 chains tell the mean
to 0.1 nats (after 2 steps also: k-hat is below its threshold); to a tolerance, where it was reached.
z: (p-hat - p) / standard error of p-hat, of the data that are trusted. p: of the hypothesis that all z are standard
normal, by Kolmogorov and Smirnov and by sum z^2 from both sides.
normal: at least {100 * SHARE:.0f} % are trusted, and both p are above {LEVEL}. flagged: less than {100 * STRAY:.0f} % \
are trusted. exact: to 1e-9 nats.
Errors are in nats, their mean is over all data, trusted or not; p-hat is unbiased, so log p-hat is too low by about
half its squared error. A sandwich simulates its own 300 data; crossed by: the most standard errors by which any two of
lower, log p and upper are in wrong order.""".splitlines()


def row(estimator, program):
    result = found(estimator, program)
    figures = [f"{100 * result.share:.0f} %", f"{result.mean_error:+.4f}", f"{result.evidence.mean_standard_error:.4f}"]
    if result.exact or not result.trusted.any():
        return [*figures, "", "", "", result.verdict]
    tests = [f"{p:.2g}" for p in p_values(result.errors)] if result.fair else ["", ""]
    return [*figures, f"{result.errors.abs().max():.1f}", *tests, result.verdict]


def sandwiched(method, program):
    gaps = sides(method, program)
    figures = [f"{part.mean():+.4f} +- {part.std() / len(part) ** 0.5:.4f}" for part in gaps]
    worst = max(gaps.crossings().values())
    return [program, *figures, f"{max(worst, 0):.1f}", "CROSSED" if worst > 4 else "in order"]


def estimated(name, estimator):
    rows = [[program, *row(name, program)] for program in estimator.programs]
    return ["", *aligned([[f"{name}; {estimator.num_data} data", *HEAD], *rows], right=range(1, 7))]


def table():
    for name, estimator in ESTIMATORS.items():
        yield from estimated(name, estimator)
    for method, (options, programs) in SANDWICHES.items():
        asked = ", ".join(f"{key} {value}" for key, value in options.items())
        head = [f"sandwich, {method}, {asked}", "log p - lower", "upper - log p", "reverse upper - log p", "crossed by"]
        rows = [sandwiched(method, program) for program in programs]
        yield from ["", *aligned([[*head, "verdict"], *rows], right=range(1, 5))]
    pair = [[name, *row(name, HALF)] for name in ("importance, 1,000 particles", "annealed, 150 steps")]
    over = (found(pair[0][0], HALF).evidence.pareto_k > 0.5).double().mean()
    yield from ["", *aligned([[f"a deliberately bad guide: {HALF}", *HEAD], *pair], right=range(1, 7))]
    yield f"Importance sampling has k-hat above 0.5 for {100 * over:.0f} % of these data."


def main() -> None:
    torch.set_default_dtype(torch.float64)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    lines = [*EXPLAINED, *table(), "", f"command: {COMMAND}"]
    lines += ["versions: " + ", ".join(f"{key} {value}" for key, value in environment().items())]
    text = "\n".join(lines) + "\n"
    print(text)
    (folder / "solvable.txt").write_text(text)


if __name__ == "__main__":
    main()
