"""Saving and loading: what comes back is what was saved, and no damaged, foreign or malicious file gets anywhere."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae import families, networks, priors, saving

D, N = 2, 5


@pytest.fixture(autouse=True)
def everywhere() -> Iterator[None]:
    """One thread (for tensors this small more only wait for each other) and a fixed seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def bits(*shape: int) -> Tensor:
    return torch.rand(N, *shape, generator=torch.Generator().manual_seed(0)).round()


def encoder(net: Any = None) -> pv.Conditional:
    return pv.Conditional(net or networks.MLP(6, 7, 2 * D), families.normal)


def vae(
    prior: Callable[[pv.Conditional], nn.Module] = lambda e: priors.StandardNormal(D),
    likelihood: Any = families.bernoulli,
    net: Any = None,
) -> pv.VAE:
    made = encoder(net)
    decoder = pv.Conditional(networks.MLP(D, 7, 6 * getattr(likelihood, "num_params", 1)), likelihood)
    return pv.VAE(prior(made), decoder, made)


def images(decoder_family: Any = families.bernoulli, prior: Any = None) -> pv.VAE:
    options: dict[str, Any] = {"channels": (3, 4), "hidden": 5}
    made = pv.Conditional(networks.ConvEncoder((2, 5, 7), 2 * D, **options), families.normal)
    decoder = pv.Conditional(networks.ConvDecoder(D, (2, 5, 7), **options), decoder_family)
    return pv.VAE(prior(made) if prior else priors.StandardNormal(D), decoder, made)


def conditional() -> pv.VAE:
    prior = pv.Conditional(networks.MLP(3, 4, 2 * D), families.normal)
    return pv.VAE(
        prior, pv.Conditional(networks.GatedMLP([D, 3], 7, 6), families.bernoulli), encoder(networks.MLP([6, 3], 2 * D))
    )


def conditional_vamp() -> pv.VAE:
    made = encoder(networks.MLP([6, 3], 2 * D))
    prior = priors.VampPrior(made, (bits(6), bits(3)))
    return pv.VAE(prior, pv.Conditional(networks.MLP([D, 3], 6), families.bernoulli), made)


def table() -> pv.VAE:
    factors = {
        "a": pv.Conditional(networks.MLP(D, 4), families.bernoulli),
        "b": pv.Conditional(networks.MLP(D, 4), families.normal),
    }
    return pv.VAE(priors.StandardNormal(D), pv.Product(factors), encoder(networks.MLP([4, 2], 2 * D)))


class Leaves(nn.Module):
    """An encoder of trees, of a class that does not record how it was built."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = encoder()

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


PROGRAMS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "standard normal": (vae, (bits(6),)),
    "mixture": (partial(vae, lambda e: priors.NormalMixture(D, 3)), (bits(6),)),
    "vamp": (partial(vae, lambda e: priors.VampPrior(e, bits(6))), (bits(6),)),
    "conditional": (conditional, (bits(6), bits(3))),
    "conditional vamp": (conditional_vamp, (bits(6), bits(3))),
    "normal": (partial(vae, likelihood=families.normal), (bits(6),)),
    "fixed scale": (partial(vae, likelihood=families.FixedScaleNormal(0.3)), (bits(6),)),
    "shared scale": (partial(vae, likelihood=families.SharedScaleNormal(0.3)), (bits(6),)),
    "categorical": (partial(vae, likelihood=families.Categorical(3)), (bits(6) * 2,)),
    "product": (table, ({"a": bits(4), "b": bits(2)},)),
    "images": (images, (bits(2, 5, 7),)),
    "images, vamp": (partial(images, prior=lambda e: priors.VampPrior(e, bits(2, 5, 7))), (bits(2, 5, 7),)),
    "activation": (partial(vae, net=networks.MLP(6, 7, 2 * D, activation=nn.Tanh)), (bits(6),)),
    "torch": (
        partial(
            vae,
            net=nn.Sequential(
                nn.Unflatten(-1, (1, 2, 3)),
                nn.Conv2d(1, 4, (2, 1), padding=(1, 0), bias=False),
                nn.Sequential(nn.GroupNorm(2, 4), nn.LeakyReLU(0.3), nn.Flatten(-3)),
                nn.Dropout(0.2),
                nn.Linear(36, 2 * D),
            ),
        ),
        (bits(6),),
    ),
    "recipe": (
        lambda: pv.vae(pv.data.load("digits"), latent=D, hidden=(4,), prior=pv.recipes.Vamp(5)),
        (bits(1, 8, 8),),
    ),
}


def log_terms(program: nn.Module, data: tuple[Any, ...]) -> Tensor:
    torch.manual_seed(3)
    return pv.log_terms(program, *data, num_particles=1).log_weight


@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_comes_back_is_what_was_saved(name: str, trained: bool, tmp_path: Path) -> None:
    make, data = PROGRAMS[name]
    program = make()
    if trained:
        pv.fit(program, data, epochs=1, device="cpu")
    pv.save(program, tmp_path / "program")
    loaded = pv.load(tmp_path / "program")
    assert type(loaded) is type(program)
    assert not any(module.training for module in loaded.modules())
    assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in program.named_parameters()]
    assert torch.equal(log_terms(loaded, data), log_terms(program.eval(), data))
    if isinstance(getattr(program, "prior", None), priors.VampPrior):
        assert loaded.prior.encoder is loaded.encoder
        tensors = safetensors.torch.load_file(tmp_path / "program")
        assert not [n for n in tensors if n.startswith("encoder.")]  # written once, as prior.encoder
    pv.save(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "program").read_bytes()


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["copy", "pickle"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_copies(name: str, duplicate: Callable[[nn.Module], nn.Module], used: bool, tmp_path: Path) -> None:
    """Also while a batch's graph is alive; and a copy can be saved, and shares nothing with the first."""
    make, data = PROGRAMS[name]
    program = make().eval()
    if used:
        pv.fit(program, data, epochs=1, device="cpu")
        terms = pv.log_terms(program, *data)
    twin = duplicate(program)
    assert torch.equal(log_terms(twin, data), log_terms(program, data))
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in program.parameters()}
    if isinstance(getattr(twin, "prior", None), priors.VampPrior):
        assert twin.prior.encoder is twin.encoder
    for number, saved in enumerate((program, twin)):
        pv.save(saved, tmp_path / str(number))
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()
    assert not used or terms.log_weight.requires_grad


