"""Files read piece by piece, so that memory does not grow with them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from levelhead.data import tables
from levelhead.data.arrays import channel_axis
from levelhead.data.dataset import DataError, listed

Progress = Callable[[int, int], object]

#: Bytes read at once of an array, and of a CSV file, whose parser takes many times the text that it is given.
_CHUNK, _CSV_CHUNK = 2**22, 2**20
#: Rows of a Parquet column read at once: what most writers put in a row group.
_ROWS = 2**18


@dataclass(frozen=True, slots=True)
class CsvBlock:
    """Some rows of a CSV file.

    Args:
        rows: how many.
        kinds: the kind of every column, by name; the same for all blocks.
        numbers: float64 (rows, columns of numbers), NaN where a cell is empty.
        missing_texts: per column of texts how many cells are empty; 0 for the others.
    """

    rows: int
    kinds: dict[str, tables.Kind]
    numbers: Tensor
    missing_texts: list[int]


def stream_csv(path: Path, progress: Progress) -> Iterator[CsvBlock]:
    """The rows of a CSV file; the kinds of the columns are those of the first block, see ``tables.parse_cells``.

    Raises:
        DataError: the header or a cell cannot be used.
    """
    total, done, first_row = path.stat().st_size, 0, 2
    kinds: dict[str, tables.Kind] = {}
    header: tables.Header | None = None
    with path.open("rb") as file:
        for piece in tables.records(iter(lambda: file.read(_CSV_CHUNK), b"")):
            body = piece
            if header is None:
                header = tables.read_header(path, piece)
                body = piece[tables.record_end(piece) + 1 :]
            if body.strip():
                block = _csv_block(path, header, body, first_row, kinds)
                kinds = block.kinds
                first_row += block.rows
                yield block
            done += len(piece)
            progress(done, total)
    if first_row == 2:
        raise DataError(f"{path}: " + ("the file is empty" if header is None else "there are no rows below the header"))


def _csv_block(
    path: Path, header: tables.Header, body: bytes, first_row: int, kinds: dict[str, tables.Kind]
) -> CsvBlock:
    import polars as pl

    frame = None
    if kinds:
        schema = {name: pl.Float64() if kind == "number" else pl.String() for name, kind in kinds.items()}
        try:  # the quick way: the parser makes the numbers itself; it refuses spaces around them, and texts
            frame = pl.read_csv(
                body, has_header=False, separator=header.separator, schema=schema, null_values=list(tables.MISSING)
            )
        except pl.exceptions.PolarsError:
            frame = None
    if frame is None:
        schema = dict.fromkeys(header.names, pl.String())
        try:
            texts = pl.read_csv(body, has_header=False, separator=header.separator, schema=schema)
        except pl.exceptions.PolarsError as error:
            raise tables.csv_error(path, header, error) from error
        parsed = {name: tables.parse_cells(texts[name], path, first_row, kinds.get(name)) for name in header.names}
        kinds = {name: kind for name, (kind, _) in parsed.items()}
        frame = pl.DataFrame({name: cells for name, (_, cells) in parsed.items()})
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    missing = [0 if kind == "number" else frame[name].null_count() for name, kind in kinds.items()]
    values = frame.select(pl.col(numbers).fill_null(math.nan)).to_numpy(writable=True)
    return CsvBlock(len(frame), kinds, torch.from_numpy(values), missing)


@dataclass(frozen=True, slots=True)
class ParquetColumn:
    """One column of a Parquet file.

    Args:
        name: its name.
        type: its type in the file.
        kind: number or text; None where it is neither, and then there are no pieces.
        rows: how many rows it has.
        pieces: gives (numbers or None, missing texts), piece by piece.
    """

    name: str
    type: str
    kind: tables.Kind | None
    rows: int
    pieces: Callable[[], Iterator[tuple[Tensor | None, int]]]


def stream_parquet(path: Path, progress: Progress) -> Iterator[ParquetColumn]:
    """The columns of a Parquet file one after another: a row group of a wide table can be larger than the memory.

    Raises:
        DataError: the file cannot be read.
    """
    import polars as pl

    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        rows = int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({tables.first_line(error)})") from error
    if not rows or not len(schema):
        raise DataError(f"{path}: there are no rows")
    for index, (name, dtype) in enumerate(schema.items()):
        kind: tables.Kind | None = None
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            kind = "number"
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            kind = "text"

        def pieces(
            name: str = name, kind: tables.Kind | None = kind, before: int = index * rows
        ) -> Iterator[tuple[Tensor | None, int]]:
            if kind is None:
                return
            chosen = pl.col(name).cast(pl.Float64).fill_null(math.nan) if kind == "number" else pl.col(name).is_null()
            for start in range(0, rows, _ROWS):  # slices: the streaming engine reads ahead, and that costs memory
                cells = frame.slice(start, _ROWS).select(chosen).collect().to_series()
                if kind == "number":
                    yield torch.from_numpy(cells.to_numpy(writable=True)), 0
                else:
                    yield None, int(cells.sum())
                progress(before + start + len(cells), rows * len(schema))

        yield ParquetColumn(name, str(dtype), kind, rows, pieces)


@dataclass(frozen=True, slots=True)
class ArrayStream:
    """An array in a file.

    Args:
        rows: the length of its first dimension.
        features: how many features or channels it has.
        flat: whether it is a table, (rows,) or (rows, features).
        notes: how it was read.
        blocks: values as (part, features) or (part, features, ...), with the features that they are of.
    """

    rows: int
    features: int
    flat: bool
    notes: tuple[str, ...]
    blocks: Iterator[tuple[Tensor, slice]]


def stream_npy(path: Path, progress: Progress) -> ArrayStream:
    """The array of an ``.npy`` file, or the array ``x``, or the only one, of an ``.npz`` file.

    Raises:
        DataError: the file cannot be read, or does not hold numbers.
    """
    with ExitStack() as opened:  # closed here where something is wrong with the file, by the blocks where nothing is
        try:
            if path.suffix.lower() == ".npy":
                file: IO[bytes] = opened.enter_context(path.open("rb"))
                notes: tuple[str, ...] = ()
            else:
                archive = opened.enter_context(zipfile.ZipFile(path))
                name = _only_array(path, [name.removesuffix(".npy") for name in archive.namelist()])
                file = opened.enter_context(archive.open(f"{name}.npy"))
                notes = (f"The statistics are those of the array {name!r}.",)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: not a NumPy file that can be read ({tables.first_line(error)})") from error
        if dtype.kind not in "fiub":
            raise DataError(f"{path}: the array must hold numbers, got the type {dtype}")
        if not shape or not math.prod(shape):
            raise DataError(f"{path}: the array is empty, of shape {shape}")
        axis = channel_axis(shape)
        features = 1 if axis is None else shape[axis]
        layout = _memory_layout(shape, axis, fortran)
        blocks = _blocks(file, path, dtype, layout, progress, opened.pop_all())
        return ArrayStream(shape[0], features, len(shape) <= 2, notes, blocks)


def _only_array(path: Path, names: list[str]) -> str:
    if "x" in names:
        return "x"
    if len(names) != 1:
        raise DataError(f"{path}: no array 'x', and not one array only; the arrays are {listed(names)}")
    return names[0]


def _memory_layout(shape: tuple[int, ...], axis: int | None, fortran: bool) -> tuple[int, int, int]:
    """The array as it lies in memory: outer × features × inner."""
    if axis is None:
        return math.prod(shape), 1, 1
    if fortran:
        shape, axis = shape[::-1], len(shape) - 1 - axis
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _blocks(
    file: IO[bytes],
    path: Path,
    dtype: np.dtype[Any],
    layout: tuple[int, int, int],
    progress: Progress,
    opened: ExitStack,
) -> Iterator[tuple[Tensor, slice]]:
    outer, features, inner = layout
    chunk = max(1, _CHUNK // dtype.itemsize)
    total = outer * features * inner * dtype.itemsize
    done = 0

    def read(count: int) -> Tensor:
        nonlocal done
        raw = bytearray(file.read(count * dtype.itemsize))
        if len(raw) < count * dtype.itemsize:
            raise DataError(f"{path}: the file ends after {done + len(raw)} of {total} bytes of data; it was cut short")
        done += len(raw)
        progress(done, total)
        values = np.frombuffer(raw, dtype)
        if dtype.kind == "u" and dtype.itemsize > 1:
            values = values.astype(np.float64 if dtype.itemsize == 8 else np.int64)
        elif not dtype.isnative or dtype.itemsize > 8:
            values = values.astype(np.float64)
        return torch.from_numpy(values)

    with opened:
        if features * inner <= chunk or inner < 2**12:
            step = max(1, chunk // (features * inner))
            for start in range(0, outer, step):
                size = min(step, outer - start)
                block = read(size * features * inner)
                yield block.view((size, features) if inner == 1 else (size, features, inner)), slice(None)
            return
        for _ in range(outer):  # a run of one feature is longer than a block
            for feature in range(features):
                for start in range(0, inner, chunk):
                    yield read(min(chunk, inner - start)).view(-1, 1), slice(feature, feature + 1)
