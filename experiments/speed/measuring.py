"""The measurements: a cell of training, a cell of evaluation, scaling curves, peak memory. Each gives plain JSON."""

import math
import sys
import time
from dataclasses import asdict, replace
from statistics import median

from contestants import ANNEALING, EVALUATION, HAND, SCALED, TRAINING, WEIGHTED, named, present
from memory import measure
from rounds import turns
from work import held_out, start


def say(*words):
    """Progress, on the terminal."""
    print(*words, file=sys.stderr, flush=True)


def runners(contestants):
    """The functions of those that are installed, and why the others are not, by name."""
    functions, absent = present(contestants)
    for name, reason in absent.items():
        say(f"left out: {name} ({reason})")
    return functions, absent


def train(work, images, *, rounds, seed, contestants=TRAINING):
    """One cell: every contestant trains anew in every round, from the same weights."""
    work = replace(work, shape=images.shape)
    functions, absent = runners(named(contestants, WEIGHTED) if work.particles > 1 else contestants)
    results = {name: {"ms": [], "compile": [], "held_out": []} for name in functions}
    pixels = images.train[: work.images]
    for number, name in turns(tuple(functions), rounds):
        trained = functions[name](work, pixels, start(work, seed + number), seed + number)
        first, *counted = trained.seconds
        result, usual = results[name], median(counted)
        result["ms"].append(1e3 * usual / work.steps)
        result["compile"].append(first - usual)
        result["held_out"].append(held_out(work, trained.weights, images))
        say(f"{work}, {number + 1}: {name} {result['ms'][-1]:.3f} ms, {result['held_out'][-1]:.2f} nats")
    return {"title": str(work), "work": asdict(work), "results": results, "absent": absent}


def evaluate(work, images, *, num_data, particles, rounds, seed, num_steps=None):
    """log p(x) of the same images under the same weights, which the loop by hand has trained.

    With ``num_steps`` it is annealed, and the particles are chains.
    """
    work = replace(work, shape=images.shape)
    functions, absent = runners(ANNEALING if num_steps else EVALUATION)
    by_hand = present(named(TRAINING, [HAND]))[0][HAND]
    weights = by_hand(work, images.train[: work.images], start(work, seed), seed).weights
    evaluators = {name: function(work, weights) for name, function in functions.items()}
    x, asked = images.test[:num_data], (particles, num_steps) if num_steps else (particles,)
    results = {name: {"us": [], "compile": [], "log_prob": []} for name in functions}
    cold = {name: evaluator(x, *asked).compiling for name, evaluator in evaluators.items()}
    for number, name in turns(tuple(functions), rounds):
        begin = time.perf_counter()
        log_prob, compiling = evaluators[name](x, *asked)
        seconds = time.perf_counter() - begin - compiling
        result = results[name]
        result["us"].append(1e6 * seconds / (len(x) * math.prod(asked)))
        result["compile"].append(max(compiling, cold[name]))
        result["log_prob"].append(log_prob)
        say(f"{work}, {number + 1}: {name} {result['us'][-1]:.3f} us, {log_prob} nats")
    how = f"{particles:,} chains of {num_steps:,} steps" if num_steps else f"{particles:,} particles"
    title = f"{work.network}, latent {work.latent}, {len(x):,} images, {how}"
    about = {"title": title, "annealed": num_steps is not None, "work": asdict(work)}
    return {**about, "results": results, "absent": absent}


def scaling(curves, images, *, rounds, seed):
    """Cells along each axis: curves are (work, axis, values)."""
    options = {"rounds": rounds, "seed": seed, "contestants": named(TRAINING, SCALED)}
    return {
        axis: [train(along(work, axis, value), images, **options) for value in values] for work, axis, values in curves
    }


def along(base, axis, value):
    """``base`` with another value on an axis: whole batches, and about as many steps, in at least three epochs."""
    work = replace(base, **{axis: value})
    images = work.images // work.batch * work.batch
    epochs = 1 + max(2, round((base.epochs - 1) * base.steps / (images // work.batch)))
    return replace(work, images=images, epochs=epochs)


def memory(cases):
    """Peak memory of ``log_marginal`` at (data, particles)."""
    answers = []
    for case in cases:
        answers.append(measure(*case))
        say("peak memory:", answers[-1])
    return answers
