"""Count, mean, deviation and range of every feature of a source, in constant memory and without torch."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.data import tables
from levelhead.data.cells import Kind, Table
from levelhead.data.source import DataError, Progress, Reading, channel_names
from levelhead.data.summary import Summary

if TYPE_CHECKING:
    import polars as pl

    from levelhead.data import arrays, images


@dataclass(frozen=True, slots=True)
class Feature:
    """One column, or one channel.

    Args:
        name: its name in the source, or ``channel 0``, ...
        kind: ``number`` or ``text``; of a text only ``count`` and ``missing`` are known.
        count: how many values are known and finite.
        mean: their mean, in the units of the source; NaN where there is none, like ``std``, ``min`` and ``max``.
        std: their standard deviation, of the population: √(M2 / count).
        min: the smallest; ``max`` the largest.
        missing: how many are empty, or NaN.
        infinite: how many are infinite; they are in no other figure.
    """

    name: str
    kind: Kind
    count: int
    mean: float
    std: float
    min: float
    max: float
    missing: int
    infinite: int


@dataclass(frozen=True, slots=True)
class Description:
    """The statistics of a source.

    Args:
        source: what was read.
        rows: how many rows, or images.
        features: one a column or channel, in the order of the source.
        notes: what a reader must know.
    """

    source: str
    rows: int
    features: tuple[Feature, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data; NaN stands where there is no value (``records.write_json`` writes it)."""
        return asdict(self)


def describe(
    source: str | Path,
    *,
    progress: Progress | None = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> Description:
    """The statistics of every feature of a source, read piece by piece.

    Args:
        source: a CSV, Parquet or Feather file; an ``.npy`` or ``.npz`` file (its inputs, or its only array); a folder
            of images (of any sizes); a built-in name; or ``module:function``. All but the last two are read in constant
            memory, whatever their size.
        progress: called now and then as ``progress(done, total)``, in bytes, rows or images.
        reading: how the source is read, where it does not say so itself.

    Raises:
        DataError: the source cannot be read; one line that names the place and the repair.
    """
    path = Path(source)
    report = progress or (lambda done, total: None)
    if path.is_file() and path.suffix.lower() in tables.SUFFIXES:
        return _describe_table(tables.open_table(path, reading), report)
    from levelhead.data import arrays, images

    if path.is_file() and path.suffix.lower() in arrays.SUFFIXES:
        return _describe_array(arrays.open_arrays(path), report)
    if path.is_dir():
        return _describe_folder(images.scan_folder(path), report, reading)
    from levelhead.data.loading import read

    data = read(source)
    report(len(data.x), len(data.x))
    each = zip(data.features, arrays.each_of(arrays.summary_of(data.x.numpy())), strict=True)
    offsets = data.offsets or (0,) * len(data.features)
    features = (_feature(*one, offset=offset) for one, offset in zip(each, offsets, strict=True))
    return Description(data.source, len(data.x), tuple(features), data.notes)


def _describe_table(table: Table, report: Progress) -> Description:
    seen: dict[str, Summary] = defaultdict(Summary)
    with ThreadPoolExecutor(2) as pool:  # polars works outside Python's lock
        for frame, _ in table.blocks(report):
            for name, found in zip(frame.columns, pool.map(_of_column, frame.get_columns()), strict=True):
                seen[name] = seen[name].merge(found)
    features = (_feature(one.name, seen[one.name], one.kind or "number", one.offset) for one in table.columns)
    return Description(str(table.path), table.rows, tuple(features), tuple(table.notes))


def _of_column(column: pl.Series) -> Summary:
    if column.dtype.is_float():
        return Summary.of_column(column)
    missing = column.null_count()
    return Summary(count=len(column) - missing, missing=missing)


def _describe_array(source: arrays.Arrays, report: Progress) -> Description:
    import numpy as np

    from levelhead.data import arrays

    seen: dict[int, Summary] = defaultdict(Summary)  # by the first of the features that are read together
    with np.errstate(over="ignore", invalid="ignore"):  # as in ``summary_of``
        for block, first in source.blocks(report):
            seen[first] = seen[first].merge(arrays.summary_of(block))
    each = [one for together in seen.values() for one in arrays.each_of(together)]
    return Description(str(source.path), source.rows, tuple(map(_feature, source.names, each)), source.notes)


def _describe_folder(folder: images.Folder, report: Progress, reading: Reading) -> Description:
    from levelhead.data import arrays, images

    total, together, said, damaged = len(folder.files), Summary(), Counter[tuple[int, tuple[str, ...]]](), []
    for index, found in images.pictures(folder, reading, images.measured, resize=reading.image_size):
        if found is None:
            damaged.append(index)
        else:
            channels, sentences, summary = found
            said[channels, sentences] += 1
            together = together.merge(summary)  # a grey picture among colour ones counts in each of their channels
        report(index + 1, total)
    if len(damaged) == total:
        raise DataError(f"{folder.path}: every image is damaged")
    seen = arrays.each_of(together)
    notes = images.what_was_done(folder, said, damaged)
    features = map(_feature, channel_names(len(seen)), seen)
    return Description(str(folder.path), total - len(damaged), tuple(features), tuple(notes))


def _feature(name: str, seen: Summary, kind: Kind = "number", offset: int = 0) -> Feature:
    """Of the values less the offset that was seen."""
    mean = std = low = high = math.nan
    if seen.count and kind == "number":
        mean, low, high = _total(offset, seen.origin, seen.mean), _total(offset, seen.low), _total(offset, seen.high)
        std = math.sqrt(max(seen.m2, 0) / seen.count) if math.isfinite(seen.m2) else math.inf  # below 0 by rounding
    return Feature(name, kind, seen.count, mean, std, low, high, seen.missing, seen.infinite)


def _total(*terms: float) -> float:
    """A sum that is rounded once, of whole numbers that float64 does not hold, too."""
    near = [float(term) for term in terms]
    return math.fsum((*near, *(term - int(value) for term, value in zip(terms, near, strict=True) if term != value)))
