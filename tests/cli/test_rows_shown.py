"""Which rows the figures of a run show."""

import torch

from pyrovae.cli.pictures import _spread


def test_rows_that_lie_sorted_by_class_are_shown_of_every_class() -> None:
    labels = torch.arange(10).repeat_interleave(400)
    x, shown = _spread(20, labels[:, None].float(), labels)
    assert shown.tolist() == torch.arange(10).repeat_interleave(2).tolist() and torch.equal(x[:, 0], shown.float())
    assert len(_spread(2000, labels[:7])[0]) == 7 and len(_spread(2000, labels)[0].unique()) == 10
