"""The one exception that pyrovae raises on purpose."""


class PyrovaeError(Exception):
    """A fault with a known cause; the message names the cause and the way out."""
