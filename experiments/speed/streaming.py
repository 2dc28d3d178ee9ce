"""What a step costs on data that are streamed, against the same data kept in memory.

    OMP_NUM_THREADS=1 PYROVAE_DATA=... python experiments/speed/streaming.py [--write]

MNIST's 50,000 training images, binarized afresh at every step; a VAE 784-400-20 with a Bernoulli likelihood. Every round
trains each contestant for a few epochs and keeps the quickest but the first, in which a step is compiled; the ratios are
within rounds. The file lies in the page cache: this is the cost of streaming, not of a disk. With ``--write`` the table
goes into ``streaming.txt`` beside this file.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import pyrovae as pv

ROUNDS, EPOCHS = 5, 4
LATENT, HIDDEN = 20, (400,)
BATCHES = (128, 512)


def contestants(data, path):
    """Data and draw of each, by name; a function of the batch size where the data bring their own batches."""
    x, bernoulli = data.train.x, torch.bernoulli

    def iterable(batch):
        return lambda: (x[index] for index in torch.randperm(len(x), generator=torch.Generator()).split(batch))

    return {
        "resident": (lambda batch: x, bernoulli),
        "memory map": (lambda batch: np.load(path / "float32.npy", mmap_mode="r"), bernoulli),
        "memory map, uint8": (lambda batch: np.load(path / "uint8.npy", mmap_mode="r"), grey),
        "iterable": (iterable, bernoulli),
        "DataLoader": (lambda batch: DataLoader(TensorDataset(x), batch_size=batch, shuffle=True), bernoulli),
    }


def grey(x):
    return torch.bernoulli(x / 255)


def milliseconds(data, made, batch, compiled):
    """Per step."""
    rows, draw = made
    torch.manual_seed(0)
    vae = pv.vae(data, latent=LATENT, hidden=HIDDEN, network=pv.networks.MLP)
    run = pv.fit(vae, rows(batch), draw=draw, batch_size=batch, epochs=EPOCHS, compile=compiled, device="cpu")
    assert run.manifest["compiled"] is compiled
    return min(run.column("seconds")[1:]) * 1e3 / -(-len(data.train.x) // batch)


def table(data, path):
    yield f"milliseconds per step, median of {ROUNDS} rounds; ratio to resident data, median and range"
    for compiled in (False, True):
        for batch in BATCHES:
            yield f"\nbatch {batch}, {'compiled' if compiled else 'eager'}"
            made = contestants(data, path)
            rounds = [{name: milliseconds(data, made[name], batch, compiled) for name in made} for _ in range(ROUNDS)]
            for name in made:
                ratios = sorted(times[name] / times["resident"] for times in rounds)
                median = statistics.median(times[name] for times in rounds)
                spread = f"{statistics.median(ratios):.2f}   {ratios[0]:.2f} to {ratios[-1]:.2f}"
                yield f"{name:<20}{median:8.2f}   {spread}"


def main():
    data = pv.data.load("mnist")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        np.save(path / "float32.npy", data.train.x.numpy())
        np.save(path / "uint8.npy", (255 * data.train.x).round().byte().numpy())
        for line in table(data, path):
            print(line, flush=True)
            lines.append(line)
    if "--write" in sys.argv:
        Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
