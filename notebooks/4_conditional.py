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

# the share of doubtful data is printed where it matters
warnings.simplefilter("ignore", pv.EvidenceWarning)

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
# Spelled out: the networks of decoder and encoder have one input shape per parent. The prior is a standard normal that
# ignores $y$: then $z$ is what is left of an image when its label is known.

# %%
event = tuple(labelled.event_shape)
decoder_net = pv.networks.GatedMLP([LATENT, classes], *HIDDEN, event)
encoder_net = pv.networks.GatedMLP([event, classes], *HIDDEN, 2 * LATENT)
by_hand = pv.VAE(
    prior=pv.priors.StandardNormal(LATENT),  # p(z)
    decoder=pv.Conditional(decoder_net, pv.families.bernoulli),  # p(x | z, y)
    encoder=pv.Conditional(encoder_net, pv.families.normal),  # q(z | x, y)
)
by_hand.decoder(torch.zeros(3, LATENT), y[:3]).event_shape

# %% [markdown]
# The same in one line, from the data's description (it also starts the decoder at the training mean, which saves an
# epoch or two):


# %%
def trained(program, data):
    """The program after training: the same budget for each."""
    options = {"batch_size": BATCH, "gradient": pv.gradients.path, "seed": SEED}
    pv.fit(program, data, epochs=EPOCHS, **options)
    return program


torch.manual_seed(SEED)
cvae = trained(pv.vae(labelled, latent=LATENT, hidden=HIDDEN), labelled)

# %% [markdown]
# ## One image of each class
#
# Each column is a class, each row a draw of $z$, the same in all columns.
#
# **What to look at.** Every image should belong to its column's class: the label is not guessed, it is given. What a
# row has in common is everything else, slant, width, stroke: the ten digits of one hand.

# %%
torch.manual_seed(SEED)
report.conditional_grid(cvae, torch.eye(classes), labels=data.classes)

# %% [markdown]
# ## A prior that knows the label
#
# The prior can have the label as a parent too, $p(z \mid y) = \mathcal N(z; m(y), \mathrm{diag}(s(y)^2))$, by a small
# network of $y$. That is one more argument.

# %%
torch.manual_seed(SEED)
prior = pv.recipes.ConditionalPrior()
knowing = trained(pv.vae(labelled, latent=LATENT, hidden=HIDDEN, prior=prior), labelled)

# %% [markdown]
# **What to look at.** The same figure, where row $r$ draws its $z$ from the prior of class $r$, and the columns still
# give the decoder ten different labels. Now the rows tend to be of one class and the columns make little difference:
# with a prior that knows the label, $z$ can carry the class, and the decoder need not look at $y$. Both programs are
# right models of $p(x \mid y)$; only the first one separates style from class.

# %%
torch.manual_seed(SEED)
report.conditional_grid(knowing, torch.eye(classes), labels=data.classes)

# %% [markdown]
# To draw from the second one, $z$ and $x$ must be given the same label, which is what `sample` does with its rows:

# %%
torch.manual_seed(SEED)
report.samples(knowing, 3 * classes, torch.eye(classes).repeat(3, 1), columns=classes)

# %% [markdown]
# ## The log-likelihood given the label
#
# As before, with `given` after `x`. It is a different number from $\log p(x)$, and larger: the model was told
# something.

# %%
torch.manual_seed(SEED)
vae = trained(pv.vae(data, latent=LATENT, hidden=HIDDEN), data)  # without labels
log_px = pv.log_marginal(vae, x, num_particles=NUM_PARTICLES, seed=SEED)
log_px_y = pv.log_marginal(cvae, x, y, num_particles=NUM_PARTICLES, seed=SEED)
log_px_y_knowing = pv.log_marginal(knowing, x, y, num_particles=NUM_PARTICLES, seed=SEED)
names = ["log p(x)", "log p(x | y)", "log p(x | y), p(z | y)"]
pv.compare(log_px, log_px_y, log_px_y_knowing, names=names)

# %% [markdown]
# By Bayes' rule $\log p(x \mid y) - \log p(x) = \log p(y \mid x) - \log p(y)$ within one model. If the label can be
# read off the image, $p(y \mid x) \approx 1$, the label is worth $-\log p(y) = \log 10 \approx 2.3$ nats with ten
# classes of equal size, and no more. Different programs may differ by more or less, for each was trained by itself, and
# a label makes training easier.
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
# how often each class occurs, (classes,)
log_prior = labelled.train.given[0].mean(0).log().double()
columns = []
for k in range(classes):
    wanted = torch.eye(classes)[k].expand(len(x), -1)  # the same label for every image
    ev = pv.log_marginal(cvae, x, wanted, num_particles=NUM_PARTICLES, seed=SEED)
    columns.append(ev.log_prob)
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
