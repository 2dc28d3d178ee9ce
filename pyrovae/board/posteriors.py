"""The posteriors of the board."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from pyrovae import families, flows
from pyrovae.board.part import HIDDEN, Part, encoder


def flow_posterior(layers: Callable[..., Any], **options: Any) -> Callable[..., nn.Module]:
    """How to make an encoder of a flow that is conditioned on four further numbers of its network."""

    def make(width: int, latent: int, *given: int) -> nn.Module:
        transforms = layers(latent, num_layers=2, context=4, **options)
        return encoder(lambda: families.Flow(families.normal, transforms, context=4))(width, latent, *given)

    return make


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
    "full-covariance normal": Part(
        encoder(families.FullNormal), "q(z | x) = N(z; m(x), L(x) L(x)^T)", "Rezende et al. 2014"
    ),
    "low-rank normal": Part(
        encoder(lambda: families.LowRankNormal(1)),
        "q(z | x) = N(z; m(x), S(x) (I + U(x) U(x)^T) S(x))",
        "Rezende et al. 2014",
    ),
    "mixture of normals": Part(
        encoder(lambda: families.NormalMixture(3)),
        "q(z | x) = sum_k w_k(x) prod_d N(z_d; m_kd(x), s_kd(x))",
        "Figurnov et al. 2018",
    ),
    "relaxed categorical": Part(
        encoder(lambda: families.RelaxedOneHotCategorical(0.66)),
        "z = log softmax((a(x) + g) / T), g ~ Gumbel",
        "Maddison et al. 2017",
        values="log-simplex",
    ),
    "inverse autoregressive flow": Part(
        flow_posterior(flows.inverse_autoregressive, hidden=(HIDDEN,)),
        "z_d = exp(s_d(u_<d, h)) u_d + m_d(u_<d, h), u ~ N(m(x), s(x)), h(x)",
        "Kingma et al. 2016",
    ),
    "affine coupling flow": Part(
        flow_posterior(flows.affine_coupling, hidden=(HIDDEN,)),
        "z = (u_a, exp(s(u_a, h)) u_b + m(u_a, h)), u ~ N(m(x), s(x)), h(x)",
        "Dinh et al. 2017",
    ),
    "spline coupling flow": Part(
        flow_posterior(flows.spline_coupling, bins=4, hidden=(HIDDEN,)),
        "z = (u_a, spline(u_b; u_a, h)), u ~ N(m(x), s(x)), h(x)",
        "Durkan et al. 2019",
    ),
    "planar flow": Part(
        flow_posterior(flows.planar),
        "z = u + v tanh(w u + b), u ~ N(m(x), s(x)); v, w, b of x",
        "Rezende & Mohamed 2015",
        scores=False,
    ),
    "radial flow": Part(
        flow_posterior(flows.radial),
        "z = u + b (u - c) / (a + |u - c|), u ~ N(m(x), s(x)); a, b, c of x",
        "Rezende & Mohamed 2015",
        scores=False,
    ),
    "Sylvester flow": Part(
        flow_posterior(flows.sylvester),
        "z = u + Q R tanh(S Q^T u + b), u ~ N(m(x), s(x)); Q, R, S, b of x",
        "van den Berg et al. 2018",
        scores=False,
    ),
}
