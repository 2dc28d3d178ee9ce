"""What is used of zuko, imported so that the validation of distributions stays as it was: zuko switches it off."""

from __future__ import annotations

from torch.distributions import Distribution

_validated = Distribution._validate_args
try:
    # At once and not when first needed: a later import by the user finds the module loaded and changes nothing.
    from zuko.flows import NSF
    from zuko.lazy import Flow as ZukoFlow
    from zuko.nn import MaskedMLP
    from zuko.transforms import (
        AutoregressiveTransform,
        ComposedTransform,
        DependentTransform,
        MonotonicAffineTransform,
        MonotonicRQSTransform,
    )
    from zuko.utils import unpack
finally:
    Distribution.set_default_validate_args(_validated)

__all__ = [
    "NSF",
    "AutoregressiveTransform",
    "ComposedTransform",
    "DependentTransform",
    "MaskedMLP",
    "MonotonicAffineTransform",
    "MonotonicRQSTransform",
    "ZukoFlow",
    "unpack",
]
