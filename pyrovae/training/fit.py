"""Training a program by stochastic variational inference."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyro
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyrovae import gradients, trees
from pyrovae.data import Data
from pyrovae.errors import PyrovaeError
from pyrovae.gradients import Estimate, Estimator, trainable
from pyrovae.nearest import nearest
from pyrovae.objectives import Objective, elbo
from pyrovae.parameters import adopt, floating_dtype, forget, frozen
from pyrovae.precision import float32_matmul
from pyrovae.randomness import reseed, seeded
from pyrovae.saving import save
from pyrovae.terms import LogTerms, Terms, log_terms, terms_for
from pyrovae.training.checks import check_data, check_modules, check_observations
from pyrovae.training.device import resolve_device
from pyrovae.training.progress import Bar
from pyrovae.training.run import Run, claim, describe, environment
from pyrovae.training.schedules import Schedule
from pyrovae.training.sources import Source, source
from pyrovae.training.step import GuardedOptimizer, OptimizerFactory
from pyrovae.trees import Tree

ADAM = partial(torch.optim.Adam, lr=1e-3)
VALIDATION_ROWS = 2048  # rows of one validation batch
SAVED_EVERY = 60.0  # seconds: what a run that is killed may lose of its weights


class Callback(Protocol):
    """Called after every epoch; may call ``run.stop()``. An exception in it is reported and training goes on."""

    def on_epoch_end(self, run: Run) -> None: ...


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
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> Run:
    """Maximise an objective of ``program`` on ``data``; the program is trained in place.

    Args:
        program: any object with ``model(x, *given)`` and ``guide(x, *given)`` whose data plate is at dim -1.
        data: x as a tensor or array; a dict (x as a tree); a tuple (x, *given); a ``pyrovae.data.Data``; a torch
            Dataset (its items are x or (x, *given)) or DataLoader. All but a DataLoader are kept on the device.
        objective: a function of ``LogTerms``, (N,) nats, maximised in the mean over the batch.
        gradient: ``pyrovae.gradients.plain``, ``path`` or ``doubly_reparameterised``.
        num_particles: points per datum.
        epochs, batch_size: the last batch of an epoch may be smaller; a DataLoader brings its own batches.
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
        seed: of shuffling, drawing and sampling. The same seed gives the same bits on the same machine type,
            versions and number of threads; the initial weights are the caller's to seed. Global random state,
            Pyro's parameter store and validation setting are left as found.
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

    with _isolated(seed, target), float32_matmul(target):
        check_data(train)
        check_modules(program)
        program = _prepared(program, train.probe(2), target)
        final = {name: torch.tensor(schedule(epochs, epochs)) for name, schedule in (schedules or {}).items()}
        check_observations(train, _probe(program, partial(objective, **final), train.probe(2)))
        if held_out is not None:
            check_data(held_out)
            check_observations(held_out, log_terms(program, *held_out.probe(2)))
        GuardedOptimizer(optimizer, trainable(program), max_grad_norm)  # refuses bad options before the claim
        path = claim(directory)
        run = Run(program, _manifest(options, target, data), path)
        run.write_manifest()
        terms = log_terms if num_particles == 1 else _terms_for(program, train.probe(3))
        estimator = partial(gradient, num_particles=num_particles, terms=terms)
        trainer = _Trainer(run, train, held_out, objective, estimator, dict(schedules or {}), options)
        reseed(seed, target)  # again: what was checked before changes nothing
        trainer.train(callbacks, progress)
    return run


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
    """A random state of our own, and gradients on; both are put back."""
    with seeded(seed, device), torch.enable_grad():
        yield


@contextmanager
def _validating(on: bool) -> Iterator[None]:
    """Pyro's and torch's validation on or off; both are put back, which Pyro's own context does for itself only."""
    before = torch.distributions.Distribution._validate_args
    try:
        with pyro.validation_enabled(on):
            yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)


