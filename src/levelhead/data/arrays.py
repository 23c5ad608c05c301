"""Arrays in ``.npy`` and ``.npz`` files: which of them are inputs and targets, and their values piece by piece."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from levelhead.data.source import EXACT, PARTS, DataError, Progress, channel_names, first_line
from levelhead.data.summary import Summary
from levelhead.terminal import closest, listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".npy", ".npz")
#: Bytes read at once.
_CHUNK = 2**22


@dataclass(frozen=True, slots=True)
class Arrays:
    """The inputs of a file.

    Args:
        path: the file.
        members: the arrays, those of training, validation and test where the file has each.
        shape: of the first.
        rows: of all of them.
        notes: how they are read.
    """

    path: Path
    members: tuple[str, ...]
    shape: tuple[int, ...]
    rows: int
    notes: tuple[str, ...]

    @property
    def features(self) -> int:
        """How many features or channels there are."""
        axis = channel_axis(self.shape)
        return 1 if axis is None else self.shape[axis]

    @property
    def names(self) -> tuple[str, ...]:
        """What the features are called."""
        return feature_names(self.shape, self.features)

    def blocks(self, progress: Progress) -> Iterator[tuple[NDArray[Any], int]]:
        """Values as (part, features) or (part, features, ...), with the first feature that they are of."""
        for member in self.members:
            with _opened(self.path, member) as (file, shape, fortran, dtype):
                layout = _memory_layout(shape, channel_axis(shape), fortran)
                yield from _blocks(file, self.path, dtype, layout, progress)


def open_arrays(path: Path) -> Arrays:
    """The inputs of an ``.npy`` or ``.npz`` file, by their headers.

    Raises:
        DataError: the file cannot be read, or does not hold numbers.
    """
    members: tuple[str, ...] = ("",)
    notes: tuple[str, ...] = ()
    if path.suffix.lower() == ".npz":
        members = inputs_of(path, only=True)
        notes = (f"The statistics are those of the array{'s' * (len(members) > 1)} {', '.join(map(repr, members))}.",)
    shapes = []
    for member in members:
        with _opened(path, member) as (_, shape, _, dtype):
            if dtype.kind not in "fiub":
                raise DataError(f"{path}: the array must hold numbers, got the type {dtype}")
            if not shape or not math.prod(shape):
                raise DataError(f"{path}: the array is empty, of shape {shape}")
            shapes.append(shape)
    if len({shape[1:] for shape in shapes}) > 1:
        raise DataError(f"{path}: the arrays {listed(members)} have rows of different shapes, {shapes}")
    return Arrays(path, members, shapes[0], sum(shape[0] for shape in shapes), notes)


def inputs_of(path: Path, *, only: bool) -> tuple[str, ...]:
    """The arrays ``x`` or ``X``; else ``x_train``, ``x_val`` and ``x_test``; else, where ``only``, the only one.

    Raises:
        DataError: the file is none, or has no such array.
    """
    names = _names(path)
    lower = {name.lower(): name for name in names}
    for name in ("x", "X"):
        if name in names:
            return (name,)
    if any(f"x_{name}" in lower for name in PARTS[0]):
        return tuple(lower[f"x_{name}"] for part in PARTS for name in part if f"x_{name}" in lower)
    if only and len(names) == 1:
        return (names[0],)
    why = ", and not one array only" if only else closest("x", names)
    raise DataError(f"{path}: no array 'x'{why}; the arrays are {listed(names) or 'none'}")


def targets_of(path: Path, inputs: tuple[str, ...], target: str | None) -> tuple[str, ...]:
    """The targets that go with the inputs: ``target``, ``y`` or ``Y``, or ``y_train`` with ``x_train``.

    Raises:
        DataError: there is none of that name.
    """
    names, found = _names(path), []
    lower = {name.lower(): name for name in names}
    for name in inputs:
        part = name[1:] if name.lower().startswith("x_") else ""
        wanted = f"{target or 'y'}{part}"
        if wanted not in names and (target is not None or wanted.lower() not in lower):
            raise DataError(f"{path}: no array {wanted!r}{closest(wanted, names)}; the arrays are {listed(names)}")
        found.append(wanted if wanted in names else lower[wanted.lower()])
    return tuple(found)


def given_by(members: tuple[str, ...]) -> tuple[bool, bool, bool]:
    """Which of training, validation and test the names are of."""
    ends = [name.lower().rpartition("_")[2] for name in members]
    train, validation, test = (any(end in part for end in ends) for part in PARTS)
    return train, validation, test


def read_member(path: Path, member: str) -> NDArray[Any]:
    """A whole array.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values: NDArray[Any] = arrays[member]
            return values
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise DataError(f"{path}: not an .npz file that can be read ({first_line(error)})") from error


def feature_names(shape: tuple[int, ...], features: int) -> tuple[str, ...]:
    """The names of the features of an array: ``x0``, ``x1``, ... in a table, channels otherwise."""
    return tuple(f"x{i}" for i in range(features)) if len(shape) <= 2 else channel_names(features)


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """The dimension of the features or channels of an array of rows; None where there is but one, with no dimension.

    (rows,) and (rows, height, width) have one; it is dimension 3 of (rows, height, width, 1 or 3), and otherwise 1.
    """
    if len(shape) in (1, 3):
        return None
    return 3 if len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3) else 1


