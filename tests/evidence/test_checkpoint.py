"""Checkpoints: a run that was stopped gives the bits of one that was not; nothing else is taken for one's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import safetensors
import torch
from exact import LinearGaussian
from safetensors.torch import save_file
from torch import Tensor

import pyrovae as pv
from pyrovae.compiled.backends import interpreted
from pyrovae.evidence import blocks, checkpoint, importance
from pyrovae.evidence.annealing import annealed, chains
from pyrovae.evidence.result import Evidence

pytestmark = pytest.mark.filterwarnings("ignore::pyrovae.EvidenceWarning")
METHODS: dict[str, dict[str, Any]] = {
    "importance": {"num_particles": 8, "seed": 3},
    "annealed": {"num_particles": 4, "num_steps": 3, "seed": 3, "method": "annealed"},
}
ESTIMATORS = {"importance": importance.Importance, "annealed": annealed.Annealed}


class StoppedError(Exception):
    """Stands for whatever stops a run."""


def _small(patch: pytest.MonkeyPatch) -> None:
    """Two data in a block, pilots that are short, and graphs that take no time to compile."""
    patch.setitem(blocks.MOST_ROWS, "cpu", 8)
    patch.setattr(annealed, "TOGETHER", 2)
    patch.setattr(importance, "TOGETHER", 2)
    patch.setattr(chains, "STATIONS", 3)
    patch.setattr("pyrovae.compiled.choice.backend_for", lambda device: interpreted)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> LinearGaussian:
    _small(monkeypatch)
    return LinearGaussian(2, 3, spread=1.3)


def stop_after(monkeypatch: pytest.MonkeyPatch, method: str, number: int) -> list[int]:
    """Let an estimator do so many blocks and no more; how many it did."""
    kind, done = ESTIMATORS[method], [0]
    block = kind.block

    def stopping(self: Any, rows: Any) -> Any:
        if done[0] == number:
            raise StoppedError
        done[0] += 1
        return block(self, rows)

    monkeypatch.setattr(kind, "block", stopping)
    return done


def same(a: Evidence, b: Evidence) -> bool:
    names = ("log_prob", "standard_error", "ess", "pareto_k", "acceptance", "runs")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return all(u is v is None or torch.allclose(u, v, rtol=0, atol=0, equal_nan=True) for u, v in pairs)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_goes_on_to_the_same_bits(
    small: LinearGaussian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, compile: bool
) -> None:
    """Stopped in every block in turn; by graphs, which take long to trace, in one of them."""
    x = small.data(6)
    options = METHODS[method] | {"compile": compile}
    whole = pv.log_marginal(small.program, x, **options)
    for stop in [1] if compile else range(3):
        path = tmp_path / f"{stop}.safetensors"
        with monkeypatch.context() as patch:
            stop_after(patch, method, stop)
            with pytest.raises(StoppedError):
                pv.log_marginal(small.program, x, **options, checkpoint=path)
        assert checkpoint.done(path).data == ({"estimate": 2 * stop} if stop else {})
        with monkeypatch.context() as patch:
            done = stop_after(patch, method, 100)
            resumed = pv.log_marginal(small.program, x, **options, checkpoint=path)
            assert done == [3 - stop] and same(resumed, whole)
            again = pv.log_marginal(small.program, x, **options, checkpoint=str(path))
            assert done == [3 - stop] and same(again, whole)


def test_it_is_written_every_few_seconds(
    small: LinearGaussian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with every block."""
    written: list[int] = []
    write = checkpoint.Checkpoint.write

    def spied(self: Any) -> None:
        written.append(sum(stage.size for stage in self.stages.values()))
        write(self)

    monkeypatch.setattr(checkpoint.Checkpoint, "write", spied)
    for every, expected in ((10.0, [0, 6]), (-1.0, [0, 2, 4, 6, 6])):
        written.clear()
        monkeypatch.setattr(checkpoint, "EVERY", every)
        pv.log_marginal(small.program, small.data(6), **METHODS["annealed"], checkpoint=tmp_path / f"{every}")
        assert written == expected


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_an_interrupt_within_the_bookkeeping_neither_skips_nor_repeats_data(
    small: LinearGaussian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """It comes right after a block was noted, and before anything else is."""

    class Interrupted(list[Any]):
        def append(self, part: Any) -> None:
            super().append(part)
            if len(self) > stop:
                raise KeyboardInterrupt

    x, path = small.data(6), tmp_path / "run"
    begin = checkpoint.Stage.__init__

    def interrupted(self: Any, *args: Any) -> None:
        begin(self, *args)
        self.blocks = Interrupted(self.blocks)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Stage, "__init__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=path)
    done = stop_after(monkeypatch, "annealed", 100)
    resumed = pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=path)
    assert done == [2 - stop] and same(resumed, pv.log_marginal(small.program, x, **METHODS["annealed"]))


