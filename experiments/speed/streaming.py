"""What a training step costs on streamed data, against the same data kept in memory.

    OMP_NUM_THREADS=1 python experiments/speed/streaming.py [--write]

25,600 MNIST images, binarized afresh at every step; a VAE 784-400-20 with a Bernoulli likelihood. The contestants take
turns within a round and ratios are taken within a round; a run's first epoch, in which its step is compiled, does not
count. Files lie in the page cache: it is the cost of streaming that is measured, not a disk's. With ``--write`` the
table goes into ``streaming.txt`` beside this file.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rounds import ratio, spread, turns
from torch.utils.data import DataLoader, TensorDataset

import pyrovae as pv

ROUNDS, EPOCHS, IMAGES = 3, 4, 25_600
LATENT, HIDDEN = 20, (400,)
BATCHES = (128, 512)
RESIDENT = "resident"


def bits(x):
    return (torch.rand_like(x) < x).to(x.dtype)


def bits_of_levels(levels):
    return bits(levels / 255)


def contestants(x, folder, batch):
    """(data, draw) by name."""

    def batches():
        return (x.index_select(0, index) for index in torch.randperm(len(x)).split(batch))

    return {
        RESIDENT: (x, bits),
        "memory map": (np.load(folder / "float32.npy", mmap_mode="r"), bits),
        "memory map, uint8": (np.load(folder / "uint8.npy", mmap_mode="r"), bits_of_levels),
        "iterable of batches": (batches, bits),
        "DataLoader": (DataLoader(TensorDataset(x), batch_size=batch, shuffle=True), bits),
    }


def milliseconds(data, rows, draw, batch, compiled):
    """Per step."""
    torch.manual_seed(0)
    vae = pv.vae(data, latent=LATENT, hidden=HIDDEN, network=pv.networks.MLP)
    options = {"batch_size": batch, "epochs": EPOCHS, "compile": compiled, "device": "cpu", "progress": False}
    run = pv.fit(vae, rows, draw=draw, **options)
    assert run.manifest["compiled"] is compiled
    return 1e3 * median(run.column("seconds")[1:]) / (IMAGES // batch)


def cell(data, folder, batch, compiled):
    made = contestants(data.train.x[:IMAGES], folder, batch)
    times = {name: [] for name in made}
    for _, name in turns(tuple(made), ROUNDS):
        times[name].append(milliseconds(data, *made[name], batch, compiled))
    mode = "compiled" if compiled else "eager"
    yield f"\nbatch {batch}, {mode}: ms per step, ratio to resident; median [least, greatest]"
    for name, own in times.items():
        yield f"{name:<20} {spread(own)!s:<22} {ratio(own, times[RESIDENT])}"


def main():
    data = pv.data.load("mnist")
    lines = [f"PyTorch {torch.__version__}, {torch.get_num_threads()} thread(s), {ROUNDS} rounds"]
    with tempfile.TemporaryDirectory() as folder:
        x = data.train.x[:IMAGES].numpy()
        np.save(Path(folder) / "float32.npy", x)
        np.save(Path(folder) / "uint8.npy", (255 * x).round().astype(np.uint8))
        for compiled in (False, True):
            for batch in BATCHES:
                for line in cell(data, Path(folder), batch, compiled):
                    print(line, flush=True)
                    lines.append(line)
    if "--write" in sys.argv:
        Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
