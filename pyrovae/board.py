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

from pyrovae import families, flows, networks, observations, priors, readings
from pyrovae.autoregressive import Autoregressive
from pyrovae.conditional import Conditional
from pyrovae.flows.adapter import NSF


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
            "one-hot", "log-simplex". Only parts of the same values can be combined. For a network what it reads, where
            that is no vector: "images", "sequences"; or "to images", which a vector becomes.
        exact: whether its density is exact; else why not.
        eager: why it cannot be traced; empty where it can.
        scores: of a posterior: whether it gives the density of points that it did not draw, which a mixture of it asks
            for (a VampPrior) and the path gradients do.
    """

    make: Callable[..., nn.Module]
    equation: str
    source: str
    values: str = "real"
    exact: bool | str = True
    eager: str = ""
    scores: bool = True


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
        net = networks.MLP(width, HIDDEN, families.out_shape(made, (latent,)), activation=nn.Tanh)
        if isinstance(made, families.Family):  # as wide as a prior, so that importance weights have light tails
            net.start_at(made.standard((latent,)))
        return Conditional(net, made)

    return make


def learned(family: Callable[..., Any]) -> Callable[[nn.Module, Tensor, int], nn.Module]:
    """How to make a prior of a family's making: its parameters are learned."""
    return lambda encoder, x, latent: priors.Learned(family(), latent)


def flow_prior(transforms: Callable[[int], Any]) -> Callable[[nn.Module, Tensor, int], nn.Module]:
    """How to make a flow over a standard normal as prior."""
    return lambda encoder, x, latent: priors.Flow(priors.StandardNormal(latent), transforms(latent))


def flow_posterior(layers: Callable[..., Any], **options: Any) -> Callable[[int, int], nn.Module]:
    """How to make an encoder of a flow that is conditioned on four further numbers of its network."""

    def make(width: int, latent: int) -> nn.Module:
        transforms = layers(latent, num_layers=2, context=4, **options)
        return encoder(lambda: families.Flow(families.normal, transforms, context=4))(width, latent)

    return make


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
    "categorical": Part(decoder(lambda: families.Categorical(4)), "P(x) = pi_x", "Bowman et al. 2016", "categories"),
    "poisson": Part(decoder(families.Poisson), "P(x) = rate^x exp(-rate) / x!", "Poisson 1837", "counts"),
    "dequantized normal": Part(
        lambda latent, width: observations.Dequantized(decoder(families.Normal)(latent, width), num_levels=8),
        "P(k) = E_u p((k + u) / L) L^-D",
        "Theis et al. 2016",
        "levels",
    ),
    "dequantized normal, variational": Part(
        lambda latent, width: observations.Dequantized(
            decoder(families.Normal)(latent, width), num_levels=8, noise=encoder(families.LogitNormal)(width, width)
        ),
        "P(k) = E_q(u | k) p((k + u) / L) L^-D / q(u | k)",
        "Ho et al. 2019",
        "levels",
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
        lambda latent, width: decoder(
            lambda: families.Mixed([families.log_normal if d % 2 == 0 else families.Ordinal(4) for d in range(width)])
        )(latent, width),
        "p(x) = prod_d p_d(x_d), a family for each column",
        "Nazabal et al. 2020",
        "mixed columns",
    ),
    "full-covariance normal": Part(
        decoder(families.FullNormal), "p(x) = N(x; loc, L L^T)", "Rezende et al. 2014", "reals"
    ),
    "autoregressive categorical": Part(
        lambda latent, width: Autoregressive(
            readings.Reading(networks.MaskedMLP([(width, 4), latent], HIDDEN, 4 * width), readings.OneHot(4)),
            families.Categorical(4),
        ),
        "P(x) = prod_t P(x_t | x_<t, z)",
        "Germain et al. 2015",
        "categories",
    ),
    "text": Part(
        lambda latent, width: Autoregressive(
            readings.Reading(
                networks.RecurrentDecoder([(width, 3), latent], 4 * width, width=HIDDEN), nn.Embedding(4, 3)
            ),
            families.Categorical(4),
        ),
        "P(x) = prod_t P(x_t | h_t), h_t = LSTM(h_(t-1), x_(t-1), z)",
        "Bowman et al. 2016",
        "categories",
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

NETWORKS: dict[str, Part] = {
    "MLP": Part(
        lambda in_shapes, out_shape: networks.MLP(in_shapes, HIDDEN, out_shape), "h = relu(W h + b)", "Rosenblatt 1958"
    ),
    "gated MLP": Part(
        lambda in_shapes, out_shape: networks.GatedMLP(in_shapes, HIDDEN, out_shape),
        "h = (W h + b) * sigmoid(V h + c)",
        "Dauphin et al. 2017",
    ),
    "residual MLP": Part(
        lambda in_shapes, out_shape: networks.ResidualMLP(in_shapes, HIDDEN, HIDDEN, out_shape),
        "h = h + V silu(W silu(norm(h)))",
        "He et al. 2016",
    ),
    "masked MLP": Part(
        lambda in_shapes, out_shape: networks.MaskedMLP(in_shapes, HIDDEN, out_shape),
        "h = relu((M * W) h + b), M so that output t sees x_<t",
        "Germain et al. 2015",
    ),
    "any module": Part(
        lambda in_shapes, out_shape: networks.BatchFree(
            nn.Linear(networks.as_shape(in_shapes).numel(), networks.as_shape(out_shape).numel()), in_shapes, out_shape
        ),
        "a torch module of rows, whatever the batch",
        "Paszke et al. 2019",
    ),
    "convolutions": Part(
        lambda in_shapes, out_shape: networks.ConvEncoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = silu(w * h + b), each halving the image",
        "LeCun et al. 1989",
        "images",
    ),
    "transposed convolutions": Part(
        lambda in_shapes, out_shape: networks.ConvDecoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = silu(w *' h + b), each doubling the image",
        "Zeiler et al. 2010",
        "to images",
    ),
    "residual convolutions": Part(
        lambda in_shapes, out_shape: networks.ResidualConvEncoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = h + v * silu(norm(w * silu(norm(h))))",
        "He et al. 2016",
        "images",
    ),
    "residual transposed convolutions": Part(
        lambda in_shapes, out_shape: networks.ResidualConvDecoder(in_shapes, out_shape, channels=(4, 8), hidden=HIDDEN),
        "h = h + v * silu(norm(w * silu(norm(h))))",
        "He et al. 2016",
        "to images",
    ),
    "recurrent": Part(
        lambda in_shapes, out_shape: networks.RecurrentEncoder(in_shapes, out_shape, width=HIDDEN),
        "h_t = LSTM(h_(t-1), x_t), in both directions",
        "Hochreiter & Schmidhuber 1997",
        "sequences",
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
