"""What a data set is: three splits, and how one observation of them is drawn."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import one_hot

from pyrovae.data.binarization import check_binarization
from pyrovae.errors import PyrovaeError


class Split(NamedTuple):
    """Images x (N, C, H, W) in [0, 1], labels (N,) int64, and conditioning variables, each (N, ...)."""

    x: Tensor
    labels: Tensor
    given: tuple[Tensor, ...] = ()


def check_counts(where: str, *, images: int, labels: int) -> None:
    """Raise PyrovaeError unless every image has its label."""
    if images != labels:
        raise PyrovaeError(f"{where}: {images} images but {labels} labels; they do not belong together")


def check_validation(size: int, available: int) -> None:
    """Raise PyrovaeError unless something is held out for validation and something is left to train on."""
    if not 0 < size < available:
        raise PyrovaeError(f"validation={size}: hold out at least 1 and at most {available - 1} of {available} images")


# eq=False: comparing tensors field by field raises, so two data sets are equal when they are the same object.
@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Three splits of one data set.

    Under "dynamic" binarization ``train.x`` holds the probability of each pixel and :meth:`draw` gives observations,
    while ``validation.x`` and ``test.x`` are observations already, drawn once: a test set must not change under
    evaluation. Under "static" all three are observations, drawn once; under "none" all three are grey values.

    Raises:
        PyrovaeError: an unknown binarization; a split whose images and labels differ in number; a label outside
            ``0 .. num_classes - 1``.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    binarization: str
    seed: int  # of the split (digits), of static binarization and of the fixed draw of the evaluation splits
    num_classes: int
    fingerprint: str  # sha256 over the source bytes as read

    def __post_init__(self) -> None:
        check_binarization(self.binarization)
        for key, split in self._splits().items():
            check_counts(f"{self.name}, {key}", images=len(split.x), labels=len(split.labels))
            if not ((split.labels >= 0) & (split.labels < self.num_classes)).all():
                raise PyrovaeError(f"{self.name}, {key}: a label lies outside 0 .. {self.num_classes - 1}")

    @property
    def event_shape(self) -> torch.Size:
        """The shape of one datum, (C, H, W)."""
        return self.train.x.shape[1:]

    @property
    def support(self) -> constraints.Constraint:
        """Where observations lie: those that :meth:`draw` gives, and those of the evaluation splits."""
        return constraints.unit_interval if self.binarization == "none" else constraints.boolean

    @cached_property
    def mean(self) -> Tensor:
        """The mean of the training x, of shape event_shape."""
        return self.train.x.mean(0)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{key} {len(split.x):,}" for key, split in self._splits().items())
        given = ", the labels given" if self.train.given else ""
        return f"Data({self.name}: {sizes}; x {tuple(self.event_shape)}; binarization {self.binarization}{given})"

    def draw(self, x: Tensor) -> Tensor:
        """One observation of a training batch x (N, C, H, W), from the global generator of x's device.

        A fresh x_obs ~ Bernoulli(x) under "dynamic" binarization, as in Salakhutdinov and Murray (2008), else x
        itself. It can be traced: the only branch is on the data set, none on tensor values.
        """
        return (torch.rand_like(x) < x).to(x.dtype) if self.binarization == "dynamic" else x

    def conditional(self) -> "Data":
        """The same data for a conditional program: the label, one-hot (N, num_classes), is given in every split."""
        splits = {key: split._replace(given=(self._one_hot(split),)) for key, split in self._splits().items()}
        return dataclasses.replace(self, **splits)  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        """What a result says of its data, as JSON types."""
        return {
            "name": self.name,
            "splits": {key: len(split.x) for key, split in self._splits().items()},
            "event_shape": list(self.event_shape),
            "binarization": self.binarization,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
        }

    def _splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def _one_hot(self, split: Split) -> Tensor:
        return one_hot(split.labels, self.num_classes).to(split.x.dtype)
