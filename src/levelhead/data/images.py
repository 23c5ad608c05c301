"""Folders of images, one subfolder a class, perhaps below train, validation and test."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from levelhead.data.arrays import summary_of, summary_of_counts
from levelhead.data.source import PARTS, DataError, Reading
from levelhead.data.summary import Summary
from levelhead.terminal import listed, printable

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
#: Images of several sizes are brought to this one, width and height, where no other is asked for.
_SIZE = (64, 64)
#: Images that a thread decodes at a time.
_TOGETHER = 16
#: More bytes than this of float32 pixels are not loaded.
_MOST_BYTES = 2**33
_GREY_AMONG_COLOUR = "are grey and were read as colour, like the others"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Folder:
    """What is in a folder, by the names of the files.

    Args:
        path: the folder.
        files: every image with the index of its class, training first, then validation, then test.
        classes: the names of the classes; empty where the images lie in the folder itself.
        given: how many images the folder sets apart for training, validation and test; None where it does not.
        notes: what a reader must know.
    """

    path: Path
    files: tuple[tuple[Path, int], ...]
    classes: tuple[str, ...]
    given: tuple[int, int, int] | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    Args:
        source: a grey or RGB image of 8 bits, or an array (height, width) or (height, width, 3).
        white: the value of white: pixels are divided by it. 1 where they are real numbers, which are left as they are.
        said: what was done to it, in words.
    """

    source: Any
    white: float
    said: tuple[str, ...] = ()

    @property
    def pixels(self) -> NDArray[Any]:
        """(height, width) of grey values, or (height, width, 3)."""
        return np.asarray(self.source)

    @property
    def channels(self) -> int:
        """1 or 3."""
        two = self.source.ndim == 2 if isinstance(self.source, np.ndarray) else self.source.mode == "L"
        return 1 if two else 3


def scan_folder(path: Path) -> Folder:
    """Find the images of a folder.

    Raises:
        DataError: there is no image, or a class has none.
    """
    folders = _folders(path)
    notes: list[str] = []
    by_part = [[f for f in folders if f.name.lower() in names and _folders(f)] for names in PARTS]
    if by_part[0] and sum(f.name.lower() in chain(*PARTS) for f in folders) > 1:
        parts = [[below for folder in part for below in _folders(folder)] for part in by_part]
        if rest := [f.name for f in folders if f not in chain(*by_part)]:
            notes.append(f"Left out, as no part of the split with folders of classes: {printable(listed(rest))}.")
    else:
        parts, by_part = [folders], []
    names = sorted({folder.name for part in parts for folder in part})
    files: list[tuple[Path, int]] = []
    counts, others = [], 0
    for part in parts:
        before = len(files)
        for folder in part:
            entries = sorted(e for e in folder.rglob("*") if e.is_file() and not e.name.startswith("."))
            images = [entry for entry in entries if entry.suffix.lower() in _SUFFIXES]
            if not images:
                raise DataError(f"{folder}: no image in the folder of this class; add some, or remove the folder")
            others += len(entries) - len(images)
            files += [(image, names.index(folder.name)) for image in images]
        counts.append(len(files) - before)
    if not folders:
        files = [(e, 0) for e in sorted(path.iterdir()) if e.suffix.lower() in _SUFFIXES and not e.name.startswith(".")]
        if not files:
            raise DataError(
                f"{path}: no image, and no subfolders; put the images of each class in a folder of its name"
            )
    notes += [f"{others} files that are not images were left out."] if others else []
    if by_part:
        absent = [
            f"{path.name}/{part[0].parent.name}/{name}"
            for part in parts
            for name in names
            if part and name not in {folder.name for folder in part}
        ]
        notes += [f"No folder {listed(absent)}: the class is not in that part."] if absent else []
    given = (counts[0], counts[1], counts[2]) if any(by_part[1:]) else None
    return Folder(path, tuple(files), tuple(map(printable, names)), given, tuple(notes))


