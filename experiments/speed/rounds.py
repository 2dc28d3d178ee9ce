"""Rounds in which the contestants take turns, and what is said of their times: ratios are taken within a round."""

from statistics import mean, median
from typing import NamedTuple


class Spread(NamedTuple):
    """Median, least and greatest over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


def spread(values):
    """The spread of one value per round."""
    return Spread(median(values), min(values), max(values))


def ratio(times, other):
    """The spread of the ratio of two contestants' times, round by round."""
    return spread([a / b for a, b in zip(times, other, strict=True)])


def turns(names, rounds):
    """(round, name), every name once a round, the order rotated by one from round to round."""
    for number in range(rounds):
        first = number % len(names)
        yield from ((number, name) for name in (*names[first:], *names[:first]))


def strays(values, reference, tolerance):
    """The names whose mean is further from the reference's than ``tolerance`` of that one's size."""
    means = {name: mean(each) for name, each in values.items()}
    allowed = tolerance * abs(means[reference])
    return {name for name, mean in means.items() if not abs(mean - means[reference]) <= allowed}