def test_saving_draws_no_random_numbers(tmp_path: Path) -> None:
    program, before = vae(), torch.random.get_rng_state()
    pv.save(program, tmp_path / "program")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_float64_comes_back(tmp_path: Path) -> None:
    program = vae(lambda e: priors.NormalMixture(D, 3)).double()
    pv.save(program, tmp_path / "program")
    loaded = pv.load(tmp_path / "program")
    assert {p.dtype for p in loaded.parameters()} == {torch.float64}
    assert torch.equal(loaded.encoder.net.output.weight, program.encoder.net.output.weight)
    assert pv.sample(loaded, 3).dtype == torch.float64


def test_tied_layers_stay_tied(tmp_path: Path) -> None:
    layer = nn.Linear(6, 6)
    pv.save(vae(net=nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(6, 2 * D))), tmp_path / "program")
    net = pv.load(tmp_path / "program").encoder.net
    assert net[0] is net[2]


def test_views_are_saved(tmp_path: Path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.arange(6.0).reshape(3, 2))
            self.register_buffer("b", self.a.data[1:])

    pv.save(Views(), tmp_path / "views")
    loaded = pv.load(tmp_path / "views", program=Views())
    assert torch.equal(loaded.a, Views().a)
    assert torch.equal(loaded.b, Views().b)


# --------------------------------------------------------------- programs that do not say how they are built


def _exchanged() -> pv.VAE:
    program = vae()
    program.decoder.net = networks.MLP(D, 7, 6, activation=nn.Tanh)  # the same shapes as the one recorded
    return program


UNDESCRIBED = {
    "a class of the user's": lambda: pv.VAE(vae().prior, vae().decoder, Leaves()),
    "a lambda": lambda: vae(net=networks.MLP(6, 7, 2 * D, activation=lambda: nn.ReLU())),
    "named layers": lambda: vae(net=nn.Sequential(OrderedDict(one=nn.Linear(6, 2 * D)))),
    "parametrized": lambda: vae(net=nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 2 * D)))),
    "arguments torch forgets": lambda: vae(
        net=nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Linear(6, 2 * D))
    ),
    "a part exchanged": _exchanged,
}


@pytest.mark.parametrize("name", UNDESCRIBED)
def test_programs_without_a_description_load_into_a_program(name: str, tmp_path: Path) -> None:
    program = UNDESCRIBED[name]()
    pv.save(program, tmp_path / "program")
    with pytest.raises(pv.PyrovaeError, match=r"program=\.\.\."):
        pv.load(tmp_path / "program")
    torch.manual_seed(1)
    other = UNDESCRIBED[name]()
    pv.load(tmp_path / "program", program=other)
    for (_, found), (_, expected) in zip(other.named_parameters(), program.named_parameters(), strict=True):
        assert torch.equal(found, expected)


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"secret": 1}

    with pytest.raises(pv.PyrovaeError, match="_extra_state"):
        pv.save(Extra(2, 2), tmp_path / "program")
    assert not list(tmp_path.iterdir())


