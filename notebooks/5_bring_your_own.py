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
# # 5. Bring your own Pyro model and your own data
#
# Whatever trains, evaluates and draws in pyrovae asks one thing of a program: an object with `model(x)` and `guide(x)`
# whose data plate is the rightmost dimension. It need not be built of pyrovae's parts. And data need not come from the
# catalogue: a CSV file, a NumPy array or a folder of images will do.
#
# The first half writes a VAE by hand, in the way of Pyro's tutorial, and changes it into something the library does not
# have. The second half reads a CSV file, fits a model whose log-likelihood is known exactly, and checks the estimate
# against it, in the units of the file. It takes about two minutes.

# %% tags=["parameters"]
EPOCHS = 40
TABLE_EPOCHS = 400
LATENT = 8
NUM_CLUSTERS = 10
NUM_PARTICLES = 1000
NUM_TEST = 400
SEED = 0

# %%
import tempfile
import warnings
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from sklearn.datasets import load_wine
from torch import nn

import pyrovae as pv
from pyrovae import report

# the share of doubtful data is printed where it matters
warnings.simplefilter("ignore", pv.EvidenceWarning)

# %% [markdown]
# ## A VAE written by hand
#
# Nothing in this cell is pyrovae's: two networks, `pyro.module`, a plate over the data, two sample sites.


# %%
class MyVAE(nn.Module):
    def __init__(self, latent, hidden=200, pixels=64):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(
            nn.Flatten(-3), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels)
        )

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample(
                "z", dist.Normal(x.new_zeros(len(x), self.latent), 1.0).to_event(1)
            )
            logits = self.decoder(z).unflatten(-1, (1, 8, 8))
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, raw_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw_scale.exp()).to_event(1))


# %% [markdown]
# Stock Pyro trains it, with its parameters in Pyro's global store, and `log_marginal` evaluates it as it is:

# %%
data = pv.data.load("digits")
test = data.test.x[:NUM_TEST]

pyro.clear_param_store()
torch.manual_seed(SEED)
mine = MyVAE(LATENT)
svi = SVI(mine.model, mine.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
for _ in range(EPOCHS):
    for rows in torch.randperm(len(data.train.x)).split(128):
        svi.step(data.draw(data.train.x[rows]))
by_svi = pv.log_marginal(mine, test, num_particles=NUM_PARTICLES, seed=SEED)
print(by_svi.summary())

# %% [markdown]
# `pv.fit` trains the same object: with validation, a history, learning rates and a choice of objectives. It leaves the
# global store alone.

# %%
torch.manual_seed(SEED)
mine = MyVAE(LATENT)
run = pv.fit(mine, data, epochs=EPOCHS, seed=SEED)
by_fit = pv.log_marginal(mine, test, num_particles=NUM_PARTICLES, seed=SEED)
pv.compare(by_svi, by_fit, names=["trained by SVI", "trained by fit"])

# %% [markdown]
# Figures take it too. A model that needs an `x` to run, as this one does to know how many rows there are, is handed one
# with `like`; its values do not matter.

# %%
torch.manual_seed(SEED)
report.samples(mine, 24, columns=12, like=test[:1])

# %% [markdown]
# ## Something the library does not have
#
# Now the reason to write a model by hand. Let each image belong to one of $K$ clusters, a discrete latent $k$ that
# decides where in the latent space it lies:
#
# $$
# k \sim \mathrm{Categorical}(\pi), \qquad z \sim \mathcal N(m_k, I), \qquad x \sim p(x \mid z) .
# $$
#
# The guide has no $k$. It need not have one: a discrete latent of the model that the guide lacks is summed out exactly,
#
# $$ p(x, z) = p(x \mid z) \sum_k \pi_k\, \mathcal N(z; m_k, I), $$
#
# in training and in evaluation alike. Only the model changes:


# %%
class Clustered(MyVAE):
    def __init__(self, latent, num_clusters):
        super().__init__(latent)
        self.logits = nn.Parameter(torch.zeros(num_clusters))
        self.centres = nn.Parameter(torch.randn(num_clusters, latent))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(self.centres[k], 1.0).to_event(1))
            logits = self.decoder(z).unflatten(-1, (1, 8, 8))
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)


torch.manual_seed(SEED)
clustered = Clustered(LATENT, NUM_CLUSTERS)
pv.fit(clustered, data, epochs=EPOCHS, seed=SEED)
by_clusters = pv.log_marginal(clustered, test, num_particles=NUM_PARTICLES, seed=SEED)
pv.compare(by_fit, by_clusters, names=["one normal", "clusters"])

# %% [markdown]
# Is it better? A difference of about its standard error is none: with these settings ten clusters in eight dimensions
# buy nothing in likelihood, however natural the idea. That is what the error is for.
#
# (Where `pyro.module` is missing, as here, `fit` still trains every parameter of the module. Stock SVI would not.)
#
# **What to look at.** The centres of the clusters, decoded. If they have come to stand for kinds of digits, the prior
# has learned something about the data that one normal cannot say.

# %%
with torch.no_grad():
    centres = clustered.decoder(clustered.centres).sigmoid().unflatten(-1, (1, 8, 8))
print("probabilities", [round(p, 2) for p in clustered.logits.softmax(0).tolist()])
report.images(centres, columns=10)

# %% [markdown]
# ## Your own data: a CSV file
#
# To have a file, this cell writes one: 178 wines, thirteen measured quantities in units of their own, and the vineyard.

# %%
folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "wine.csv")
load_wine(as_frame=True).frame.to_csv(path, index=False)
print("\n".join(path.read_text().splitlines()[:3]))

