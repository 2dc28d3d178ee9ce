"""From a function of tensors, whatever Python it runs, to a flat graph of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from pyrovae.errors import PyrovaeError


class UntraceableError(Exception):
    """A function whose operations depend on values, or that torch cannot trace for another reason."""


def trace(
    function: Callable[..., Any], inputs: Sequence[Tensor], decompositions: Mapping[Any, Any] | None = None
) -> GraphModule:
    """The operations that ``function(*inputs)`` carries out, as a graph with the same inputs.

    The function runs once, on the inputs themselves, so that tensors which it reaches by other ways (a module's
    parameters) are recognised as inputs too. It changes in place what it changes. Other tensors become constants.

    Raises:
        UntraceableError: with the reason in one line.
        PyrovaeError: with gradients on, the function uses a tensor that requires one and is not among the inputs.
    """
    try:
        graph = make_fx(function, decomposition_table=dict(decompositions or {}))(*inputs)
    except PyrovaeError:
        raise
    except Exception as error:  # whatever a foreign program or torch raises
        raise UntraceableError(_reason(error)) from error
    if torch.is_grad_enabled():
        _refuse_untrained(graph)
    return graph


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "trying to get a value out of" in text or "data-dependent" in text.lower():
        return "it looks at a tensor's value (an if, .item() or bool() on a tensor), which a trace would freeze"
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


@torch.no_grad()
def restore(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Put values back that a run of the function changed in place."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The values of the tensors, for ``restore``."""
    return [tensor.detach().clone() for tensor in tensors]
