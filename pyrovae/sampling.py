"""Drawing from a program, and its distributions given data.

Results are by site name; where there is one site, they are that site's value or distribution itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pyro.poutine as poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrovae import trees
from pyrovae.arguments import check_program
from pyrovae.errors import PyrovaeError
from pyrovae.parameters import LocalParameters, floating_dtype, frozen
from pyrovae.terms import samples
from pyrovae.trees import Tree


def sample(program: Any, num_samples: int, *given: Tree, like: Tree = None) -> Any:
    """``num_samples`` draws x ~ p(x | given), from Torch's global generator.

    Args:
        program: any program.
        given: conditioning variables with ``num_samples`` rows.
        like: data of the right shape, for programs whose model needs an ``x`` to run (the rows are placeholders).

    Returns:
        (num_samples, *event_shape), or a dict of such by site name.

    Raises:
        PyrovaeError: rows of ``given`` that differ in number from ``num_samples``; a model that needs ``like``.
    """
    sites = generated(program, num_samples, *given, like=like)
    return trees.only({name: site["value"] for name, site in sites.items()})


def generated(program: Any, num_samples: int, *given: Tree, like: Tree = None) -> dict[str, Any]:
    """Pyro's sites of ``num_samples`` draws from the model by name, the latents left out: their ``fn`` and ``value``.

    Arguments and errors as for ``sample``.
    """
    return ancestral(program, num_samples, *given, like=like)[1]


def ancestral(
    program: Any, num_samples: int, *given: Tree, like: Tree = None, at: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pyro's sites of ``num_samples`` draws from the model by name: those of the latents, and those of x.

    Args:
        at: values (num_samples, *event_shape) of latents by name, kept in place of draws.

    Other arguments and errors as for ``sample``.
    """
    return _split_sites(drawn(program, num_samples, *given, like=like, at=at))


def drawn(
    program: Any, num_samples: int, *given: Tree, like: Tree = None, at: Mapping[str, Tensor] | None = None
) -> Any:
    """Pyro's trace of ``num_samples`` draws from the model, in which the sites of x are marked "was_observed".

    Arguments and errors as for ``ancestral``.
    """
    if num_samples < 1:
        raise PyrovaeError(f"the number of samples must be at least 1; got {num_samples}")
    check_program(program, ("model",))
    with frozen(program) as device, LocalParameters().scope():
        conditions = _placed(program, device, *given)
        if given and trees.num_data(*conditions) != num_samples:
            rows = trees.num_data(*conditions)
            raise PyrovaeError(f"given has {rows} rows for {num_samples} samples: one row per sample")
        fixed = {name: value.to(device) for name, value in (at or {}).items()}
        if like is not None:
            (shape,) = _placed(program, device, like)
            return _unobserved(program, fixed, trees.repeat(trees.rows(shape, slice(0, 1)), num_samples), *conditions)
        if not draws_alone(program):
            raise PyrovaeError(
                "this program's model cannot run without x: pass like=x, data of the right shape, whose values do not "
                "matter"
            )
        model = poutine.condition(program.model, data=fixed)
        trace = poutine.trace(model).get_trace(None, *conditions, num_data=num_samples)
    # Nothing is observed in such a trace: x is what the model returns, leaf by leaf.
    returned = {id(leaf) for leaf in trees.leaves(trace.nodes["_RETURN"]["value"])}
    for _, site in samples(trace):
        site["infer"]["was_observed"] = id(site["value"]) in returned
    return trace


def draws_alone(program: Any) -> bool:
    """Whether the model draws new rows by itself: ``model(None, *given, num_data=N)``."""
    return "num_data" in inspect.signature(program.model).parameters


def _split_sites(trace: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    sites = _shown(trace)
    data = {name: site for name, site in sites.items() if site["infer"].get("was_observed")}
    return {name: site for name, site in sites.items() if name not in data}, data


def _shown(trace: Any) -> dict[str, Any]:
    """The random sites by name, without those that only integrate an observation out (noise of dequantization)."""
    return {name: site for name, site in samples(trace) if not site["infer"].get("auxiliary")}


def observed_values(program: Any, latents: Mapping[str, Tensor], x: Tree, *given: Tree) -> Any:
    """Draws at the observed sites with the latents fixed (or drawn from the prior), ignoring the values of ``x``.

    Args:
        latents: values (N, *event) by site name.
    """
    _, sites = _split_sites(_unobserved(program, latents, x, *given))
    return trees.only({name: site["value"] for name, site in sites.items()})


def _unobserved(program: Any, latents: Mapping[str, Tensor], x: Tree, *given: Tree) -> Any:
    """A trace of the model that draws where it would observe, and keeps these latents."""
    model = poutine.condition(poutine.uncondition(program.model), data=dict(latents))
    with frozen(program), LocalParameters().scope():
        return poutine.trace(model).get_trace(x, *given)


def encode(program: Any, x: Tree, *given: Tree) -> Any:
    """The guide's distribution q(z | x, given), batch shape (N,); by site name where there are several latents."""
    return trees.only({name: site["fn"] for name, site in guided(program, x, *given).items()})


def guided(program: Any, x: Tree, *given: Tree) -> dict[str, Any]:
    """Pyro's sites of one draw z ~ q(z | x, given) for each datum, by name."""
    with frozen(program) as device, LocalParameters().scope():
        trace = poutine.trace(program.guide).get_trace(*_placed(program, device, x, *given))
    return {name: site for name, site in _shown(trace).items() if not site["is_observed"]}


def reconstruct(program: Any, x: Tree, *given: Tree) -> Any:
    """p(x | z, given) at z = the guide's mean (its mode where z is discrete): a distribution with batch shape (N,).

    ``.mean`` gives pictures, ``.sample()`` draws. By site name where several sites are observed.
    """
    _, model = at_means(program, x, *given)
    return trees.only({name: site["fn"] for name, site in model.items() if site["is_observed"]})


def at_means(program: Any, x: Tree, *given: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pyro's sites of the guide, and of the model, where every latent takes its mean under the guide (or its mode)."""
    with frozen(program) as device, LocalParameters().scope():
        placed = _placed(program, device, x, *given)
        with _AtMean():
            guide = poutine.trace(program.guide).get_trace(*placed)
        model = poutine.trace(poutine.replay(program.model, trace=guide)).get_trace(*placed)
    return _shown(guide), _shown(model)


class _AtMean(Messenger):
    """Every latent site takes its mean, or its mode where it is discrete."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"] and hasattr(msg["fn"], "support"):
            msg["value"], msg["done"] = _mean(msg["name"], msg["fn"]), True


def _mean(name: str, distribution: Any) -> Tensor:
    try:
        value: Tensor = distribution.mode if distribution.support.is_discrete else distribution.mean
        return value
    except NotImplementedError as error:
        raise PyrovaeError(
            f"the guide's distribution of {name!r}, {type(distribution).__name__}, has no mean in closed form: draw "
            "from encode(program, x) and pass the draws to the decoder"
        ) from error


def _placed(program: Any, device: Any, *args: Tree) -> list[Tree]:
    return [trees.to(trees.as_tensors(arg, floating_dtype(program)), device) for arg in args]
