"""How training goes, for whoever waits: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tqdm.auto import tqdm

from pyrovae.training.run import Run

LINES = 10  # about the progress of a whole run
NAMES = {"objective": "objective", "validation": "validation", "log_px_z": "log p(x|z)", "kl": "KL"}


class Bar:
    """A bar over all data of all epochs: throughput and time left are tqdm's, the terms stand behind them.

    Args:
        epochs: of the run.
        num_data: per epoch; None for a stream, whose first epoch tells.
        shown: by default where standard error is a terminal.
    """

    def __init__(self, epochs: int, num_data: int | None, shown: bool | None) -> None:
        total = None if num_data is None else epochs * num_data
        self.epochs, self.skipped = epochs, 0
        self.bar = tqdm(total=total, unit=" data", unit_scale=True, disable=None if shown is None else not shown)

    def advance(self, num_data: int) -> None:
        """A batch is done."""
        self.bar.update(num_data)

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is done: its terms are shown."""
        epoch = record["epoch"]
        self.skipped += record["skipped"]
        self.bar.total = self.epochs * self.bar.n // epoch
        self.bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
        self.bar.set_postfix_str(f"{terms(record)}{skipped(self.skipped)}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


class Lines:
    """A callback of ``fit``: a line about the first epoch and about every tenth of the run.

    Args:
        epochs: of the run.
        num_data: per epoch.
        say: what prints a line.
    """

    def __init__(self, epochs: int, num_data: int, say: Callable[[str], None]) -> None:
        self.epochs, self.num_data, self.say = epochs, num_data, say

    def on_epoch_end(self, run: Run) -> None:
        record = run.history[-1]
        epoch = record["epoch"]
        if epoch == 1 or epoch % max(1, self.epochs // LINES) == 0:
            seconds = sum(run.column("seconds")) / epoch
            rate = f"{self.num_data / seconds:,.0f} data/s"
            left = f"{duration(seconds * (self.epochs - epoch))} left"
            lost = skipped(sum(run.column("skipped")))
            self.say(
                f"  epoch {epoch:>{len(str(self.epochs))}}/{self.epochs}   {terms(record)}   {rate}   {left}{lost}"
            )


def terms(record: Mapping[str, Any]) -> str:
    """The terms of an epoch, nats per datum."""
    return "   ".join(f"{shown} {record[name]:.2f}" for name, shown in NAMES.items() if name in record)


def skipped(steps: float) -> str:
    """How many steps were not taken, where there were any."""
    return f"   {steps:,.0f} steps skipped: loss or gradient not finite" if steps else ""


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as suits.

    >>> duration(42), duration(150), duration(9000)
    ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
