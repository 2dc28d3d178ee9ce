"""Another name of :mod:`pyrovae.nearest`'s."""

from pyrovae.nearest import check_known as check_known
