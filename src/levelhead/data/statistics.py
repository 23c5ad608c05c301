"""Count, mean, deviation and range of every feature of a source, in constant memory and without torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.data import arrays, tables
from levelhead.data.accumulator import Accumulator
from levelhead.data.source import DataError, Progress, Reading, channel_names

if TYPE_CHECKING:
    from levelhead.data import images


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
        from levelhead.data import images

        return _describe_folder(images.scan_folder(path), report, reading)
    from levelhead.data.loading import read

    data = read(source)
    seen = Accumulator(data.x.shape[1])
    values = data.x.numpy()
    values.flags.writeable = False  # they can be the user's own
    seen.add(values)
    report(len(data.x), len(data.x))
    return Description(data.source, len(data.x), tuple(_features(seen, data.features)), data.notes)


def _describe_table(table: tables.Table, report: Progress) -> Description:
    numbers: Accumulator | None = None
    missing: Counter[str] = Counter()
    for frame, _ in table.blocks(report):
        numbers = numbers or Accumulator(len(table.columns))
        at = 0
        for number, run in groupby(table.columns, lambda column: column.kind == "number"):  # one call a run of numbers
            names = [column.name for column in run]
            if number:
                numbers.add(frame.select(names).to_numpy(writable=True), slice(at, at + len(names)))
            else:
                missing.update({name: frame[name].null_count() for name in names})
            at += len(names)
    assert numbers is not None  # a table without rows is an error
    numbers.offset[:] = [column.offset for column in table.columns]
    features = []
    for column, feature in zip(table.columns, _features(numbers, tuple(c.name for c in table.columns)), strict=True):
        gone = missing[column.name] + feature.missing
        count = feature.count if column.kind == "number" else table.rows - gone
        features.append(replace(feature, kind=column.kind or "number", missing=gone, count=count))
    return Description(str(table.path), table.rows, tuple(features), tuple(table.notes))


def _describe_array(path: Path, report: Progress) -> Description:
    source = arrays.open_arrays(path)
    seen = Accumulator(source.features)
    for block, at in source.blocks(report):
        seen.add(block, at)
    return Description(str(path), source.rows, tuple(_features(seen, source.names)), source.notes)


def _describe_folder(folder: images.Folder, report: Progress, reading: Reading) -> Description:
    from levelhead.data import images

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