# %% [markdown]
# `load` reads it by its path. The rows are split by a seed; `label` names the column that is not data.
#
# Proline is counted in hundreds and hue in tenths, so the columns are standardised, $x = (v - m) / s$, with mean and
# standard deviation of the *training* rows. Networks like that. Log-likelihoods do not stay the same: a density in
# units of $s$ is not a density in the file's units. By the change of variables,
#
# $$
# \log p_\text{own}(v) = \log p(x) + \log\left|\det \frac{\partial x}{\partial v}\right|
# = \log p(x) - \sum_d \log s_d ,
# $$
#
# and `data.log_jacobian` is that last sum.

# %%
wine = pv.data.load(path, label="target", seed=SEED)
wine

# %% [markdown]
# ## A model whose log-likelihood is known
#
# Factor analysis is the VAE with everything linear,
#
# $$
# z \sim \mathcal N(0, I), \qquad x \sim \mathcal N(Wz + b, \mathrm{diag}(\sigma^2))
# \quad\Rightarrow\quad
# x \sim \mathcal N\big(b,\; W W^\top + \mathrm{diag}(\sigma^2)\big),
# $$
#
# and its posterior is normal with a linear mean and the *same* covariance for all $x$:
# $\Lambda = (I + W^\top \mathrm{diag}(\sigma^{-2}) W)^{-1}$. The guide below can express the mean exactly, the
# covariance only if it is diagonal; importance sampling mends the rest.


# %%
class FactorAnalysis(nn.Module):
    def __init__(self, columns, latent):
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(columns, latent))
        self.bias = nn.Parameter(torch.zeros(columns))
        self.log_scale = nn.Parameter(torch.zeros(columns))
        self.encoder = nn.Linear(columns, latent)
        self.log_posterior_scale = nn.Parameter(torch.zeros(latent))

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample(
                "z", dist.Normal(x.new_zeros(len(x), self.weight.shape[1]), 1.0).to_event(1)
            )
            mean = z @ self.weight.T + self.bias
            return pyro.sample("x", dist.Normal(mean, self.log_scale.exp()).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample(
                "z", dist.Normal(self.encoder(x), self.log_posterior_scale.exp()).to_event(1)
            )


torch.manual_seed(SEED)
factors = FactorAnalysis(wine.event_shape.numel(), latent=3)
run = pv.fit(factors, wine, epochs=TABLE_EPOCHS, batch_size=32, seed=SEED)
report.learning_curve(run)

# %% [markdown]
# Now the check. The estimate is computed from the standardised rows, with the log-Jacobian; the exact value from the
# numbers as they stand in the file, under the multivariate normal that the fitted model is in those units. They share
# no step, so agreement means something.

# %%
estimate = pv.log_marginal(
    factors,
    wine.test.x,
    num_particles=NUM_PARTICLES,
    seed=SEED,
    log_jacobian=wine.log_jacobian,
)
with torch.no_grad():
    loc, scale = wine.standardization
    weight, noise = factors.weight.double(), factors.log_scale.double().exp()
    covariance = weight @ weight.T + noise.square().diag()
    exact = dist.MultivariateNormal(
        loc + scale * factors.bias, scale[:, None] * covariance * scale
    ).log_prob(wine.restore(wine.test.x.double()))
apart = (estimate.log_prob - exact) / estimate.standard_error
print(f"estimate {estimate.mean:.4f} ± {estimate.mean_standard_error:.4f} nats (Monte Carlo)")
print(f"exact    {exact.mean():.4f} nats")
spread = apart.std()
error = spread / len(apart) ** 0.5
print(f"per row  {apart.mean():+.2f} ± {error:.2f} standard errors apart, sd {spread:.2f}")

# %% [markdown]
# **What to look at.** The means agree to about their Monte Carlo error, and the differences per row, in units of their
# standard errors, scatter with a standard deviation of about one. This is what an honest error bar looks like. Here
# $\hat k$ is low, since the guide is nearly right; where it is high nothing of the kind is promised:

# %%
report.evidence(estimate)

# %% [markdown]
# ## A VAE on the same table
#
# With the same units, the two can be compared. For a hundred rows a linear model is hard to beat.

# %%
torch.manual_seed(SEED)
vae = pv.vae(wine, latent=3, hidden=(50,), likelihood=pv.families.SharedScaleNormal())
pv.fit(vae, wine, epochs=TABLE_EPOCHS, batch_size=32, seed=SEED)
nonlinear = pv.log_marginal(
    vae, wine.test.x, num_particles=NUM_PARTICLES, seed=SEED, log_jacobian=wine.log_jacobian
)
pv.compare(estimate, nonlinear, names=["factor analysis", "VAE"])

# %% [markdown]
# **What to look at.** How each column of samples is distributed beside that of the training rows, in standard
# deviations from the mean. Widths agree by construction; look for skewness and for second humps that a normal noise
# smooths over.

# %%
torch.manual_seed(SEED)
report.marginals(vae, wine.train.x, columns=[name[:12] for name in wine.columns])

# %% [markdown]
# ## Other forms of data
#
# * `pv.data.load("folder/")` reads images, with one folder per class if there are classes; `pv.data.load("x.npy")` and
#   `.npz` read arrays.
# * `fit`, `log_marginal` and all figures take plain tensors and arrays as well: `pv.fit(program, x, validation=x_val)`,
#   or a tuple `(x, y)` where `y` is given.

# %%
rows = wine.train.x.numpy()  # any array with one row per datum
torch.manual_seed(SEED)
again = pv.fit(
    FactorAnalysis(rows.shape[1], latent=3), rows, epochs=5, batch_size=32, seed=SEED
)
print(again)
folder.cleanup()
