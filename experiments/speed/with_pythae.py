"""pythae: its BaseTrainer with the loader and the bookkeeping that it comes with, and ``get_nll``.

Two things favour it: its model has no place for fresh bits, so they are drawn by the batch and not by its data set,
item by item; and ``get_nll`` runs without gradients, which it does not see to itself.
"""

import contextlib
import logging
import os
import tempfile
import time

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch.nn.functional import softplus
from work import MIN_SCALE, RATE, Evaluated, Trained, networks, read, write

NLL_BATCH = 100  # particles that get_nll takes at once, its default


class Encoder(BaseEncoder):
    """The benchmark's encoder with the outputs that pythae wants: the log-variance is 2 log scale."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        loc, raw = self.network(x).chunk(2, -1)
        return ModelOutput(embedding=loc, log_covariance=2 * (softplus(raw) + MIN_SCALE).log())


class Decoder(BaseDecoder):
    """Probabilities, as pythae's Bernoulli likelihood ("bce") wants them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z):
        return ModelOutput(reconstruction=self.network(z).sigmoid())


class Binarized(VAE):
    """Fresh bits for every batch."""

    def forward(self, inputs, **kwargs):
        pixels = inputs["data"]
        return super().forward({**inputs, "data": (torch.rand_like(pixels) < pixels).float()}, **kwargs)


class Clock(TrainingCallback):
    """Seconds of every epoch."""

    def __init__(self):
        self.seconds = []

    def on_epoch_begin(self, training_config, **kwargs):
        self.begin = time.perf_counter()

    def on_epoch_end(self, training_config, **kwargs):
        self.seconds.append(time.perf_counter() - self.begin)


def program(work, weights, kind):
    """A model of pythae with these weights."""
    encoder, decoder = write(weights, *networks(work))
    config = VAEConfig(input_dim=(work.pixels,), latent_dim=work.latent, reconstruction_loss="bce")
    return kind(config, encoder=Encoder(encoder), decoder=Decoder(decoder))


@contextlib.contextmanager
def silent():
    """Without its log and progress bars."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(before)


def train(work, pixels, weights, seed):
    """pythae's trainer."""
    vae, clock = program(work, weights, Binarized), Clock()
    with tempfile.TemporaryDirectory() as folder, silent():
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=work.epochs,
            per_device_train_batch_size=work.batch,
            learning_rate=RATE,
            optimizer_cls="Adam",
            no_cuda=True,
            seed=seed,
        )
        data = BaseDataset(pixels, torch.zeros(len(pixels)))
        BaseTrainer(vae, data, training_config=config, callbacks=[clock]).train()
    return Trained(clock.seconds, read(vae.encoder.network, vae.decoder.network))


def evaluate(work, weights):
    """pythae's ``get_nll``, which gives the mean log p(x) in spite of its name."""
    vae = program(work, weights, VAE).eval()

    @torch.no_grad()
    def log_marginal(x, particles):
        return Evaluated(float(vae.get_nll(x, n_samples=particles, batch_size=NLL_BATCH)))

    return log_marginal
