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
# # 3. The ELBO, term by term
#
# For one datum $x$,
#
# $$
# \mathrm{ELBO}(x) =
# \underbrace{\mathbb{E}_{q(z \mid x)} \log p(x \mid z)}_{\text{reconstruction}}
# \;-\;
# \underbrace{\mathbb{E}_{q(z \mid x)}\big[\log q(z \mid x) - \log p(z)\big]}_{\mathrm{KL}(q(z \mid x)\,\|\,p(z))}
# \;=\; \log p(x) - \mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big).
# $$
#
# The middle form is what is computed, the right one is what it means: the log-likelihood, less what the guide gives
# away. This notebook computes each term by itself, then removes one of them, which turns the VAE into an autoencoder,
# and looks at what is lost. It takes about five minutes on MNIST; `DATA = "digits"` takes one.

# %% tags=["parameters"]
DATA = "mnist"  # or "fashion_mnist", or "digits"
LATENT = 40
HIDDEN = (300,)
EPOCHS = 10
BATCH = 128
BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)
NUM_PARTICLES = 500
NUM_TEST = 500
SEED = 0

# %%
import math
import warnings
from functools import partial

import pyro.distributions as dist
import torch

import pyrovae as pv
from pyrovae import report

# the share of doubtful data is printed where it matters
warnings.simplefilter("ignore", pv.EvidenceWarning)

data = pv.data.load(DATA)
test, labels = data.test.x[:NUM_TEST], data.test.labels[:NUM_TEST]


# %%
def train(beta=1.0, **parts):
    """A VAE trained with this weight of the KL: the program and its run."""
    torch.manual_seed(SEED)
    program = pv.vae(data, latent=LATENT, hidden=HIDDEN, **parts)
    objective = partial(pv.objectives.elbo, beta=beta)
    options = {"epochs": EPOCHS, "batch_size": BATCH, "seed": SEED}
    return program, pv.fit(program, data, objective=objective, **options)


vae, run = train()
report.learning_curve(run)

# %% [markdown]
# ## The terms as numbers
#
# `log_terms` runs guide and model once, with $S$ particles, and keeps $\log p$ and $\log q$ of every sample site. All
# objectives are functions of these tensors of shape $(S, N)$; nothing else is needed to write a new one.

# %%
S = 100
torch.manual_seed(SEED)
with torch.no_grad():
    t = pv.log_terms(vae, test, num_particles=S)


def line(name, values):
    """The mean of an (S, N) tensor, with the Monte Carlo error of that mean."""
    error = values.std(0).square().div(S).sum().sqrt() / values.shape[1]
    print(f"{name:32} {values.mean():9.3f} ± {error:.3f} nats")


line("log p(x | z)", t.log_px_z)
line("log p(z)", t.log_pz)
line("log q(z | x)", t.log_qz_x)
line("KL: log q(z | x) - log p(z)", t.log_qz_x - t.log_pz)
line("ELBO: log p(x, z) - log q(z | x)", t.log_weight)

# %% [markdown]
# For two normals the KL is known in closed form, per dimension $d$:
#
# $$
# \mathrm{KL}_d = \tfrac12\big(\mu_d^2 + \sigma_d^2 - 1\big) - \log \sigma_d .
# $$
#
# The sampled KL and the closed form are two estimates of one number. They have to agree within the sampled one's
# error.

# %%
q = pv.encode(vae, test)  # q(z | x), batch (N,), event (LATENT,)
mu, sigma = q.base_dist.loc.detach(), q.base_dist.scale.detach()
kl = (mu**2 + sigma**2 - 1) / 2 - sigma.log()  # (N, LATENT), nats
line("KL, sampled", t.log_qz_x - t.log_pz)
print(f"{'KL, closed form':32} {kl.sum(1).mean():9.3f} nats")

# %% [markdown]
# ## Which dimensions are used
#
# A VAE pays for every nat that passes through $z$, so it switches off dimensions it has no use for: there
# $q(z_d \mid x) = p(z_d)$ for every $x$ and the KL is zero. A dimension counts as *active* if its posterior mean moves
# with the data (Burda et al. 2016):
#
# $$ A_d = \mathrm{Var}_x\big(\mathbb{E}_{q(z \mid x)}[z_d]\big) > 0.01 . $$
#
# **What to look at.** Bars below the line are dimensions that cost nothing and say nothing. There is usually a clear
# gap between them and the others, so where exactly the threshold lies hardly matters.

# %%
report.active_units(vae, test)

# %% [markdown]
# ## The same without the KL: an autoencoder
#
# An autoencoder keeps the first term and drops the rest: its encoder gives a point $z = f(x)$, and it maximises
# $\log p(x \mid z = f(x))$. As a program that is a posterior family which puts all its mass on one point,
# $q(z \mid x) = \delta(z - f(x))$, and $\beta = 0$:

# %%
ae, ae_run = train(beta=0.0, posterior=dist.Delta)

# %% [markdown]
# It reconstructs better, as it must: nothing else was asked of it. (The errors are over images.)


# %%
def mean_and_error(values):
    """'mean ± standard error over the data' of an (N,) tensor."""
    return f"{values.mean():8.2f} ± {values.std() / math.sqrt(len(values)):.2f}"


