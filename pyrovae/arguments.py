"""Arguments checked at once, where a foreign error would come late or say little."""

from __future__ import annotations

import operator
from typing import Any

from pyrovae.errors import PyrovaeError


def whole(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int, of at least ``least``.

    Raises:
        PyrovaeError: it is no whole number, or too small; a float that is whole is none.

    >>> whole("num_particles", 1000)
    1000
    """
    try:
        number = operator.index(value)
    except TypeError:
        near = isinstance(value, float) and value.is_integer()
        raise PyrovaeError(
            f"{name} must be a whole number; got {value!r}{f': write {int(value)}' if near else ''}"
        ) from None
    if number < least:
        raise PyrovaeError(f"{name} must be {'positive' if least == 1 else f'at least {least}'}; got {number}")
    return number


def check_program(program: Any, methods: tuple[str, ...] = ("model", "guide")) -> None:
    """Refuse what is no program.

    Raises:
        PyrovaeError: it lacks one of the ``methods``.
    """
    if missing := [name for name in methods if not callable(getattr(program, name, None))]:
        raise PyrovaeError(
            f"a program has the methods model(x, *given) and guide(x, *given), as pyrovae.VAE has; this "
            f"{type(program).__name__} has no {' and no '.join(missing)}. Two functions make one: "
            "types.SimpleNamespace(model=model, guide=guide)"
        )
