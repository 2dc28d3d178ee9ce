"""Of what degree a computation is in its inputs, read off its operations: a proof where points are but a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from pyrovae import trees


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


FAR = 1e9  # where a clamp begins that is taken for none
CONSTANT = _names("empty_like full_like new_empty new_full new_ones new_zeros ones_like zeros_like")
LINEAR = _names(  # in all tensors together: of the degree of the highest
    "_to_copy _unsafe_view add alias as_strided cat clone copy detach diagonal expand flip lift_fresh mean narrow neg "
    "permute repeat roll rsub select slice split split_with_sizes squeeze stack sub sum t transpose unbind unfold "
    "unsqueeze view zero"
)
PRODUCTS = _names("bmm dot linear mm mul mv")  # of several tensors: of the sum of their degrees
SUMS = _names("addbmm addcmul addmm addmv addr baddbmm")  # of the first and the product of the others
FIRST = _names(  # linear in the first tensor; the others must be constant
    "cholesky_solve constant_pad_nd cumsum div gather index index_select masked_fill triangular_solve tril triu"
)
SECOND = _names("linalg_solve_triangular where")  # in all but the first, which must be constant


class Degrees(TorchDispatchMode):
    """Follows every operation on tensors, and so the degree of each in ``inputs``; infinite where it is not known.

    By their storage, so that views and what is written into them count. What depends on the inputs by Python's own
    branches is of infinite degree too.

    Attributes:
        causes: the operations that are neither linear nor products, in their order.
    """

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self.known: dict[StorageWeakRef, float] = {_storage(tensor): 1.0 for tensor in inputs}
        self.least, self.causes = 0.0, list[str]()

    def of(self, tensor: Any) -> float:
        """The degree of a tensor; 0 of one that does not depend on the inputs."""
        own = self.known.get(_storage(tensor), 0.0) if isinstance(tensor, Tensor) else 0.0
        return max(own, self.least)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        given = [self.of(leaf) for leaf in trees.leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        degree = _degree(name, given, args) if any(given) else 0.0
        result = func(*args, **(kwargs or {}))
        if degree == math.inf and math.inf not in given:
            self.causes.append(name)
        for leaf in trees.leaves(result) if degree else ():
            if isinstance(leaf, Tensor):
                self.known[_storage(leaf)] = max(self.of(leaf), degree)
            elif name == "_local_scalar_dense":  # a number, on which Python may branch
                self.least = math.inf
        return result


def _degree(name: str, given: list[float], args: Any) -> float:
    """Of the result of an operation on tensors of given degrees."""
    if name in CONSTANT:
        return 0.0
    if name in LINEAR:
        return max(given)
    if name in PRODUCTS:
        return sum(given)
    if name in SUMS:
        return max(given[0], sum(given[1:]))
    if name == "convolution":
        return max(given[0] + given[1], *given[2:], 0.0)
    if name == "pow" and isinstance(args[1], int | float) and args[1] in (1, 2):
        return given[0] * args[1]
    if name == "clamp" and len(args) == 3 and _far(args[1], -1) and _far(args[2], 1):
        return given[0]
    constant, linear = (given[1:], given[:1]) if name in FIRST else (given[:1], given[1:])
    return max(linear) if name in FIRST | SECOND and not any(constant) else math.inf


def _far(bound: Any, sign: int) -> bool:
    """Whether a number is a bound that holds overflow off, and no value."""
    return bound is None or (isinstance(bound, int | float) and sign * bound >= FAR)


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def degree(function: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[float, list[str]]:
    """Of ``function(inputs)``, by its operations, and what makes it infinite."""
    inputs = inputs.clone()  # whose storage is no other's
    with torch.no_grad(), Degrees(inputs) as degrees:
        result = function(inputs)
        return degrees.of(result), degrees.causes