@np.errstate(over="ignore", invalid="ignore")  # of squares beyond float64, whose deviation is told as infinite
def summary_of(block: NDArray[Any]) -> Summary:
    """Of an array (rows, features) or (rows, features, ...), as arrays of one entry a feature."""
    values = np.moveaxis(block, 1, 0).reshape(block.shape[1], -1)
    values, taken = exact(values, values[:, :1])
    values = values.astype(np.float64)  # a copy, in which the deviations take their place
    finite = np.isfinite(values)
    known: Any = True if finite.all() else finite
    count = finite.sum(1)
    missing = np.isnan(values).sum(1)
    infinite = values.shape[1] - missing - count
    low, high = values.min(1, where=known, initial=np.inf), values.max(1, where=known, initial=-np.inf)
    first = np.where(count > 0, values[np.arange(len(values)), finite.argmax(1)], 0)
    values[~finite] = 0
    np.subtract(values, first[:, None], out=values, where=known)
    mean = values.sum(1) / np.maximum(count, 1)
    np.subtract(values, mean[:, None], out=values, where=known)
    rest = values.sum(1) / np.maximum(count, 1)
    m2 = np.einsum("fr,fr->f", values, values) - rest * rest * count
    if taken.any():  # whole numbers of any size
        first, low, high = (
            np.array([int(value) + offset for value, offset in zip(values, taken[:, 0], strict=True)], object)
            for values in (first, low, high)
        )
    return Summary(first, count, mean + rest, m2, low, high, missing, infinite)


def summary_of_counts(values: NDArray[np.float64], counts: NDArray[np.int64]) -> Summary:
    """Of values in ascending order that each feature has as often as ``counts``, (features, values), says."""
    count = np.maximum(counts.sum(1), 1)
    mean = counts @ values / count
    m2 = (counts * (values - mean[:, None]) ** 2).sum(1)
    low, high = (np.where(counts > 0, values, far) for far in (np.inf, -np.inf))
    return Summary(0.0, counts.sum(1), mean, m2, low.min(1), high.max(1))


def each_of(summary: Summary) -> list[Summary]:
    """The features of a summary that holds arrays, by themselves."""
    fields = np.broadcast_arrays(*(np.asarray(getattr(summary, name), object) for name in Summary.__slots__))
    return [Summary(*values) for values in zip(*(field.tolist() for field in fields), strict=True)]


def exact(values: NDArray[Any], first: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Integers of 64 bits less the first of each feature, where float64 does not hold it; and what was taken off.

    The result is exact where the differences are. Other values are as they were.
    """
    taken = np.zeros(first.shape, object)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        taken = np.where(np.abs(first.astype(float)) > EXACT, first, first.dtype.type(0)).astype(object)
    if not taken.any():
        return values, taken
    low, high = int(values.min()), int(values.max())
    if max(high - int(taken.min()), int(taken.max()) - low) < 2**63:  # then the difference fits, wrapped or not
        wrapped = (taken % 2**64).astype(np.uint64)
        return (values.astype(np.uint64) - wrapped).view(np.int64).astype(np.float64), taken
    return values.astype(np.float64) - taken.astype(np.float64), taken


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not an .npz file that can be read ({first_line(error)})") from error


@contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
    """An array's bytes behind its header, its shape, whether in Fortran's order, and its type."""
    with ExitStack() as opened:
        try:
            file: IO[bytes] = opened.enter_context(path.open("rb"))
            if member:
                file = opened.enter_context(opened.enter_context(zipfile.ZipFile(file)).open(f"{member}.npy"))
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a NumPy file that can be read ({first_line(error)})") from error
        yield file, shape, fortran, dtype


def _memory_layout(shape: tuple[int, ...], axis: int | None, fortran: bool) -> tuple[int, int, int]:
    """The array as it lies in memory: outer × features × inner."""
    if axis is None:
        return math.prod(shape), 1, 1
    if fortran:
        shape, axis = shape[::-1], len(shape) - 1 - axis
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _blocks(
    file: IO[bytes], path: Path, dtype: np.dtype[Any], layout: tuple[int, int, int], progress: Progress
) -> Iterator[tuple[NDArray[Any], int]]:
    outer, features, inner = layout
    chunk = max(1, _CHUNK // dtype.itemsize)
    total = outer * features * inner * dtype.itemsize
    done = 0

    def read(count: int) -> NDArray[Any]:
        nonlocal done
        try:
            raw = file.read(count * dtype.itemsize)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path}: the file is damaged ({first_line(error)})") from error
        if len(raw) < count * dtype.itemsize:
            raise DataError(f"{path}: the file ends after {done + len(raw)} of {total} bytes of data; it was cut short")
        done += len(raw)
        progress(done, total)
        values = np.frombuffer(raw, dtype)
        return values.astype(np.float64) if dtype.itemsize > 8 else values.astype(dtype.newbyteorder("="), copy=False)

    if features * inner <= chunk or inner < 2**12:
        step = max(1, chunk // (features * inner))
        for start in range(0, outer, step):
            size = min(step, outer - start)
            block = read(size * features * inner)
            yield block.reshape((size, features) if inner == 1 else (size, features, inner)), 0
        return
    for _ in range(outer):  # a run of one feature is longer than a block
        for feature in range(features):
            for start in range(0, inner, chunk):
                yield read(min(chunk, inner - start)).reshape(-1, 1), feature