with torch.no_grad():  # log p(x | z) at the guide's mean
    by_ae, by_vae = (pv.reconstruct(program, test).log_prob(test) for program in (ae, vae))
print(f"autoencoder           {mean_and_error(by_ae)} nats")
print(f"VAE                   {mean_and_error(by_vae)} nats")
print(f"difference, per image {mean_and_error(by_ae - by_vae)} nats")

# %%
report.reconstructions(ae, test[:10])

# %%
report.reconstructions(vae, test[:10])

# %% [markdown]
# ## Why its samples fail
#
# To draw from a decoder one needs a distribution of $z$. The VAE was trained so that its codes fill the prior; the
# autoencoder's codes lie wherever they happened to come to rest.
#
# **What to look at.** Below are the codes of test images, coloured by class, in their first two principal components.
# Compare the axes: the VAE's codes fill a ball of radius a few, the autoencoder's spread over a far larger region of no
# particular shape.

# %%
report.latents(vae, test, labels=labels)

# %%
report.latents(ae, test, labels=labels)

# %%
for name, program in (("autoencoder", ae), ("VAE", vae)):
    codes = pv.encode(program, test).mean.detach()
    norm, scatter = codes.norm(dim=1), codes.std(0)
    spread = f"{scatter.min():.2f} to {scatter.max():.2f}"
    print(f"{name:12} |z| of a code {norm.mean():6.2f}; sd per dimension {spread}")
print(f"{'prior':12} |z| of a draw {math.sqrt(LATENT):6.2f} (about); sd per dimension 1")

# %% [markdown]
# So a draw from $\mathcal N(0, I)$ is nothing the autoencoder's decoder has ever seen. First the autoencoder, then the
# VAE, both fed with the same kind of noise:

# %%
torch.manual_seed(SEED)
report.samples(ae, 30, columns=15)

# %%
torch.manual_seed(SEED)
report.samples(vae, 30, columns=15)

# %% [markdown]
# ## Why its log-likelihood is undefined
#
# Importance sampling divides by $q(z \mid x)$, and a point has no density: $\log q$ is infinite, the ELBO is $-\infty$,
# and any finite number that a program might print would have dropped that infinity. Nor would a prior fitted to the
# codes afterwards help by itself: $p(x) = \int p(z)\, p(x \mid z)\, dz$ needs the decoder to be right in a
# neighbourhood of each code, not at one point. `log_marginal` says so instead of giving a number:

# %%
try:
    pv.log_marginal(ae, test, num_particles=10)
except pv.PyrovaeError as error:
    print(error)

# %%
evidence = pv.log_marginal(vae, test, num_particles=NUM_PARTICLES, seed=SEED)
print(evidence.summary())

# %% [markdown]
# ## Between the two: $\beta$
#
# The weight of the KL turns one into the other: $\mathrm{ELBO}_\beta = \mathbb{E}_q \log p(x \mid z) - \beta\,
# \mathrm{KL}$. Small $\beta$ buys reconstruction (low *distortion*) with information (high *rate*), large $\beta$ saves
# information; $\beta = 1$ alone maximises a bound on $\log p(x)$. As $\beta \to 0$ the guide's scale shrinks towards
# the point of the autoencoder.

# %%
programs = {beta: train(beta=beta)[0] for beta in BETAS}

# %% [markdown]
# The table shows distortion, rate, their sum (the negative ELBO), the importance-sampled $\log p(x)$ and the number of
# active dimensions. The errors are over images.


# %%
points = []
print("   beta       distortion             rate            -ELBO         log p(x)   active")
for beta, program in programs.items():
    torch.manual_seed(SEED)
    with torch.no_grad():
        t = pv.log_terms(program, test, num_particles=S)
    distortion, rate = -t.log_px_z.mean(0), (t.log_qz_x - t.log_pz).mean(0)  # (N,), nats
    ev = pv.log_marginal(program, test, num_particles=NUM_PARTICLES, seed=SEED)
    active = pv.activity(program, test).active().sum().item()
    columns = [
        mean_and_error(values) for values in (distortion, rate, distortion + rate, ev.log_prob)
    ]
    print(f"{beta:7.2f} {' '.join(f'{c:>16}' for c in columns)} {active:8d}")
    points.append((rate.mean(), distortion.mean(), f"β = {beta:g}"))

# %% [markdown]
# **What to look at.** Each point is one VAE. Along the dotted lines rate plus distortion, the negative ELBO, is
# constant: the program with $\beta = 1$ should touch the lowest of them. Moving up along the curve, nats of rate buy
# ever fewer nats of distortion.

# %%
report.rate_distortion({f"{LATENT} dimensions": points})

# %% [markdown]
# And the samples of the two ends: with a small $\beta$ the codes leave holes in the prior, as the autoencoder's do;
# with a large one the samples are plausible but smooth, for little of an image passes through $z$.

# %%
torch.manual_seed(SEED)
report.samples(programs[BETAS[0]], 30, columns=15)

# %%
torch.manual_seed(SEED)
report.samples(programs[BETAS[-1]], 30, columns=15)
