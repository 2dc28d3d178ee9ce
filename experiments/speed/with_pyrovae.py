"""pyrovae: the program of its parts, trained by ``pv.fit`` and evaluated by ``pv.log_marginal``."""

import functools
import warnings
from contextlib import contextmanager
from unittest.mock import patch

import torch
from work import CHANNELS, DENSE, HIDDEN, RATE, Evaluated, Trained, read, write

import pyrovae as pv
from pyrovae.compiled import Compiled


def program(work, weights):
    """The same networks as modules of pyrovae, with these weights."""
    if work.network == "conv network":
        conv = {"channels": CHANNELS, "hidden": DENSE}
        encoder = pv.networks.ConvEncoder(work.shape, 2 * work.latent, **conv)
        decoder = pv.networks.ConvDecoder(work.latent, work.shape, **conv)
    else:
        hidden = HIDDEN[work.network]
        encoder = pv.networks.MLP(work.shape, *hidden, 2 * work.latent)
        decoder = pv.networks.MLP(work.latent, *hidden[::-1], work.shape)
    write(weights, encoder, decoder)
    return pv.VAE(
        prior=pv.priors.StandardNormal(work.latent),
        decoder=pv.Conditional(decoder, pv.families.bernoulli),
        encoder=pv.Conditional(encoder, pv.families.normal),
    )


def binarized(pixels):
    """Fresh bits for every step."""
    return (torch.rand_like(pixels) < pixels).to(pixels.dtype)


@contextmanager
def compiled_as_asked():
    """A program that pyrovae runs eagerly instead is an error: its time would stand under the wrong name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*runs eagerly")
        yield


@contextmanager
def compilations():
    """What ``pv.log_marginal`` compiles, which it does once in each call and so pays for in long ones only."""
    made = []

    class Noted(Compiled):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    with patch("pyrovae.compiled.fast.Compiled", Noted):
        yield made


def train(work, pixels, weights, seed, **options):
    """``pv.fit`` without validation; ``options`` are ``compile`` and ``precision``."""
    vae = program(work, weights)
    with compiled_as_asked():
        run = pv.fit(
            vae,
            pixels.unflatten(1, work.shape),
            objective=pv.objectives.iwae if work.particles > 1 else pv.objectives.elbo,
            num_particles=work.particles,
            epochs=work.epochs,
            batch_size=work.batch,
            optimizer=functools.partial(torch.optim.Adam, lr=RATE),
            draw=binarized,
            seed=seed,
            progress=False,
            **options,
        )
    return Trained(run.column("seconds"), read(vae.encoder.net, vae.decoder.net))


def evaluate(work, weights, **options):
    """``pv.log_marginal``, with its errors and diagnostics; annealed where there are ``num_steps``."""
    vae = program(work, weights).eval()

    def log_marginal(x, particles, num_steps=None):
        with compiled_as_asked(), compilations() as compiled:
            warnings.simplefilter("ignore", pv.EvidenceWarning)  # a network trained for minutes is no matter here
            ev = pv.log_marginal(
                vae,
                x.unflatten(1, work.shape),
                method="annealed" if num_steps else "importance",
                num_particles=particles,
                num_steps=num_steps,
                progress=False,
                **options,
            )
        return Evaluated(ev.mean, sum(each.seconds for each in compiled))

    return log_marginal
