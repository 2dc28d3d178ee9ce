"""How many rows are held out, and which: the test split never depends on what is held out for validation."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError

Share = int | float  # a number of rows, or a fraction of all of them
OFFICIAL = ("train", "validation", "test")
TENTH = 0.1


def rows(option: str, share: Share, total: int, *, available: int | None = None) -> int:
    """A share of ``total`` as a number of rows: an int is that already, a float a fraction (at least one row).

    Raises:
        PyrovaeError: nothing is held out, or nothing is left of the ``available`` rows (of all where it is None).
    """
    available = total if available is None else available
    count = max(round(share * total), int(share > 0)) if isinstance(share, float) else share
    if not 0 < count < available:
        fraction = " (an int is a number of rows, a float a fraction)" if isinstance(share, float) else ""
        raise PyrovaeError(
            f"{option}={share}: hold out at least 1 and at most {available - 1} of {available} data{fraction}"
        )
    return count


def sizes(total: int, *, validation: Share, test: Share) -> tuple[int, int, int]:
    """The sizes of the training, validation and test splits of ``total`` rows; fractions are of all rows.

    Raises:
        PyrovaeError: a split would be empty.
    """
    held = rows("test", test, total, available=total - 1)  # a row for each of the other two must be left
    count = rows("validation", validation, total, available=total - held)
    return total - held - count, count, held


def shuffled(total: int, *, validation: Share, test: Share, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Indices of the training, validation and test rows, by a permutation of which the last rows are for testing."""
    parts = sizes(total, validation=validation, test=test)
    return torch.randperm(total, generator=generator, device="cpu").split(parts)


def held_out(total: int, validation: Share, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Indices of the training and validation rows of an official training split: the last ones, or permuted."""
    count = rows("validation", validation, total)
    ordered = generator is None
    order = torch.arange(total, device="cpu") if ordered else torch.randperm(total, generator=generator, device="cpu")
    return order[:-count], order[-count:]


def completed(
    x: Mapping[str, Tensor],
    labels: Mapping[str, Tensor | None],
    *,
    validation: Share | None,
    test: Share | None,
    generator: torch.Generator,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The three splits, those that are not among the given ones held out of the training data, a tenth where None.

    The training rows come in an order drawn from ``generator``.

    Raises:
        PyrovaeError: a share of a split that is given already; a split that would be empty.
    """
    shares = {"validation": validation, "test": test}
    if twice := [name for name, share in shares.items() if name in x and share is not None]:
        raise PyrovaeError(f"{' and '.join(twice)}: the data have such a split already; leave the option out")
    held = {name: TENTH if share is None else share for name, share in shares.items() if name not in x}
    index = _indices(len(x["train"]), held, generator)
    source = {name: name if name in x else "train" for name in OFFICIAL}
    chosen = [(labels[source[name]], index.get(name, slice(None))) for name in OFFICIAL]
    return (
        [x[source[name]][index.get(name, slice(None))] for name in OFFICIAL],
        [None if label is None else label[rows] for label, rows in chosen],
    )


def _indices(total: int, shares: Mapping[str, Share], generator: torch.Generator) -> dict[str, Tensor]:
    """Which rows of the given training data become the training split and the splits with shares.

    The training rows are permuted in any case: files often have them class by class, and what starts at the first
    training data, such as pseudo-inputs, would then start at one class.
    """
    if len(shares) == 2:
        return dict(zip(OFFICIAL, shuffled(total, **shares, generator=generator), strict=True))
    for name, share in shares.items():
        count = rows(name, share, total)
        kept, held = torch.randperm(total, generator=generator, device="cpu").split([total - count, count])
        return {"train": kept, name: held}
    return {"train": torch.randperm(total, generator=generator, device="cpu")}
