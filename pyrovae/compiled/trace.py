"""From a function of tensors, whatever Python it runs, to a flat graph of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from pyrovae.errors import PyrovaeError

LOOK = "it looks at a tensor's value ({}), which a trace would freeze"
MASKS = (torch.bool, torch.uint8)  # the types of an index that selects

aten = torch.ops.aten


class UntraceableError(Exception):
    """A function whose operations depend on values, or that torch cannot trace for another reason."""


def rewritten(function: Callable[..., Any], inputs: Sequence[Tensor], decompositions: Mapping[Any, Any]) -> GraphModule:
    """The graph of a function of flat graphs, some operations in other words; nothing is computed, no memory taken."""
    mode: Any = {"tracing_mode": "fake", "_allow_non_fake_inputs": True}
    return make_fx(function, decomposition_table=dict(decompositions), **mode)(*inputs)


def trace(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """The operations that ``function(*inputs)`` carries out, as a graph with the same inputs.

    The function runs once, on the inputs themselves, so that tensors which it reaches by other ways (a module's
    parameters) are recognised as inputs too. It changes in place what it changes. Other tensors become constants.

    Raises:
        UntraceableError: with the reason in one line.
        PyrovaeError: with gradients on, the function uses a tensor that requires one and is not among the inputs.
    """
    try:
        with _NoLook():
            graph = make_fx(function)(*inputs)
    except (PyrovaeError, UntraceableError):
        raise
    except Exception as error:  # whatever a foreign program or torch raises
        raise UntraceableError(reason(error)) from error
    if torch.is_grad_enabled():
        _refuse_untrained(graph)
    _refuse_selections(graph)
    return graph


class _NoLook(TorchFunctionMode):
    """Refuses the ways to a tensor's value that a trace does not see."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.numpy, Tensor.tolist, Tensor.__array__):
            raise UntraceableError(LOOK.format(f".{func.__name__}()"))
        return func(*args, **(kwargs or {}))


def reason(error: Exception) -> str:
    """Why something could not be traced or compiled, in one line."""
    text = str(error).strip()
    if "trying to get a value out of" in text or "data-dependent" in text.lower():
        return LOOK.format("an if, .item() or bool() on a tensor")
    lines = text.splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _refuse_untrained(graph: GraphModule) -> None:
    constants = [getattr(graph, node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    frozen = [tuple(c.shape) for c in constants if isinstance(c, Tensor) and c.requires_grad]
    if frozen:
        raise PyrovaeError(
            f"the program uses tensors of shapes {frozen} that require a gradient and belong to none of its modules: "
            "nothing would train them. Register them (an attribute of the module that is an nn.Parameter or an "
            "nn.Module), or declare them with pyro.param or pyro.module"
        )


def _refuse_selections(graph: GraphModule) -> None:
    """Shapes that depend on values: a trace freezes them, and on a GPU every call would wait for them."""
    for node in graph.graph.nodes:
        if _selects(node):
            raise UntraceableError(
                f"it selects by a tensor's values ({node.target}), so that shapes depend on them: use torch.where"
            )


def _selects(node: Node) -> bool:
    if node.target in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        indices: Any = node.args[1]
        return any(index is not None and index.meta["val"].dtype in MASKS for index in indices)
    return torch.Tag.dynamic_output_shape in getattr(node.target, "tags", ())


@torch.no_grad()
def restore(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Put values back that a run of the function changed in place."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The values of the tensors, for ``restore``."""
    return [tensor.detach().clone() for tensor in tensors]