def test_a_file_with_figures_of_too_many_data_is_refused(small: LinearGaussian, tmp_path: Path) -> None:
    x, path = small.data(6), tmp_path / "run"
    pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=path)
    with safetensors.safe_open(path, "pt") as file:
        figures = {name: torch.cat([file.get_tensor(name)] * 2, -1) for name in file.keys()}  # noqa: SIM118
        save_file(figures, path, file.metadata())
    with pytest.raises(pv.PyrovaeError, match="holds 12 data of 6, estimate"):
        pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=path)


# ---------------------------------------------------------------------------------------------- what is not one's own


def _refused(path: Path, message: str, program: Any, x: Any, **options: Any) -> None:
    before = path.read_bytes()
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.log_marginal(program, x, **(METHODS["annealed"] | options), checkpoint=path)
    assert path.read_bytes() == before


def test_another_estimate_is_refused_and_what_differs_is_named(small: LinearGaussian, tmp_path: Path) -> None:
    path, x = tmp_path / "run.safetensors", small.data(6)
    pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=path)
    other = LinearGaussian(2, 3, spread=1.4)  # a parameter that is none: the encoder's scale is a plain tensor
    _refused(
        path,
        r"another estimate.*\(program: \w+ there, \w+ here, its parameters, or what it computes, differ\)",
        other.program,
        x,
    )
    _refused(path, r"another estimate.*\(data: ", small.program, x + torch.eye(6)[:, 5:] * 1e-3)
    _refused(path, r"another estimate.*\(seed: 3 there, 4 here\)", small.program, x, seed=4)
    _refused(path, r"num_steps: 3 there, 4 here", small.program, x, num_steps=4)
    _refused(path, r"num_particles: 4 there, 6 here", small.program, x, num_particles=6)
    _refused(path, r"annealing: .*num_leapfrog=", small.program, x, annealing=pv.Annealing(num_leapfrog=1))
    _refused(path, r"num_data: 6 there, 4 here", small.program, x[:4])
    _refused(path, r"at once: ", small.program, x, memory=500)
    _refused(path, r"compiled: False there, True here", small.program, x, compile=True)
    _refused(path, r"method: annealed there, importance here", small.program, x, method="importance", num_steps=None)
    ev = pv.log_marginal(small.program, x.clone(), **METHODS["annealed"], checkpoint=path, log_jacobian=1.0)
    assert same(pv.log_marginal(small.program, x, **METHODS["annealed"], log_jacobian=1.0), ev)


