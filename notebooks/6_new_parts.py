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
# notebook writes a prior and a likelihood that pyrovae does not have, checks each against what must be true of it, puts
# them on the board beside the library's own parts, trains a VAE with both, combines them with other posteriors and with
# missing values, and saves it. It takes about two minutes.

# %% tags=["parameters"]
EPOCHS = 100
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
# ## A prior: spike and slab
#
# Most features of an image are absent from most images. A prior that says so gives each latent dimension a narrow and a
# wide normal around zero:
#
# $$
# p(z) = \prod_{d=1}^D \Big[ \pi_d\, \mathcal N(z_d; 0, s_{d1}^2) + (1 - \pi_d)\, \mathcal N(z_d; 0, s_{d2}^2) \Big].
# $$
#
# A prior is a module whose `forward(*given)` returns a distribution with event shape `(latent,)`. What belongs to one
# datum is declared with `to_event`.


# %%
class SpikeAndSlab(pv.priors.Prior):
    def __init__(self, latent):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(latent, 2))
        self.raw_scale = nn.Parameter(torch.tensor([-2.0, 1.0]).repeat(latent, 1))

    def forward(self, *given):
        scale = pv.families.positive(self.raw_scale)
        components = dist.Normal(torch.zeros_like(scale), scale)
        weights = dist.Categorical(logits=self.logits)
        return dist.MixtureSameFamily(weights, components).to_event(1)


# %% [markdown]
# ### Is it right?
#
# Two things must hold of any prior. Its density integrates to one, here over a fine grid in two dimensions. And its
# samples follow its density, here checked by two moments that the density gives on the same grid. The samples' means
# have standard errors, so the check is: how many standard errors apart? More than four would be a mistake.

# %%
torch.manual_seed(SEED)
prior = SpikeAndSlab(2)
side = torch.linspace(-8, 8, 1601)
grid = torch.cartesian_prod(side, side)  # (points, 2)
cell = (side[1] - side[0]).item() ** 2
with torch.no_grad():
    density = prior().log_prob(grid).double().exp()
    draws = prior().sample((NUM_DRAWS,)).double()
print(f"integral {density.sum().item() * cell:.6f}")