def test_a_recorded_tensor_costs_nothing() -> None:
    """A view of a data set as pseudo-inputs does not drag the data set along."""
    whole = torch.rand(10_000, 6)
    made = encoder()
    program = vae(lambda e: priors.VampPrior(e, whole[:4]))
    assert len(pickle.dumps(program)) < 20_000
    assert priors.VampPrior(made, whole[:4])._arguments[0][1].device.type == "meta"


# ---------------------------------------------------------------------------------- trust: no code but ours runs

MODULE = """
    from pathlib import Path
    Path({marker!r}).write_text("imported")
    import torch, pyrovae as pv
    from pyrovae.families import Family
    import pyro.distributions as dist

    class Laplace(Family):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def forward(self, loc):
            return dist.Laplace(loc, self.scale)
"""


def test_classes_of_the_user_need_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, name = tmp_path / "marker", "users_families"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE).format(marker=str(marker)))
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__(name)
    pv.save(vae(likelihood=module.Laplace(2.0)), tmp_path / "program")
    monkeypatch.delitem(sys.modules, name)
    marker.unlink()
    for trust in ((), ("users",), ("users_families_2",)):
        with pytest.raises(pv.PyrovaeError, match=r"refused before import.*users_families"):
            pv.load(tmp_path / "program", trust=trust)
    assert name not in sys.modules
    assert not marker.exists()
    loaded = pv.load(tmp_path / "program", trust=(name,))
    assert marker.exists()
    assert loaded.decoder.family.scale == 2.0
    assert torch.equal(loaded.decoder(torch.zeros(D)).mean, loaded.decoder.net(torch.zeros(D)))


def _described_as(description: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a valid checksum and a description of someone's choice."""
    with monkeypatch.context() as patch:
        patch.setattr(saving, "_described", lambda program: description)
        pv.save(nn.Linear(2, 2), path)


CALL: dict[str, Any] = {"args": [], "kwargs": {}}


def activated(path: str) -> dict[str, Any]:
    """A call that would call what is at ``path``."""
    return {"call": "pyrovae.networks:MLP", "args": [2, 3, 4], "kwargs": {"activation": {"import": path}}}


MALICIOUS = [
    {"call": "os:system", **CALL, "args": ["true"]},
    {"call": "torch.hub:load", **CALL},
    {"call": "torch.ao.quantization:FakeQuantize", **CALL, "kwargs": {"observer": {"import": "torch.hub:load"}}},
    activated("torch:os.getlogin"),
    activated("torch.nn.functional:torch.os.getlogin"),
    activated("pyrovae.saving:os.getlogin"),
    {"call": "pyrovae.imports:importlib.import_module", **CALL, "args": ["antigravity"]},
    {"call": "pyrovae_evil:Model", **CALL},
    {"call": "torch.nnet:Model", **CALL},
    {"call": "builtins:eval", **CALL, "args": ["1"]},
]


@pytest.mark.parametrize("description", MALICIOUS, ids=lambda d: json.dumps(d)[10:60])
def test_descriptions_reach_nothing_else(description: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    _described_as(description, tmp_path / "program", monkeypatch)
    monkeypatch.setattr(os, "getlogin", lambda: called.append("called") or nn.ReLU())
    with pytest.raises(pv.PyrovaeError, match="refused before import"):
        pv.load(tmp_path / "program")
    assert not called


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"call": "pyrovae.saving:load", **CALL}, "not a module"),
        ({"call": "pyrovae.networks:MPL", **CALL}, "did you mean pyrovae.networks.MLP"),
        ({"call": "pyrovae.nowhere:MLP", **CALL}, "pyrovae.nowhere cannot be imported"),
        ({"call": "pyrovae.networks:MLP", **CALL}, "cannot be built"),
        ({"cal": "pyrovae.networks:MLP"}, "malformed"),
    ],
)
def test_impossible_descriptions(
    description: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _described_as(description, tmp_path / "program", monkeypatch)
    with pytest.raises(pv.PyrovaeError, match=message):
        pv.load(tmp_path / "program")


class Payload:
    """What a malicious pickle holds: a call made by whoever loads it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_a_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save({"program": Payload(marker)}, tmp_path / "zip")
    (tmp_path / "raw").write_bytes(pickle.dumps(Payload(marker)))
    for name in ("zip", "raw"):
        with pytest.raises(pv.PyrovaeError, match="nothing of it was run"):
            pv.load(tmp_path / name)
    assert not marker.exists()


# --------------------------------------------------------------------------------------------- damaged files


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pv.save(vae(lambda e: priors.VampPrior(e, bits(6))), tmp_path / "program")
    return tmp_path / "program"


def test_files_that_are_no_program(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    damaged = [b"", b"hello", b"\x00" * 100, b'{"format": 1}' * 9, *(whole[:n] for n in (7, 8, 9, 500, len(whole) - 1))]
    for content in damaged:
        saved.write_bytes(content)
        with pytest.raises(pv.PyrovaeError, match="not a program saved by pyrovae"):
            pv.load(saved)
    safetensors.torch.save_file({"a": torch.zeros(2)}, saved)  # somebody else's
    with pytest.raises(pv.PyrovaeError, match="not a program saved by pyrovae"):
        pv.load(saved)
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(pv.PyrovaeError, match="cannot be read"):
            pv.load(path)


def test_any_altered_byte_is_found(saved: Path) -> None:
    whole = saved.read_bytes()
    for position in range(0, len(whole), 17):
        altered = bytearray(whole)
        altered[position] ^= 1
        saved.write_bytes(altered)
        with pytest.raises(pv.PyrovaeError):
            pv.load(saved)
    altered = bytearray(whole)
    altered[-3] ^= 0x40  # a weight
    saved.write_bytes(altered)
    with pytest.raises(pv.PyrovaeError, match="checksum"):
        pv.load(saved)


def test_weights_that_do_not_fit(saved: Path) -> None:
    with pytest.raises(pv.PyrovaeError) as error:
        pv.load(saved, program=vae(lambda e: priors.VampPrior(e, bits(6)[:3])))
    assert "prior.pseudo_inputs.0: file (5, 6), program (3, 6)" in str(error.value)
    assert "decoder" not in str(error.value)
    with pytest.raises(pv.PyrovaeError) as error:
        pv.load(saved, program=vae())
    assert "prior.pseudo_inputs.0: file (5, 6), program absent" in str(error.value)
    assert "encoder.net.output.bias: file absent, program (4,)" in str(error.value)


def test_a_newer_format(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "FORMAT", 7)
    pv.save(vae(), saved)
    monkeypatch.undo()
    with pytest.raises(pv.PyrovaeError, match=r"format 7.*up to 1"):
        pv.load(saved)


# ------------------------------------------------------------------------------------------- writing is atomic


def _fails(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(function: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr(os, function, _fails)
    with pytest.raises(pv.PyrovaeError, match=r"No space left on device.*intact"):
        pv.save(vae(), saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["program"]


def test_a_full_disk_while_writing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit on the size of files, the kernel itself refuses half way."""
    script = """
        import resource, signal, sys, torch
        import pyrovae as pv
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            pv.save(pv.priors.NormalMixture(50, 50), sys.argv[1])
        except pv.PyrovaeError as error:
            print(error)
    """
    before = saved.read_bytes()
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), saved], capture_output=True, text=True, check=True
    )
    assert "could not be written (File too large)" in result.stdout
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["program"]


