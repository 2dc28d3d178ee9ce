"""A strict reader of the IDX format, in which MNIST is published.

A file is two zero bytes, a byte for the type (0x08: unsigned bytes), a byte for the number of dimensions, the
dimensions as big-endian 32-bit integers, and the values, nothing more.
Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import struct
import zlib

import torch
from torch import Tensor

from pyrovae.errors import PyrovaeError


def parse_gz(compressed: bytes, *, dims: int, name: str) -> Tensor:
    """As :func:`parse`, of a gzip-compressed file."""
    try:
        return parse(gzip.decompress(compressed), dims=dims, name=name)
    except (OSError, EOFError, zlib.error) as error:
        raise PyrovaeError(f"{name}: not a whole gzip file ({error})") from error


def parse(raw: bytes, *, dims: int, name: str) -> Tensor:
    """The uint8 tensor with ``dims`` dimensions in an IDX file; ``name`` is for the messages.

    Raises:
        PyrovaeError: another magic number, type or number of dimensions than expected, an empty array, bytes missing or
            left over.
    """
    expected = bytes([0, 0, 0x08, dims])
    if raw[:4] != expected:
        found = raw[:4].hex(" ") or "nothing"
        raise PyrovaeError(f"{name}: starts with {found}, not with {expected.hex(' ')} (bytes in {dims} dimensions)")
    shape, values = _shape(raw, dims=dims, name=name), memoryview(raw)[4 + 4 * dims :]
    if math.prod(shape) != len(values) or not values:
        raise PyrovaeError(f"{name}: announces {shape} values and holds {len(values)} bytes of them")
    return torch.frombuffer(bytearray(values), dtype=torch.uint8).reshape(shape)


def _shape(raw: bytes, *, dims: int, name: str) -> tuple[int, ...]:
    header = raw[4 : 4 + 4 * dims]
    if len(header) < 4 * dims:
        raise PyrovaeError(f"{name}: ends within its header, after {len(raw)} bytes")
    return struct.unpack(f">{dims}I", header)
