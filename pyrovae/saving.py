"""Saving programs: one safetensors file that holds weights and description, no pickle.

The description is the tree of constructor calls, as JSON in the file's header; loading calls only constructors of
pyrovae and torch.nn, unless told to trust more. The file is written beside its place and renamed, so that what is
there is always whole.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import inspect
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pyrovae.errors import PyrovaeError
from pyrovae.imports import find
from pyrovae.recorded import Recorded

FORMAT = 1
TRUSTED = ("pyrovae", "torch.nn")  # not torch as a whole: it downloads code, and imports os


def save(program: nn.Module, path: str | Path) -> None:
    """Write ``program`` to ``path``: one file, replaced in one step or not at all.

    Tensors that several parts share are written once. A program of the user's own classes is saved with its weights
    only, and loads with ``load(path, program=...)``.

    Raises:
        PyrovaeError: the file cannot be written, what was there before is untouched; not an ``nn.Module``.
    """
    if not isinstance(program, nn.Module):
        raise PyrovaeError(
            f"a {type(program).__name__} holds no weights to save; save run.program, which fit made of it, and load "
            "with load(path, program=pyrovae.adopt(my_program, x))"
        )
    path = Path(path)
    tensors = {name: _copied(name, value) for name, value in _unshared(program).items()}
    manifest = {"format": FORMAT, "class": type(program).__name__, "program": _described(program)}
    text = json.dumps(manifest)
    # One entry: safetensors writes several in any order, and the same program should give the same bytes.
    metadata = {"pyrovae": json.dumps({"manifest": text, "sha256": _digest(text, tensors)})}
    payload = safetensors.torch.save(tensors, metadata)
    write_atomically(path, payload)


def load(path: str | Path, *, program: nn.Module | None = None, trust: tuple[str, ...] = ()) -> nn.Module:
    """Read a program that ``save`` wrote, on the CPU.

    Args:
        path: the file.
        program: load the weights into this program instead of building one from the description.
        trust: names of further packages whose classes the description may call, such as ``("my_package",)``. Their
            code is imported and run: trust only files whose origin you know.

    Raises:
        PyrovaeError: no such file; not one of ours, cut short or altered (checksum); a newer format; a class outside
            pyrovae, torch.nn and ``trust``; weights that do not fit.
    """
    manifest, tensors = _read(Path(path))
    if program is None:
        if manifest["program"] is None:
            raise PyrovaeError(
                f"{path} holds the weights of the program ({manifest['class']}) and no description of it (it has "
                "classes that do not record how they were built, or parts exchanged since): build it and pass "
                "load(path, program=...)"
            )
        program = _built(manifest["program"], (*TRUSTED, *trust), path)
        dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
        program = program.to(dtypes.pop()) if len(dtypes) == 1 else program
    return _fill(program, tensors, path)


def _built(description: Any, trusted: tuple[str, ...], path: str | Path) -> nn.Module:
    try:
        program: nn.Module = _Builder(trusted).build(description)
        return program
    except PyrovaeError:
        raise
    except Exception as error:  # whatever a constructor makes of a malformed description
        raise PyrovaeError(f"the description in {path} cannot be built: {error!r}") from error


def write_atomically(path: Path, payload: bytes) -> None:
    """Write to a temporary file in the same folder, force it to disk, rename; raises PyrovaeError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):  # left by a process that was killed
            stale.unlink()
        with temporary.open("xb") as file:  # not mkstemp, whose files nobody else may read
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise PyrovaeError(
            f"{path} could not be written ({error.strerror}); what was there before is intact"
        ) from error


def digest_of(program: nn.Module) -> str:
    """SHA-256 of its weights, as the file of the same program would hold them."""
    return _digest("", {name: _copied(name, value) for name, value in _unshared(program).items()})


def _unshared(program: nn.Module) -> dict[str, Tensor]:
    """The state by name, each tensor once, under the first of its names."""
    first: dict[int, str] = {}
    state = program.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if first.setdefault(id(tensor), name) == name}


def _copied(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise PyrovaeError(
            f"the program keeps {name}, a {type(value).__name__}, in its state: only tensors can be saved"
        )
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)  # a copy: safetensors refuses views


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise PyrovaeError(f"{path} cannot be read: {error.strerror}") from error
    try:
        tensors = safetensors.torch.load(payload)
        length = int.from_bytes(payload[:8], "little")
        metadata = json.loads(payload[8 : 8 + length])["__metadata__"]
        entry = json.loads(metadata["pyrovae"])
        text, digest = entry["manifest"], entry["sha256"]
        manifest = json.loads(text)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise PyrovaeError(
            f"{path} is not a program saved by pyrovae, or is cut short; nothing of it was run"
        ) from error
    if manifest.get("format", 0) > FORMAT:
        raise PyrovaeError(f"{path} has format {manifest['format']}; this pyrovae reads up to {FORMAT}: upgrade it")
    if _digest(text, tensors) != digest:
        raise PyrovaeError(f"{path} was altered: its checksum does not match. Use another copy")
    return manifest, tensors


