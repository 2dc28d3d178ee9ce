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
# # 4. Conditional VAEs
#
# With labels $y$ at hand one can model $p(x \mid y)$ instead of $p(x)$. Nothing about VAEs changes but that $y$ becomes
# a parent: of the prior, of the decoder, of the encoder, or of any of the three.
#
# $$
# z \sim p(z \mid y), \qquad x \sim p(x \mid z, y), \qquad \text{guide: } z \sim q(z \mid x, y),
# $$
#
# $$
# \log p(x \mid y) \;\ge\;
# \mathbb{E}_{q(z \mid x, y)}\big[\log p(x \mid z, y) + \log p(z \mid y) - \log q(z \mid x, y)\big].
# $$
#
# In pyrovae conditioning variables are called `given`, and every function takes them after `x`. With the parameters
# below and one CPU core this takes about five minutes on MNIST; `DATA = "digits"` takes one.

# %% tags=["parameters"]
DATA = "mnist"  # or "fashion_mnist", or "digits"
LATENT = 20
HIDDEN = (300, 300)
EPOCHS = 15
BATCH = 128
NUM_PARTICLES = 200
NUM_TEST = 500
SEED = 0

# %%
import math
import warnings

import torch

import pyrovae as pv
from pyrovae import report

warnings.simplefilter(
    "ignore", pv.EvidenceWarning
)  # the share of doubtful data is printed where it matters

# %% [markdown]
# ## Data with something given
#
# `conditional()` puts the labels, one-hot, into every split as `given`.

# %%
data = pv.data.load(DATA)
labelled = data.conditional()
x, y = labelled.test.x[:NUM_TEST], labelled.test.given[0][:NUM_TEST]
classes = labelled.num_classes
labelled

# %% [markdown]
# ## A program
#
# Spelled out: three conditionals, whose networks have one input shape per parent.

# %%
event = tuple(labelled.event_shape)
torch.manual_seed(SEED)
cvae = pv.VAE(
    prior=pv.Conditional(
        pv.networks.MLP(classes, 64, 2 * LATENT), pv.families.normal
    ),  # p(z | y)
    decoder=pv.Conditional(
        pv.networks.GatedMLP([LATENT, classes], *HIDDEN, event), pv.families.bernoulli
    ),  # p(x | z, y)
    encoder=pv.Conditional(
        pv.networks.GatedMLP([event, classes], *HIDDEN, 2 * LATENT), pv.families.normal
    ),
)
print(cvae.prior(y[:3]).event_shape, cvae.decoder(torch.zeros(3, LATENT), y[:3]).event_shape)

# %% [markdown]
# The same in one line, from the data's description (it also starts the decoder at the training mean, which saves an
# epoch or two). Leave `prior=` out and the prior is a standard normal that ignores $y$: then $z$ is what is left of an
# image when its label is known, the same "handwriting" for all classes.

# %%
torch.manual_seed(SEED)
cvae = pv.vae(labelled, latent=LATENT, hidden=HIDDEN, prior=pv.recipes.ConditionalNormal())
run = pv.fit(
    cvae, labelled, epochs=EPOCHS, batch_size=BATCH, gradient=pv.gradients.path, seed=SEED
)
report.learning_curve(run)

# %% [markdown]
# ## One image of each class
#
# Each column is a class, each row a draw of $z$.
#
# **What to look at.** Every image should belong to its column's class: the label is not guessed, it is given. What
# varies down a column is everything else, slant, width, style.

# %%
torch.manual_seed(SEED)
report.conditional_grid(cvae, torch.eye(classes))

# %% [markdown]
# ## The log-likelihood given the label
#
# As before, with `given` after `x`. It is a different number from $\log p(x)$, and larger: the model was told
# something. For a program without the label,

# %%
torch.manual_seed(SEED)
vae = pv.vae(data, latent=LATENT, hidden=HIDDEN)
pv.fit(vae, data, epochs=EPOCHS, batch_size=BATCH, gradient=pv.gradients.path, seed=SEED)
log_px = pv.log_marginal(vae, x, num_particles=NUM_PARTICLES, seed=SEED)
log_px_y = pv.log_marginal(cvae, x, y, num_particles=NUM_PARTICLES, seed=SEED)
print(log_px_y.summary())