def pictures(
    folder: Folder, reading: Reading, work: Callable[[Picture], T], *, resize: tuple[int, int] | None = None
) -> Iterator[tuple[int, T | None]]:
    """What ``work`` makes of every image, by its place in ``folder.files``; None where one is damaged and skipped.

    Images are decoded on as many threads as there are cores, some at a time, for threads to meet less often.

    Raises:
        DataError: an image cannot be read.
    """

    def one(path: Path) -> T | None:
        try:
            return work(_decode(path, resize))
        except DataError:
            if reading.skip_damaged:
                return None
            raise

    workers = os.cpu_count() or 1
    paths = [path for path, _ in folder.files]
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[T | None]]] = deque()
        done = 0
        try:
            for start in range(0, len(paths), _TOGETHER):
                waiting.append(pool.submit(lambda some: [one(path) for path in some], paths[start : start + _TOGETHER]))
                last = start + _TOGETHER >= len(paths)
                while waiting and (last or len(waiting) > 3 * workers):
                    for result in waiting.popleft().result():
                        yield done, result
                        done += 1
        finally:
            pool.shutdown(cancel_futures=True)


def measured(picture: Picture) -> tuple[int, tuple[str, ...], Summary]:
    """Channels, what was done, and statistics; of whole numbers of up to 16 bits by how often each is there."""
    source, channels = picture.source, picture.channels
    if not isinstance(source, np.ndarray):
        counts = np.array(source.histogram()).reshape(channels, -1)
    elif source.dtype == np.uint16:
        counts = np.bincount(source.ravel(), minlength=2**16)[None]
    else:
        return channels, picture.said, summary_of(source.reshape(-1, channels).astype(np.float64) / picture.white)
    return channels, picture.said, summary_of_counts(np.arange(counts.shape[1]) / picture.white, counts)


def what_was_done(folder: Folder, said: Mapping[tuple[int, tuple[str, ...]], int], damaged: list[int]) -> list[str]:
    """Sentences on classes, splits, and what was done to how many of the images.

    Args:
        folder: what was read.
        said: how many images have so many channels and sentences.
        damaged: the places of those that were left out.
    """
    notes, most, told = list(folder.notes), max(channels for channels, _ in said), Counter[str]()
    for (channels, sentences), count in said.items():
        for sentence in (*sentences, *([_GREY_AMONG_COLOUR] if channels < most else [])):
            told[sentence] += count
    if folder.classes:
        sizes = Counter(index for i, (_, index) in enumerate(folder.files) if i not in set(damaged))
        named = [f"{name} ({sizes[index]})" for index, name in enumerate(folder.classes)]
        notes.insert(0, f"{len(named)} class{'es' * (len(named) > 1)}: {listed(named)}.")
    if folder.given:
        parts = " / ".join(map(str, _given(folder, damaged) or ()))
        notes.insert(1, f"The folder sets apart {parts} images for training / validation / test.")
    if damaged:
        names = [str(folder.files[i][0].relative_to(folder.path)) for i in damaged]
        some = "1 damaged image was" if len(names) == 1 else f"{len(names)} damaged images were"
        notes.append(f"{some} left out: {listed(names)}.")
    return notes + [f"{count} of {len(folder.files)} images {sentence}." for sentence, count in told.items()]


def load_folder(path: Path, reading: Reading) -> tuple[Folder, NDArray[np.float32], list[str]]:
    """Every image of a folder as float32 (images, channels, height, width).

    Images of several sizes are brought to 64 x 64 pixels, where no other size is asked for.

    Raises:
        DataError: what ``scan_folder`` raises, an image cannot be read, or all together are too large.
    """
    folder = scan_folder(path)
    if not folder.classes:
        raise DataError(f"{path}: the folder has no subfolders; put the images of each class in a folder of its name")
    size, sizes = reading.image_size, set()
    if size is None:
        sizes = {size for file, _ in folder.files if (size := _size(file, reading)) is not None}
        size = next(iter(sizes)) if len(sizes) == 1 else _SIZE
    total = len(folder.files) * size[0] * size[1] * 12
    if total > _MOST_BYTES:
        problem = f"{len(folder.files)} images of {size[0]} x {size[1]} pixels are {total / 2**30:.0f} GB"
        raise DataError(f"{path}: {problem}; bring them to a smaller size, with --image-size 64 for example")
    found: dict[int, Picture] = {}
    damaged = []
    for index, picture in pictures(folder, reading, lambda picture: picture, resize=size):
        if picture is None:
            damaged.append(index)
        else:
            found[index] = picture
    if not found:
        raise DataError(f"{path}: every image is damaged")
    channels = max(picture.channels for picture in found.values())
    x = np.empty((len(found), channels, size[1], size[0]), np.float32)
    for row, picture in zip(x, found.values(), strict=True):
        row[...] = np.atleast_3d(picture.pixels).transpose(2, 0, 1) / np.float32(picture.white)
    said = Counter((picture.channels, picture.said) for picture in found.values())
    notes = what_was_done(folder, said, damaged)
    kind = "grey" if channels == 1 else "RGB"
    notes.insert(0, f"{len(found)} {kind} images of {size[0]} x {size[1]} pixels, white at 1.")
    if len(sizes) > 1:
        notes.append(f"Images of {len(sizes)} sizes were brought to {size[0]} x {size[1]}; --image-size takes another.")
    kept = tuple(folder.files[index] for index in found)
    return replace(folder, files=kept, given=_given(folder, damaged)), x, notes


