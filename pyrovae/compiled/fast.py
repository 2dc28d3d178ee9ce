"""Compiled where that can be done, as it is elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pyrovae.compiled.backends import Backend
from pyrovae.compiled.function import Compiled, kind
from pyrovae.compiled.trace import UntraceableError
from pyrovae.trees import Tree


class CompileWarning(UserWarning):
    """Something runs eagerly that was meant to be compiled."""


def say_eager(what: str, reason: str) -> None:
    """Say that ``what`` runs eagerly, and why."""
    warnings.warn(f"{what} runs eagerly, since it cannot be compiled: {reason}", CompileWarning, stacklevel=4)


class Fast:
    """``function``, compiled for one kind of arguments and run eagerly on others, such as the last rows of an epoch.

    Where it cannot be traced or compiled it runs eagerly throughout and says so once, with the reason.

    Args:
        what: it is, for that message.
        function, state, constants, device: see ``Compiled``.
        like: arguments of the usual shapes and types.
        backend: compiles; None for eager runs.
        eager: the function for eager runs, where that is another one.
        watch: see ``Compiled``; where it changes between calls, the function is ``outdated``.
    """

    def __init__(
        self,
        what: str,
        function: Callable[..., Tree],
        *,
        like: Tree,
        state: Sequence[Tensor] = (),
        constants: Sequence[Tensor] = (),
        backend: Backend | None,
        device: torch.device,
        eager: Callable[..., Tree] | None = None,
        watch: Callable[[], Any] = list,
    ) -> None:
        self.what, self.eager = what, eager or function
        self.usual = kind(like)
        self.reason = ""
        self.compiled: Compiled | None = None
        if backend is not None:
            self.compiled = Compiled(
                function, state=state, constants=constants, backend=backend, device=device, watch=watch
            )
        self.watch, self._seen = watch, watch()

    @property
    def outdated(self) -> bool:
        """Whether something changed, by a callback for instance, that a trace freezes."""
        return self.compiled is not None and self.watch() != self._seen

    def rewind(self) -> None:
        """Begin again with the first random numbers."""
        if self.compiled is not None:
            self.compiled.noise.step.zero_()

    def begin(self) -> None:
        """Begin with other random numbers, which the state of the CPU's global generator decides."""
        if self.compiled is not None:
            self.compiled.noise.draw_key()
            self.rewind()

    def __call__(self, *feed: Tree) -> Any:
        if self.compiled is None or kind(feed) != self.usual:
            return self.eager(*feed)
        try:
            return self.compiled(*feed)
        except UntraceableError as untraceable:
            self.compiled, self.reason = None, str(untraceable)
            say_eager(self.what, self.reason)
            return self.eager(*feed)
