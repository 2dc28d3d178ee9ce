"""The priors of the board."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions.transforms as T
from torch import Tensor, nn

from pyrovae import families, flows, networks, priors
from pyrovae.autoregressive import Autoregressive
from pyrovae.board.part import HIDDEN, Part
from pyrovae.board.part import encoder as conditional
from pyrovae.flows.adapter import NSF

GIVEN = 3  # numbers of the conditioning variable


def learned(family: Callable[..., Any]) -> Callable[[nn.Module, Tensor, int], nn.Module]:
    """How to make a prior of a family's making: its parameters are learned."""
    return lambda encoder, x, latent: priors.Learned(family(), latent)


def flow_prior(transforms: Callable[[int], Any]) -> Callable[[nn.Module, Tensor, int], nn.Module]:
    """How to make a flow over a standard normal as prior."""
    return lambda encoder, x, latent: priors.Flow(priors.StandardNormal(latent), transforms(latent))


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
    "learned normal": Part(
        lambda encoder, x, latent: priors.Normal(latent), "p(z) = prod_d N(z_d; m_d, s_d)", "Kingma & Welling 2014"
    ),
    "Laplace": Part(
        lambda encoder, x, latent: priors.Laplace(latent),
        "p(z) = prod_d exp(-|z_d - m_d| / s_d) / (2 s_d)",
        "Laplace 1774",
    ),
    "Student-t": Part(
        lambda encoder, x, latent: priors.StudentT(latent),
        "p(z) = prod_d t_df((z_d - m_d) / s_d) / s_d",
        "Takahashi et al. 2018",
    ),
    "full-covariance normal": Part(learned(families.FullNormal), "p(z) = N(z; m, L L^T)", "Rezende et al. 2014"),
    "low-rank normal": Part(
        learned(lambda: families.LowRankNormal(1)),
        "p(z) = N(z; m, S (I + U U^T) S)",
        "Rezende et al. 2014",
    ),
    "mixture of full normals": Part(
        lambda encoder, x, latent: priors.FullNormalMixture(latent, 3, spread=0.5),
        "p(z) = sum_k w_k N(z; m_k, L_k L_k^T)",
        "Dilokthanakul et al. 2016",
    ),
    "exemplars": Part(
        lambda encoder, x, latent: priors.ExemplarPrior(encoder, x[:5]),
        "p(z) = 1/K sum_k N(z; E_q[z | x_k], s^2 I)",
        "Norouzi et al. 2020",
    ),
    "relaxed categorical": Part(
        learned(lambda: families.RelaxedOneHotCategorical(0.5)),
        "z = log softmax((a + g) / T), g ~ Gumbel",
        "Maddison et al. 2017",
        values="log-simplex",
    ),
    "affine coupling flow": Part(
        flow_prior(lambda latent: flows.affine_coupling(latent, 2, hidden=(HIDDEN,))),
        "z = (u_a, exp(s(u_a)) u_b + m(u_a)), a and b in turn, u ~ N(0, I)",
        "Dinh et al. 2017",
    ),
    "spline coupling flow": Part(
        flow_prior(lambda latent: flows.spline_coupling(latent, 2, bins=4, hidden=(HIDDEN,))),
        "z = (u_a, spline(u_b; u_a)), a and b in turn, u ~ N(0, I)",
        "Durkan et al. 2019",
    ),
    "masked autoregressive flow": Part(
        flow_prior(lambda latent: flows.masked_autoregressive(latent, 2, hidden=(HIDDEN,))),
        "u_d = exp(s_d(z_<d)) z_d + m_d(z_<d), u ~ N(0, I)",
        "Papamakarios et al. 2017",
    ),
    "inverse autoregressive flow": Part(
        flow_prior(lambda latent: flows.inverse_autoregressive(latent, 2, hidden=(HIDDEN,))),
        "z_d = exp(s_d(u_<d)) u_d + m_d(u_<d), u ~ N(0, I)",
        "Kingma et al. 2016",
    ),
    "neural spline flow of zuko": Part(
        flow_prior(lambda latent: NSF(latent, transforms=1, bins=4, hidden_features=(HIDDEN,))),
        "u_d = spline(z_d; z_<d), u ~ N(0, I)",
        "Durkan et al. 2019",
    ),
    "autoregressive": Part(
        lambda encoder, x, latent: Autoregressive(
            networks.MaskedMLP(latent, HIDDEN, 2 * latent, activation=nn.Tanh), families.normal
        ),
        "p(z) = prod_d N(z_d; m_d(z_<d), s_d(z_<d))",
        "Germain et al. 2015",
    ),
    "coupling flow of Pyro": Part(
        flow_prior(lambda latent: T.affine_coupling(latent, [HIDDEN])),
        "z = (u_a, exp(s(u_a)) u_b + m(u_a)), u ~ N(0, I)",
        "Dinh et al. 2017",
    ),
    "normal given y": Part(
        lambda encoder, x, latent: conditional(families.Normal)(GIVEN, latent),
        "p(z | y) = prod_d N(z_d; m_d(y), s_d(y))",
        "Sohn et al. 2015",
        given=(GIVEN,),
    ),
}
