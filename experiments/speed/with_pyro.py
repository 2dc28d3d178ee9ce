"""Stock Pyro: ``SVI.step`` with ``Trace_ELBO``, or ``RenyiELBO`` for more than one particle."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from torch.nn.functional import softplus
from with_torch import batches, timed
from work import MIN_SCALE, RATE, Trained, read, restored


def train(work, pixels, weights, seed):
    """As in Pyro's tutorial, with pyro.module and a data plate."""
    torch.manual_seed(seed)
    encoder, decoder = restored(work, weights)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(work.latent), 1.0).expand([len(x), work.latent]).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        loc, raw = encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, softplus(raw) + MIN_SCALE).to_event(1))

    def epoch():
        for x in batches(pixels, work.batch):
            svi.step(x)

    with pyro.get_param_store().scope():
        svi = SVI(model, guide, pyro.optim.Adam({"lr": RATE}), objective(work.particles))
        seconds = timed(work.epochs, epoch)
        return Trained(seconds, read(encoder, decoder))


def objective(particles):
    """Pyro's loss; particles are one more dimension, not a loop."""
    if particles == 1:
        return Trace_ELBO()
    return RenyiELBO(alpha=0, num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
