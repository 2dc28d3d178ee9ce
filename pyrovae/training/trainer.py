"""The loop of training: epochs of guarded steps, validation, and keeping the best weights."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

from torch import Tensor

from pyrovae import trees
from pyrovae.errors import PyrovaeError
from pyrovae.parameters import forget
from pyrovae.saving import save
from pyrovae.training.held_out import HeldOut
from pyrovae.training.progress import Bar
from pyrovae.training.run import Run
from pyrovae.training.schedules import Schedule
from pyrovae.training.stepper import Stepper
from pyrovae.validation import validating

SAVED_EVERY = 60.0  # seconds: what a run that is killed may lose of its weights


class Callback(Protocol):
    """Called after every epoch; may call ``run.stop()``. An exception in it is reported and training goes on."""

    def on_epoch_end(self, run: Run) -> None: ...


class Trainer:
    """The loop: epochs of guarded steps, validation, and keeping the best weights.

    Args:
        run: what is trained, and what it leaves behind.
        stepper: takes the steps.
        held_out: the objective on validation data.
        schedules: of the objective's arguments.
        options: those of ``fit``.
    """

    def __init__(
        self,
        run: Run,
        stepper: Stepper,
        held_out: HeldOut | None,
        schedules: Mapping[str, Schedule],
        options: Mapping[str, Any],
    ) -> None:
        self.run, self.stepper, self.held_out = run, stepper, held_out
        self.step, self.schedules, self.options = stepper.step, schedules, options
        self.best = -float("inf")
        self.kept = self._weights()
        self.saved_at = -math.inf

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
        bar = Bar(epochs, self.step.data.num_data, progress)
        with validating(False), closing(bar):
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
        start, size = time.perf_counter(), self.options["batch_size"]
        steps = self.step.data.num_batches(size)
        self.stepper.begin_epoch()
        with closing(self.step.data.feeds(size, shuffle=True)) as feeds:
            for number, feed in enumerate(feeds):
                self._set_schedules(epoch + (min(number / steps, 1.0) if steps else 0.0))
                self.stepper(*feed)
                bar.advance(trees.num_data(*feed))
        forget(self.run.program)
        means, skipped, longest = self.step.totals()
        self._abort_if_stuck(epoch, longest)
        values = {name: tensor.item() for name, tensor in self.step.scheduled.items()}
        record = {"epoch": epoch + 1, **means, "skipped": skipped, **values}
        if self.held_out is not None:
            record["validation"] = self.held_out()
        return {**record, "seconds": time.perf_counter() - start}

    def _set_schedules(self, epoch: float) -> None:
        epochs, rate = self.options["epochs"], self.options["learning_rate"]
        for name, tensor in self.step.scheduled.items():
            tensor.fill_(self.schedules[name](epoch, epochs))
        if rate is not None:
            self.step.optimizer.set_rate(rate(epoch, epochs))

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

    def _abort_if_stuck(self, epoch: int, longest: int) -> None:
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
        self.run.manifest |= self.stepper.describe()
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
