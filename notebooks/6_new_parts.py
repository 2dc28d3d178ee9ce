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
# # 6. A new prior and a new likelihood, in ten lines each
#
# A part is a module that returns a distribution. So a new part is: a distribution, and the parameters it needs. This
# notebook writes a prior and a likelihood that pyrovae does not have, checks each against something that must be true,
# trains a VAE with both, and saves it. It takes about two minutes.

# %% tags=["parameters"]
EPOCHS = 100
NUM_COMPONENTS = 10
NUM_PARTICLES = 1000
NUM_TEST = 400
NUM_DRAWS = 100_000  # for the checks
SEED = 0

# %%
import math
import tempfile
import warnings
from pathlib import Path

import pyro.distributions as dist
import torch
from torch import nn

import pyrovae as pv
from pyrovae import report

# the share of doubtful data is printed where it matters
warnings.simplefilter("ignore", pv.EvidenceWarning)

# %% [markdown]
# ## A prior: a mixture of tilted normals
#
# `pv.priors.NormalMixture` has components with axes along the coordinates. With full covariances
# $\Sigma_k = L_k L_k^\top$ they can lie at any angle:
#
# $$ p(z) = \sum_{k=1}^K \pi_k\, \mathcal N\big(z;\, m_k,\, L_k L_k^\top\big). $$
#
# A prior is a module whose `forward(*given)` returns a distribution with event shape `(latent,)`. Pyro has all the
# parts. Of the free matrix `raw` the lower triangle is used, with a positive diagonal.


# %%
class TiltedMixture(pv.priors.Prior):
    def __init__(self, latent, num_components):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(torch.randn(num_components, latent))
        self.raw = nn.Parameter(0.1 * torch.randn(num_components, latent, latent))

    def forward(self, *given):
        diagonal = pv.families.positive(self.raw.diagonal(dim1=-2, dim2=-1))
        components = dist.MultivariateNormal(
            self.loc, scale_tril=self.raw.tril(-1) + diagonal.diag_embed()
        )
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)


# %% [markdown]
# ### Is it right?
#
# Two things must hold of any prior. Its density integrates to one, here over a fine grid in two dimensions. And its
# samples follow its density, here checked by two moments that the density gives on the same grid. The samples' means
# have standard errors, so the check is: how many standard errors apart? More than four would be a mistake.

# %%
torch.manual_seed(SEED)
prior = TiltedMixture(2, NUM_COMPONENTS)
side = torch.linspace(-8, 8, 801)
grid = torch.cartesian_prod(side, side)  # (points, 2)
cell = (side[1] - side[0]).item() ** 2
with torch.no_grad():
    density = prior().log_prob(grid).double().exp()
    draws = prior().sample((NUM_DRAWS,)).double()
print(f"integral {density.sum().item() * cell:.6f}")

for name, statistic in (
    ("E[z_1 z_2]", lambda z: z[:, 0] * z[:, 1]),
    ("E[|z|]", lambda z: z.norm(dim=1)),
):
    exact = (statistic(grid) * density).sum().item() * cell
    sampled, error = (
        statistic(draws).mean().item(),
        statistic(draws).std().item() / math.sqrt(NUM_DRAWS),
    )
    print(
        f"{name:10} by the density {exact:.4f}, by samples {sampled:.4f} ± {error:.4f}", end=""
    )
    print(f"   {abs(sampled - exact) / error:.1f} standard errors apart")
    assert abs(sampled - exact) < 4 * error

# %% [markdown]
# ## A likelihood: the discretised logistic
#
# Pixels of the digits are whole numbers $k = 0, \dots, 16$. A likelihood for such data should be a probability of each
# level, yet know that 7 is close to 8, which a plain categorical does not. The discretised logistic (Kingma et al.
# 2016; Salimans et al. 2017) cuts a logistic density into cells around the levels, the outermost of which reach to
# infinity:
#
# $$
# P(k) = \sigma\!\Big(\frac{k + \frac12 - m}{s}\Big) - \sigma\!\Big(\frac{k - \frac12 - m}{s}\Big),
# \qquad \sigma(-\infty) = 0,\ \sigma(\infty) = 1 .
# $$
#
# A family is a function of the network's outputs, elementwise; `num_params` says how many outputs per pixel it wants. A
# class that derives from `pv.families.Family` can also be saved by description. Adding a little to every probability
# keeps the logarithm finite where the cell holds less than float32 can tell from nothing.


# %%
class DiscretisedLogistic(pv.families.Family):
    num_params = 2

    def __init__(self, num_levels):
        super().__init__()
        self.register_buffer("edges", torch.arange(num_levels - 1) + 0.5, persistent=False)

    def forward(self, loc, raw_scale):
        inner = torch.sigmoid(
            (self.edges - loc[..., None]) / pv.families.positive(raw_scale)[..., None]
        )
        cdf = torch.cat(
            [torch.zeros_like(inner[..., :1]), inner, torch.ones_like(inner[..., :1])], -1
        )
        return dist.Categorical(probs=cdf.diff(dim=-1) + 1e-6)  # Categorical normalises


# %% [markdown]
# ### Is it right?
#
# The probabilities sum to one over the levels, wherever the location and however small the scale. And samples occur as
# often as they should: Pearson's $\chi^2$ with 16 degrees of freedom has mean 16 and standard deviation
# $\sqrt{32} \approx 5.7$.

