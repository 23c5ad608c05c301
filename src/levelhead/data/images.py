"""A folder of images with one subfolder a class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from levelhead.data.dataset import DataError, Unsplit, channel_names, rows_of

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_GREY_MODES = frozenset({"1", "L", "LA", "La"})


@dataclass(frozen=True, slots=True)
class Folder:
    """What is in the folder, from the headers of the files alone.

    Args:
        files: every image with the index of its class, in the order of their names.
        classes: the names of the subfolders.
        sizes: width and height of every image.
        channels: 1 where every image is grey, otherwise 3.
        notes: what a reader must know.
    """

    files: tuple[tuple[Path, int], ...]
    classes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    channels: int
    notes: tuple[str, ...]

    def images(self) -> Iterator[Tensor]:
        """Every image as float32 (channels, height, width), 0 to 1."""
        mode = "L" if self.channels == 1 else "RGB"
        for path, _ in self.files:
            with _open(path) as image:
                pixels = np.asarray(image.convert(mode), dtype=np.float32)
            yield torch.from_numpy(pixels.reshape(pixels.shape[0], pixels.shape[1], -1)).permute(2, 0, 1) / 255


def scan_folder(path: Path) -> Folder:
    """Find the images of a folder.

    Raises:
        DataError: there is no subfolder, a subfolder has no image, or an image cannot be read.
    """
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(f"{path}: the folder has no subfolders; put the images of each class in a folder of its name")
    files: list[tuple[Path, int]] = []
    ignored = 0
    for index, folder in enumerate(folders):
        entries = sorted(e for e in folder.rglob("*") if e.is_file() and not e.name.startswith("."))
        images = [entry for entry in entries if entry.suffix.lower() in _SUFFIXES]
        if not images:
            raise DataError(f"{folder}: no image in the folder of this class; add some, or remove the folder")
        ignored += len(entries) - len(images)
        files += [(image, index) for image in images]
    headers = [_header(file) for file, _ in files]
    grey = sum(mode in _GREY_MODES for _, mode in headers)
    notes = [f"{ignored} files that are not images were left out."] if ignored else []
    if 0 < grey < len(files):
        notes.append(f"{grey} of {len(files)} images are grey and were read as colour, like the others.")
    channels = 1 if grey == len(files) else 3
    return Folder(tuple(files), tuple(f.name for f in folders), tuple(s for s, _ in headers), channels, tuple(notes))


def read_images(path: Path) -> Unsplit:
    """Read a folder of images of one size, one subfolder a class; grey values or RGB from 0 to 1.

    Raises:
        DataError: what ``scan_folder`` raises, or the sizes differ.
    """
    folder = scan_folder(path)
    for (file, _), (width, height) in zip(folder.files, folder.sizes, strict=True):
        if (width, height) != folder.sizes[0]:
            first, (first_width, first_height) = folder.files[0][0].name, folder.sizes[0]
            differing = sum(size != folder.sizes[0] for size in folder.sizes)
            raise DataError(
                f"{file}: {width} x {height} pixels, where {first} has {first_width} x {first_height} "
                f"({differing} of {len(folder.files)} images differ); bring them to one size"
            )
    width, height = folder.sizes[0]
    x = torch.empty(len(folder.files), folder.channels, height, width)
    for row, image in zip(x, folder.images(), strict=True):
        row.copy_(image)
    y = torch.tensor([index for _, index in folder.files])
    why = f"Task: classification, because {path.name} has a subfolder for each of {len(folder.classes)} classes."
    kind = "grey" if folder.channels == 1 else "RGB"
    size = f"{rows_of(len(folder.files))}: {kind} images of {width} x {height} pixels, values scaled to 0 to 1."
    notes = (why, size, *folder.notes)
    return Unsplit(
        path.resolve().name, str(path), "classification", x, y, folder.classes, channel_names(folder.channels), notes
    )


def _header(path: Path) -> tuple[tuple[int, int], str]:
    with _open(path) as image:
        colours = image.getpalette() if image.mode == "P" else None
        if colours is None:
            return image.size, image.mode
        triples = zip(colours[::3], colours[1::3], colours[2::3], strict=True)
        return image.size, "L" if all(r == g == b for r, g, b in triples) else "P"


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """An image; what goes wrong while it is read and decoded becomes one line."""
    from PIL import Image

    try:
        with path.open("rb") as file, Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "cut short" if "truncated" in str(error) else "damaged, or not an image"
        raise DataError(f"{path}: the image cannot be read ({reason}); replace or remove it") from error