def test_impossible_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "program", tmp_path):
        with pytest.raises(pv.PyrovaeError, match="could not be written"):
            pv.save(vae(), path)
    pv.save(vae(), tmp_path / "new" / "folder" / "program")
    pv.load(tmp_path / "new" / "folder" / "program")


def test_stale_temporaries_are_removed_and_others_files_are_not(tmp_path: Path) -> None:
    names = [".run[1].0a.partial", ".other.0a.partial", "run[1].partial", ".run1.0a.partial"]
    for name in names:
        (tmp_path / name).write_text("")
    pv.save(vae(), tmp_path / "run[1]")
    assert {path.name for path in tmp_path.iterdir()} == {"run[1]", *names[1:]}


def test_others_may_read_what_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        pv.save(vae(), tmp_path / "program")
    finally:
        os.umask(before)
    assert (tmp_path / "program").stat().st_mode & 0o777 == 0o644


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    import pyrovae as pv

    path, program = Path(sys.argv[1]), pv.priors.NormalMixture(200, 500)
    torch.set_num_threads(1)

    def write(value):
        with torch.no_grad():
            for p in program.parameters():
                p.fill_(value)
        pv.save(program, path)

    def read():
        return {p.unique().item() for p in pv.load(path).parameters()}

    random.seed(0)
    write(0)
    stale = 0
    for attempt in range(1, 25):
        child = os.fork()
        if not child:
            for version in range(1000):
                write(attempt * 1000 + version)
            os._exit(1)
        time.sleep(random.uniform(0.0, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        stale += len(list(path.parent.glob(".*.partial")))
        assert len(read()) == 1, read()
    write(-1)
    assert read() == {-1.0}
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    print("stale", stale)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), tmp_path / "program"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 0, "no kill hit a write: the test has no power"


def test_an_exchanged_part_without_parameters_is_not_forgotten(tmp_path: Path) -> None:
    vae = pv.vae(pv.data.load("digits"), latent=2, hidden=(8,), network=pv.networks.MLP)
    vae.decoder.net.hidden[0][1] = torch.nn.Tanh()
    pv.save(vae, tmp_path / "p")
    with pytest.raises(pv.PyrovaeError, match="no description"):
        pv.load(tmp_path / "p")


def test_a_program_without_weights_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pv.PyrovaeError, match="save run"):
        pv.save(object(), tmp_path / "p")  # type: ignore[arg-type]