def test_another_machine_or_version_is_refused_by_name(
    small: LinearGaussian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which changes the bits, and what a program computes in the last of them."""
    path, x = tmp_path / "run.safetensors", small.data(6)
    pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=path)
    threads = torch.get_num_threads()
    for module, name, value, message in (
        (torch, "get_num_threads", lambda: threads + 1, rf"threads: {threads} there, {threads + 1} here"),
        (torch, "__version__", "9.9.9", r"torch: \S+ there, 9\.9\.9 here"),
        (pv, "__version__", "9.9", r"pyrovae: \S+ there, 9\.9 here"),
        (checkpoint, "FORMAT", 2, "no checkpoint of an estimate of log .*: its format is 1, not 2; remove it"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            _refused(path, message, small.program, x)


def test_programs_that_are_no_modules_are_told_apart(empty_store: None, tmp_path: Path) -> None:
    """By parameters in the store, and by what they compute where these are nowhere to be seen."""

    def of(loc: Any) -> Any:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(loc(), 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(x / 2, 1.0))

        return SimpleNamespace(model=model, guide=guide)

    x = torch.tensor([0.3, -1.0])
    path = tmp_path / "run"
    pv.log_marginal(of(lambda: torch.tensor(0.0)), x, **METHODS["annealed"], checkpoint=path)
    pv.log_marginal(of(lambda: torch.tensor(0.0)), x, **METHODS["annealed"], checkpoint=path)
    _refused(path, "program: ", of(lambda: torch.tensor(1.0)), x)
    by_store, path = of(lambda: pyro.param("loc", torch.tensor(0.0))), tmp_path / "store"
    pyro.param("loc", torch.tensor(2.0))
    pv.log_marginal(by_store, x, **METHODS["annealed"], checkpoint=path)
    pyro.get_param_store()["loc"] = torch.tensor(2.5)
    _refused(path, "program: ", by_store, x)


def test_what_is_no_checkpoint_is_refused(small: LinearGaussian, tmp_path: Path) -> None:
    x, path = small.data(6), tmp_path / "run"
    pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=path)
    payload = path.read_bytes()
    for part in (b"log p(x) = -80\n", b"", payload[: len(payload) // 2], payload[:-1], payload[:4]):
        path.write_bytes(part)
        _refused(path, "is no checkpoint of an estimate", small.program, x)
    vae = pv.VAE(
        pv.priors.StandardNormal(2),
        pv.Conditional(torch.nn.Linear(2, 3), pv.families.bernoulli),
        pv.Conditional(torch.nn.Linear(3, 4), pv.families.normal),
    )
    pv.save(vae, path)
    _refused(path, "is no checkpoint of an estimate", small.program, x)
    with pytest.raises(pv.PyrovaeError, match="is no checkpoint"):
        pv.log_marginal(small.program, x, **METHODS["annealed"], checkpoint=tmp_path)


def test_a_path_that_cannot_be_written_is_refused_before_anything_is_computed(
    small: LinearGaussian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    done = stop_after(monkeypatch, "annealed", 0)
    with pytest.raises(pv.PyrovaeError, match="could not be written"):
        pv.log_marginal(small.program, small.data(6), **METHODS["annealed"], checkpoint=tmp_path / "file" / "run")
    assert done == [0]


@pytest.mark.parametrize("options", [{"seed": None}, {"num_draws": 3}])
def test_a_seed_is_needed_and_draws_are_not_kept(small: LinearGaussian, tmp_path: Path, options: Any) -> None:
    with pytest.raises(pv.PyrovaeError, match="neither draws" if "num_draws" in options else "needs a seed"):
        pv.log_marginal(small.program, small.data(6), **(METHODS["annealed"] | options), checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_a_whole_file(tmp_path: Path) -> None:
    """Killed in the very middle of a write: what was there before is there, and goes on."""
    text = f"""
import os, signal, sys, torch
torch.set_num_threads({torch.get_num_threads()})
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import pyrovae as pv
from exact import LinearGaussian
from pyrovae.evidence.annealing import annealed, chains
from pyrovae.evidence import blocks, checkpoint
blocks.MOST_ROWS["cpu"], annealed.TOGETHER, chains.STATIONS, checkpoint.EVERY = 8, 2, 3, -1.0
replace, written = os.replace, []

def killing(*args):
    written.append(1)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*args)

os.replace = killing
model = LinearGaussian(2, 3, spread=1.3)
pv.log_marginal(model.program, model.data(6), method="annealed", num_particles=4, num_steps=3, seed=3,
                checkpoint={str(tmp_path / "run")!r})
"""
    env = os.environ | {"PYTHONPATH": str(Path(pv.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    assert checkpoint.done(tmp_path / "run").data == {"estimate": 2}
    assert len(list(tmp_path.iterdir())) == 2  # and what was begun
    with pytest.MonkeyPatch.context() as patch:
        _small(patch)
        model = LinearGaussian(2, 3, spread=1.3)
        x = model.data(6)
        resumed = pv.log_marginal(model.program, x, **METHODS["annealed"], checkpoint=tmp_path / "run")
        assert same(resumed, pv.log_marginal(model.program, x, **METHODS["annealed"]))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# -------------------------------------------------------------------------------------------------------------- digests


def test_data_of_every_kind_have_a_digest(tmp_path: Path) -> None:
    """Memory maps, integers, nan, half precision, nothing but a scalar per row: the digest is of the values."""

    def digest(*columns: Any) -> str:
        return checkpoint.digest_of_data(blocks.Data(columns, torch.float32, torch.device("cpu")))

    x = torch.randn(2500, 3)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert digest(x) == digest(mapped) == digest(x.double()) != digest(x.flip(0))
    nan = x.clone()
    nan[2400, 1] = torch.nan
    assert digest(nan) == digest(nan.clone()) != digest(x)
    y = torch.arange(2500)
    assert digest(x, y) != digest(x) and digest(x, {"a": y}) != digest(x, {"a": y + 1})
    assert checkpoint._digest([x.bfloat16()]) != checkpoint._digest([x.half()])
    assert checkpoint._digest([torch.tensor(1.0), torch.ones(0, 3)]) != checkpoint._digest([torch.tensor(1.0)])
