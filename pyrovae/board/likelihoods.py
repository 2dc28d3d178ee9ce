"""The likelihoods of the board."""

from __future__ import annotations

import torch
from torch import nn

from pyrovae import families, networks, observations, readings
from pyrovae.autoregressive import Autoregressive
from pyrovae.board.part import HIDDEN, Part, decoder, encoder

BY_PARTICLES = "by particles; mass outside [0, 1] is lost"


def dequantized(latent: int, width: int, *given: int, noise: nn.Module | None = None) -> nn.Module:
    """Eight levels as the cells of a normal."""
    return observations.Dequantized(decoder(families.Normal)(latent, width, *given), num_levels=8, noise=noise)


def dequantized_variationally(latent: int, width: int, *given: int) -> nn.Module:
    """Noise that depends on x; it starts wider than uniform noise, of whose logit the standard deviation is 1.8."""
    noise = encoder(families.LogitNormal)(width, width)
    wide = torch.tensor([0.0, families.inverse_positive(2.5)]).repeat_interleave(width)
    noise.net.start_at(wide)  # type: ignore[operator]
    return dequantized(latent, width, *given, noise=noise)


def mixed(latent: int, width: int, *given: int) -> nn.Module:
    """Positive numbers and categories in turn."""
    columns = [families.log_normal if d % 2 == 0 else families.Ordinal(4) for d in range(width)]
    return decoder(lambda: families.Mixed(columns))(latent, width, *given)


def masked(latent: int, width: int, *given: int) -> nn.Module:
    """Categories one by one, by a masked network."""
    shapes: list[networks.Shape] = [(width, 4), latent, *given]
    net = networks.MaskedMLP(shapes, HIDDEN, 4 * width)
    return Autoregressive(readings.Reading(net, readings.OneHot(4)), families.Categorical(4))


def text(latent: int, width: int, *given: int) -> nn.Module:
    """Tokens one by one, by a recurrent network."""
    shapes: list[networks.Shape] = [(width, 3), latent, *given]
    net = networks.RecurrentDecoder(shapes, 4 * width, width=HIDDEN)
    return Autoregressive(readings.Reading(net, nn.Embedding(4, 3)), families.Categorical(4))


def mask_model(latent: int, width: int, *given: int) -> nn.Module:
    """Large values are missing more often."""
    normal = decoder(families.Normal)(latent, width, *given)
    return observations.MissingNotAtRandom(normal, observations.SelfMasking(width, sign=1))