for name, statistic in (
    ("E[|z_1|]", lambda z: z[:, 0].abs()),
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
# ## A likelihood: the beta-binomial
#
# Pixels of the digits are whole numbers $k = 0, \dots, 16$: of 4 x 4 dots, how many are black. If the dots were
# independent, $k$ would be binomial; a beta-binomial lets them depend on each other:
#
# $$
# P(k) = \binom{16}{k} \frac{B(k + a,\, 16 - k + b)}{B(a, b)} .
# $$
#
# A family is a function of the network's outputs, elementwise; `num_params` says how many outputs per pixel it wants. A
# class that derives from `pv.families.Family` can also be saved by description. `params_at(mean)` says which outputs
# give that mean: a decoder made by `pv.vae` starts there.


# %%
class BetaBinomial(pv.families.Family):
    num_params = 2

    def __init__(self, total_count):
        super().__init__()
        self.total_count = total_count

    def forward(self, raw_a, raw_b):
        positive = pv.families.positive
        return dist.BetaBinomial(positive(raw_a), positive(raw_b), self.total_count)

    def params_at(self, mean):
        share = (mean / self.total_count).clamp(0.01, 0.99)
        # softplus of it gives a = share and b = 1 - share
        return torch.cat([share, 1 - share]).expm1().log()


# %% [markdown]
# ### Is it right?
#
# The probabilities sum to one over the levels. And samples occur as often as they should: Pearson's $\chi^2$ with 16
# degrees of freedom has mean 16 and standard deviation $\sqrt{32} \approx 5.7$. Gradients must reach every parameter,
# and stay finite where a network goes astray.

# %%
LEVELS = 17
family = BetaBinomial(LEVELS - 1)
levels = torch.arange(LEVELS).double()
for raw_a, raw_b in ((0.3, 1.0), (-8.0, 0.0), (40.0, -20.0)):
    raw = torch.tensor([raw_a, raw_b]).double().requires_grad_()
    log_p = family(*raw).log_prob(levels)
    (gradient,) = torch.autograd.grad(log_p.mean(), raw)
    print(f"raw a {raw_a:6.1f}, raw b {raw_b:6.1f}: sum {log_p.exp().sum().item():.12f}")
    assert abs(log_p.exp().sum().item() - 1) < 1e-9 and gradient.isfinite().all()

torch.manual_seed(SEED)
one = family(torch.tensor(0.3), torch.tensor(1.0))
counts = one.sample((NUM_DRAWS,)).long().bincount(minlength=LEVELS).double()
expected = NUM_DRAWS * one.log_prob(torch.arange(LEVELS).float()).double().exp()
chi2 = ((counts - expected).square() / expected).sum().item()
print(f"chi-square {chi2:.1f} for 16 degrees of freedom")

# %% [markdown]
# ## On the board
#
# That is all that the board needs of a part: a distribution whose event is one datum's, whose support is true, which
# can be scored at any point, and which looks at no tensor's value (so that a training step can be compiled). What a
# part is can be written down as a line of the table, and then used as the library's own are:

# %%
pv.board.PRIORS["spike and slab"] = pv.board.Part(
    lambda encoder, x, latent: SpikeAndSlab(latent),
    "p(z) = prod_d sum_k pi_dk N(z_d; 0, s_dk)",
    "Mitchell & Beauchamp 1988",
)
print([name for name, part in pv.board.PRIORS.items() if part.values == "real"])

# %% [markdown]
# ## Training with them
#
# The data as whole numbers: the grey digits times 16. `fit` takes tensors as well as a `Data`. The encoder reads the
# levels as they are, so the networks are put together by hand, and the decoder's bias starts at the mean level.

# %%
data = pv.data.load("digits", binarization="none")
train, validation, test = ((16 * split.x).round() for split in data.splits.values())
test = test[:NUM_TEST]


def program(prior, likelihood, posterior=pv.families.normal, latent=2):
    """A VAE of 8 x 8 images with these parts, everything else alike."""
    torch.manual_seed(SEED)
    net = pv.networks.MLP(latent, 200, 200, pv.families.out_shape(likelihood, (1, 8, 8)))
    net.start_at(likelihood.params_at(train.mean(0)))
    encoder = pv.Conditional(
        pv.networks.MLP((1, 8, 8), 200, 200, pv.families.out_shape(posterior, (latent,))),
        posterior,
    )
    return pv.VAE(prior, pv.Conditional(net, likelihood), encoder)


torch.manual_seed(SEED)
parts = {
    "categorical": (pv.priors.StandardNormal(2), pv.families.Categorical(LEVELS)),
    "beta-binomial": (pv.priors.StandardNormal(2), BetaBinomial(LEVELS - 1)),
    "and spike and slab": (SpikeAndSlab(2), BetaBinomial(LEVELS - 1)),
}
vaes, evidences = {}, {}
for name, (prior, likelihood) in parts.items():
    vaes[name] = program(prior, likelihood)
    pv.fit(vaes[name], train, validation=validation, epochs=EPOCHS, seed=SEED)
    evidences[name] = pv.log_marginal(vaes[name], test, num_particles=NUM_PARTICLES, seed=SEED)

# %% [markdown]
# All three are probabilities of the same whole numbers, so they can be compared. The $\log_2 17 \approx 4.09$ bits per
# pixel of a model that knows nothing is the number to beat. The beta-binomial has two numbers per pixel
# where the categorical has 17: see whether that costs anything, in differences against their standard errors.

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
# test images. Spikes, if training wants them, show as a cross.

# %%
best = vaes["and spike and slab"]
report.prior_density(best, test)

# %%
torch.manual_seed(SEED)
with torch.no_grad():
    drawn = pv.sample(best, 24) / 16
report.images(drawn, columns=12)

# %% [markdown]
# ## With everything else
#
# A posterior with a full covariance instead of a diagonal one, and a flow, with the two new parts; nothing else
# changes:

# %%
for name, posterior in {
    "full covariance": pv.families.full_normal,
    "inverse autoregressive flow": pv.families.Flow(
        pv.families.normal, pv.flows.inverse_autoregressive(2, context=8), context=8
    ),
}.items():
    other = program(SpikeAndSlab(2), BetaBinomial(LEVELS - 1), posterior)
    pv.fit(other, train, validation=validation, epochs=EPOCHS, seed=SEED)
    ev = pv.log_marginal(other, test, num_particles=NUM_PARTICLES, seed=SEED)
    print(
        f"{name:28} {ev.bits_per_dim:.4f} bits per pixel ± {ev.mean_sampling_error * bits:.4f}"
    )

# %% [markdown]
# The likelihood is a product over pixels, so missing ones are integrated out by leaving out their factors: a
# declaration around the decoder. What the trained model says of the upper halves of test images alone; its encoder was
# never shown half an image, so its proposals are poor there, and k-hat says so:


# %%
class EmptyWhereMissing(nn.Module):
    def forward(self, x):
        return x.nan_to_num(0.0)


upper = test.clone()
upper[:, :, 4:] = math.nan
net = pv.readings.Reading(best.encoder.net, EmptyWhereMissing())
halves = pv.VAE(best.prior, pv.Missing(best.decoder), pv.Conditional(net, best.encoder.family))
ev = pv.log_marginal(halves, upper, num_particles=NUM_PARTICLES, seed=SEED)
print(ev.summary())

# %% [markdown]
# ## Saving
#
# The file holds the constructor calls and the weights. To rebuild a program, loading has to call your classes, so their
# package must be trusted by name; without that it is refused before anything is imported. Here the classes live in the
# notebook itself, `__main__`. To load the file elsewhere, put them into a module of yours, `my_parts.py`, import them
# from there, and say `trust=("my_parts",)`.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "spike_and_slab.safetensors")
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
#     prior: {class_path: my_parts.SpikeAndSlab, init_args: {latent: 2}}
# ```
