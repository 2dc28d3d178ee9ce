"""The IDX parser takes what the format says and nothing else (FAULTS 33)."""

import gzip
import struct

import pytest
import torch

from pyrovae.data.idx import parse, parse_gz
from pyrovae.errors import PyrovaeError

BODY = bytes(range(24))
GOOD = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 3, 4) + BODY
BAD = {
    "empty": b"",
    "html": b"<!DOCTYPE html><html></html>",
    "magic": b"\x01" + GOOD[1:],
    "dtype": GOOD[:2] + b"\x0d" + GOOD[3:],  # float32
    "dims": bytes([0, 0, 8, 1]) + struct.pack(">I", 24) + BODY,
    "dims alone": bytes([0, 0, 8, 2]) + GOOD[4:],
    "header": GOOD[:10],
    "short": GOOD[:-1],
    "long": GOOD + b"\x00",
    "no values": bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 3, 4),
    "huge": bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3) + BODY,
    "little-endian": bytes([0, 0, 8, 3]) + struct.pack("<3I", 2, 3, 4) + BODY,
}


def test_values_and_shape() -> None:
    values = parse(GOOD, dims=3, name="f")
    assert values.dtype == torch.uint8
    assert torch.equal(values, torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4))
    assert torch.equal(parse_gz(gzip.compress(GOOD), dims=3, name="f"), values)


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_malformed_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(PyrovaeError, match="some-file"):
        parse(raw, dims=3, name="some-file")


ZIPPED = gzip.compress(GOOD)
MALFORMED = {"empty": b"", "not zipped": GOOD, "cut short": ZIPPED[:-5], "altered": ZIPPED[:10] + b"\xff" * 30}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_gzip_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(PyrovaeError, match="some-file"):
        parse_gz(raw, dims=3, name="some-file")
