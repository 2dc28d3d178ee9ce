# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Swapping priors and likelihoods
#
# A swap is cheap to write: another object in a slot. Whether it helps is harder to say, and this notebook is about
# saying it honestly. First priors are compared, on the same binarized images; then likelihoods, where one must take
# care that the numbers mean the same thing at all.
#
# With the parameters below and one CPU core this takes about ten minutes on MNIST. `DATA = "digits"` takes one.

# %% tags=["parameters"]
DATA = "mnist"  # or "fashion_mnist", or "digits"
LATENT = 20
HIDDEN = (300, 300)
EPOCHS = 10
BATCH = 128
NUM_COMPONENTS = 100  # of the mixture of normals, and pseudo-inputs of the VampPrior
NUM_PARTICLES = 500
NUM_TEST = 500
SEED = 0

# %%
import math
import warnings

import pyro.distributions as dist
import torch
from IPython.display import display

import pyrovae as pv
from pyrovae import report

# the share of doubtful data is printed and discussed below
warnings.simplefilter("ignore", pv.EvidenceWarning)

# %% [markdown]
# ## Priors
#
# Why should the prior matter? Averaged over the data, the ELBO's two last terms are
#
# $$
# \mathbb{E}_{p_\text{data}(x)}\,\mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big)
# = I_q(x; z) + \mathrm{KL}\big(q(z)\,\|\,p(z)\big), \qquad q(z) = \mathbb{E}_{p_\text{data}(x)}\, q(z \mid x).
# $$
#
# The first part is the information that the latents carry about $x$, which reconstruction needs. The second is pure
# loss: how far the *aggregated posterior* $q(z)$ is from the prior. A standard normal asks $q(z)$ to look like one
# ball. A flexible prior can move towards $q(z)$ instead.
#
# Three priors, same networks, same budget, same seed:
#
# * standard normal, $p(z) = \mathcal N(z; 0, I)$;
# * a mixture of normals, $p(z) = \sum_k \pi_k\, \mathcal N(z; m_k, \mathrm{diag}(s_k^2))$, with everything learned;
# * the VampPrior, $p(z) = \frac1K \sum_k q(z \mid u_k)$, with learned pseudo-inputs $u_k$ (Tomczak & Welling 2018).

# %%
data = pv.data.load(DATA)
test = data.test.x[:NUM_TEST]

torch.manual_seed(SEED)  # the mixture's locations are drawn
priors = {
    "standard normal": pv.priors.StandardNormal(LATENT),
    "mixture": pv.priors.NormalMixture(LATENT, NUM_COMPONENTS),
    "VampPrior": pv.recipes.Vamp(NUM_COMPONENTS),
}


def trained(program, data, **options):
    """The program after training: the same budget for each."""
    options = {"batch_size": BATCH, "gradient": pv.gradients.path, "seed": SEED, **options}
    pv.fit(program, data, epochs=EPOCHS, **options)
    return program


vaes = {}
for name, prior in priors.items():
    torch.manual_seed(SEED)
    vaes[name] = trained(pv.vae(data, latent=LATENT, hidden=HIDDEN, prior=prior), data)

# %% [markdown]
# Now the log-likelihood of the same test images under each, by importance sampling. Every mean carries two errors, and
# the share of images whose importance weights have too heavy a tail ($\hat k$ above its threshold, 0.7 for many
# particles): there the figure is a lower bound of unknown slack.
#
# Their sampling errors may seem to drown the differences. They do not: all programs were given the *same* images, and
# an image that is hard for one is hard for the others. So the difference is taken per image,
#
# $$
# d_n = \log \hat p_A(x_n) - \log \hat p_B(x_n), \qquad
# \bar d = \frac1N \sum_n d_n, \qquad \mathrm{se}(\bar d) = \frac{\mathrm{sd}(d)}{\sqrt N},
# $$
#
# and that standard error, in the second table, is several times smaller.


# %%
def evidence(vae, x, **options):
    """log p(x) of each datum, with the same budget for all programs."""
    return pv.log_marginal(vae, x, num_particles=NUM_PARTICLES, seed=SEED, **options)


evidences = {name: evidence(vae, test) for name, vae in vaes.items()}
pv.compare(*evidences.values(), names=list(evidences))

# %% [markdown]
# **What to look at.** Each point is a mean difference with its standard error; zero is no difference. The error covers
# other test images and other particles. It does not cover other seeds of training: if a difference is not several
# times its error, or is small against what training again would change, train again with other seeds first.

# %%
report.comparison(evidences)

# %% [markdown]
# ## What a prior looks like
#
# With two latent dimensions a prior can be drawn. The contours hold 20 to 95 % of $p(z)$; each point is a draw from
# $q(z \mid x)$ of a test image, so that the cloud is the aggregated posterior.
#
# **What to look at.** The standard normal is one round hill, and the codes are squeezed into it. The mixture and the
# VampPrior rise where codes are and leave the gaps between classes empty: what is drawn from a gap looks like no class
# at all.

