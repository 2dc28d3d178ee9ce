"""A user's own program: the VAE of Pyro's tutorial, trained by stock SVI, evaluated by ``pyrovae.log_marginal``.

Nothing of the program below is pyrovae's: two torch networks, ``pyro.module``, a data plate. Run with

    python experiments/bring_your_own/tutorial_vae.py

It writes ``result.txt`` beside itself.
"""

import time
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import nn

import pyrovae as pv

EPOCHS = 10
BATCH = 256
LATENT, HIDDEN = 50, 400
PARTICLES = 5000
TEST = 1000  # test images
SEED = 0


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(LATENT, HIDDEN)
        self.fc21 = nn.Linear(HIDDEN, 784)
        self.softplus = nn.Softplus()

    def forward(self, z):
        return torch.sigmoid(self.fc21(self.softplus(self.fc1(z))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, HIDDEN)
        self.fc21 = nn.Linear(HIDDEN, LATENT)
        self.fc22 = nn.Linear(HIDDEN, LATENT)
        self.softplus = nn.Softplus()

    def forward(self, x):
        hidden = self.softplus(self.fc1(x.reshape(-1, 784)))
        return self.fc21(hidden), torch.exp(self.fc22(hidden))


class TutorialVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(x.shape[0], LATENT), 1.0).to_event(1))
            pyro.sample("obs", dist.Bernoulli(self.decoder(z)).to_event(1), obs=x.reshape(-1, 784))

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, scale = self.encoder(x)
            pyro.sample("latent", dist.Normal(loc, scale).to_event(1))


def main() -> None:
    torch.manual_seed(SEED)
    data = pv.data.load("mnist")
    vae = TutorialVAE()
    svi = SVI(vae.model, vae.guide, Adam({"lr": 1e-3}), Trace_ELBO())
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        losses = [svi.step(data.draw(data.train.x[rows])) for rows in torch.randperm(len(data.train.x)).split(BATCH)]
        print(f"epoch {epoch + 1}: ELBO {-sum(losses) / len(data.train.x):.2f} nats")
    trained = time.perf_counter() - start
    start = time.perf_counter()
    evidence = pv.log_marginal(vae, data.test.x[:TEST], num_particles=PARTICLES, seed=SEED)
    times = f"trained by SVI in {trained:.0f} s, evaluated in {time.perf_counter() - start:.0f} s"
    setting = f"{EPOCHS} epochs, batch {BATCH}, MNIST with dynamic binarization, seed {SEED}"
    text = f"{evidence.summary()}\n\n{setting}; {times}\n"
    print(text)
    Path(__file__).with_name("result.txt").write_text(text)


if __name__ == "__main__":
    main()
