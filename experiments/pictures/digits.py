"""The pictures of the README: two small programs on scikit-learn's digits, in a minute on one core.

OMP_NUM_THREADS=1 python experiments/pictures/digits.py
"""

import functools
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import report
from pyrovae.report.canvas import png

HERE = Path(__file__).parent
OPTIONS = {
    "epochs": 120,
    "batch_size": 64,
    "optimizer": functools.partial(torch.optim.Adam, lr=2e-3),
    "schedules": {"beta": pv.schedules.Warmup(20)},
}

data = pv.data.load("digits")
labelled = data.conditional()
x, labels = data.test.x, data.test.labels

torch.manual_seed(0)
vae = pv.vae(data, latent=16, hidden=(128, 128))
pv.fit(vae, data, **OPTIONS)
torch.manual_seed(0)
cvae = pv.vae(labelled, latent=8, hidden=(128, 128))
pv.fit(cvae, labelled, **OPTIONS)

torch.manual_seed(1)
figures = {
    "latents": report.latents(vae, x, labels=labels),
    "conditional_grid": report.conditional_grid(cvae, torch.eye(10), labels=list("0123456789")),
}
for name, figure in figures.items():
    (HERE / f"{name}.png").write_bytes(png(figure, dpi=150))
