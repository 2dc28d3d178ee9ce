"""``pyrovae data``: which data sets there are, and where."""

from __future__ import annotations