# %%
LEVELS = 17
family = DiscretisedLogistic(LEVELS)
levels = torch.arange(LEVELS).double()
for loc, raw_scale in ((8.3, 1.0), (-40.0, 0.0), (16.0, -20.0), (0.2, 3.0)):
    cell_probs = (
        family(torch.tensor(loc).double(), torch.tensor(raw_scale).double())
        .log_prob(levels)
        .exp()
    )
    print(f"loc {loc:6.1f}, raw scale {raw_scale:6.1f}: sum {cell_probs.sum().item():.12f}")
    assert abs(cell_probs.sum().item() - 1) < 1e-9

torch.manual_seed(SEED)
one = family(torch.tensor(8.3), torch.tensor(1.0))
counts = one.sample((NUM_DRAWS,)).bincount(minlength=LEVELS).double()
expected = NUM_DRAWS * one.log_prob(torch.arange(LEVELS)).double().exp()
chi2 = ((counts - expected).square() / expected).sum().item()
print(f"chi-square {chi2:.1f} for 16 degrees of freedom")

# %% [markdown]
# ## Training with them
#
# The data as whole numbers: the grey digits times 16. `fit` takes tensors as well as a `Data`. The encoder reads the
# levels as they are, so the networks are put together by hand, and the decoder's bias starts at the mean level.

# %%
data = pv.data.load("digits", binarization="none")
train, validation, test = ((16 * split.x).round() for split in data.splits.values())
test = test[:NUM_TEST]


def program(prior, likelihood, latent=2):
    """A VAE of 8 x 8 images with these two parts, everything else alike."""
    torch.manual_seed(SEED)
    outputs = pv.families.num_params(likelihood)
    net = pv.networks.MLP(latent, 200, 200, (outputs, 8, 8))
    net.start_at(likelihood.params_at(train.mean(0)))
    encoder = pv.Conditional(
        pv.networks.MLP((1, 8, 8), 200, 200, 2 * latent), pv.families.normal
    )
    return pv.VAE(prior, pv.Conditional(net, likelihood), encoder)


torch.manual_seed(SEED)
parts = {
    "categorical": (pv.priors.StandardNormal(2), pv.families.Categorical(LEVELS)),
    "logistic": (pv.priors.StandardNormal(2), DiscretisedLogistic(LEVELS)),
    "logistic, tilted": (TiltedMixture(2, NUM_COMPONENTS), DiscretisedLogistic(LEVELS)),
}
vaes, evidences = {}, {}
for name, (prior, likelihood) in parts.items():
    vaes[name] = program(prior, likelihood)
    pv.fit(vaes[name], train, validation=validation, epochs=EPOCHS, seed=SEED)
    evidences[name] = pv.log_marginal(vaes[name], test, num_particles=NUM_PARTICLES, seed=SEED)

# %% [markdown]
# All three are probabilities of the same whole numbers, so they can be compared. The $\log_2 17 \approx 4.09$ bits per
# pixel of a model that knows nothing is the number to beat. The logistic has two numbers per pixel where the
# categorical has 17: see whether that costs anything, in differences against their standard errors.

# %%
bits = 1 / (64 * math.log(2))
print(f"{'':18} {'bits/dim':>8} {'Monte Carlo':>12} {'sampling':>9} {'k-hat high':>11}")
for name, ev in evidences.items():
    errors = f"{ev.mean_standard_error * bits:12.4f} {ev.mean_sampling_error * bits:9.4f}"
    print(f"{name:18} {ev.bits_per_dim:8.4f} {errors} {100 * ev.share_unreliable:9.1f} %")
print(f"\n{pv.compare(*evidences.values(), names=list(evidences))}")

# %%
report.comparison(evidences)

# %% [markdown]
# **What to look at.** The contours hold 20 to 95 % of the learned prior, the points are draws from $q(z \mid x)$ of
# test images. The components should have turned to lie along the streaks that the points form.

# %%
best = vaes["logistic, tilted"]
report.prior_density(best, test)

# %%
torch.manual_seed(SEED)
with torch.no_grad():
    drawn = pv.sample(best, 24) / 16
report.images(drawn, columns=12)

# %% [markdown]
# ## Saving
#
# The file holds the constructor calls and the weights. To rebuild a program, loading has to call your classes, so their
# package must be trusted by name; without that it is refused before anything is imported. Here the classes live in the
# notebook itself, `__main__`. To load the file elsewhere, put them into a module of yours, `my_parts.py`, import them
# from there, and say `trust=("my_parts",)`.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "tilted.safetensors")
    pv.save(best, path)
    try:
        pv.load(path)
    except pv.PyrovaeError as error:
        print(error)
    loaded = pv.load(path, trust=("__main__",))

before = pv.log_marginal(best, test[:20], num_particles=100, seed=SEED).log_prob
after = pv.log_marginal(loaded, test[:20], num_particles=100, seed=SEED).log_prob
assert torch.equal(before, after)
print("the same to the last bit")

# %% [markdown]
# On the command line a part of your own stands by its import path, with `--trust my_parts`:
#
# ```yaml
# program:
#   class_path: pyrovae.recipes.Dense
#   init_args:
#     latent: 2
#     prior: {class_path: my_parts.TiltedMixture, init_args: {latent: 2, num_components: 10}}
# ```
