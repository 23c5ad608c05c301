"""Count, mean, deviation and range of every feature of a source, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from levelhead.data import arrays, images, tables
from levelhead.data.built_in import BUILT_IN
from levelhead.data.dataset import channel_names
from levelhead.data.loading import read, unknown
from levelhead.data.streams import stream_csv, stream_npy, stream_parquet
from levelhead.moments import Moments

#: Called as ``progress(done, total)``, in bytes, rows or files.
Progress = Callable[[int, int], object]


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


class Accumulator:
    """Streaming statistics of numbers: moments, range, and how many are missing or infinite.

    Args:
        features: how many features a block has.
    """

    def __init__(self, features: int) -> None:
        self.moments = Moments.empty((features,))
        self.low = torch.full((features,), math.inf, dtype=torch.float64)
        self.high = torch.full((features,), -math.inf, dtype=torch.float64)
        self.missing = torch.zeros(features, dtype=torch.long)
        self.infinite = torch.zeros(features, dtype=torch.long)

    def add(self, block: Tensor, at: slice = slice(None)) -> None:
        """Count a block of shape (rows, features) or (rows, features, ...) in, as the features ``at``."""
        if not block.numel():
            return
        axes = tuple(d for d in range(block.ndim) if d != 1)
        low, high = block.amin(axes).double(), block.amax(axes).double()
        if bool((low.isfinite() & high.isfinite()).all()):  # both are NaN where one value is
            moments = Moments.of(block, axes)
        else:
            finite, infinite = block.isfinite(), block.isinf()
            if bool(infinite.any()):
                moments = Moments.of(block, axes, finite)
            else:
                moments = Moments.of(block, axes, ignore_nan=True)
            low = block.masked_fill(~finite, math.inf).amin(axes).double()
            high = block.masked_fill(~finite, -math.inf).amax(axes).double()
            self.missing[at] += block.isnan().sum(axes)
            self.infinite[at] += infinite.sum(axes)
        self.low[at] = torch.minimum(self.low[at], low)
        self.high[at] = torch.maximum(self.high[at], high)
        so_far = Moments(self.moments.count.expand(self.moments.shape)[at], self.moments.mean[at], self.moments.m2[at])
        merged = so_far + moments
        if at == slice(None):
            self.moments = merged
            return
        count = self.moments.count.expand(self.moments.shape).clone()
        mean, m2 = self.moments.mean.clone(), self.moments.m2.clone()
        count[at], mean[at], m2[at] = merged.count, merged.mean, merged.m2
        self.moments = Moments(count, mean, m2)

    def features(self, names: tuple[str, ...]) -> list[Feature]:
        """What was counted, by name."""
        count = self.moments.count.expand(self.moments.shape)
        low, high = (edge.masked_fill(count == 0, math.nan) for edge in (self.low, self.high))
        columns = (count, self.moments.mean, self.moments.std(), low, high, self.missing, self.infinite)
        values = zip(*(column.tolist() for column in columns), strict=True)
        return [Feature(name, "number", *row) for name, row in zip(names, values, strict=True)]


def describe(source: str | Path, *, progress: Progress | None = None) -> Description:
    """The statistics of every feature of a source, read piece by piece.

    Args:
        source: a ``.csv``, ``.tsv``, ``.parquet``, ``.npy`` or ``.npz`` file (its array ``x``, or its only one); a
            folder of images with one subfolder a class (of any sizes); a built-in name; or ``module:function``. All but
            the last two are read in constant memory, whatever their size.
        progress: called now and then as ``progress(done, total)``, in bytes, rows or images.

    Raises:
        DataError: the source cannot be read; one line that names the place and the repair.
    """
    text, path = str(source), Path(source)
    report = progress or (lambda done, total: None)
    suffix = path.suffix.lower()
    if path.is_file() and suffix in (*tables.SUFFIXES, ".npy", ".npz"):
        if suffix in (".npy", ".npz"):
            return _describe_array(path, report)
        if suffix in (".parquet", ".pq"):
            return _describe_parquet(path, report)
        return _describe_csv(path, report)
    if path.is_dir() and text not in BUILT_IN:
        return _describe_folder(path, report)
    if text in BUILT_IN or (arrays.is_reference(text) and not path.exists()):
        data = read(text)
        seen = Accumulator(data.x.shape[1])
        seen.add(data.x)
        report(len(data.x), len(data.x))
        return Description(data.source, len(data.x), tuple(seen.features(data.features)))
    raise unknown(text, path)


def _describe_csv(path: Path, report: Progress) -> Description:
    rows, numbers, texts = 0, Accumulator(0), [0]
    names: tuple[str, ...] = ()
    kinds: dict[str, tables.Kind] = {}
    for block in stream_csv(path, report):
        if not rows:
            names, kinds = tuple(block.kinds), block.kinds
            numbers, texts = Accumulator(sum(kind == "number" for kind in kinds.values())), [0] * len(names)
        rows += block.rows
        numbers.add(block.numbers)
        texts = [a + b for a, b in zip(texts, block.missing_texts, strict=True)]
    of_numbers = iter(numbers.features(tuple(name for name in names if kinds[name] == "number")))
    features = [
        next(of_numbers) if kinds[name] == "number" else _text(name, rows, missing)
        for name, missing in zip(names, texts, strict=True)
    ]
    return Description(str(path), rows, tuple(features))


def _describe_parquet(path: Path, report: Progress) -> Description:
    features: list[Feature] = []
    rows = 0
    notes: list[str] = []
    for column in stream_parquet(path, report):
        rows, seen, missing_texts = column.rows, Accumulator(1), 0
        for numbers, missing in column.pieces():
            missing_texts += missing
            if numbers is not None:
                seen.add(numbers.view(-1, 1))
        if column.kind is None:
            notes.append(f"Column {column.name!r} was left out: its type is {column.type}.")
        elif column.kind == "number":
            features += seen.features((column.name,))
        else:
            features.append(_text(column.name, rows, missing_texts))
    return Description(str(path), rows, tuple(features), tuple(notes))


def _describe_array(path: Path, report: Progress) -> Description:
    stream = stream_npy(path, report)
    seen = Accumulator(stream.features)
    for block, at in stream.blocks:
        seen.add(block, at)
    names = tuple(f"x{i}" for i in range(stream.features)) if stream.flat else channel_names(stream.features)
    return Description(str(path), stream.rows, tuple(seen.features(names)), stream.notes)


def _describe_folder(path: Path, report: Progress) -> Description:
    folder = images.scan_folder(path)
    seen = Accumulator(folder.channels)
    for done, image in enumerate(folder.images(), 1):
        seen.add(image.unsqueeze(0))
        report(done, len(folder.files))
    notes = ("Values are scaled to 0 to 1.", *folder.notes)
    return Description(str(path), len(folder.files), tuple(seen.features(channel_names(folder.channels))), notes)


def _text(name: str, rows: int, missing: int) -> Feature:
    return Feature(name, "text", rows - missing, math.nan, math.nan, math.nan, math.nan, missing, 0)
