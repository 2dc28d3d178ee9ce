"""Figures of inference gaps and of a guide against NUTS: what is drawn is what was found."""

import numpy as np
import pytest
import torch

import pyrovae as pv
from pyrovae import report
from pyrovae.checks import Chains, InferenceGaps, PerDatum
from pyrovae.evidence import Evidence


def per_datum(*values: float) -> PerDatum:
    value = torch.tensor(values).double()
    return PerDatum(value, 0.1 * torch.ones_like(value))


def evidence() -> Evidence:
    zero = torch.zeros(3).double()
    return Evidence(zero, zero, zero + 9, zero, num_particles=10, num_dimensions=2)


def test_gaps() -> None:
    low, high, flow = per_datum(-1, -2, -3), per_datum(1.0, 2.0, 6.0), per_datum(0.1, 0.2, 0.3)
    result = InferenceGaps(
        evidence(), low, low, low, high, high, flow, high, flow, flow, torch.zeros(3).bool(), None, 5, 10, 0
    )
    (axes,) = report.gaps(result).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["amortization", "approximation", "left by a flow", "total"]
    means = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert means == pytest.approx([3.0, 3.0, 0.2, 3.0])


def chains() -> Chains:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2, 400, 2, 3, generator=generator).double()
    z = 2 * torch.randn(3000, 2, 3, generator=generator).double() + 1
    return Chains({"z": draws}, {"z": z}, {"z": z}, torch.zeros(2, 2), evidence(), {}, 10, 0)


def test_posterior() -> None:
    (axes,) = report.posterior(chains(), 1).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["z[0]", "z[1]", "z[2]"]
    centres = axes.containers[0].lines[0].get_ydata()
    ends = np.array([segment[:, 1] for segment in axes.containers[0].lines[2][0].get_segments()])
    assert centres == pytest.approx([1.0] * 3, abs=0.2)  # the guide is one sd off, and twice as wide
    assert (ends[:, 1] - ends[:, 0]).tolist() == pytest.approx([8.0] * 3, rel=0.1)
    with pytest.raises(pv.PyrovaeError, match="no datum 2"):
        report.posterior(chains(), 2)
