"""Where a program's parameters live: in its modules, never in Pyro's global store unless stock Pyro asks for them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import pyro
import torch
from pyro.nn.module import _Context
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn
from torch.distributions import (
    CatTransform,
    ComposeTransform,
    IndependentTransform,
    StackTransform,
    Transform,
    transform_to,
)
from torch.distributions.transforms import _InverseTransform

from pyrovae.arguments import check_program
from pyrovae.errors import PyrovaeError


class _OwnState:
    """The store of a ``PyroModule`` that was made before local parameters were switched on, where Pyro leaves none.

    Without it Pyro fails with an AttributeError as soon as such a module is called.
    """

    def __get__(self, context: _Context, owner: type) -> Any:
        return vars(context).setdefault("param_state", {"params": {}, "constraints": {}})


if not hasattr(_Context, "param_state"):
    _Context.param_state = _OwnState()  # type: ignore[assignment]

_serial = count()
_names: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def expose(program: nn.Module) -> None:
    """Tell stock Pyro (SVI, its ELBOs) of every parameter of ``program``, under a name no other instance has.

    A plain method given to SVI would train nothing, silently, and a fixed name would make a second instance inherit
    the first one's values; a copy of a program gets a name of its own. Under our own evaluation, and outside any
    Pyro handler, nobody listens and nothing is registered.
    """
    if _PYRO_STACK and not any(isinstance(handler, LocalParameters) for handler in _PYRO_STACK):
        name = _names.get(program) or _names.setdefault(program, f"{type(program).__name__}_{next(_serial)}")
        pyro.module(name, program)


class LocalParameters(Messenger):
    """Answers ``pyro.param`` without writing to the global store.

    A statement whose initial value already belongs to a module (``pyro.module``, ``PyroModule``) gets that value. A
    bare ``pyro.param`` gets the entry of ``own``, made on first sight from the store's value or from the initial one.

    Args:
        own: unconstrained leaves of the bare ``pyro.param`` statements, by name; filled as they are met.
        constraints: of ``own``, by name; filled likewise.
    """

    def __init__(self, own: dict[str, Tensor] | None = None, constraints: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.own = {} if own is None else own
        self.constraints = {} if constraints is None else constraints
        self.seen: dict[str, Tensor] = {}  # leaves that belong to modules, by the name of their statement

    def _pyro_param(self, msg: dict[str, Any]) -> None:
        if msg["done"]:  # by a handler further in: an adopted program knows its own values
            return
        name, init = msg["name"], (*msg["args"], None)[1]
        if self._belongs(init):
            self.seen[name] = init
            msg["value"], msg["done"] = init, True
        elif name in self.own or init is not None:
            if name not in self.own:
                self.constraints[name] = msg["kwargs"]["constraint"]  # which a later statement need not repeat
                self.own[name] = _unconstrained(name, init, self.constraints[name])
            msg["value"], msg["done"] = transform_to(self.constraints[name])(self.own[name]), True

    def _pyro_post_param(self, msg: dict[str, Any]) -> None:
        leaf: Any = getattr(msg["value"], "unconstrained", lambda: None)()
        if isinstance(leaf, nn.Parameter):  # a PyroParam, which its module answers
            self.seen[msg["name"]] = leaf

    def _belongs(self, init: Any) -> bool:
        """Whether a statement's initial value is a module's, or stands in its place for now (see ``bound``)."""
        exchanged = (handler.ids for handler in _PYRO_STACK if isinstance(handler, _Exchanged))
        return isinstance(init, nn.Parameter) or any(id(init) in ids for ids in exchanged)

    @contextmanager
    def scope(self) -> Iterator[LocalParameters]:
        """This handler, with the parameters of any ``PyroModule`` kept local too."""
        with pyro.settings.context(module_local_params=True), self:
            yield self


def _unconstrained(name: str, init: Any, constraint: Any) -> Tensor:
    store = pyro.get_param_store()
    with torch.no_grad():
        value = store[name] if name in store else init() if callable(init) else init
        return transform_to(constraint).inv(value).clone().requires_grad_()


class Adopted(nn.Module):
    """A program made of a foreign one: its bare ``pyro.param`` values and the modules it registers become ours.

    Any object with ``model(x, *given)`` and ``guide(x, *given)`` can be trained so, even two closures, and the
    result keeps its values without the global store.
    """

    def __init__(
        self, program: Any, own: Mapping[str, Tensor], seen: Mapping[str, Tensor], constraints: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.program = program
        self.own = nn.ParameterDict({_key(name): nn.Parameter(leaf.detach()) for name, leaf in own.items()})
        inside = {id(p) for p in program.parameters()} if isinstance(program, nn.Module) else set()
        outside = {name: p for name, p in seen.items() if p.is_leaf and id(p) not in inside}
        self.outside = nn.ParameterDict({_key(name): p for name, p in outside.items()})
        self._own_names = {name: _key(name) for name in own}
        self._constraints = dict(constraints)

    def _local(self) -> LocalParameters:
        return LocalParameters({name: self.own[key] for name, key in self._own_names.items()}, self._constraints)

    def model(self, *args: Any) -> Any:
        with self._local():
            return self.program.model(*args)

    def guide(self, *args: Any) -> Any:
        with self._local():
            return self.program.guide(*args)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ParameterDict's keys must not hold dots


def adopt(program: Any, *args: Any) -> nn.Module:
    """``program`` as a module that owns every parameter it uses: itself where it already does.

    Args:
        program: any object with ``model(x, *given)`` and ``guide(x, *given)``, as a plain Pyro model and guide are.
        args: a few rows of ``(x, *given)``, on which model and guide are run once to meet their statements.

    Returns:
        nn.Module: a program whose parameters those of ``pyro.param`` are too, with the values of Pyro's store where
        it has them. The store stays as it is, and later changes in it have no effect.

    Raises:
        PyrovaeError: no model or no guide.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from types import SimpleNamespace
        >>> from pyrovae.parameters import adopt
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0, 1))
        ...         pyro.sample("x", dist.Normal(z, 1), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("z", dist.Normal(pyro.param("slope", torch.tensor(0.3)) * x, 1))
        >>> [name for name, _ in adopt(SimpleNamespace(model=model, guide=guide), torch.randn(3)).named_parameters()]
        ['own.slope']
    """
    check_program(program)
    handler = LocalParameters()
    with torch.no_grad(), torch.random.fork_rng(), pyro.poutine.block(), handler.scope():
        with pyro.poutine.trace() as guide:
            program.guide(*args)
        with pyro.poutine.replay(trace=guide.trace):
            program.model(*args)
    inside = {id(p) for p in program.parameters()} if isinstance(program, nn.Module) else set()
    if isinstance(program, nn.Module) and not handler.own and all(id(p) in inside for p in handler.seen.values()):
        return program
    return Adopted(program, handler.own, handler.seen, handler.constraints)


class _Exchanged(Messenger):
    """Says which tensors stand in the place of parameters; a messenger only to be seen on the stack."""

    def __init__(self, values: Iterable[Tensor]) -> None:
        super().__init__()
        self.ids = {id(value) for value in values}


class _Method(nn.Module):
    """Lets ``functional_call`` run a method other than forward."""

    def __init__(self, program: nn.Module, method: str) -> None:
        super().__init__()
        self.program, self.method = program, method

    def forward(self, *args: Any) -> Any:
        return getattr(self.program, self.method)(*args)


def bound(program: Any, method: str, values: Mapping[str, Tensor]) -> Callable[..., Any]:
    """``program.model`` or ``program.guide`` run with ``values`` in the place of its parameters."""
    if not isinstance(program, nn.Module):
        raise PyrovaeError(
            "only a program that is an nn.Module can be run with other parameters; see pyrovae.parameters.adopt"
        )
    if isinstance(program, Adopted) and len(program.outside):
        raise PyrovaeError(
            f"the parameters {list(program.outside)} lie in modules that the program does not contain, so it cannot "
            "run with others in their place: make it an nn.Module that holds them, or use the plain gradient"
        )
    module = _Method(program, method)
    named = {f"program.{name}": value for name, value in values.items()}

    def run(*args: Any) -> Any:
        with _Exchanged(values.values()):
            return torch.func.functional_call(module, named, args)

    return run


def floating_dtype(program: Any) -> torch.dtype:
    """The dtype of the program's first floating-point parameter, torch's default one where there is none."""
    parameters = program.parameters() if isinstance(program, nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())


CACHES = {  # by which torch's and Pyro's flows remember their last value, and what they hold when empty
    "_cached_x_y": (None, None),
    **dict.fromkeys(("_cached_logDetJ", "_cached_log_scale", "_cached_log_df_inv_dx", "_cache_log_detJ")),
    **dict.fromkeys(("_cached_A", "_cached_W_pre", "_cached_C", "_cached_T_C")),
}


def forget(program: Any) -> None:
    """Empty the caches of the flows in a program, or of one transform.

    What they hold of their last batch would keep its graph alive, and forbid a deepcopy.
    """
    parts = program.modules() if isinstance(program, nn.Module) else [program]
    for flow in (part for part in parts if isinstance(part, Transform)):
        for name in CACHES.keys() & vars(flow).keys():
            setattr(flow, name, CACHES[name])
        for inner in within(flow):
            forget(inner)


def within(transform: Transform) -> list[Transform]:
    """What one of torch's transforms that wrap others wraps; an inverse has no cache of its own."""
    if isinstance(transform, _InverseTransform):
        return [transform.inv]
    if isinstance(transform, IndependentTransform):
        return [transform.base_transform]
    if isinstance(transform, StackTransform | CatTransform):
        return list(transform.transforms)
    return list(transform.parts) if isinstance(transform, ComposeTransform) else []


@contextmanager
def evaluating(program: Any) -> Iterator[torch.device]:
    """``program`` in evaluation mode without gradients, its modes put back afterwards; yields its device.

    ``no_grad`` and not ``inference_mode``, in which a program could not take gradients inside itself.
    """
    modules = list(program.modules()) if isinstance(program, nn.Module) else []
    training = [module.training for module in modules]
    parameter = next(iter(program.parameters()), None) if modules else None
    try:
        for module in modules:
            module.training = False
        with torch.no_grad():
            yield torch.device("cpu") if parameter is None else parameter.device
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode


@contextmanager
def frozen(program: Any) -> Iterator[torch.device]:
    """``evaluating``, where no weight changes, so that a module may compute once what depends on the weights alone.

    It does so in a method ``settled()``, a context manager.
    """
    modules = program.modules() if isinstance(program, nn.Module) else ()
    with evaluating(program) as device, ExitStack() as stack:
        for module in modules:
            if callable(settled := getattr(module, "settled", None)):
                stack.enter_context(settled())
        yield device