def _given(folder: Folder, damaged: list[int]) -> tuple[int, int, int] | None:
    """How many images of each part are left."""
    if folder.given is None:
        return None
    train, validation, _ = folder.given
    ends = (0, train, train + validation, len(folder.files))
    kept = [end - start - sum(start <= i < end for i in damaged) for start, end in pairwise(ends)]
    return kept[0], kept[1], kept[2]


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _size(path: Path, reading: Reading) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if _turned(image) >= 5 else (width, height)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if reading.skip_damaged:
            return None
        raise _damaged(path, error) from error


def _turned(image: Any) -> int:
    """The orientation that a camera wrote: 1 upright, 5 and more on its side."""
    return int(image.getexif().get(0x0112, 1)) if "exif" in image.info or image.format == "TIFF" else 1


def _damaged(path: Path, error: Exception) -> DataError:
    reason = "cut short" if "truncated" in str(error) else "damaged, or not an image"
    return DataError(f"{path}: the image cannot be read ({reason}); replace or remove it, or use --skip-damaged")


def _decode(path: Path, size: tuple[int, int] | None) -> Picture:
    """An image upright, without alpha, in its own bit depth.

    Raises:
        DataError: it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            said = (
                ["have 16 bits a colour and were read at 8"] if ";16" in str(image.tile) and "RGB" in image.mode else []
            )
            image.load()
            if getattr(image, "is_animated", False):
                said.append("have several frames; the first was read")
            upright: Image.Image = image
            if _turned(image) != 1:
                upright = ImageOps.exif_transpose(image)
                said.append("were turned upright, as the camera says")
            source, white = _converted(path, upright, getattr(image, "tag_v2", None), said)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise _damaged(path, error) from error
    if size is not None and size != upright.size:
        pixels = np.atleast_3d(np.asarray(source)).astype(np.float32)
        planes = [Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR) for plane in np.moveaxis(pixels, 2, 0)]
        source = np.stack([np.asarray(plane) for plane in planes], 2)[..., slice(None) if len(planes) > 1 else 0]
    return Picture(source, white, tuple(said))


def _converted(path: Path, image: Any, tags: Any, said: list[str]) -> tuple[Any, float]:
    """A grey or RGB image of 8 bits, or pixels, and the value of white.

    The mode gives the depth, the tags of a TIFF (258: bits, 339: signed) the rest.
    """
    mode = image.mode
    bits, sample = ((tags or {}).get(tag, 0) for tag in (258, 339))
    bits, sample = (value[0] if isinstance(value, tuple) else value for value in (bits, sample))
    if mode == "F":
        said.append("hold real numbers, left as they are")
        return np.asarray(image), 1.0
    if mode.startswith("I;16"):
        pixels, white = np.asarray(image).astype(np.uint16), float(2 ** (bits if 8 < bits < 16 else 16) - 1)
        if white > 4095 and 255 < pixels.max() <= 4095:
            said.append("have 16 bits and no value above 4095; if 12 are meant, white is at 4095, and not at 65535")
        return pixels, white
    if mode == "I":  # 32 bits in memory, of a PNG 16 in the file
        if tags is None or 8 < bits <= 16:
            return np.asarray(image), 2.0**16 - 1
        said.append("hold integers of 32 bits, divided by the greatest that there is")
        return (np.asarray(image), 2.0**31 - 1) if sample == 2 else (np.asarray(image).view(np.uint32), 2.0**32 - 1)
    if "A" in mode.replace("LAB", "") or "a" in mode or "transparency" in image.info:
        said.append("had alpha, which was dropped")
    if mode == "P":
        table = image.getpalette("RGB")
        grey = table[::3] == table[1::3] == table[2::3]
        return image.convert("L" if grey else "RGB"), 255.0
    wanted = "L" if mode in ("1", "L", "LA", "La") else "RGB"
    if mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    if mode == "LAB":
        raise DataError(f"{path}: a LAB image is not read; save it as RGB")
    return (image if image.mode == wanted else image.convert(wanted)), 255.0
