"""Readings: what a network sees of tokens and counts."""

import pytest
import torch

import pyrovae as pv


def test_one_hot_is_torchs() -> None:
    net = pv.networks.MLP([(5, 3), 2], 4)
    reading = pv.readings.OneHot(net, 3)
    x, other = torch.randint(0, 3, (7, 6, 5)), torch.randn(6, 2)
    expected = net(torch.nn.functional.one_hot(x, 3).float(), other)
    torch.testing.assert_close(reading(x, other), expected)
    with pytest.raises(pv.PyrovaeError, match=r"OneHot reads integers 0 \.\. 2 and got torch.float32"):
        reading(x.float(), other)


def test_log_counts() -> None:
    net = pv.networks.MLP(4, 3)
    x = torch.tensor([[0.0, 1.0, 500.0, -2.0]])
    torch.testing.assert_close(pv.readings.LogCounts(net)(x), net(torch.tensor([[1.0, 2.0, 501.0, 1.0]]).log()))
