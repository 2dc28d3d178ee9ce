"""What parts can be combined: looked at when a program is built, on the distributions that its parts show."""

from __future__ import annotations

from typing import Any

from torch import Size, nn
from torch.distributions import Distribution, Independent, MixtureSameFamily, TransformedDistribution, VonMises

from pyrovae import supports
from pyrovae.conditional import Conditional, Product
from pyrovae.errors import PyrovaeError
from pyrovae.families.supports import angles
from pyrovae.flows.jacobians import check_log_determinants
from pyrovae.networks import Network
from pyrovae.observations.base import Observation, example
from pyrovae.parameters import evaluating
from pyrovae.randomness import seeded


def check_parts(prior: nn.Module, decoder: nn.Module, encoder: nn.Module) -> None:
    """Refuse what would fail, or be wrong, at the first datum; parts that show nothing are left to it.

    Raises:
        PyrovaeError: with the reason, and what would work.
    """
    with evaluating(nn.ModuleList([prior, decoder, encoder])) as device, seeded(0, device):  # nothing here may change
        p, q, likelihood = example(prior), example(encoder), example(decoder)
        _check_scores("prior", p)
        _check_scores("decoder", likelihood)
        for shown in (p, q, likelihood):
            check_log_determinants(shown)
    if p is not None and q is not None:
        _check_latents(p, q)
    _check_reads_latents(decoder, p or q)
    one = isinstance(likelihood, Distribution) and (not isinstance(decoder, Observation) or _ours(type(decoder)))
    _check_given(prior, decoder, encoder if one else None)


def _check_latents(p: Any, q: Any) -> None:
    if p.event_shape != q.event_shape:
        raise PyrovaeError(
            f"the prior is of latents of shape {tuple(p.event_shape)}, the encoder of {tuple(q.event_shape)}: both "
            "must be of one z. Declare its dimensions as the event, with .to_event(1)"
        )
    wanted, reached = _place(p), _place(q)
    if wanted is not None and reached is not None and wanted != reached:
        raise PyrovaeError(
            f"the encoder's latents lie in {q.support}, the prior's in {p.support}: the guide must reach "
            "every point that the prior can give, and no other. A relaxed categorical posterior, for instance, needs a "
            "relaxed prior"
        )


def _place(distribution: Any) -> Any:
    """Where latents lie; None where that is not known."""
    if isinstance(_within(distribution), VonMises):  # torch calls its support real, which it is not
        return supports.place(angles)
    return supports.place(supports.of_distribution(distribution))


def _check_reads_latents(decoder: nn.Module, latent: Any) -> None:
    for shapes in _read(decoder):
        if latent is not None and shapes[0] != latent.event_shape:
            raise PyrovaeError(
                f"the decoder's network reads latents of shape {tuple(shapes[0])}, and prior and encoder are of "
                f"{tuple(latent.event_shape)}: build it for these, the first of its parents"
            )


def _check_given(prior: nn.Module, decoder: nn.Module, encoder: nn.Module | None) -> None:
    """Every part gets all that is given; an encoder of what may be a tree, here None, also reads each of its leaves."""
    given = [("prior", shapes) for shapes in _read(prior)]
    given += [("decoder", shapes[1:]) for shapes in _read(decoder)]
    given += [("encoder", shapes[1:]) for shapes in (_read(encoder) if encoder else [])]
    if any(shapes != given[0][1] for _, shapes in given):
        raise PyrovaeError(
            "the networks disagree about the conditioning variables that they read, whose event shapes are: "
            + ", ".join(f"{part} {[tuple(shape) for shape in shapes]}" for part, shapes in given)
            + ". Each is called with all of them, prior(*given), decoder(z, *given), encoder(x, *given): build each "
            "network with one shape per parent. A prior that ignores them is pyrovae.priors.Learned, or any without a "
            "network"
        )


def _read(part: nn.Module) -> list[tuple[Size, ...]]:
    """The event shapes of the parents that a part's networks read; nothing where it does not say, or has none."""
    if isinstance(part, Observation):
        return _read(part.decoder)
    if isinstance(part, Product):
        factors = part.factors.values() if isinstance(part.factors, nn.ModuleDict) else part.factors
        return [shapes for factor in factors for shapes in _read(factor)]
    # Not a Conditional of another class, nor a network with a forward of its own, which may read something else.
    net = part.net if type(part) is Conditional else None
    reads = isinstance(net, Network) and net.in_shapes and _ours(type(net).forward) and _ours(type(net).parents)
    return [net.in_shapes] if reads else []  # type: ignore[list-item, union-attr]


def _ours(definition: Any) -> bool:
    return bool(definition.__module__.split(".")[0] == "pyrovae")


def _check_scores(part: str, distribution: Any) -> None:
    """A flow without an inverse can draw, and score what it drew, but not a point that it is given."""
    flow = _within(distribution)
    if not isinstance(flow, TransformedDistribution):
        return
    try:
        distribution.log_prob(distribution.sample().clone())  # a new object: the flow's cache knows the old one
    except (NotImplementedError, KeyError) as error:
        raise PyrovaeError(
            f"the {part} must give the density of points that another part draws, and this flow has no inverse "
            f"({[type(t).__name__ for t in flow.transforms]}): use coupling or autoregressive transforms; "
            "planar, radial and Sylvester flows serve as posteriors"
        ) from error


def _within(distribution: Any) -> Any:
    """What is inside independent dimensions, and what the components of a mixture are."""
    if isinstance(distribution, Independent):
        return _within(distribution.base_dist)
    if isinstance(distribution, MixtureSameFamily):
        return _within(distribution.component_distribution)
    return distribution
