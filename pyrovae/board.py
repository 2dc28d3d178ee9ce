"""The board: every part that a slot of a VAE can hold, in one table.

``PRIORS``, ``LIKELIHOODS``, ``POSTERIORS`` and ``NETWORKS`` map a name to a ``Part``: how to make it, its equation and
its source. The tests hold every part, and every combination, to one contract; ``pyrovae board`` prints the table; an
ablation is a loop over it::

    for name, part in pv.board.PRIORS.items():
        vae = pv.VAE(part.make(encoder, x), decoder, encoder)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pyrovae import families, networks, observations, priors
from pyrovae.conditional import Conditional


@dataclass(frozen=True)
class Part:
    """One entry of the board.

    Attributes:
        make: of a prior: ``make(encoder, x, latent)``, where x are training data; of a likelihood:
            ``make(latent, width)``, a decoder of data of ``width`` columns; of a posterior: ``make(width, latent)``, an
            encoder; of a network ``make(in_shapes, out_shape)``.
        equation: its density, or what a network computes, on one line.
        source: the reference.
        values: what x is, for a likelihood (a name in ``VALUES``); where z lies, for a prior or posterior: "real",
            "one-hot", "simplex". Only parts of the same values can be combined.
        exact: whether its density is exact; else why not.
        eager: why it cannot be traced; empty where it can.
    """

    make: Callable[..., nn.Module]
    equation: str
    source: str
    values: str = "real"
    exact: bool | str = True
    eager: str = ""


HIDDEN = 16  # of the small networks below


def decoder(family: Callable[..., Any]) -> Callable[[int, int], nn.Module]:
    """How to make a decoder of a family's making: a small network."""

    def make(latent: int, width: int) -> nn.Module:
        made = family()
        return Conditional(networks.MLP(latent, HIDDEN, families.out_shape(made, (width,)), activation=nn.Tanh), made)

    return make


def encoder(family: Callable[..., Any]) -> Callable[[int, int], nn.Module]:
    """How to make an encoder of a family's making: a small network."""

    def make(width: int, latent: int) -> nn.Module:
        made = family()
        return Conditional(networks.MLP(width, HIDDEN, families.out_shape(made, (latent,)), activation=nn.Tanh), made)

    return make


def learned(family: Callable[..., Any]) -> Callable[[nn.Module, Tensor, int], nn.Module]:
    """How to make a prior of a family's making: its parameters are learned."""
    return lambda encoder, x, latent: priors.Learned(family(), latent)


PRIORS: dict[str, Part] = {
    "standard normal": Part(
        lambda encoder, x, latent: priors.StandardNormal(latent),
        "p(z) = prod_d N(z_d; 0, 1)",
        "Kingma & Welling 2014",
    ),
    "mixture of normals": Part(
        lambda encoder, x, latent: priors.NormalMixture(latent, 5),
        "p(z) = sum_k w_k prod_d N(z_d; m_kd, s_kd)",
        "Dilokthanakul et al. 2016",
    ),
    "VampPrior": Part(
        lambda encoder, x, latent: priors.VampPrior(encoder, x[:5]),
        "p(z) = 1/K sum_k q(z | u_k)",
        "Tomczak & Welling 2018",
    ),
    "categorical": Part(
        learned(families.OneHotCategorical), "P(z) = prod_d pi_d^z_d", "Kingma et al. 2014", values="one-hot"
    ),
}

LIKELIHOODS: dict[str, Part] = {
    "bernoulli": Part(decoder(families.Bernoulli), "P(x) = p^x (1 - p)^(1 - x)", "Kingma & Welling 2014", "bits"),
    "normal": Part(decoder(families.Normal), "p(x) = N(x; loc, scale)", "Kingma & Welling 2014", "reals"),
    "normal, fixed scale": Part(
        decoder(families.FixedScaleNormal), "p(x) = N(x; loc, s), s given", "Kingma & Welling 2014", "reals"
    ),
    "normal, shared scale": Part(
        decoder(families.SharedScaleNormal), "p(x) = N(x; loc, s), s learned", "Rybkin et al. 2021", "reals"
    ),
    "categorical": Part(decoder(lambda: families.Categorical(4)), "P(x) = pi_x", "", "categories"),
    "poisson": Part(decoder(families.Poisson), "P(x) = rate^x exp(-rate) / x!", "", "counts"),
    "dequantized normal": Part(
        lambda latent, width: observations.Dequantized(decoder(families.Normal)(latent, width), num_levels=8),
        "P(k) = E_u p((k + u) / L) L^-D",
        "Theis et al. 2016",
        "levels",
    ),
    "normal, missing values": Part(
        lambda latent, width: observations.Missing(decoder(families.Normal)(latent, width)),
        "p(x_seen) = prod over d seen of N(x_d; loc_d, scale_d)",
        "Mattei & Frellsen 2019",
        "reals, some missing",
    ),
    "normal, mask model": Part(
        lambda latent, width: observations.MissingNotAtRandom(
            decoder(families.Normal)(latent, width), observations.SelfMasking(width, sign=1)
        ),
        "p(x_seen, s) = int prod_d N(x_d; loc_d, scale_d) P(s_d | x_d) dx_missing",
        "Ipsen et al. 2021",
        "reals, some missing",
    ),
}

POSTERIORS: dict[str, Part] = {
    "diagonal normal": Part(
        encoder(families.Normal), "q(z | x) = prod_d N(z_d; m_d(x), s_d(x))", "Kingma & Welling 2014"
    ),
    "categorical": Part(
        encoder(families.OneHotCategorical),
        "q(z | x) = prod_d pi_d(x)^z_d, enumerated",
        "Kingma et al. 2014",
        values="one-hot",
    ),
}

NETWORKS: dict[str, Part] = {
    "MLP": Part(
        lambda in_shapes, out_shape: networks.MLP(in_shapes, HIDDEN, out_shape), "h = relu(W h + b)", "Rosenblatt 1958"
    ),
    "gated MLP": Part(
        lambda in_shapes, out_shape: networks.GatedMLP(in_shapes, HIDDEN, out_shape),
        "h = (W h + b) * sigmoid(V h + c)",
        "Dauphin et al. 2017",
    ),
}

SLOTS = {"priors": PRIORS, "likelihoods": LIKELIHOODS, "posteriors": POSTERIORS, "networks": NETWORKS}


def markdown() -> str:
    """The board as a table, generated from the parts themselves."""
    return "\n\n".join(_section(slot, parts) for slot, parts in SLOTS.items())


def _section(slot: str, parts: dict[str, Part]) -> str:
    networks_ = slot == "networks"
    head = [slot, "what it computes" if networks_ else "equation", "source"]
    head += [] if networks_ else ["x" if slot == "likelihoods" else "z", "exact density"]
    lines = [[*head, "traces"], ["---"] * (len(head) + 1)]
    for name, part in parts.items():
        density = [] if networks_ else [part.values, "yes" if part.exact is True else str(part.exact)]
        lines.append([name, f"`{part.equation}`", part.source, *density, part.eager or "yes"])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
