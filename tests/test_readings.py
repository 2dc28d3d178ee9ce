"""Readings: what a network sees of labels, tokens, counts and levels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae.readings import Ignore, LogCounts, OneHot, Reading, Scaled


def test_one_hot_is_torchs() -> None:
    net = pv.networks.MLP([(5, 3), 2], 4)
    x, other = torch.randint(0, 3, (7, 6, 5)), torch.randn(6, 2)
    expected = net(torch.nn.functional.one_hot(x, 3).float(), other)
    torch.testing.assert_close(Reading(net, OneHot(3))(x, other), expected)
    torch.testing.assert_close(Reading(net, OneHot(3), None)(x, other), expected)


def test_log_counts() -> None:
    net = pv.networks.MLP(4, 3)
    x = torch.tensor([[0.0, 1.0, 500.0, -2.0]])
    torch.testing.assert_close(Reading(net, LogCounts())(x), net(torch.tensor([[1.0, 2.0, 501.0, 1.0]]).log()))
