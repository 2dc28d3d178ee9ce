"""Image files, of the formats that hold pixels, as tensors."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pyrovae.errors import PyrovaeError

FORMATS = {  # PIL reads many more, some through programs of others (Ghostscript), some that are no images (HDF5)
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm"),
}
SUFFIXES = frozenset(suffix for each in FORMATS.values() for suffix in each)
GREY = ("1", "L", "LA")  # PIL's modes of images without colour
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 0x0112  # the Exif tag by which cameras say how to turn an image


class Header(NamedTuple):
    """What an image file says of itself."""

    size: tuple[int, int]  # (H, W), as shown
    grey: bool


def as_size(size: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) from a size, where an int is a square.

    Raises:
        PyrovaeError: neither an int nor two of them, or not positive.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise PyrovaeError(f"size={size}: an int, or (H, W), of at least 1")
    return sides[0], sides[1]


def header(path: Path) -> Header:
    """Size and colour of an image, read from its header alone."""
    with _opened(path) as image, _whole(path):
        turned = image.getexif().get(ORIENTATION, 1) >= 5
        width, height = image.size[::-1] if turned else image.size
        return Header((height, width), image.mode in GREY)


def read(path: Path, size: tuple[int, int], channels: int) -> Tensor:
    """An image (channels, H, W) uint8: turned as its camera says, resized and cropped at the centre."""
    with _opened(path) as image, _whole(path):
        return fitted(ImageOps.exif_transpose(image), size, channels)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what PIL raises of files that are cut short
        raise PyrovaeError(f"{path}: not a whole image ({error}); replace it or take it out of the folder") from error


def fitted(image: Image.Image, size: tuple[int, int], channels: int) -> Tensor:
    """A PIL image as (channels, *size) uint8, on white where it is transparent."""
    converted = _opaque(image).convert("L" if channels == 1 else "RGB")
    height, width = size
    if converted.size != (width, height):
        converted = ImageOps.fit(converted, (width, height), method=Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(converted, dtype=np.uint8))
    return pixels.reshape(height, width, channels).permute(2, 0, 1).contiguous()


def _opaque(image: Image.Image) -> Image.Image:
    """The image on white paper: the colour below what is transparent is none that anybody sees, mostly black."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def stacked(images: Iterable[Tensor]) -> Tensor:
    """Images (N, C, H, W) from one after another."""
    return torch.stack(list(images))


def common_size(paths: Sequence[Path], headers: Sequence[Header]) -> tuple[int, int]:
    """The size of all images.

    Raises:
        PyrovaeError: two of them differ.
    """
    for path, other in zip(paths, headers, strict=True):
        if other.size != headers[0].size:
            (h, w), (first_h, first_w) = other.size, headers[0].size
            raise PyrovaeError(
                f"the images differ in size: {paths[0].name} is {first_h} x {first_w}, {path.name} is {h} x {w} (H x "
                "W); pass size=..., an int or (H, W), to have them resized and cropped at the centre"
            )
    return headers[0].size


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=list(FORMATS))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PyrovaeError(f"{path}: not an image ({error}); replace it or take it out of the folder") from error
    if image.mode in DEEP:
        raise PyrovaeError(
            f"{path}: pixels deeper than 8 bits (mode {image.mode}), which would be clipped; convert the images to 8 "
            "bits, or save them as floats in [0, 1] in a .npy file"
        )
    return image
