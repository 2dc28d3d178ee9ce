"""A folder of images of one's own."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pyrovae.data import image_files
from pyrovae.data.binarization import check_binarization
from pyrovae.data.files import Place
from pyrovae.data.partition import OFFICIAL, Share, completed
from pyrovae.data.pixels import digest, image_data, in_unit_interval, is_bits
from pyrovae.data.splits import Data
from pyrovae.errors import PyrovaeError


class Listed(NamedTuple):
    """The image files of a folder, and the class of each where sub-folders name classes."""

    paths: list[Path]
    classes: list[str]  # one for each path; empty where there are none


def images(
    folder: Place,
    *,
    binarization: str | None = None,
    seed: int = 0,
    validation: Share | None = None,
    test: Share | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> Data:
    """A folder of images, x of shape (N, C, H, W), uint8 values divided by 255, or 0 and 1 as they are.

    What is transparent is shown on white. The formats are PNG, JPEG, WebP, BMP, GIF, TIFF and PBM, PGM, PPM.

    ``folder/*.png`` has no labels, ``folder/cat/*.png`` takes them from the names of the sub-folders. Sub-folders
    ``train`` and, where there are such, ``validation`` and ``test``, each in one of these two forms, are the splits;
    what is not there is taken from ``train``, else from all images, by a permutation from ``seed``.

    Args:
        binarization: "dynamic", "static" or "none"; by default "static" where all pixels are black or white, which
            changes nothing, else "none".
        validation, test: how many images are held out, of those not split already: an int is a number, a float a
            fraction; a tenth where None.
        size: an int, for squares, or (H, W); images are then resized and cropped at the centre.
        channels: 1 or 3; by default 1 where all images are grey.

    Raises:
        PyrovaeError: no such folder; no images; images of different sizes where no ``size`` is given; a file that is
            no whole image; images beside sub-folders with images; classes that differ between splits; an empty split.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise PyrovaeError(f"{folder}: there is no such folder (from {Path.cwd()})")
    if channels not in (None, 1, 3):
        raise PyrovaeError(f"channels={channels}: images have 1 channel, grey, or 3, red, green and blue")
    shape = None if size is None else image_files.as_size(size)
    if binarization is not None:
        check_binarization(binarization)
    official = {name: _listed(folder / name) for name in OFFICIAL if (folder / name).is_dir()}
    if official and "train" not in official:
        raise PyrovaeError(f"{folder}: there is {' and '.join(official)}, but no sub-folder train to learn from")
    parts = official or {"train": _listed(folder)}
    classes = sorted(set(parts["train"].classes))
    labels = {name: _labels(folder / name, part, classes) for name, part in parts.items()}
    pixels = dict(zip(parts, _read(list(parts.values()), shape, channels), strict=True))
    fingerprint = digest(*pixels.values(), *labels.values(), "\n".join(classes).encode())
    generator = torch.Generator("cpu").manual_seed(seed)
    split_x, split_labels = completed(pixels, labels, validation=validation, test=test, generator=generator)
    grey = in_unit_interval(split_x)
    return image_data(
        folder.resolve().name, grey, split_labels,
        binarization=binarization or ("static" if all(map(is_bits, grey)) else "none"), seed=seed,
        generator=generator, classes=classes, fingerprint=fingerprint,
    )  # fmt: skip


def _listed(folder: Path) -> Listed:
    def here(place: Path) -> list[Path]:
        found = (path for path in place.iterdir() if path.suffix.lower() in image_files.SUFFIXES)
        return sorted(path for path in found if path.is_file() and not path.name.startswith("."))

    flat = here(folder)
    inside = {place.name: here(place) for place in sorted(folder.iterdir()) if place.is_dir()}
    inside = {name: paths for name, paths in inside.items() if paths}
    if flat and inside:
        raise PyrovaeError(
            f"{folder}: holds images, and sub-folders with images ({', '.join(inside)}): either put every image into a "
            "sub-folder named after its class, or all into one folder without classes"
        )
    if not flat and not inside:
        raise PyrovaeError(f"{folder}: there are no images in it, nor in its sub-folders (such as .png or .jpg)")
    paths = flat or [path for each in inside.values() for path in each]
    return Listed(paths, [name for name, each in inside.items() for _ in each])


def _labels(where: Path, part: Listed, classes: list[str]) -> Tensor | None:
    if bool(part.classes) != bool(classes):
        raise PyrovaeError(f"{where}: sub-folders name classes in one split and not in another; do it in all or none")
    if strange := sorted(set(part.classes) - set(classes)):
        raise PyrovaeError(
            f"{where}: the classes {', '.join(strange)} are not among those of train: {', '.join(classes)}"
        )
    return torch.tensor([classes.index(name) for name in part.classes]) if classes else None


def _read(parts: list[Listed], shape: tuple[int, int] | None, channels: int | None) -> list[Tensor]:
    """The images of each part, (N, C, H, W) uint8."""
    paths = [path for part in parts for path in part.paths]
    headers = [image_files.header(path) for path in paths]
    channels = channels or (1 if all(header.grey for header in headers) else 3)
    shape = shape or image_files.common_size(paths, headers)
    return [image_files.stacked(image_files.read(path, shape, channels) for path in part.paths) for part in parts]