def _prepared(program: Any, probe: tuple[Tree, ...], device: torch.device) -> nn.Module:
    if isinstance(program, nn.Module):
        program.to(device)
    adopted = adopt(program, *probe).to(device)
    for module in adopted.modules():  # training mode, but a batch normalisation frozen by .eval() stays so
        module.training = module.training or not isinstance(module, _BatchNorm)
    return adopted


def _probe(program: nn.Module, objective: Objective, probe: tuple[Tree, ...]) -> LogTerms:
    """The terms and the objective of a few rows, with every check on."""
    with torch.no_grad(), _validating(True):
        terms = log_terms(program, *probe)
        value = objective(terms)
    expected = (trees.num_data(*probe),)
    if value.shape != expected:
        raise PyrovaeError(f"an objective must give one value per datum, {expected}; got {tuple(value.shape)}")
    return terms


class _Trainer:
    """The loop: epochs of guarded steps, validation, and keeping the best weights."""

    def __init__(
        self,
        run: Run,
        train: Source,
        held_out: Source | None,
        objective: Objective,
        gradient: partial[Estimate],
        schedules: dict[str, Schedule],
        options: Mapping[str, Any],
    ) -> None:
        self.run, self.train_data, self.held_out = run, train, held_out
        self.objective, self.gradient, self.schedules, self.options = objective, gradient, schedules, options
        self.device = next(run.program.parameters()).device
        self.optimizer = GuardedOptimizer(options["optimizer"], trainable(run.program), options["max_grad_norm"])
        self.scheduled = {name: torch.zeros((), device=self.device) for name in schedules}
        self.best = -float("inf")
        self.kept = self._weights()
        self.saved_at = -math.inf
        self.skipped_in_a_row = torch.zeros((), device=self.device)
        self.longest_skip = torch.zeros((), device=self.device)

    def train(self, callbacks: Sequence[Callback], progress: bool | None) -> None:
        """All epochs; ends with the kept weights in place, also on Ctrl-C and SIGTERM (as SystemExit)."""
        try:
            self._epochs(callbacks, progress)
        except (KeyboardInterrupt, SystemExit):
            self.run.stopped = "interrupted"
            if not self.run.best_epoch:
                self.kept = self._weights()
            raise
        except Exception:
            self.run.stopped = "aborted"
            raise
        finally:
            self._conclude()

    def _epochs(self, callbacks: Sequence[Callback], progress: bool | None) -> None:
        epochs = self.options["epochs"]
        bar = Bar(epochs, self.train_data.num_data, progress)
        with _validating(False), closing(bar):
            for epoch in range(epochs):
                record = self._epoch(epoch, bar)
                self._keep(epoch, record)
                self.run.append(record)
                bar.end_epoch(record)
                self._save_now_and_then()
                _call(callbacks, self.run)
                if self._finished(epoch):
                    break

    def _epoch(self, epoch: int, bar: Bar) -> dict[str, Any]:
        start, epochs = time.perf_counter(), self.options["epochs"]
        names = ("objective", "log_px_z", "kl", "grad_norm")
        totals = torch.zeros(len(names) + 2, device=self.device)  # ..., steps skipped, data seen
        steps = self.train_data.num_batches(self.options["batch_size"])
        for number, batch in enumerate(self.train_data.batches(self.options["batch_size"], shuffle=True)):
            self._set_schedules(epoch + (min(number / steps, 1.0) if steps else 0.0), epochs)
            totals += self._step(batch)
            bar.advance(trees.num_data(*batch))
        forget(self.run.program)
        self._abort_if_stuck(epoch)
        *sums, skipped, count = totals.tolist()  # the epoch's one synchronisation
        means = {name: total / count if count else math.nan for name, total in zip(names, sums, strict=True)}
        values = {name: tensor.item() for name, tensor in self.scheduled.items()}
        record = {"epoch": epoch + 1, **means, "skipped": int(skipped), **values}
        if self.held_out is not None:
            record["validation"] = self._validate(self.held_out)
        return {**record, "seconds": time.perf_counter() - start}

    def _step(self, batch: tuple[Tree, ...]) -> Tensor:
        """One guarded step. Returns its sums over the batch, zero where it was skipped."""
        objective = partial(self.objective, **self.scheduled)
        estimate = self.gradient(self.run.program, objective, *batch)
        value = estimate.value.detach()
        norm, bad = self.optimizer.step(estimate.gradients, value.sum())
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) * bad
        self.longest_skip = torch.maximum(self.longest_skip, self.skipped_in_a_row)
        terms = estimate.terms
        size = value.shape[0]
        with torch.no_grad():
            weight = terms.log_w.exp()
            log_px_z = (weight * terms.log_px_z).sum()
            kl = (weight * (terms.log_qz_x - terms.log_pz)).sum()
            sums = torch.stack([value.sum(), log_px_z, kl, norm * size])
            counted = torch.where(bad > 0, torch.zeros_like(sums), sums)
            return torch.cat([counted, bad.reshape(1), ((1 - bad) * size).reshape(1)])

    def _set_schedules(self, epoch: float, epochs: int) -> None:
        for name, tensor in self.scheduled.items():
            tensor.fill_(self.schedules[name](epoch, epochs))
        if self.options["learning_rate"] is not None:
            self.optimizer.set_rate(self.options["learning_rate"](epoch, epochs))

    def _validate(self, data: Source) -> float:
        """The objective per datum, nats, with the schedules at their end and the same noise every time."""
        program, epochs = self.run.program, self.options["epochs"]
        final = {name: torch.full_like(t, self.schedules[name](epochs, epochs)) for name, t in self.scheduled.items()}
        total, count = 0.0, 0
        with _isolated(self.options["seed"], self.device), frozen(program):
            for batch in data.batches(VALIDATION_ROWS, shuffle=False):
                terms = self.gradient.keywords["terms"](program, *batch, num_particles=self.options["num_particles"])
                total += self.objective(terms, **final).double().sum().item()
                count += trees.num_data(*batch)
        return total / count

    def _keep(self, epoch: int, record: Mapping[str, Any]) -> None:
        score = record.get("validation", float(epoch))  # without validation the latest weights are kept
        if score > self.best or self.best == -math.inf:  # the latest weights, too, until a validation is finite
            self.kept, self.run.best_epoch = self._weights(), epoch + 1
            self.best = max(self.best, score)

    def _finished(self, epoch: int) -> bool:
        patience = self.options["patience"]
        if patience is not None and epoch + 1 - self.run.best_epoch >= patience:
            self.run.stopped = "patience"
        elif self.run.stop_requested:
            self.run.stopped = "callback"
        return self.run.stopped != "epochs"

    def _abort_if_stuck(self, epoch: int) -> None:
        longest = int(self.longest_skip.item())
        self.longest_skip.zero_()
        if longest >= self.options["max_skipped"]:
            raise PyrovaeError(
                f"{longest} steps in a row had a loss or gradient that is not finite, in epoch {epoch + 1}; training "
                f"is aborted and the weights of epoch {self.run.best_epoch} are in place. Lower the learning rate, set "
                "max_grad_norm, or look for data the likelihood cannot explain"
            )

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.run.program.state_dict().items()}

    def _save_now_and_then(self) -> None:
        """The kept weights on disk at the first epoch and about once a minute, whatever ends the process."""
        if self.run.directory and time.monotonic() - self.saved_at > SAVED_EVERY:
            latest = self._weights()
            self.run.program.load_state_dict(self.kept)
            save(self.run.program, self.run.directory / "program.safetensors")
            self.run.program.load_state_dict(latest)
            self.saved_at = time.monotonic()

    def _conclude(self) -> None:
        self.run.program.load_state_dict(self.kept)
        self.run.program.eval()
        if self.run.directory:
            save(self.run.program, self.run.directory / "program.safetensors")
        self.run.close()


def _call(callbacks: Sequence[Callback], run: Run) -> None:
    for callback in callbacks:
        try:
            callback.on_epoch_end(run)
        except Exception as error:  # a tracker that fails must not cost the run
            warnings.warn(f"the callback {type(callback).__name__} failed: {error!r}; training goes on", stacklevel=2)
