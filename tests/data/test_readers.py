"""The strict readers take what their format says and nothing else (FAULTS 33)."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest
import torch

from pyrovae.data import amat, bag_of_words
from pyrovae.data import npy as arrays
from pyrovae.errors import PyrovaeError

# ------------------------------------------------------------------------------------------------------------ AMAT

BITS = b"0 1 1\n1 0 0\n"
BAD_BITS = {
    "empty": b"",
    "html": b"<html></html>",
    "cut short": BITS[:-1],
    "cut in a line": BITS[:-3],
    "a value more": BITS + b"0 ",
    "trailing byte": BITS + b"\n",
    "another value": BITS.replace(b"0 0", b"0 2"),
    "below zero": BITS.replace(b"0 0", b"0 /"),
    "a long line": b"0 1 1 1\n1 0\n",
    "tabs": BITS.replace(b" ", b"\t"),
    "windows": b"0 1 1\r\n",
    "real": b"0.0 1.0 1.0\n",
}


def test_amat_values() -> None:
    found = amat.parse(BITS, width=3, name="f")
    assert found.dtype == torch.uint8 and found.tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("raw", BAD_BITS.values(), ids=BAD_BITS.keys())
def test_malformed_amat(raw: bytes) -> None:
    with pytest.raises(PyrovaeError, match="some-file"):
        amat.parse(raw, width=3, name="some-file")


def test_amat_names_the_line() -> None:
    with pytest.raises(PyrovaeError, match="line 2 holds b'2'; every value must be 0 or 1"):
        amat.parse(b"0 1 1\n1 0 2\n", width=3, name="f")
    with pytest.raises(PyrovaeError, match="line 2 has 2 values; expected 3"):
        amat.parse(b"0 1 1\n1 0\n", width=3, name="f")


# ----------------------------------------------------------------------------------------------------------- NumPy


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**entries: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **entries)
    return stream.getvalue()


ARRAY = np.arange(6, dtype=np.int16).reshape(2, 3)
BAD_ARRAYS = {
    "empty": b"",
    "html": b"<html></html>",
    "header": npy(ARRAY)[:50],
    "cut short": npy(ARRAY)[:-1],
    "trailing byte": npy(ARRAY) + b"\0",
    "pickle": npy(np.array([print], dtype=object)),
    "bare pickle": b"\x80\x04N.",
}


def test_npy_is_what_numpy_reads() -> None:
    for array in (ARRAY, np.asfortranarray(ARRAY), np.array(3.0), np.array(["a", "bc"])):
        np.testing.assert_array_equal(arrays.parse_npy(npy(array), name="f"), array)


@pytest.mark.parametrize("raw", BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_malformed_npy(raw: bytes) -> None:
    with pytest.raises(PyrovaeError, match="some-file"):
        arrays.parse_npy(raw, name="some-file")


def test_npz_by_name() -> None:
    found = arrays.parse_npz(npz(x=ARRAY, y=np.zeros(2)), name="f")
    assert list(found) == ["x", "y"] and (found["x"] == ARRAY).all()


def test_malformed_npz() -> None:
    whole = npz(x=ARRAY)
    at = whole.index(npy(ARRAY)[-12:])
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", npy(ARRAY) + b"left over")
    for raw in (b"", b"PK", whole[:-30], flipped, npy(ARRAY), npz(x=np.array([{}])), stream.getvalue()):
        with pytest.raises(PyrovaeError, match="some-file"):
            arrays.parse_npz(raw, name="some-file")


def test_an_array_of_another_form() -> None:
    found = {"x": ARRAY}
    assert arrays.check_array(found, "x", (-1, 3), "int16", name="f") is ARRAY
    for key, shape, dtype in (
        ("y", (2, 3), "int16"),
        ("x", (3, 2), "int16"),
        ("x", (2,), "int16"),
        ("x", (2, 3), "u1"),
    ):
        with pytest.raises(PyrovaeError, match="some-file"):
            arrays.check_array(found, key, shape, dtype, name="some-file")


# ---------------------------------------------------------------------------------------------------- bags of words

BAD_BAGS = {
    "empty": b"",
    "html": b"<html>\n",
    "cut short": b"1 1:2 3:1\n2 2:",
    "no line end": b"1 1:2",
    "blank line": b"1 1:2\n\n",
    "no words": b"1\n",
    "group zero": b"0 1:2\n",
    "group beyond": b"3 1:2\n",
    "word zero": b"1 0:2\n",
    "word beyond": b"1 5:2\n",
    "no count": b"1 2\n",
    "count zero": b"1 2:0\n",
    "negative": b"1 2:-1\n",
    "real": b"1 2:0.5\n",
    "twice": b"1 2:1 2:1\n",
    "three parts": b"1 2:1:1\n",
    "double space": b"1  2:1\n",
}


def test_bag_of_words_values() -> None:
    counts, groups = bag_of_words.parse(b"2 4:2 1:1\n1 2:7\n", num_words=4, num_groups=2, name="f")
    assert counts.tolist() == [[1, 0, 0, 2], [0, 7, 0, 0]] and groups.tolist() == [1, 0]
    assert counts.dtype == torch.float32 and groups.dtype == torch.int64


@pytest.mark.parametrize("raw", BAD_BAGS.values(), ids=BAD_BAGS.keys())
def test_malformed_bag_of_words(raw: bytes) -> None:
    with pytest.raises(PyrovaeError, match="some-file"):
        bag_of_words.parse(raw, num_words=4, num_groups=2, name="some-file")


def test_vocabulary() -> None:
    assert bag_of_words.parse_words(b"who 7\nout 3\n", name="f") == ("who", "out")
    for raw in (b"", b"who\n", b"who x\n", b"who 1\nwho 2\n", b"\xff 1\n", b"who 1\n\n", b"who 0\n"):
        with pytest.raises(PyrovaeError, match="some-file"):
            bag_of_words.parse_words(raw, name="some-file")
