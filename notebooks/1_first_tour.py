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
# # 1. A first tour
#
# A variational autoencoder is two conditional distributions that are trained together:
#
# $$
# \text{model:}\quad z \sim p(z), \quad x \sim p_\theta(x \mid z)
# \qquad\qquad
# \text{guide:}\quad z \sim q_\phi(z \mid x).
# $$
#
# The model says how data come about: a latent $z$ is drawn from the prior, and a neural network, the decoder, turns it
# into a distribution of $x$. The guide answers the question the other way round: which $z$ may have made this $x$?
# Its network is the encoder. Both are trained by maximising one number per datum, the evidence lower bound
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_{q_\phi(z \mid x)}\big[\log p_\theta(x \mid z) + \log p(z) - \log q_\phi(z \mid x)\big]
# \;\le\; \log p_\theta(x).
# $$
#
# This notebook loads data, trains a VAE, looks at it, and then asks how good a model it is: the log-likelihood
# $\log p_\theta(x)$ of data it has not seen, with the errors of that number. It takes about a minute.

# %% tags=["parameters"]
DATA = "digits"  # "mnist" and "fashion_mnist" are larger; they are downloaded once
LATENT = 10
HIDDEN = (128, 128)
EPOCHS = 150
NUM_PARTICLES = 5000
NUM_TEST = 400
SEED = 0

# %%
import tempfile
import warnings
from pathlib import Path

import pyro
import torch

import pyrovae as pv
from pyrovae import report

# what it warns of is printed and explained below
warnings.simplefilter("ignore", pv.EvidenceWarning)

# %% [markdown]
# ## Data
#
# The digits of scikit-learn are 1,797 images of 8 x 8 pixels. The grey value of a pixel is read as a probability:
# with `binarization="dynamic"`, the default, every training step draws fresh bits from it, while the validation and
# the test images are drawn once and stay as they are. That choice belongs to every number below: log-likelihoods of
# differently binarized data cannot be compared.

# %%
data = pv.data.load(DATA)
data

# %% [markdown]
# Above, what a training image is (probabilities); below, what the model sees of it (bits).

# %%
shown = data.train.x[:12]
torch.manual_seed(SEED)
report.images(torch.cat([shown, data.draw(shown)]), columns=12)

# %% [markdown]
# ## A program
#
# `pv.vae` puts a prior, a decoder and an encoder together that fit the data. Each of the three is a module that maps
# its parents to a distribution. The shapes tell the story: the batch is the data, the event is one datum or one $z$.

# %%
torch.manual_seed(SEED)  # of the initial weights
vae = pv.vae(data, latent=LATENT, hidden=HIDDEN)
x = data.test.x[:5]
for name, part, parents in (
    ("prior   p(z)    ", vae.prior, ()),
    ("decoder p(x | z)", vae.decoder, (torch.zeros(5, LATENT),)),
    ("encoder q(z | x)", vae.encoder, (x,)),
):
    distribution = part(*parents)
    batch, event = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    print(f"{name}  batch {batch!s:5} event {event}")

# %% [markdown]
# `vae.model` and `vae.guide` are ordinary Pyro programs, so Pyro's own tools see into them: two sample sites, $z$ and
# the observed $x$, inside one plate over the data, so that each gives one log-density per datum.

# %%
trace = pyro.poutine.trace(vae.model).get_trace(x)
trace.compute_log_prob()
for name in ("z", "x"):
    site = trace.nodes[name]
    kind = "observed" if site["is_observed"] else "latent"
    value, log_prob = tuple(site["value"].shape), tuple(site["log_prob"].shape)
    print(f"{name} {kind:9} value {value!s:12} log-prob {log_prob}")

# %% [markdown]
# ## Training
#
# `fit` is stochastic variational inference: it draws one $z$ per datum from the guide and follows the gradient of the
# ELBO. The weights with the best ELBO on the validation images are kept. In the first epochs the KL enters with a
# weight $\beta$ that rises from 0 to 1, which keeps latent dimensions from being given up before they are of use.