# %%
planes = {}
torch.manual_seed(SEED)
for name, prior in {
    "standard normal": pv.priors.StandardNormal(2),
    "mixture": pv.priors.NormalMixture(2, NUM_COMPONENTS),
    "VampPrior": pv.recipes.Vamp(NUM_COMPONENTS),
}.items():
    torch.manual_seed(SEED)
    planes[name] = trained(pv.vae(data, latent=2, hidden=HIDDEN, prior=prior), data)

# %%
for name, vae in planes.items():
    print(name)
    display(report.prior_density(vae, test))

# %% [markdown]
# ## Likelihoods
#
# The likelihood is the decoder's family. Log-likelihoods under two families can be compared only if both are
# densities, or both probabilities, *of the same data*. Three mistakes are common:
#
# 1. comparing a Bernoulli "likelihood" of grey values with a normal one: the first is not normalised over $[0, 1]$;
# 2. comparing densities of data in different units: a density per grey level is $1/256$ of one per unit interval;
# 3. taking a density of values on a grid at face value: grey values are integers, so a normal with a learned scale can
#    put a spike on each level that occurs often and reach any log-likelihood it likes.
#
# The cure for the third is to *dequantize*: spread each level $k$ evenly over its cell, $v = (k + u) / L$ with
# $u \sim \mathcal U[0, 1)$ and $L$ levels. Jensen's inequality then gives a bound on a true probability,
#
# $$
# \log P(k) = \log \int_{[0,1)^D} p\!\left(\frac{k + u}{L}\right) L^{-D}\, du
# \;\ge\; \mathbb{E}_u \log p\!\left(\frac{k + u}{L}\right) - D \log L ,
# $$
#
# and probabilities of the same pixels can be compared, in bits per dimension: $-\log P(k) / (D \log 2)$. No model of
# $L$ equally likely levels needs more than $\log_2 L$ bits.

# %%
LEVELS = 17 if DATA == "digits" else 256
grey = pv.data.load(DATA, binarization="none")
D = grey.event_shape.numel()  # pixels


def dequantize(x):
    """(k + u) / L from grey values k / (L - 1), with fresh noise u."""
    return ((x * (LEVELS - 1)).round() + torch.rand_like(x)) / LEVELS


torch.manual_seed(SEED)
# drawn once: a held-out set must not change under evaluation
validation = dequantize(grey.validation.x)
grey_test = dequantize(grey.test.x[:NUM_TEST])

# %% [markdown]
# Three normals, which differ in who decides on the scale: nobody (fixed), one number learned for all pixels, or the
# network, anew for each pixel and image. And a logistic, whose tails are heavier: a family is any function of the
# network's outputs that returns a distribution.


# %%
def logistic(loc, raw_scale):
    """Logistic(loc, scale), a scale per element."""
    return dist.Logistic(loc, pv.families.positive(raw_scale))


logistic.num_params = 2

likelihoods = {
    "normal, scale 0.1": pv.families.FixedScaleNormal(0.1),
    "normal, one scale": pv.families.SharedScaleNormal(0.1),  # where it starts
    "normal, per pixel": pv.families.normal,
    "logistic, per pixel": logistic,
}
densities = {}
for name, likelihood in likelihoods.items():
    torch.manual_seed(SEED)
    vae = pv.vae(grey, latent=LATENT, hidden=HIDDEN, likelihood=likelihood)
    vae = trained(vae, grey.train.x, draw=dequantize, validation=validation, max_grad_norm=100)
    densities[name] = evidence(vae, grey_test, log_jacobian=-D * math.log(LEVELS))

# %%
bits = 1 / (D * math.log(2))
print(f"{'likelihood':20} {'bits/dim':>9} {'Monte Carlo':>12} {'sampling':>9}")
for name, ev in densities.items():
    errors = f"{ev.mean_standard_error * bits:12.4f} {ev.mean_sampling_error * bits:9.4f}"
    print(f"{name:20} {ev.bits_per_dim:9.4f} {errors}")
print(f"{'all levels alike':20} {math.log2(LEVELS):9.4f}")

# %% [markdown]
# `log_jacobian` adds $-D \log L$, which turns the density of $v$ into a bound on the probability of $k$. The paired
# differences are in nats per image; most of the difference is in pixels that are nearly always
# black, where a scale per pixel can shrink to the width of a single level.

# %%
pv.compare(*densities.values(), names=list(densities))

# %%
report.comparison(densities)

# %% [markdown]
# **A last warning.** A better likelihood is not a better picture. Log-likelihood rewards getting the many black pixels
# exactly right, and a model may win there while its samples look no better. Look at both.
