"""The benchmark of speed: that all contestants do the same work, and what is said of their times."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import measuring
import memory
import plot
import pyro.distributions as dist
import pytest
import table
import torch
import with_torch_annealed
from contestants import ANNEALING, HAND, TRAINING, Contestant, named, present
from rounds import ratio, strays, turns
from with_pyrovae import evaluate, program
from with_torch import negative_elbo
from work import Images, Work, gradients, log_weights, networks, read, restored, start

import pyrovae as pv

SMALL = Work(images=96, batch=32, latent=3, epochs=3, shape=(1, 8, 8))
KINDS = [SMALL, replace(SMALL, network="wide MLP"), replace(SMALL, network="conv network")]


def images(shape: tuple[int, int, int] = (1, 8, 8), num_data: int = 96) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(num_data, torch.Size(shape).numel(), generator=generator)
    return Images(pixels, pixels.round(), shape)


# ------------------------------------------------------------------------------------------------------ statistics


def test_ratios_are_taken_within_a_round() -> None:
    drifting = [1.0, 10.0, 100.0]
    assert ratio([2 * t for t in drifting], drifting) == (2.0, 2.0, 2.0)
    assert ratio([3.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == (2.0, 1.0, 3.0)


def test_every_contestant_has_every_turn() -> None:
    order = list(turns(("a", "b", "c"), 3))
    assert [name for _, name in order] == list("abcbcacab")
    assert [number for number, _ in order] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_contestant_that_ends_elsewhere_is_found() -> None:
    values = {"ours": [-100.0, -102.0], "near": [-101.0, -102.9], "far": [-103.0, -104.0], "lost": [float("nan")]}
    assert strays(values, "ours", 0.02) == {"far", "lost"}


# ------------------------------------------------------------------------------------------------ who is left out


def test_a_contestant_whose_package_is_absent_is_left_out_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    absent = Contestant("The Absent", "with_a_package_that_is_not_there")
    contestants = (*named(TRAINING, ["PyTorch by hand", "Pyro SVI"]), absent)
    functions, reasons = present(contestants)
    assert list(functions) == ["PyTorch by hand", "Pyro SVI"]
    assert "with_a_package_that_is_not_there" in reasons["The Absent"]

    cell = measuring.train(SMALL, images(), rounds=2, seed=0, contestants=contestants)
    assert "left out: The Absent" in capsys.readouterr().err
    assert "left out: The Absent" in table.training(cell)
    assert {len(result["ms"]) for result in cell["results"].values()} == {2}


def cell(**held_out: list[float]) -> dict[str, Any]:
    results = {
        name.replace("_", " "): {"ms": [2.0, 4.0], "compile": [0.0, 1.5], "held_out": v} for name, v in held_out.items()
    }
    work = {"images": 96, "epochs": 3, "network": "small MLP", "batch": 32, "particles": 1, "latent": 3}
    return {"title": "a cell", "work": work, "results": results, "absent": {}}


def test_the_table_marks_who_ends_elsewhere_and_has_no_column_for_the_absent() -> None:
    lines = table.training(cell(PyTorch_by_hand=[-10.0, -10.0], NumPyro=[-10.1, -10.1], pythae=[-12.0, -12.0]))
    assert [line.split("  ")[0] for line in lines.splitlines()[2:]] == ["PyTorch by hand", "NumPyro", "pythae *"]
    assert "/ NumPyro" in lines and "/ Pyro SVI" not in lines
    assert "-10.10" in lines and "1.5" in lines


def test_the_figure_is_drawn_of_the_sections_that_there_are() -> None:
    one = cell(PyTorch_by_hand=[-10.0], NumPyro=[-10.1])
    assert len(plot.draw({"train": {"measured": [one, one]}}).axes) == 1
    curves = {"batch": [one, one], "latent": [one]}
    assert len(plot.draw({"train": {"measured": [one]}, "scaling": {"measured": curves}}).axes) == 3


# ----------------------------------------------------------------------------------------------------- same work


@pytest.mark.parametrize("work", KINDS, ids=lambda work: work.network)
def test_pyrovae_trains_the_same_networks(work: Work) -> None:
    weights = start(work, 1)
    encoder, decoder = restored(work, weights)
    vae = program(work, weights)
    x, z = torch.rand(5, work.pixels), torch.randn(5, work.latent)
    torch.testing.assert_close(vae.encoder.net(x.unflatten(1, work.shape)), encoder(x))
    torch.testing.assert_close(vae.decoder.net(z).flatten(1), decoder(z))
    torch.testing.assert_close(read(vae.encoder.net, vae.decoder.net), weights)


@pytest.mark.parametrize("work", KINDS, ids=lambda work: work.network)
def test_numpyro_trains_the_same_networks(work: Work) -> None:
    pytest.importorskip("numpyro", reason="NumPyro is not installed")
    from with_numpyro import forward, to_jax, to_torch

    encoder, decoder = restored(work, start(work, 1))
    params = to_jax(encoder, decoder)
    x, z = torch.rand(5, work.pixels), torch.randn(2, 5, work.latent)
    for name, network, v in (("encoder", encoder, x), ("decoder", decoder, z)):
        answer = torch.tensor(forward(network)(params[name], v.numpy()).tolist())
        expected = network(v.flatten(0, -2)).unflatten(0, v.shape[:-1])
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(to_torch(work, params), read(encoder, decoder))


def test_the_loop_by_hand_maximises_the_objective_of_the_others() -> None:
    encoder, decoder = networks(SMALL)
    x = images().test
    loc, raw = encoder(x).chunk(2, -1)
    q = dist.Normal(loc, torch.nn.functional.softplus(raw) + 1e-4).to_event(1)
    torch.manual_seed(0)
    z = q()
    expected = dist.Bernoulli(logits=decoder(z)).to_event(1).log_prob(x) - q.log_prob(z)
    expected = expected + dist.Normal(torch.zeros(3), 1.0).to_event(1).log_prob(z)
    torch.manual_seed(0)
    torch.testing.assert_close(log_weights(encoder, decoder, x, 1)[0], expected)
    torch.manual_seed(0)
    torch.testing.assert_close(negative_elbo(encoder, decoder, x), -expected.mean())


def test_chains_by_hand_and_by_pyrovae_find_log_p() -> None:
    """Which quadrature over two latents gives."""
    work, x = replace(SMALL, latent=2), images().test[:16]
    encoder, decoder = restored(work, start(work, 1))
    weights = read(encoder) + [2 * weight for weight in read(decoder)]
    axis = torch.linspace(-6, 6, 481)
    z = torch.cartesian_prod(axis, axis)
    _, decoder = restored(work, weights)
    logits = decoder(z).detach()
    log_px_z = logits @ x.T - torch.nn.functional.softplus(logits).sum(-1, keepdim=True)
    log_p = dist.Normal(0.0, 1.0).log_prob(z).sum(-1, keepdim=True) + log_px_z + 2 * math.log(12 / 480)
    exact = log_p.logsumexp(0).mean().item()
    torch.manual_seed(0)
    for evaluator in (with_torch_annealed.anneal(work, weights), evaluate(work, weights, compile=False)):
        assert evaluator(x, 64, 50).log_prob == pytest.approx(exact, abs=0.04)


def test_the_floor_takes_the_gradients_of_an_ordinary_run() -> None:
    """As many as chains take, and a pilot of an ordinary length; pyrovae's is shorter where the path is, as here."""
    weights, x = start(SMALL, 1), images().test[:16]

    def first_layers(function: Any) -> int:
        """How often the decoder's first layer was given all chains, and a gradient was wanted."""
        counts = []

        def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            if isinstance(module, torch.nn.Linear) and module.in_features == SMALL.latent:
                counts.append(inputs[0].requires_grad and inputs[0].shape[:-1].numel() == 16 * 16)

        with torch.nn.modules.module.register_module_forward_pre_hook(note):
            function(x, 16, 10)
        return sum(counts)

    by_pyrovae = first_layers(evaluate(SMALL, weights, compile=False))
    floor = first_layers(with_torch_annealed.floor(SMALL, weights))
    walked = pv.Annealing().num_leapfrog * 9
    assert floor == gradients(10) and walked + 2 < by_pyrovae <= floor + 2  # where the pilot and the chains start


def test_annealing_is_measured_beside_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "ANNEALING", named(ANNEALING, ["pyrovae eager", HAND, "floor"]))
    cell = measuring.evaluate(SMALL, images(), num_data=8, particles=4, rounds=2, seed=0, num_steps=20)
    lines = table.evaluation(cell)
    assert "8 images, 4 chains of 20 steps" in lines and "/ floor" in lines and " *" not in lines
    assert len(cell["results"]["floor"]["us"]) == 2
    assert plot.label(cell) == "log p(x), annealed\nsmall MLP"


def test_a_scaling_curve_has_whole_batches_and_enough_epochs() -> None:
    base = Work(images=1000, batch=100, epochs=5)
    assert measuring.along(base, "batch", 300) == replace(base, batch=300, images=900, epochs=14)
    assert measuring.along(base, "images", 5000) == replace(base, images=5000, epochs=3)


def test_peak_memory_is_that_of_a_process_of_its_own() -> None:
    held = torch.ones(2**26)  # 256 MB here are none of the other's
    command = [sys.executable, "-c", "import memory; print(memory.peak())"]
    peak = int(subprocess.check_output(command, cwd=Path(memory.__file__).parent))
    assert 2**20 < peak < 2**28 <= memory.peak()
    assert len(held)