def _fill(program: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    expected = _unshared(program)
    wrong = [
        f"{name}: file {_shape(tensors.get(name))}, program {_shape(expected.get(name))}"
        for name in dict.fromkeys([*expected, *tensors])
        if _shape(tensors.get(name)) != _shape(expected.get(name))
    ]
    if wrong:
        raise PyrovaeError(f"the weights in {path} do not fit the program:\n  " + "\n  ".join(wrong))
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])
    return program.eval()


def _shape(tensor: Tensor | None) -> Any:
    return "absent" if tensor is None else tuple(tensor.shape)


# The description: constructor calls as JSON. An object met twice is written once and referred to by number, which is
# how a VampPrior and its program come back with one encoder between them.


class _UndescribedError(Exception):
    pass


def _described(program: nn.Module) -> Any:
    """The description, or None where there is none that leads back to such a program: it is built once to see."""
    try:
        description = _Describer().describe(program)
        with torch.random.fork_rng(devices=[]):
            built = _Builder(None).build(json.loads(json.dumps(description)))
    except Exception:  # constructors are the user's too
        return None
    shapes = [{name: _shape(tensor) for name, tensor in _unshared(p).items()} for p in (program, built)]
    return description if shapes[0] == shapes[1] and repr(program) == repr(built) else None


class _Describer:
    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def describe(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            return {"tensor": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        if isinstance(value, list):
            return [self.describe(v) for v in value]
        if isinstance(value, tuple):
            return {"tuple": [self.describe(v) for v in value]}
        if isinstance(value, Mapping):
            return {"dict": [[key, self.describe(v)] for key, v in value.items()]}
        if isinstance(value, nn.Module):
            return self._module(value)
        return {"import": _import_path(value)}

    def _module(self, module: nn.Module) -> Any:
        if id(module) in self.numbers:
            return {"shared": self.numbers[id(module)]}
        args, kwargs = _recorded_arguments(module) if isinstance(module, Recorded) else _torch_arguments(module)
        call = {
            "call": _import_path(type(module)),
            "args": [self.describe(a) for a in args],
            "kwargs": {k: self.describe(v) for k, v in kwargs.items()},
        }
        self.numbers[id(module)] = len(self.numbers)
        return call


def _import_path(value: Any) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if not module or not name or "<" in name:
        raise _UndescribedError
    return f"{module}:{name}"


def _recorded_arguments(module: Recorded) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments it was built with, unless one of its parts was exchanged since by assignment."""
    parts = {id(part) for part in module.modules()} if isinstance(module, nn.Module) else set()
    if any(isinstance(leaf, nn.Module) and id(leaf) not in parts for leaf in tree_leaves(module._arguments)):
        raise _UndescribedError
    return module._arguments


def _torch_arguments(module: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The constructor arguments of one of torch's own modules, read back from its attributes."""
    if not type(module).__module__.startswith("torch.nn."):
        raise _UndescribedError
    if isinstance(module, nn.Sequential):
        return tuple(module), {}
    names = [n for n in inspect.signature(type(module).__init__).parameters if n not in ("self", "device", "dtype")]
    found = {n: getattr(module, n) for n in names if hasattr(module, n)}
    return (), {n: v is not None if n == "bias" and not isinstance(v, bool) else v for n, v in found.items()}


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise PyrovaeError(f"the description names a dtype {name!r}, which torch does not have")
    return dtype


class _Builder:
    def __init__(self, trusted: tuple[str, ...] | None) -> None:
        self.trusted = trusted  # None: what was described in this very process
        self.built: list[Any] = []

    def build(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.build(v) for v in node]
        if not isinstance(node, dict):
            return node
        if "tensor" in node:  # its values come with the weights
            return torch.zeros(node["tensor"], dtype=_dtype(node["dtype"]))
        if "tuple" in node:
            return tuple(self.build(v) for v in node["tuple"])
        if "dict" in node:
            return {key: self.build(v) for key, v in node["dict"]}
        if "shared" in node:
            return self.built[node["shared"]]
        if "import" in node:
            return self._imported(node["import"])
        return self._call(node)

    def _imported(self, path: str) -> Any:
        """A class of modules, or what a package trusted by name holds: a file has no business with our functions."""
        value = find(path, self.trusted)
        module = isinstance(value, type) and issubclass(value, nn.Module)
        if self.trusted is not None and path.split(".")[0] == "pyrovae" and not module:
            raise PyrovaeError(f"the description names {path}, which is not a module")
        return value

    def _call(self, node: dict[str, Any]) -> Any:
        if not node.keys() == {"call", "args", "kwargs"}:
            raise PyrovaeError(f"the description holds {sorted(node)}, which is no call: the file is malformed")
        constructor = find(node["call"], self.trusted)
        if not (isinstance(constructor, type) and issubclass(constructor, nn.Module)):
            raise PyrovaeError(f"the description calls {node['call']}, which is not a module")
        args = [self.build(a) for a in node["args"]]
        kwargs = {k: self.build(v) for k, v in node["kwargs"].items()}
        try:
            module = constructor(*args, **kwargs)
        except TypeError as error:
            raise PyrovaeError(f"{node['call']} cannot be built from the description: {error}") from error
        self.built.append(module)
        return module
