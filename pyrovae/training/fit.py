"""Training a program by stochastic variational inference."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyrovae import gradients, rows, trees
from pyrovae.compiled.backends import Backend
from pyrovae.compiled.choice import check_choice, chosen
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.gradients import Estimator, trainable
from pyrovae.nearest import nearest
from pyrovae.objectives import Objective, elbo
from pyrovae.parameters import adopt, floating_dtype, frozen
from pyrovae.precision import bfloat16_layers, float32_matmul
from pyrovae.randomness import reseed, seeded
from pyrovae.terms import LogTerms, Terms, log_terms, terms_for
from pyrovae.training.checks import check_data, check_modules, check_observations, check_readings, check_rows
from pyrovae.training.device import resolve_device
from pyrovae.training.held_out import ROWS, HeldOut
from pyrovae.training.missing import check_missing
from pyrovae.training.optimizer import GuardedOptimizer, OptimizerFactory
from pyrovae.training.run import Run, claim, describe, environment
from pyrovae.training.schedules import Schedule
from pyrovae.training.sources import Source, source
from pyrovae.training.step import Step
from pyrovae.training.stepper import Stepper, long_enough
from pyrovae.training.trainer import Callback, Trainer
from pyrovae.trees import Tree
from pyrovae.validation import validating

ADAM = partial(torch.optim.Adam, lr=1e-3)
PRECISIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {"fp32": nullcontext, "bf16": bfloat16_layers}


def fit(
    program: Any,
    data: Any,
    *,
    objective: Objective = elbo,
    gradient: Estimator = gradients.plain,
    num_particles: int = 1,
    epochs: int = 100,
    batch_size: int = 128,
    optimizer: OptimizerFactory = ADAM,
    learning_rate: Schedule | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    validation: Any = None,
    patience: int | None = None,
    max_grad_norm: float | None = None,
    max_skipped: int = 100,
    draw: Callable[[Tree], Tree] | None = None,
    callbacks: Sequence[Callback] = (),
    directory: str | Path | None = None,
    compile: bool | Literal["auto"] = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> Run:
    """Maximise an objective of ``program`` on ``data``; the program is trained in place.

    Args:
        program: any object with ``model(x, *given)`` and ``guide(x, *given)`` whose data plate is at dim -1. Where x
            may be NaN for missing values, it says so: by ``pyrovae.Missing`` around the decoder, or a program of your
            own by ``missing_values = ("x",)``.
        data: x as a tensor or array; a dict (x as a tree); a tuple (x, *given); a ``pyrovae.data.Data``; a torch
            Dataset, whose items are x or (x, *given). These are kept on the device, integers as they are and floats in
            the program's type. What does not fit there is streamed, read ahead by a thread; then only the first rows
            are checked before training:

            - arrays of memory-mapped files, ``np.load("x.npy", mmap_mode="r")`` and slices of them, in any of the forms
              above. Rows are drawn from all of the file, and training is bit for bit that of resident data.
            - a DataLoader, an iterable of batches x or (x, *given) that begins anew with every epoch, or a function
              that returns the iterator of an epoch. They bring their own batches and order; what reads them runs in
              the thread, or, where it draws from torch's global generator, between the steps. An IterableDataset has
              rows, of which batches of ``batch_size`` are made.
        objective: a function of ``LogTerms``, (N,) nats, maximised in the mean over the batch.
        gradient: ``pyrovae.gradients.plain``, ``path`` or ``doubly_reparameterised``.
        num_particles: points per datum.
        epochs, batch_size: the last batch of an epoch may be smaller; a DataLoader or iterable brings its own.
        optimizer: makes an optimizer from parameters, ``functools.partial(torch.optim.AdamW, lr=3e-4)``.
        learning_rate: a schedule of a factor on the optimizer's rate, e.g. ``schedules.Cosine(warmup=1)``.
        schedules: schedules of the objective's keyword arguments, e.g. ``{"beta": schedules.Warmup(20)}`` for a KL
            warm-up; they reach the objective as tensors.
        validation: data in any of the forms above; a ``Data`` brings its own. The objective on it, with the schedules
            at their end and always the same noise, decides which weights are kept.
        patience: stop after so many epochs without a better validation.
        max_grad_norm: clip the gradient's norm to this.
        max_skipped: abort when so many steps in a row were skipped for a loss or gradient that is not finite.
        draw: a fresh observation of each training batch's x (for instance ``torch.bernoulli``).
        callbacks: objects with ``on_epoch_end(run)``.
        directory: where to write ``history.jsonl``, ``manifest.json`` and ``program.safetensors``.
        compile: trace the whole step once (selection of rows, ``draw``, program, objective, gradient, clipping, guard
            and optimizer) and run it as one compiled graph. "auto" does so where the run is long enough to pay for
            compiling, about 10 s. Batches of another size than the first run eagerly, as does everything, with a
            ``CompileWarning`` that says why, where the step cannot be traced. What callbacks change between epochs
            (modes, ``requires_grad``, the numbers that modules keep) is traced anew; numbers in global variables are
            frozen, unless they change a step at once, which is noticed. Compiled and eager runs draw different random
            numbers.
        precision: of linear layers and convolutions: "bf16" rounds what they multiply, and their results, to bfloat16,
            which is faster on processors with such units. All else, log-densities among it, stays in float32.
        seed: of shuffling, drawing and sampling. The same seed gives the same bits on the same machine type,
            versions, number of threads, precision and mode (compiled or not); the initial weights are the caller's to
            seed. Global random state, Pyro's parameter store and validation setting are left as found.
        device: "auto", "cpu", "cuda" or "mps".
        progress: a progress bar; by default where standard error is a terminal.

    Raises:
        PyrovaeError: options out of range; data empty, not finite or outside the likelihood's support; a program
            that does not give one term per datum; batch normalisation in training; an absent device; a directory
            that cannot be used; too many steps skipped in a row (the last good weights are then in place).

    Example:
        >>> import pyrovae as pv
        >>> data = pv.data.load("digits")
        >>> run = pv.fit(pv.vae(data, latent=2, hidden=(16,)), data, epochs=1)
        >>> len(run.history)
        1
    """
    options = {
        k: v for k, v in locals().items() if k not in ("program", "data", "validation", "callbacks", "directory")
    }
    _check_options(options)
    _check_schedules(objective, learning_rate, schedules or {})
    target = resolve_device(device)
    validation = data if validation is None and isinstance(data, Data) else validation
    if isinstance(validation, Data):
        validation = (validation.validation.x, *validation.validation.given)
    if patience is not None and validation is None:
        raise PyrovaeError("patience needs validation data: pass validation=..., or a pyrovae.data.Data")
    dtype = floating_dtype(program)
    train = source(data, target, draw, dtype)
    held_out = None if validation is None else source(validation, target, None, dtype)
    if precision == "bf16" and dtype != torch.float32:
        raise PyrovaeError(f"precision='bf16' is for programs in float32; this one is in {dtype}")

    with _isolated(seed, target), float32_matmul(target):
        missing = getattr(program, "missing_values", ())
        check_data(train, missing)
        check_modules(program)
        if isinstance(program, nn.Module):
            program.to(target)
        check_missing(program, missing, train)  # first: what takes NaN for a number fails below, in torch's words
        with rows.asking() as numbered:
            program = _prepared(program, train.probe(2), target)
        check_rows(numbered, train)
        ends = {name: schedule(epochs, epochs) for name, schedule in (schedules or {}).items()}
        final = {name: torch.tensor(float(end), device=target) for name, end in ends.items()}
        check_readings(program, train)
        check_observations(train, _probe(program, partial(objective, **final), train.probe(2)))
        if held_out is not None:
            check_data(held_out, missing)
            check_readings(program, held_out)
            with torch.no_grad():
                check_observations(held_out, log_terms(program, *held_out.probe(2)))
        guarded = GuardedOptimizer(optimizer, trainable(program), max_grad_norm)  # refuses bad options before the claim
        path = claim(directory)
        run = Run(program, _manifest(options, target, data), path)
        run.write_manifest()
        terms = log_terms if num_particles == 1 else _terms_for(program, train.probe(3))
        terms = partial(terms, num_particles=num_particles)
        estimator = partial(gradient, num_particles=num_particles, terms=terms.func)
        scheduled = {name: torch.zeros_like(value) for name, value in final.items()}
        step = Step(program, train, objective, estimator, guarded, scheduled, PRECISIONS[precision])
        size = {"epochs": epochs, "batch_size": batch_size}
        worth = partial(long_enough, partial(terms, program), train, **size)
        backend = chosen("training", compile, target, worth=worth)
        validate = _held_out(program, partial(objective, **final), terms, held_out, backend, options)
        trainer = Trainer(run, Stepper(step, backend), validate, schedules or {}, options)
        reseed(seed, target)  # again: what was checked before changes nothing
        trainer.train(callbacks, progress)
    return run


def _held_out(
    program: nn.Module,
    objective: Callable[[LogTerms], Tensor],
    terms: Terms,
    data: Source | None,
    backend: Backend | None,
    options: Mapping[str, Any],
) -> HeldOut | None:
    """The validation, compiled only where that pays by itself."""
    if data is None:
        return None
    if backend and not long_enough(partial(terms, program), data, epochs=options["epochs"], batch_size=ROWS, passes=1):
        backend = None

    def evaluate(*batch: Tree) -> Tensor:
        return objective(terms(program, *batch))

    return HeldOut(program, data, evaluate, backend, options["seed"])


def _manifest(options: Mapping[str, Any], device: torch.device, data: Any) -> dict[str, Any]:
    about = {"data": data.describe()} if isinstance(data, Data) else {}
    return {"options": describe(options), "environment": environment(), "device": str(device), **about}


def _check_options(options: Mapping[str, Any]) -> None:
    for name in ("num_particles", "epochs", "batch_size", "max_skipped"):
        if not (isinstance(options[name], int) and options[name] >= 1):
            raise PyrovaeError(f"{name} must be a whole number of at least 1; got {options[name]!r}")
    for name in ("patience", "max_grad_norm"):
        if options[name] is not None and not options[name] > 0:
            raise PyrovaeError(f"{name} must be positive; got {options[name]!r}")
    check_choice(options["compile"])
    if options["precision"] not in PRECISIONS:
        raise PyrovaeError(f"precision must be one of {list(PRECISIONS)}; got {options['precision']!r}")


def _check_schedules(objective: Objective, rate: Any, schedules: Mapping[str, Any]) -> None:
    if not callable(objective):
        raise PyrovaeError(f"an objective is a function such as pyrovae.objectives.elbo; got {objective!r}")
    for name, schedule in {"learning_rate": rate, **schedules}.items():
        if not (callable(schedule) or (name == "learning_rate" and schedule is None)):
            raise PyrovaeError(
                f"{name} is a schedule, a function of (epoch, epochs); got {schedule!r}. A constant belongs into the "
                "optimizer or the objective: functools.partial(torch.optim.Adam, lr=1e-3), partial(elbo, beta=4.0)"
            )
    try:
        inspect.signature(objective).bind(None, **schedules)
    except TypeError as error:
        known = list(inspect.signature(objective).parameters)[1:]
        near = "".join(nearest(name, known) for name in schedules if name not in known)
        raise PyrovaeError(
            f"the objective cannot be called with the scheduled {list(schedules)}: {error}{near}"
        ) from error


def _terms_for(program: nn.Module, probe: tuple[Tree, ...]) -> Terms:
    with frozen(program):  # dropout would differ between the two ways that are compared
        return terms_for(program, *probe)


@contextmanager
def _isolated(seed: int, device: torch.device) -> Iterator[None]:
    """A random state of our own, and gradients on; both are put back. Rows are announced by the steps alone."""
    with seeded(seed, device), torch.enable_grad(), rows.on_other_data():
        yield


def _prepared(program: Any, probe: tuple[Tree, ...], device: torch.device) -> nn.Module:
    adopted = adopt(program, *probe).to(device)
    for module in adopted.modules():  # training mode, but a batch normalisation frozen by .eval() stays so
        module.training = module.training or not isinstance(module, _BatchNorm)
    return adopted


def _probe(program: nn.Module, objective: Objective, probe: tuple[Tree, ...]) -> LogTerms:
    """The terms and the objective of a few rows, with every check on."""
    with torch.no_grad(), validating(True):
        terms = log_terms(program, *probe)
        value = objective(terms)
    expected = (trees.num_data(*probe),)
    if value.shape != expected:
        raise PyrovaeError(f"an objective must give one value per datum, {expected}; got {tuple(value.shape)}")
    return terms