# %%
options = {
    "epochs": EPOCHS,
    "batch_size": 64,
    "schedules": {"beta": pv.schedules.Warmup(EPOCHS // 10)},
    "seed": SEED,
}
run = pv.fit(vae, data, **options)
run

# %% [markdown]
# **What to look at.** At the top, the training and validation curves should rise together and flatten out; a
# validation curve that turns down while training still rises is overfitting. (In the shaded epochs $\beta < 1$, so the
# training curve is of a larger objective there.) Below are the two parts of the ELBO: how well $x$ is explained,
# $\mathbb{E}_q[\log p(x \mid z)]$, and what that costs, $\mathrm{KL}(q(z \mid x) \,\|\, p(z))$, the nats of information
# about $x$ that pass through $z$. Both grow as the latents come into use. The model sees fresh bits at every step while
# the validation bits are fixed, so the two curves at the top need not coincide even without overfitting.

# %%
report.learning_curve(run)

# %% [markdown]
# ## What it learned
#
# Reconstructions pass a test image through the guide and back. They should be the same digit in a smoother hand: the
# decoder gives probabilities, so what it is unsure of is grey.

# %%
report.reconstructions(vae, data.test.x[:20])

# %% [markdown]
# Samples need no image at all, only the prior: $z \sim p(z)$, then the mean of $p(x \mid z)$. Many should be readable,
# as far as 8 x 8 pixels go. Those that are not lie where the prior has mass and the training data left no trace; a
# prior that fits better has fewer of them, which is the subject of the second notebook.

# %%
torch.manual_seed(SEED)
report.samples(vae, 48, columns=12)

# %% [markdown]
# Walking through the latent space shows what a dimension means. Each row starts at the code of the first test image and
# moves one dimension from the 1 % to the 99 % quantile of the prior; the others stay. Dimensions are sorted by how much
# their code varies over the data. Towards the bottom of the figure nothing may change: the model does not use those.

# %%
report.traversals(vae, data.test.x[:100])

# %% [markdown]
# ## How good is it? The log-likelihood
#
# The ELBO is a bound, and a loose one where the guide is far from the true posterior. Importance sampling gets closer:
# draw $z_1, \dots, z_S$ from the guide and average the weights,
#
# $$
# \hat p(x) = \frac1S \sum_{s=1}^S w_s, \qquad w_s = \frac{p(x, z_s)}{q(z_s \mid x)}, \qquad
# \mathbb{E}\,\hat p(x) = p(x), \qquad \mathbb{E} \log \hat p(x) \le \log p(x).
# $$
#
# The estimate is unbiased for $p(x)$, hence a *lower bound in expectation* for $\log p(x)$, and it tightens as $S$
# grows.

# %%
test = data.test.x[:NUM_TEST]
evidence = pv.log_marginal(vae, test, num_particles=NUM_PARTICLES, seed=SEED)
print(evidence.summary())

# %% [markdown]
# Two errors stand beside the mean and mean different things. The *Monte Carlo error* says how much the number would
# move with other particles; it falls with $S$. The *sampling error* says how much it would move with other test
# images; it falls with their number, and it is the one to quote when the claim is about the model in general.
#
# The first line says how far to trust all this. Pareto $\hat k$ measures how heavy the tail of the weights is: above
# 0.7 a few weights decide the average, the estimate is likely too low, and its standard error understates. In the
# right panel, look at what lies beyond the line.

# %%
report.evidence(evidence)

# %% [markdown]
# That more particles give a higher bound is quickly seen. With $S = 1$ the mean is an estimate of the ELBO; the
# difference to the last line is what the guide gives away. (One particle has no spread, so no error can be told.)

# %%
for num_particles in (1, 10, 100, NUM_PARTICLES):
    bound = pv.log_marginal(vae, test, num_particles=num_particles, seed=SEED)
    error = bound.mean_standard_error
    print(f"S = {num_particles:5,}  mean log p(x) {bound.mean:8.3f} ± {error:.3f} nats")

# %% [markdown]
# ## Swapping one part
#
# Any part can be exchanged for another object in the same slot. Here the prior becomes a VampPrior, a mixture of the
# guide's own posteriors at learned pseudo-inputs $u_k$ (Tomczak & Welling 2018),
#
# $$ p(z) = \frac1K \sum_{k=1}^K q_\phi(z \mid u_k), $$
#
# and nothing else changes.

# %%
torch.manual_seed(SEED)
vamp = pv.vae(data, latent=LATENT, hidden=HIDDEN, prior=pv.recipes.Vamp(100))
pv.fit(vamp, data, **options)
vamp_evidence = pv.log_marginal(vamp, test, num_particles=NUM_PARTICLES, seed=SEED)
print(vamp_evidence.summary())

# %% [markdown]
# Is it better? Images differ in difficulty far more than two models differ on one image, so the difference is taken
# image by image. Its standard error is several times smaller than the sampling error of either mean. It covers these
# two trained models on other images; it does not cover training again with another seed.

# %%
pv.compare(evidence, vamp_evidence, names=["standard normal", "VampPrior"])

# %% [markdown]
# ## Saving and loading
#
# One file holds the weights and the description of the program: no pickle, and nothing of it is run on loading but
# constructors of pyrovae and torch. The loaded program gives the same numbers to the last bit.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "digits.safetensors")
    pv.save(vamp, path)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB")
    loaded = pv.load(path)
again = pv.log_marginal(loaded, test[:20], num_particles=100, seed=SEED)
before = pv.log_marginal(vamp, test[:20], num_particles=100, seed=SEED)
assert torch.equal(again.log_prob, before.log_prob)

# %% [markdown]
# ## Where to go next
#
# * `2_priors_and_likelihoods`: other priors and likelihoods, and which comparisons mean something.
# * `3_elbo_term_by_term`: what each term of the ELBO does, and how an autoencoder differs from a VAE.
# * `4_conditional`: labels as conditioning variables, and a classifier for free.
# * `5_bring_your_own`: your Pyro model, your data.
# * `6_new_parts`: a prior and a likelihood of your own in ten lines each.
