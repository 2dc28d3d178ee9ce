"""A strict reader of NumPy's .npy and .npz: no pickle, nothing missing, nothing left over."""

import io
import zipfile
import zlib
from typing import Any

import numpy as np

from pyrovae.errors import PyrovaeError

Array = np.ndarray[Any, np.dtype[Any]]


def parse_npy(raw: bytes, *, name: str) -> Array:
    """The array in a .npy file; ``name`` is for the messages.

    Raises:
        PyrovaeError: not NumPy's format, cut short, bytes left over, or Python objects, which would need a pickle.
    """
    stream = io.BytesIO(raw)
    try:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError) as error:
        reason = "it holds Python objects" if "Object arrays" in str(error) else str(error)
        raise PyrovaeError(f"{name}: not a whole .npy file of numbers or texts ({reason})") from error
    if left := len(raw) - stream.tell():
        raise PyrovaeError(f"{name}: {left} bytes are left over behind the array of shape {array.shape}")
    return array


def parse_npz(raw: bytes, *, name: str) -> dict[str, Array]:
    """The arrays in a .npz file by name.

    Raises:
        PyrovaeError: not a whole zip archive, or an entry that :func:`parse_npy` refuses.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = {entry: archive.read(entry) for entry in archive.namelist()}  # read verifies the entry's CRC
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise PyrovaeError(f"{name}: not a whole .npz archive ({error})") from error
    return {entry.removesuffix(".npy"): parse_npy(part, name=f"{name}, {entry}") for entry, part in entries.items()}


def check_array(arrays: dict[str, Array], key: str, shape: tuple[int, ...], dtype: str, *, name: str) -> Array:
    """The array ``key``, which must have this shape (-1: any size) and dtype.

    Raises:
        PyrovaeError: it is absent, or has another shape or dtype.
    """
    if key not in arrays:
        raise PyrovaeError(f"{name}: there is no array {key!r}, only {', '.join(arrays) or 'none'}")
    array = arrays[key]
    fits = array.ndim == len(shape) and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != np.dtype(dtype):
        raise PyrovaeError(f"{name}: {key} is {array.dtype} {array.shape}, expected {dtype} {shape}")
    return array
