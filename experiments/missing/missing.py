"""Imputation of UCI tables: values missing completely at random, and values missing because of what they are.

    OMP_NUM_THREADS=1 python experiments/missing/missing.py [--quick]

At random, each value is missing with probability 1/2. Not at random, every value above its column's mean is missing in
the first half of the columns. Programs are trained on a table with its holes and impute that same table, as in the
papers: E[x_missing | x_seen] by importance sampling with the guide, the weights normalised by their sum. MIWAE (Mattei
& Frellsen 2019) is a VAE with ``pyrovae.Missing`` and the objective ``iwae``; not-MIWAE (Ipsen, Mattei & Frellsen 2021)
has ``pyrovae.MissingNotAtRandom`` instead, with a mask model that knows that larger values are missing. Then log p of
what is seen of rows that were trained on and of others. It writes ``missing.txt`` and ``missing.png`` beside itself;
with ``--quick``, a look at whether it runs, nothing.
"""

import functools
import math
import sys
import time
import warnings
from pathlib import Path

import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import pyrovae as pv
from pyrovae.report.canvas import panels
from pyrovae.report.theme import colours

QUICK = "--quick" in sys.argv
TABLES = ("banknote",) if QUICK else ("banknote", "breast_cancer", "concrete", "wine_red", "wine_white", "yeast")
SEEDS = (0, 1)  # of the holes, the initial weights and the training
RATE = 0.5  # of values missing at random
MOST_LATENT, HIDDEN = 10, (64,)  # latent dimensions: one less than columns, at most ten
STEPS, BATCH, LEARNING_RATE = 50 if QUICK else 1200, 128, 3e-3
PARTICLES, POINTS = 20, 20 if QUICK else 500  # in training; in imputation
EVIDENCE, EVIDENCE_PARTICLES = "banknote", 100 if QUICK else 2000
PUBLISHED = {  # mean squared error of MIWAE at random; RMSE not at random of MIWAE, and of not-MIWAE, the sign known
    "banknote": (0.446, 1.19, 0.74), "breast_cancer": (0.280, 1.20, None), "concrete": (0.501, 1.66, 1.12),
    "wine_red": (0.643, 1.62, 1.07), "wine_white": (0.735, 1.55, 1.04), "yeast": (0.964, 1.72, 1.38),
}  # fmt: skip
COMMAND = "OMP_NUM_THREADS=1 python experiments/missing/missing.py"


def table(name):
    """All rows of a table, every column in units of its own standard deviation."""
    data = pv.data.load(f"uci/{name}", standardize=False)
    x = torch.cat([split.x for split in data.splits.values()]).double()
    return ((x - x.mean(0)) / x.std(0, correction=0)).float()


def at_random(x, seed):
    return x.masked_fill(torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < RATE, torch.nan)


def above_the_mean(x, seed):
    first_half = torch.arange(x.shape[1]) < x.shape[1] // 2
    return x.masked_fill((x > 0) & first_half, torch.nan)


def program(width, observation):
    """A VAE of so many columns, each with a scale of its own."""
    latent = min(width - 1, MOST_LATENT)
    net = pv.networks.MLP(2 * width, *HIDDEN, 2 * latent, activation=torch.nn.Tanh)
    encoder = pv.Conditional(pv.readings.Reading(net, pv.readings.ValuesAndMask()), pv.families.normal)
    net = pv.networks.MLP(latent, *HIDDEN, width, activation=torch.nn.Tanh)
    decoder = pv.Conditional(net, pv.families.SharedScaleNormal(0.5, shape=(width,)))
    return pv.VAE(pv.priors.StandardNormal(latent), observation(decoder), encoder)


def trained(holes, seed, *, observation=pv.Missing, objective=pv.objectives.iwae):
    torch.manual_seed(seed)
    vae = program(holes.shape[1], observation)
    pv.fit(
        vae,
        holes,
        objective=objective,
        num_particles=PARTICLES if objective is pv.objectives.iwae else 1,
        epochs=math.ceil(STEPS / math.ceil(len(holes) / BATCH)),
        batch_size=BATCH,
        optimizer=functools.partial(torch.optim.Adam, lr=LEARNING_RATE),
        learning_rate=pv.schedules.Cosine(),
        max_grad_norm=100,
        seed=seed,
        device="cpu",
        progress=False,
    )
    return vae.eval()


@torch.no_grad()
def expected(vae, rows):
    """E[x | x_seen], with a mask model E[x | x_seen, s], (N, D)."""
    t = pv.log_terms(vae, rows, num_particles=POINTS)
    share = t.log_point_weight.softmax(0).to(rows)[..., None]  # (S, N, 1)
    drawn = t.sites.get("x.missing")
    return (share * (vae.decoder(t.sites["z"].value).mean if drawn is None else drawn.value)).sum(0)


def imputed(vae, holes):
    """The table with E[x_missing | x_seen] where a value is missing."""
    return torch.cat([torch.where(rows.isnan(), expected(vae, rows), rows) for rows in holes.split(128)])


def by_vae(**options):
    return lambda holes, seed: imputed(trained(holes, seed, **options), holes)


def with_mask_model(decoder):
    width = decoder.example().event_shape[0]
    return pv.MissingNotAtRandom(decoder, pv.SelfMasking(width, sign=1))


