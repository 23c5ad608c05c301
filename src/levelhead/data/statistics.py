"""Count, mean, deviation and range of every feature of a source, in constant memory and without torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from levelhead.data import arrays, images, tables
from levelhead.data.accumulator import Accumulator
from levelhead.data.source import DataError, Progress, Reading, channel_names


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
    kind: tables.Kind
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
    suffix = path.suffix.lower()
    if path.is_file() and suffix in arrays.SUFFIXES:
        return _describe_array(path, report)
    if path.is_file() and suffix in tables.SUFFIXES:
        return _describe_table(tables.open_table(path, reading), report)
    if path.is_dir():
        return _describe_folder(images.scan_folder(path), report, reading)
    from levelhead.data.loading import read

    data = read(source)
    seen = Accumulator(data.x.shape[1])
    seen.add(data.x.numpy())
    report(len(data.x), len(data.x))
    return Description(data.source, len(data.x), tuple(_features(seen, data.features)), data.notes)


def _describe_table(table: tables.Table, report: Progress) -> Description:
    import polars as pl

    numbers: Accumulator | None = None
    missing: dict[str, int] = {}
    for frame, _ in table.blocks(report):
        numbers = numbers or Accumulator(len(table.columns))
        for name, count in frame.null_count().row(0, named=True).items():
            missing[name] = missing.get(name, 0) + count
        of_numbers = [i for i, column in enumerate(table.columns) if column.kind == "number"]
        # One call where all columns are numbers; else one a run of neighbours.
        for run in np.split(of_numbers, np.flatnonzero(np.diff(of_numbers) != 1) + 1):
            if len(run):
                block = frame[:, run[0] : run[-1] + 1].with_columns(pl.all().fill_null(math.nan))
                numbers.add(block.to_numpy(), slice(run[0], run[-1] + 1))
    assert numbers is not None  # a table without rows is an error
    numbers.offset[:] = [column.offset for column in table.columns]
    features = [
        replace(feature, missing=missing[column.name])
        if column.kind == "number"
        else replace(feature, kind=column.kind or "number", missing=gone, count=table.rows - gone)
        for column, feature in zip(table.columns, _features(numbers, tuple(c.name for c in table.columns)), strict=True)
        for gone in [missing[column.name]]
    ]
    return Description(str(table.path), table.rows, tuple(features), tuple(table.notes))


def _describe_array(path: Path, report: Progress) -> Description:
    source = arrays.open_arrays(path)
    seen = Accumulator(source.features)
    for block, at in source.blocks(report):
        seen.add(block, at)
    return Description(str(path), source.rows, tuple(_features(seen, source.names)), source.notes)


def _describe_folder(folder: images.Folder, report: Progress, reading: Reading) -> Description:
    total, tally = len(folder.files), images.Tally()
    damaged = []
    for index, found in images.pictures(folder, reading, images.Tally.of, resize=reading.image_size):
        if found is None:
            damaged.append(index)
        else:
            tally.add(*found)
        report(index + 1, total)
    if len(damaged) == total:
        raise DataError(f"{folder.path}: every image is damaged")
    seen = tally.accumulated()
    notes = images.what_was_done(folder, tally.told(), damaged)
    names = channel_names(len(seen.count))
    return Description(str(folder.path), total - len(damaged), tuple(_features(seen, names)), tuple(notes))


def _features(seen: Accumulator, names: tuple[str, ...]) -> list[Feature]:
    columns = (seen.count, *seen.columns(), seen.missing, seen.infinite)
    values = zip(*(column.tolist() for column in columns), strict=True)
    return [Feature(name, "number", *row) for name, row in zip(names, values, strict=True)]
