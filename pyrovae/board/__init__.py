"""The board: every part that a slot of a VAE can hold, in one table.

``PRIORS``, ``LIKELIHOODS``, ``POSTERIORS`` and ``NETWORKS`` map a name to a ``Part``: how to make it, its equation and
its source. The tests hold every part, and every combination, to one contract; ``pyrovae board`` prints the table; an
ablation is a loop over it, here over the priors of real latents without conditioning variables:

>>> import torch, pyrovae as pv
>>> x = torch.rand(12, 6).round()
>>> for name, part in pv.board.PRIORS.items():
...     if part.values == "real" and not part.given:
...         encoder = pv.board.POSTERIORS["diagonal normal"].make(6, 2)
...         decoder = pv.board.LIKELIHOODS["bernoulli"].make(2, 6)
...         vae = pv.VAE(part.make(encoder, x, 2), decoder, encoder)
"""

from __future__ import annotations

from pyrovae.board.likelihoods import LIKELIHOODS
from pyrovae.board.networks import NETWORKS
from pyrovae.board.part import KINDS, Part
from pyrovae.board.posteriors import POSTERIORS
from pyrovae.board.priors import PRIORS

__all__ = ["KINDS", "LIKELIHOODS", "NETWORKS", "POSTERIORS", "PRIORS", "SLOTS", "Part", "markdown", "table"]

SLOTS = {"priors": PRIORS, "likelihoods": LIKELIHOODS, "posteriors": POSTERIORS, "networks": NETWORKS}
_VALUES = {"priors": "z", "likelihoods": "x", "posteriors": "z", "networks": "reads"}


def table(slot: str) -> list[list[str]]:
    """A slot's parts in words, a row for each, below the heads of the columns."""
    densities = slot != "networks"
    head = [slot, "equation", "source", _VALUES[slot], *["exact density"] * densities, "traces"]
    return [head, *(_row(name, part, densities) for name, part in SLOTS[slot].items())]


def _row(name: str, part: Part, density: bool) -> list[str]:
    return [name, part.equation, part.source, part.values, *[_exact(part)] * density, part.eager or "yes"]


def _exact(part: Part) -> str:
    if part.exact is not True:
        return str(part.exact)
    return "yes" if part.scores else "yes, of its own draws"


def markdown() -> str:
    """The board as tables, generated from the parts themselves."""
    return "\n\n".join(map(_section, SLOTS))


def _section(slot: str) -> str:
    head, *rows = table(slot)
    lines = [head, ["---"] * len(head), *([name, f"`{equation}`", *rest] for name, equation, *rest in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