# %% [markdown]
# and per image the difference $\log p(x \mid y) - \log p(x)$, by two programs:

# %%
pv.compare(log_px, log_px_y, names=["log p(x)", "log p(x | y)"])

# %% [markdown]
# By Bayes' rule $\log p(x \mid y) - \log p(x) = \log p(y \mid x) - \log p(y)$ within one model. If the label can be
# read off the image, $p(y \mid x) \approx 1$, the label is worth $-\log p(y) = \log 10 \approx 2.3$ nats with ten
# classes of equal size, and no more. Two different programs may differ by more or less, for each was trained by itself.
#
# ## A classifier by Bayes' rule
#
# Nobody asked for a classifier, but there is one:
#
# $$
# p(y \mid x) = \frac{p(x \mid y)\, p(y)}{\sum_{y'} p(x \mid y')\, p(y')} .
# $$
#
# It takes one log-likelihood per class. The guide is asked for $q(z \mid x, y)$ with wrong labels, which it has never
# seen, so these estimates have the larger errors; they are lower bounds, and a wrong class is only made less likely by
# that.

# %%
log_prior = torch.log(
    labelled.train.given[0].mean(0)
).double()  # how often each class occurs, (classes,)
columns = []
for k in range(classes):
    wanted = torch.eye(classes)[k].expand(len(x), -1)  # the same label for every image
    columns.append(
        pv.log_marginal(cvae, x, wanted, num_particles=NUM_PARTICLES, seed=SEED).log_prob
    )
log_joint = torch.stack(columns, 1) + log_prior  # log p(x, y), (N, classes)
log_posterior = log_joint.log_softmax(1)  # log p(y | x)

# %% [markdown]
# Accuracy with its binomial standard error $\sqrt{a(1-a)/N}$, and the mean log-probability of the true label, which
# also asks whether the classifier knows when it does not know.

# %%
truth = labelled.test.labels[:NUM_TEST]
right = (log_posterior.argmax(1) == truth).double()
accuracy = right.mean().item()
error = 100 * math.sqrt(accuracy * (1 - accuracy) / len(right))
log_py_x = log_posterior.gather(1, truth[:, None]).squeeze(1)
print(f"accuracy      {100 * accuracy:.1f} ± {error:.1f} % (guessing: {100 / classes:.0f} %)")
print(f"log p(y | x)  {log_py_x.mean():.3f} ± {log_py_x.std() / math.sqrt(len(x)):.3f} nats")

# %% [markdown]
# **What to look at.** The images it gets wrong, with what it took them for. Some of them are hard for a person too;
# binarization has taken something away.

# %%
wrong = (right == 0).nonzero().squeeze(1)[:12]
print("taken for", log_posterior.argmax(1)[wrong].tolist())
print("are      ", truth[wrong].tolist())
report.images(x[wrong] if len(wrong) else x[:1], columns=12)

# %% [markdown]
# ## Back to the unconditional likelihood
#
# The same numbers give the marginal over the labels, $p(x) = \sum_y p(x \mid y)\, p(y)$, which *can* be compared with
# the program that never saw a label: one density of the same data.

# %%
marginal = log_joint.logsumexp(1)
difference = marginal - log_px.log_prob
print(
    f"sum over labels  {marginal.mean():.3f} ± {marginal.std() / math.sqrt(len(x)):.3f} nats"
)
print(f"without labels   {log_px.mean:.3f} ± {log_px.mean_sampling_error:.3f} nats")
error = difference.std() / math.sqrt(len(x))
print(f"per image        {difference.mean():+.3f} ± {error:.3f} nats")

# %% [markdown]
# The errors are over images. A conditional VAE summed over its labels is a mixture of $K$ VAEs that share their
# networks; whether that explains images better than one VAE is what the last line answers, for this budget and this
# seed.
