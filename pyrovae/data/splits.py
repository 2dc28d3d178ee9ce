"""What a data set is: three splits, and how one observation of them is drawn."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import one_hot as as_one_hot

from pyrovae.data.binarization import check_binarization
from pyrovae.data.standardization import Standardization
from pyrovae.errors import PyrovaeError
from pyrovae.nearest import check_known

KINDS = ("images", "table", "tokens", "counts")


class Split(NamedTuple):
    """Data x (N, *event_shape), labels (N,) int64 or None, and conditioning variables, each (N, ...)."""

    x: Tensor
    labels: Tensor | None = None
    given: tuple[Tensor, ...] = ()


def check_counts(where: str, *, data: int, labels: int, noun: str = "images") -> None:
    """Raise PyrovaeError unless every datum has its label."""
    if data != labels:
        raise PyrovaeError(f"{where}: {data} {noun} but {labels} labels; they do not belong together")


def check_alike(where: str, x: Mapping[str, Tensor]) -> None:
    """Raise PyrovaeError unless the x of all splits have one event shape and one dtype."""
    first = x["train"]
    for name, other in x.items():
        if (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
            raise PyrovaeError(
                f"{where}: a datum is {_form(first)} in train and {_form(other)} in {name}; the splits must be alike"
            )


def _form(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape[1:])}"


# eq=False: comparing tensors field by field raises, so two data sets are equal when they are the same object.
@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Three splits of one data set, of one of four kinds.

    ======  =========================================  ===================================================
    kind    x                                          support
    ======  =========================================  ===================================================
    images  (N, C, H, W) float, bits or grey values    boolean, or unit_interval where binarization is none
    table   (N, D) float, one number for each column   real
    tokens  (N, T) int64, sequences of fixed length    0 .. num_levels - 1
    counts  (N, V) float, how often each of V occurs   nonnegative integers
    ======  =========================================  ===================================================

    Under "dynamic" binarization ``train.x`` holds the probability of each pixel and :meth:`draw` gives observations,
    while ``validation.x`` and ``test.x`` are observations already, drawn once: a test set must not change under
    evaluation. Under "static" all three are observations, drawn once; under "none" all three are what was read.

    Raises:
        PyrovaeError: an unknown binarization or kind; splits of different shapes or dtypes; a split whose data and
            labels differ in number, or that has labels where another has none; a label outside
            ``0 .. num_classes - 1``.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    binarization: str
    seed: int  # of the split, of static binarization and of the fixed draw of the evaluation splits
    fingerprint: str  # sha256 over the source bytes as read
    kind: str = "images"
    classes: tuple[str, ...] = ()  # the names of the labels; none where there are no labels
    columns: tuple[str, ...] = ()  # the names of the columns of a table, or of what is counted
    levels: tuple[str, ...] = ()  # the names of the values of tokens: characters
    standardization: Standardization | None = None
    missing: bool = False  # whether values of x may be missing: NaN, or -1 in tokens
    complete: Mapping[str, Tensor] | None = None  # x by split before values were hidden, where they were

    def __post_init__(self) -> None:
        check_binarization(self.binarization)
        check_known("kind of data", self.kind, KINDS)
        check_alike(self.name, {key: split.x for key, split in self.splits.items()})
        for key, split in self.splits.items():
            self._check_labels(f"{self.name}, {key}", split)

    def _check_labels(self, where: str, split: Split) -> None:
        if (split.labels is None) != (not self.classes):
            raise PyrovaeError(f"{where}: labels and names of classes must both be there, or neither")
        if split.labels is None:
            return
        check_counts(where, data=len(split.x), labels=len(split.labels), noun=self._noun)
        if not ((split.labels >= 0) & (split.labels < self.num_classes)).all():
            raise PyrovaeError(f"{where}: a label lies outside 0 .. {self.num_classes - 1}")

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def event_shape(self) -> torch.Size:
        """The shape of one datum: (C, H, W), (D,), (T,) or (V,)."""
        return self.train.x.shape[1:]

    @property
    def num_classes(self) -> int:
        """How many classes the labels have; 0 where there are no labels."""
        return len(self.classes)

    @property
    def num_levels(self) -> int | None:
        """How many values a token takes; None where x is not categorical."""
        return len(self.levels) or None

    @property
    def support(self) -> constraints.Constraint:
        """Where observations lie: those that :meth:`draw` gives, and those of the evaluation splits."""
        if self.binarization != "none":
            return constraints.boolean
        if self.kind == "tokens":
            return constraints.integer_interval(0, len(self.levels) - 1)
        by_kind = {"images": constraints.unit_interval, "table": constraints.real}
        return by_kind.get(self.kind, constraints.nonnegative_integer)

    @property
    def log_jacobian(self) -> float:
        """log |det dx_model/dx_own| = -sum log scale of the standardisation, nats; 0.0 where nothing is standardised.

        Added to log p of x as it is here, it gives log p in the data's own units: ``pyrovae.log_marginal`` takes it.

        Raises:
            PyrovaeError: values are missing, so that it differs from datum to datum.
        """
        if self.standardization is not None and self.missing:
            raise PyrovaeError(
                f"values of {self.name} are missing, and only those that are seen have units: use "
                "data.log_jacobian_of(data.test.x)"
            )
        return 0.0 if self.standardization is None else self.standardization.log_jacobian

    def log_jacobian_of(self, x: Tensor) -> Tensor:
        """``log_jacobian`` of each datum of x (N, *event_shape), (N,) float64: that of the columns that are seen."""
        return torch.zeros(len(x)).double() if self.standardization is None else self.standardization.log_jacobian_of(x)

    @cached_property
    def mean(self) -> Tensor:
        """The mean of the training x, of what is seen of it, of shape event_shape; 0 where nothing is."""
        x = self.train.x if self.train.x.is_floating_point() else self.train.x.float()
        if not self.missing:
            return x.mean(0)
        return x.masked_fill(~self.seen(self.train.x), math.nan).nanmean(0).nan_to_num(0.0)

    def seen(self, x: Tensor) -> Tensor:
        """Which values of x are not missing, bool, in the shape of x."""
        return ~x.isnan() if x.is_floating_point() else x >= 0

    def restore(self, x: Tensor) -> Tensor:
        """x (..., *event_shape), data or samples, in the data's own units.

        Where standardised that is ``x * scale + loc``, in float64; else x itself.
        """
        return x if self.standardization is None else self.standardization.restore(x)

    def draw(self, x: Tensor) -> Tensor:
        """One observation of a training batch x (N, *event_shape), from the global generator of x's device.

        A fresh x_obs ~ Bernoulli(x) under "dynamic" binarization, as in Salakhutdinov and Murray (2008), else x
        itself; a missing value stays one. It can be traced: the only branches are on the data set, none on values.
        """
        if self.binarization != "dynamic":
            return x
        bits = (torch.rand_like(x) < x).to(x.dtype)
        return torch.where(x.isnan(), x, bits) if self.missing else bits

    def conditional(self, *, one_hot: bool = True) -> "Data":
        """The same data for a conditional program: the label is given in every split.

        Args:
            one_hot: as vectors (N, num_classes); else as whole numbers (N,), for a reader ``torch.nn.Embedding``.

        Raises:
            PyrovaeError: the data have no labels.
        """
        given = {key: (self._given(split, one_hot=one_hot),) for key, split in self.splits.items()}
        splits = {key: split._replace(given=given[key]) for key, split in self.splits.items()}
        return dataclasses.replace(self, **splits)  # type: ignore[arg-type]

    def _given(self, split: Split, *, one_hot: bool) -> Tensor:
        if split.labels is None:
            raise PyrovaeError(
                f"{self.name} has no labels, so there is nothing to condition on: name a column (label=...), put the "
                "images of each class into a folder of its own, or leave out conditional()"
            )
        if not one_hot:
            return split.labels
        dtype = split.x.dtype if split.x.is_floating_point() else torch.float32
        return as_one_hot(split.labels, self.num_classes).to(dtype)

    def describe(self) -> dict[str, Any]:
        """What a result says of its data, as JSON types."""
        return {
            "name": self.name,
            "kind": self.kind,
            "splits": {key: len(split.x) for key, split in self.splits.items()},
            "event_shape": list(self.event_shape),
            "binarization": self.binarization,
            "standardized": self.standardization is not None,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            **({"missing": self._share_missing()} if self.missing else {}),
        }

    def __repr__(self) -> str:
        sizes = " | ".join(f"{key} {len(split.x):,}" for key, split in self.splits.items())
        labels = f"{self.num_classes} classes: {_some(self.classes)}" if self.classes else "none"
        given = " (given)" if self.train.given else ""
        missing = f"\n  missing {self._share_missing()['train']:.1%} of the training values" if self.missing else ""
        return f"{self.name}\n  x       {self._x()}\n  splits  {sizes}\n  labels  {labels}{given}{missing}"

    @property
    def _noun(self) -> str:
        return "images" if self.kind == "images" else "data"

    def _x(self) -> str:
        """One datum in words."""
        shape = " x ".join(map(str, self.event_shape))
        if self.kind == "images":
            return (
                f"images {shape}, {'values in [0, 1]' if self.binarization == 'none' else f'{self.binarization} bits'}"
            )
        if self.kind == "tokens":
            return f"sequences of {shape} tokens with {self.num_levels} levels: {_some(self.levels)}"
        if self.kind == "counts":
            return f"counts of {shape}: {_some(self.columns)}"
        return f"{shape} columns: {_some(self.columns)}{self._units()}"

    def _units(self) -> str:
        if self.standardization is None:
            return ""
        return "; standardised" + ("" if self.missing else f", log-Jacobian {self.log_jacobian:.3f} nats")

    def _share_missing(self) -> dict[str, float]:
        """The share of missing values by split."""
        return {key: (~self.seen(split.x)).double().mean().item() for key, split in self.splits.items()}


def _some(names: tuple[str, ...], most: int = 6) -> str:
    shown = [name if name.isprintable() and name.strip() else repr(name) for name in names[:most]]
    return ", ".join([*shown, *(["..."] if len(names) > most else [])])