def by_sklearn(make):
    def impute(holes, seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return torch.from_numpy(make(random_state=seed).fit_transform(holes.double().numpy())).to(holes)

    return impute


USUAL = {
    "IterativeImputer": by_sklearn(IterativeImputer),
    "KNNImputer": by_sklearn(lambda random_state: KNNImputer(n_neighbors=10)),
    "mean": by_sklearn(lambda random_state: SimpleImputer()),
}
SETTINGS = {  # title: how values are hidden, and the methods
    "missing at random": (at_random, {"MIWAE": by_vae(), "VAE": by_vae(objective=pv.objectives.elbo), **USUAL}),
    "missing above the mean": (
        above_the_mean,
        {"not-MIWAE": by_vae(observation=with_mask_model), "MIWAE": by_vae(), **USUAL},
    ),
}


def rmse(name, hide, method):
    """The root mean squared error of what was missing, for each seed."""
    errors = []
    for seed in SEEDS:
        x = table(name)
        holes = hide(x, seed)
        found = method(holes, seed)
        errors.append((found - x)[holes.isnan()].square().mean().sqrt().item())
    return torch.tensor(errors)


def evidence_lines():
    """log p(x_seen) of rows trained on and of others, at several rates of missing values."""
    complete = pv.data.load(f"uci/{EVIDENCE}")
    data = pv.data.hide(complete, RATE, seed=0)
    vae = trained(data.train.x, 0)
    lines = [f"log p(x_seen) of {EVIDENCE}, nats, MIWAE trained with {RATE:.0%} missing"]
    for part in ("train", "test"):
        for rate in (0.0, RATE):
            x = (data if rate else complete).splits[part].x
            ev = pv.log_marginal(vae, x, num_particles=EVIDENCE_PARTICLES, seed=0, progress=False)
            lines.append(
                f"  {part:5} {rate:4.0%} missing {ev.mean:9.3f} ± {ev.mean_sampling_error:.3f} per row, "
                f"{ev.bits_per_dim:6.3f} bits per number seen; k-hat above {ev.threshold:.2f}: "
                f"{ev.share_unreliable:.1%}"
            )
    return lines


def drawn(results):
    """RMSE of every method by table, a panel per setting; bars span the seeds."""
    figure, axes = panels(1, len(results), height=3.4)
    shades = dict(zip(("MIWAE", "VAE", "not-MIWAE", *USUAL), colours().classes, strict=False))
    for axis, (title, errors) in zip(axes[0], results.items(), strict=True):
        for row, name in enumerate(TABLES):
            for shift, (method, values) in enumerate(errors[name].items()):
                at = row + 0.12 * (shift - 2)
                axis.plot([values.min(), values.max()], [at, at], color=shades[method], lw=1.5)
                axis.plot(values.mean(), at, "o", ms=4, color=shades[method], label=None if row else method)
        axis.set(title=title, xlabel="RMSE, standard deviations", yticks=range(len(TABLES)))
        axis.set_yticklabels(TABLES if axis is axes[0][0] else [])
        axis.invert_yaxis()
        axis.grid(axis="x", color=colours().faint)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.xaxis.label.set_size(8)
        axis.title.set_size(9)
    found = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(found), fontsize=7, frameon=False)
    return figure


def main() -> None:
    warnings.simplefilter("ignore", pv.EvidenceWarning)
    start = time.perf_counter()
    results, lines = {}, []
    for number, (title, (hide, methods)) in enumerate(SETTINGS.items()):
        lines += [f"RMSE, values {title}", f"  {'':14}" + "".join(f"{name:>19}" for name in methods) + "   published"]
        results[title] = {}
        for name in TABLES:
            errors = {method: rmse(name, hide, function) for method, function in methods.items()}
            results[title][name] = errors
            squared, *not_at_random = PUBLISHED[name]
            published = not_at_random[::-1] if number else [math.sqrt(squared)]
            cells = "".join(f"{e.mean():11.3f} ± {e.std():.3f}" for e in errors.values())
            lines.append(f"  {name:14}{cells}   {', '.join('-' if p is None else f'{p:.2f}' for p in published)}")
            print(lines[-1], flush=True)
        lines.append("")
    lines += [
        *evidence_lines(),
        "",
        f"Mean and standard deviation over {len(SEEDS)} seeds, in units of a column's standard deviation; what is",
        "missing above the mean is the same for all seeds. Published: MIWAE, the root of the mean squared error that",
        "the paper gives; not-MIWAE (sign known) and MIWAE.",
        f"At least {STEPS:,} steps of batch {BATCH}, Adam at {LEARNING_RATE:g} with a cosine schedule, {PARTICLES}",
        f"particles (the VAE: 1); one hidden layer of {HIDDEN[0]}, D - 1 latent dimensions (at most {MOST_LATENT});",
        f"normal columns with a scale of their own; {POINTS} points in imputation, {EVIDENCE_PARTICLES:,} for",
        "log p(x_seen).",
        f"command: {COMMAND}; {time.perf_counter() - start:.0f} s",
        f"versions: torch {torch.__version__}, scikit-learn {sklearn.__version__}, pyrovae {pv.__version__}",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    figure = drawn(results)
    if not QUICK:
        figure.savefig(Path(__file__).with_suffix(".png"), dpi=200)
        Path(__file__).with_suffix(".txt").write_text(text)


if __name__ == "__main__":
    main()
