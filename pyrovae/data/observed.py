"""Which data a result is of, whatever file, options or program they came by."""

import hashlib

from pyrovae.data.splits import Data, Split


def observed_digest(data: Data, split: Split) -> str:
    """sha256 over the data of a split as observed: x in the data's own units, and what is given, in the order of rows.

    Of standardised data it is taken of x restored in float64, which rounding tells from the x that was read: to compare
    with data that were never standardised, load them with ``standardize=False``.
    """
    found = hashlib.sha256()
    x = split.x if data.standardization is None else data.restore(split.x.double())
    for part in (x, *split.given):
        found.update(f"{part.dtype} {tuple(part.shape)}".encode())
        found.update(part.contiguous().cpu().numpy().tobytes())
    return found.hexdigest()