LIKELIHOODS: dict[str, Part] = {
    "bernoulli": Part(decoder(families.Bernoulli), "P(x) = p^x (1 - p)^(1 - x)", "Kingma & Welling 2014", "bits"),
    "normal": Part(decoder(families.Normal), "p(x) = N(x; loc, scale)", "Kingma & Welling 2014", "reals"),
    "normal, fixed scale": Part(
        decoder(families.FixedScaleNormal), "p(x) = N(x; loc, s), s given", "Kingma & Welling 2014", "reals"
    ),
    "normal, shared scale": Part(
        decoder(families.SharedScaleNormal), "p(x) = N(x; loc, s), s learned", "Rybkin et al. 2021", "reals"
    ),
    "categorical": Part(decoder(lambda: families.Categorical(4)), "P(x) = pi_x", "Bowman et al. 2016", "categories"),
    "poisson": Part(decoder(families.Poisson), "P(x) = rate^x exp(-rate) / x!", "Poisson 1837", "counts"),
    "dequantized normal": Part(
        dequantized,
        "P(k) = E_u p((k + u) / L) L^-D",
        "Theis et al. 2016",
        "levels",
        exact=BY_PARTICLES,
    ),
    "dequantized normal, variational": Part(
        dequantized_variationally,
        "P(k) = E_q(u | k) p((k + u) / L) L^-D / q(u | k)",
        "Ho et al. 2019",
        "levels",
        exact=BY_PARTICLES,
    ),
    "normal, optimal scale": Part(
        decoder(families.OptimalScaleNormal),
        "p(x) = N(x; loc, s), s^2 = mean (x - loc)^2 in training",
        "Rybkin et al. 2021",
        "reals",
    ),
    "laplace": Part(decoder(families.Laplace), "p(x) = exp(-|x - loc| / s) / (2 s)", "Laplace 1774", "reals"),
    "student t": Part(
        decoder(families.StudentT), "p(x) = t_df((x - loc) / s) / s, df learned", "Takahashi et al. 2018", "reals"
    ),
    "log-normal": Part(decoder(families.LogNormal), "p(x) = N(log x; loc, s) / x", "Galton 1879", "positive"),
    "gamma": Part(decoder(families.Gamma), "p(x) = r^a x^(a - 1) exp(-r x) / G(a)", "Pearson 1893", "positive"),
    "continuous bernoulli": Part(
        decoder(families.ContinuousBernoulli),
        "p(x) = exp(t (x - 1/2)) (t / 2) / sinh(t / 2)",
        "Loaiza-Ganem & Cunningham 2019",
        "unit interval",
    ),
    "beta": Part(decoder(families.Beta), "p(x) = x^(a - 1) (1 - x)^(b - 1) / B(a, b)", "Pearson 1895", "unit interval"),
    "logit-normal": Part(
        decoder(families.LogitNormal), "p(x) = N(logit x; loc, s) / (x (1 - x))", "Johnson 1949", "unit interval"
    ),
    "discretized logistic": Part(
        decoder(lambda: families.DiscretizedLogistic(8)),
        "P(x) = sigma((x + h - loc) / s) - sigma((x - h - loc) / s)",
        "Kingma et al. 2016",
        "levels",
    ),
    "discretized normal": Part(
        decoder(lambda: families.DiscretizedNormal(8)),
        "P(x) = Phi((x + h - loc) / s) - Phi((x - h - loc) / s)",
        "Ho et al. 2020",
        "levels",
    ),
    "mixture of discretized logistics": Part(
        decoder(lambda: families.DiscretizedLogisticMixture(3, 8)),
        "P(x) = sum_j w_j P_j(x), P_j discretized logistics",
        "Salimans et al. 2017",
        "levels",
    ),
    "categorical levels": Part(
        decoder(lambda: families.CategoricalLevels(8, 3)),
        "P(x) = softmax(W f + c)_k, W and c shared",
        "van den Oord et al. 2016",
        "levels",
    ),
    "ordinal": Part(
        decoder(lambda: families.Ordinal(4)), "P(x <= k) = sigma(c_k - f), c learned", "McCullagh 1980", "categories"
    ),
    "negative binomial": Part(
        decoder(families.NegativeBinomial),
        "P(x) = G(x + r) / (x! G(r)) (r / (r + m))^r (m / (r + m))^x",
        "Lopez et al. 2018",
        "counts",
    ),
    "zero-inflated negative binomial": Part(
        decoder(families.ZeroInflatedNegativeBinomial),
        "P(x) = g [x = 0] + (1 - g) NB(x; m, r)",
        "Lopez et al. 2018",
        "counts",
    ),
    "multinomial": Part(
        decoder(lambda: families.Multinomial(total_count=7)),
        "P(x | n) = n! / prod_d x_d! prod_d pi_d^x_d, n = sum_d x_d",
        "Miao et al. 2016",
        "bags of words",
    ),
    "von Mises": Part(
        decoder(families.VonMises), "p(x) = exp(a cos x + b sin x) / (2 pi I0(|a, b|))", "von Mises 1918", "angles"
    ),
    "mixed": Part(
        mixed,
        "p(x) = prod_d p_d(x_d), a family for each column",
        "Nazabal et al. 2020",
        "mixed columns",
    ),
    "full-covariance normal": Part(
        decoder(families.FullNormal), "p(x) = N(x; loc, L L^T)", "Rezende et al. 2014", "reals"
    ),
    "autoregressive categorical": Part(
        masked,
        "P(x) = prod_t P(x_t | x_<t, z)",
        "Germain et al. 2015",
        "categories",
    ),
    "text": Part(
        text,
        "P(x) = prod_t P(x_t | h_t), h_t = LSTM(h_(t-1), x_(t-1), z)",
        "Bowman et al. 2016",
        "categories",
    ),
    "normal, missing values": Part(
        lambda latent, width, *given: observations.Missing(decoder(families.Normal)(latent, width, *given)),
        "p(x_seen) = prod over d seen of N(x_d; loc_d, scale_d)",
        "Mattei & Frellsen 2019",
        "reals, some missing",
    ),
    "normal, mask model": Part(
        mask_model,
        "p(x_seen, s) = int prod_d N(x_d; loc_d, scale_d) P(s_d | x_d) dx_missing",
        "Ipsen et al. 2021",
        "reals, some missing",
        exact="by particles",
    ),
}
