"""What the cells of a table are: numbers or texts, decided column by column; the same for ``describe`` and ``load``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from levelhead.data import formats
from levelhead.data.source import EXACT, DataError, Progress, Reading, rows_of
from levelhead.terminal import closest, listed

if TYPE_CHECKING:
    import polars as pl

#: Some rows, and their numbers in the file.
Blocks: TypeAlias = "Iterator[tuple[pl.DataFrame, pl.Series]]"
Kind = Literal["number", "text"]

#: Cells that stand for "not known", whatever the file and whatever the spaces around them.
MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN"),
    *("null", "NULL", "Null", "None", "none", "?"),
)

#: Cells that are not numbers are shown up to here.
_SHOWN = 10


@dataclass(slots=True)
class Column:
    """What is known of a column so far.

    Args:
        name: as the file has it.
        kind: None while every cell is missing; decided by the first block that knows a cell.
        format: how its numbers are written.
        offset: taken off its integers, where they are too large for float64; 0 elsewhere.
    """

    name: str
    kind: Kind | None = None
    format: formats.Format = formats.PLAIN
    offset: int = 0
    odd: list[tuple[int, str]] = field(default_factory=list)
    odd_count: int = 0


@dataclass(slots=True)
class Table:
    """A table that is read once, block by block.

    Args:
        path: the file.
        reading: what the user says of it.
        read: gives its rows as they are in the file, and their numbers; it calls ``keep`` first.
        columns: those that are used, in the order of the file.
        notes: what a reader must know; complete when the blocks are read.
        rows: how many rows were read.
        separator: what stands between the cells of a CSV file.
        sparse: whether a column of numbers of a CSV file was seen to have words for missing ones.
    """

    path: Path
    reading: Reading
    read: Callable[[Table, Progress], Blocks]
    columns: list[Column] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    separator: str = ","
    sparse: bool = False
    _decimals: set[str] = field(default_factory=set)

    def blocks(self, progress: Progress) -> Blocks:
        """The rows as numbers (float64, less the column's offset) and texts; and their row numbers.

        What is missing is null, or NaN among numbers.

        A column is of numbers where more than half of its known cells are, and then all must be; otherwise of texts.

        Raises:
            DataError: the file cannot be read, a row has another length than the header, or cells are not numbers.
        """
        seen = 0
        for block, numbers in self.read(self, progress):
            frame = self._clean(block, numbers)
            seen += len(frame)
            if self.reading.drop_missing:
                complete = _complete(frame)
                frame, numbers = frame.filter(complete), numbers.filter(complete)  # noqa: PLW2901
            self.rows += len(frame)
            yield frame, numbers
        self._stop_at_odd_cells()
        if not seen:
            raise DataError(f"{self.path}: there are no rows; a data set needs a header and rows")
        if not self.rows:
            raise DataError(f"{self.path}: in each of the {rows_of(seen)} a value is missing, and all were dropped")
        if seen > self.rows:
            self.notes.append(f"{rows_of(seen - self.rows)} of {seen:,} with a missing value were left out.")
        for column in self.columns:
            if column.offset:
                name = f"Column {column.name!r}"
                self.notes.append(f"{name} holds integers beyond 2**53; it was read exactly, from {column.offset} on.")

    def keep(self, names: Sequence[str]) -> None:
        """Take the columns of the file, less those that are to be ignored."""
        for name in self.reading.ignore:
            if name not in names:
                raise DataError(f"{self.path}: no column {name!r} to ignore{closest(name, names)}; {listed(names)}")
        self.columns = [Column(name) for name in names if name not in self.reading.ignore]
        if not self.columns:
            raise DataError(f"{self.path}: no column is left")

    def _clean(self, raw: pl.DataFrame, numbers: pl.Series) -> pl.DataFrame:
        import polars as pl

        kept = [column.name for column in self.columns]
        raw = raw if raw.columns == kept else raw.select(kept)
        types = raw.schema
        if all(each == pl.Float64 for each in types.values()) and not any(c.offset for c in self.columns):
            for column in self.columns:
                column.kind = "number"
            return raw
        texts = [name for name in kept if types[name] == pl.String]
        stripped = pl.col(texts).str.strip_chars()
        missing = pl.Series([*MISSING, *self.reading.na])
        raw = raw.with_columns(pl.when(stripped.is_in(missing.implode())).then(None).otherwise(stripped).name.keep())
        self._decide([column for column in self.columns if column.kind is None], raw)
        return pl.DataFrame([self._parse(column, raw[column.name], numbers) for column in self.columns])

    def _decide(self, columns: list[Column], raw: pl.DataFrame) -> None:
        """The kinds of columns, and the formats of their numbers; a column settles what is open in another."""
        import polars as pl

        found: dict[str, tuple[formats.Format, formats.Format | None]] = {}
        plain = self._plain(raw.select([column.name for column in columns]))
        for column in columns:
            cells = raw[column.name]
            known = cells.drop_nulls()
            if known.is_empty():
                continue
            if cells.dtype != pl.String:
                column.kind = "number"
            elif column.name in plain:
                column.kind, found[column.name] = "number", (formats.PLAIN, None)
            else:
                form, other = formats.recognise(known, self.reading)
                good = len(known) - form.parse(known).null_count()
                column.kind = "number" if 2 * good > len(known) else "text"
                column.format = form if column.kind == "number" else formats.PLAIN
                if column.kind == "number":
                    found[column.name] = form, other
            first = known[0]
            if column.kind == "number" and column.format == formats.PLAIN and not cells.dtype.is_float():
                whole = int(first) if re.fullmatch(r"[+-]?\d+", str(first)) else 0
                column.offset = whole if abs(whole) > EXACT else 0
        self._decimals |= {form.decimal for form, other in found.values() if form != formats.PLAIN and other is None}
        comma = "," in self._decimals or (self.separator == ";" and not self._decimals)  # as spreadsheets write it
        for column in columns:
            if column.name in found and (comma or column.name not in plain):
                self._settle(column, *found[column.name], raw[column.name].drop_nulls(), comma)

    def _plain(self, raw: pl.DataFrame) -> set[str]:
        """The columns of texts that are numbers as programs write them, all at once: there can be thousands."""
        import polars as pl

        texts = [name for name, dtype in raw.schema.items() if dtype == pl.String]
        if not texts or self.reading.decimal == "," or self.reading.thousands is not None:
            return set()
        cells = pl.col(texts)
        good = raw.select((cells.cast(pl.Float64, strict=False).is_null() <= cells.is_null()).all())
        return {name for name, numbers in zip(texts, good.row(0), strict=True) if numbers}

    def _settle(
        self, column: Column, form: formats.Format, other: formats.Format | None, known: pl.Series, comma: bool
    ) -> None:
        import polars as pl

        if form == formats.PLAIN and comma and known.str.contains(r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$").all():
            other = formats.Format(",", ".")
        if other is not None:
            fitting = [each for each in (form, other) if {each.decimal} == self._decimals]
            if len(fitting) != 1 or form == formats.PLAIN:
                values = " or ".join(f"{each.parse(known[:1])[0]:g}" for each in (form, other))
                say = "; say which with --decimal . or --decimal ,"
                raise DataError.at(self.path, f"{known[0]!r} can be {values}{say}", column=column.name)
            form = fitting[0]
        column.format = form
        numbers = form.parse(known)
        written = ~numbers.eq_missing(known.cast(pl.Float64, strict=False)) & numbers.is_not_null()
        if written.any():  # otherwise than a program writes it
            example = int(written.arg_max() or 0)
            self.notes.append(f"Column {column.name!r} {form.words(known[example], numbers[example])}.")

    def _parse(self, column: Column, cells: pl.Series, numbers: pl.Series) -> pl.Series:
        import polars as pl

        if column.kind == "text":
            return cells.cast(pl.String)
        if cells.dtype != pl.String:
            if column.offset:
                wide = pl.Int128() if cells.dtype.is_integer() else pl.Float64()
                cells = cells.cast(wide) - pl.Series([column.offset], dtype=wide)
            return cells.cast(pl.Float64)
        values = column.format.parse(cells)
        if column.offset:
            whole = (cells.cast(pl.Int128, strict=False) - pl.Series([column.offset], dtype=pl.Int128)).cast(pl.Float64)
            values = whole.zip_with(whole.is_not_null(), values - column.offset)
        if values.null_count() == cells.null_count():
            return values
        odd = (values.is_null() & cells.is_not_null()).arg_true()
        column.odd_count += len(odd)
        for index in odd.head(_SHOWN - len(column.odd)):
            column.odd.append((numbers[index], cells[index]))
        return values

    def _stop_at_odd_cells(self) -> None:
        wrong = [column for column in self.columns if column.odd]
        if not wrong:
            return
        first = wrong[0]
        why = "as the column's other cells are"
        repair = "correct it or leave it empty, or read it as missing with --na"
        if len(wrong) == 1 and first.odd_count == 1:
            row, cell = first.odd[0]
            raise DataError.at(self.path, f"{cell!r} is not a number, {why}; {repair}", row=row, column=first.name)
        said = [
            f"column {column.name!r}: {column.odd_count} not a number, {why}: "
            + ", ".join(f"{cell!r} (row {row})" for row, cell in column.odd)
            + (", ..." if column.odd_count > len(column.odd) else "")
            for column in wrong
        ]
        raise DataError(f"{self.path}, {'; '.join(said)}; {repair.replace(' it', ' them')}")


def _complete(frame: pl.DataFrame) -> pl.Series:
    """Whether nothing is missing, row by row."""
    import polars as pl

    known = frame.with_columns(pl.col(pl.Float64).fill_nan(None)).select(pl.all_horizontal(pl.all().is_not_null()))
    return known.to_series()
