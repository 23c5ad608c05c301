"""Tables piece by piece: CSV, Parquet and Feather, the same columns for ``describe`` and for ``load``."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from levelhead.data import formats
from levelhead.data.source import EXACT, DataError, Progress, Reading, closest, first_line, listed, rows_of
from levelhead.terminal import printable

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["number", "text"]

_PARQUET, _FEATHER = (".parquet", ".pq"), (".feather", ".arrow", ".ipc")
SUFFIXES = (".csv", ".tsv", ".txt", *_PARQUET, *_FEATHER)
#: Cells that stand for "not known", whatever the file and whatever the spaces around them.
MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN"),
    *("null", "NULL", "Null", "None", "none", "?"),
)

#: Bytes of a CSV file, rows of another, that are read at once: large enough for the parser to keep two cores busy.
_CHUNK, _ROWS = 2**23, 2**16
#: A quote that is still open after so many bytes was never one.
_LONGEST_RECORD = 2**26
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
        columns: those that are used, in the order of the file.
        notes: what a reader must know; complete when the blocks are read.
        rows: how many rows were read.
        separator: what stands between the cells of a CSV file.
        sparse: whether a column of numbers of a CSV file was seen to have words for missing ones.
    """

    path: Path
    reading: Reading
    columns: list[Column] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    separator: str = ","
    sparse: bool = False
    _decimals: set[str] = field(default_factory=set)

    def blocks(self, progress: Progress) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
        """The rows as numbers (float64, less the column's offset) and texts; and their row numbers.

        What is missing is null, or NaN among numbers.

        A column is of numbers where more than half of its known cells are, and then all must be; otherwise of texts.

        Raises:
            DataError: the file cannot be read, a row has another length than the header, or cells are not numbers.
        """
        raw = _csv_blocks(self, progress) if self._is_csv else _scanned_blocks(self, progress)
        seen = 0
        for block, numbers in raw:
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

    @property
    def _is_csv(self) -> bool:
        return self.path.suffix.lower() not in _PARQUET + _FEATHER

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
        for column in columns:
            cells = raw[column.name]
            known = cells.drop_nulls()
            if known.is_empty():
                continue
            if cells.dtype != pl.String:
                column.kind = "number"
            else:
                form, other = formats.recognise(known, self.reading)
                good = len(known) - form.parse(known).null_count()
                column.kind = "number" if 2 * good > len(known) else "text"
                column.format = form if column.kind == "number" else formats.PLAIN
                if column.kind == "number":
                    found[column.name] = form, other
            first = known[0]
            if column.kind == "number" and column.format == formats.PLAIN and not cells.dtype.is_float():
                whole = pl.Series([first]).cast(pl.Int128, strict=False)[0]
                column.offset = whole if whole is not None and abs(whole) > EXACT else 0
        self._decimals |= {form.decimal for form, other in found.values() if form != formats.PLAIN and other is None}
        for column in columns:
            if column.name in found:
                self._settle(column, *found[column.name], raw[column.name].drop_nulls())

    def _settle(self, column: Column, form: formats.Format, other: formats.Format | None, known: pl.Series) -> None:
        import polars as pl

        comma = "," in self._decimals or (self.separator == ";" and not self._decimals)  # as spreadsheets write it
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


def open_table(path: Path, reading: Reading) -> Table:
    """A table by its file's name; nothing is read yet.

    Raises:
        DataError: an option does not go with the file.
    """
    table = Table(path, reading)
    if not table._is_csv:
        for name in ("decimal", "thousands", "encoding"):
            if getattr(reading, name) is not None:
                raise DataError(f"{path}: {name} is for CSV files; this file says it itself")
    return table


def _complete(frame: pl.DataFrame) -> pl.Series:
    """Whether nothing is missing, row by row."""
    import polars as pl

    known = frame.with_columns(pl.col(pl.Float64).fill_nan(None)).select(pl.all_horizontal(pl.all().is_not_null()))
    return known.to_series()


def _scanned_blocks(table: Table, progress: Progress) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """Blocks of a Parquet or Feather file; what is neither number nor text is left out with a reason."""
    import polars as pl

    path = table.path
    kind, scan = ("Parquet", pl.scan_parquet) if path.suffix.lower() in _PARQUET else ("Feather", pl.scan_ipc)
    try:
        frame = scan(path, glob=False) if kind == "Parquet" else scan(path)
        schema = frame.collect_schema()
        rows = int(frame.select(pl.len()).collect().item())
        table.keep(list(schema.names()))
        wide, kept = [], []
        for column in table.columns:
            dtype = schema[column.name]
            if dtype.is_integer() and dtype != pl.UInt128:
                wide.append(pl.col(column.name))
            elif dtype.is_numeric() or dtype == pl.Boolean:
                wide.append(pl.col(column.name).cast(pl.Float64))
            elif dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
                wide.append(pl.col(column.name).cast(pl.String))
            else:
                table.notes.append(f"Column {column.name!r} was left out: its type is {dtype}.")
                continue
            kept.append(column)
        table.columns = kept
        if not kept:
            raise DataError(f"{path}: no column holds numbers or texts; {' '.join(table.notes)}")
        done = 0
        for block in _few_at_a_time(frame.select(wide)):
            yield block, pl.int_range(done + 1, done + 1 + len(block), eager=True)
            done += len(block)
            progress(done, rows)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a {kind} file that can be read ({first_line(error)})") from error


def _few_at_a_time(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The blocks of a frame, in order; two row groups are read at a time, which keeps two cores busy."""
    name = "POLARS_ROW_GROUP_PREFETCH_SIZE"  # what is set for the whole process is left as it was
    before = os.environ.get(name)
    os.environ[name] = before or "2"
    try:
        batches = frame.collect_batches(chunk_size=_ROWS, maintain_order=True)
        first = next(batches, None)
    finally:
        if before is None:
            del os.environ[name]
    if first is not None:
        yield first
        yield from batches


def _csv_blocks(table: Table, progress: Progress) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """Blocks of a CSV file. Two are parsed at once, from the second on: the first decides what the columns are."""
    import polars as pl

    path = table.path
    total, done, row = path.stat().st_size, 0, 1
    header: _Header | None = None
    first = True
    waiting: deque[tuple[bytes, Future[pl.DataFrame | None]]] = deque()
    with path.open("rb", buffering=2**16) as file, ThreadPoolExecutor(2) as pool:
        pieces = _records(path, _texts(table, _lines(file)))
        for body in chain(pieces, (b"",) * 3):  # at last those that wait
            piece = body
            if header is None:
                header, row, piece = _read_header(table, body)
                table.keep(header.names)
            if piece:
                waiting.append((piece, pool.submit(_csv_block, table, header, piece)))
            if waiting and (len(waiting) > 2 or first or not body):
                piece, future = waiting.popleft()
                frame, first = future.result(), False
                if frame is None:
                    frame, numbers, taken = _csv_by_hand(path, header, piece, row)
                else:
                    numbers, taken = pl.int_range(row, row + len(frame), eager=True), len(frame)
                row += taken
                if len(frame):
                    yield frame, numbers
                done += len(piece)
                progress(min(done, total), total)
    progress(total, total)


def _lines(file: Any) -> Iterator[bytes]:
    """Pieces that end with a line, where one ends soon: then nothing is to be cut, which would be a copy."""
    while True:
        start = file.tell()
        file.seek(start + _CHUNK)
        chunk_end = _CHUNK + file.peek().find(b"\n") + 1
        file.seek(start)
        if not (chunk := file.read(chunk_end)):
            return
        yield chunk


@dataclass(frozen=True, slots=True)
class _Header:
    """The first row of a CSV file: the names of the columns and what stands between them."""

    names: tuple[str, ...]
    separator: str


def _texts(table: Table, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a file as UTF-8, with line feeds at the ends of lines."""
    path, encoding, check = table.path, table.reading.encoding, codecs.getincrementaldecoder("utf-8")()
    decoder: codecs.IncrementalDecoder | None = None
    sure = returns = False  # whether UTF-8 was seen; whether lines end in \r alone
    for number, chunk in enumerate(chunks):
        if not number:
            if encoding is None and chunk[:2] in (b"\xff\xfe", b"\xfe\xff"):
                encoding = "utf-16"
            decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)()
            if encoding is None and b"\0" in chunk:
                raise DataError(f"{path}: not a text file; a CSV file is text, and its encoding can be given")
        try:
            if decoder is None and not chunk.isascii():
                sure = bool(check.decode(chunk)) or sure
        except UnicodeDecodeError as error:
            if sure and number:
                raise DataError(
                    f"{path}: not a text file in UTF-8 ({error.reason}); say which with --encoding"
                ) from error
            try:
                chunk.decode("cp1252")
                encoding = "cp1252"
            except UnicodeDecodeError:
                encoding = "latin-1"
            decoder = codecs.getincrementaldecoder(encoding)()
            table.notes.append("The file is not UTF-8; it was read as Latin-1 (Windows-1252).")
        if decoder is not None:
            try:
                chunk = decoder.decode(chunk).encode()  # noqa: PLW2901
            except UnicodeDecodeError as error:
                raise DataError(f"{path}: not a text file in {encoding} ({error.reason})") from error
        if not number:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901
            returns = b"\r" in chunk[:-1] and b"\n" not in chunk
        yield chunk.replace(b"\r", b"\n") if returns else chunk


def _records(path: Path, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks cut anew so that each ends with a whole record: a line break inside quotes is no end."""
    rest = b""
    for chunk in chunks:
        quoted = b'"' in chunk or b'"' in rest
        end = len(chunk)
        while (end := chunk.rfind(b"\n", 0, end)) >= 0:
            if not quoted or (rest.count(b'"') + chunk.count(b'"', 0, end)) % 2 == 0:
                yield rest + chunk[: end + 1]
                rest = chunk[end + 1 :]
                break
        else:
            rest += chunk
        if len(rest) > _LONGEST_RECORD:
            raise DataError(f'{path}: a quote (") is opened and not closed; double the quotes inside cells')
    if rest.strip():
        yield rest


def _read_header(table: Table, whole: bytes) -> tuple[_Header, int, bytes]:
    """The header, the number of the row behind it, and what follows.

    Blank lines before it, and the line ``sep=;`` that Excel knows, are no part.
    """
    path = table.path
    start = re.sub(rb"\A([ \t]*\r?\n)+", b"", whole)
    if not start.strip():
        raise DataError(f"{path}: the file is empty")
    given = re.match(rb"(?i)sep=(.)\r?\n", start)
    start = start[given.end() if given else 0 :]
    row = 2 + whole[: len(whole) - len(start)].count(b"\n")
    ends = (match.end() for match in re.finditer(rb"\r\n?|\n", start))
    first = start[: next((end for end in ends if start.count(b'"', 0, end) % 2 == 0), len(start))]
    separator = given[1].decode("latin-1") if given else _separator(start[: 2**16].decode("utf-8", "replace"))
    names = [
        printable(name.strip()) for name in next(csv.reader([first.decode("utf-8", "replace")], delimiter=separator))
    ]
    table.separator = separator
    if len(names) > 1 and not names[0] and "index" not in names:
        names[0] = "index"
        table.notes.append("Column 1 has no name, as that of row numbers; it is called 'index'.")
    for i, name in enumerate(names, 1):
        if not name:
            raise DataError.at(path, f"column {i} has no name; give it one", row=1)
        if name in names[: i - 1]:
            raise DataError.at(path, "the name is there twice; rename one", row=1, column=name)
    import polars as pl

    if not pl.Series(names).str.replace_all(r"(\d),(\d)", "$1.$2").cast(pl.Float64, strict=False).null_count():
        raise DataError.at(path, "the first row holds numbers, not the names of the columns; add a header", row=1)
    return _Header(tuple(names), separator), row, start[len(first) :]


def _separator(start: str) -> str:
    """Of , ; tab and | the one that cuts most of the first rows into as many cells as the header."""

    def fit(separator: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(start, newline=""), delimiter=separator)
        rows = [row for row in islice(reader, 50) if row]
        cells = len(rows[0])
        return (sum(len(row) == cells for row in rows) / len(rows) if cells > 1 else 0), cells

    return max(",;\t|", key=fit)


def _csv_block(table: Table, header: _Header, body: bytes) -> pl.DataFrame | None:
    """Rows of a CSV file, numbers where a column is known to hold them; None where the parser does not tell all."""
    import polars as pl

    def type_of(column: Column | None) -> pl.DataType:
        if column is None or column.kind != "number" or column.format != formats.PLAIN:
            return pl.String()
        return pl.Int64() if column.offset else pl.Float64()

    by_name = {column.name: column for column in table.columns}
    texts: dict[str, pl.DataType] = dict.fromkeys(header.names, pl.String())
    typed = {name: type_of(by_name.get(name)) for name in header.names}
    missing = [*MISSING, *table.reading.na]
    attempts: list[tuple[dict[str, pl.DataType], list[str]]] = [(typed, []), (typed, missing), (texts, [])]
    first = 2 if typed == texts else int(table.sparse)  # the list of missing cells costs a third more time
    for schema, gaps in attempts[first:]:
        try:  # the parser makes the numbers itself, and refuses what is none
            frame = pl.read_csv(
                body, has_header=False, separator=header.separator, schema=schema, null_values=gaps or None
            )
        except pl.exceptions.PolarsError:
            continue
        table.sparse = table.sparse or gaps == missing
        whole = len(frame) * (len(header.names) - 1)
        short = len(header.names) > 1 and frame[header.names[-1]].null_count()
        if short and (b'"' in body or body.count(header.separator.encode()) != whole):
            return None
        return frame
    return None


def _csv_by_hand(path: Path, header: _Header, body: bytes, row: int) -> tuple[pl.DataFrame, pl.Series, int]:
    """What the quick parser does not tell, row by row: blank lines, rows of another length, quotes inside cells."""
    import polars as pl

    rows, numbers, taken = [], [], 0
    width = len(header.names)
    try:
        for cells in csv.reader(io.StringIO(body.decode("utf-8", "replace"), newline=""), delimiter=header.separator):
            taken += 1
            if len(cells) == width or (not cells and width == 1):
                rows.append(cells or [""])
                numbers.append(row + taken - 1)
            elif cells:
                count = f"{len(cells)} cell{'s' * (len(cells) > 1)} where the header has {width}"
                repair = f"give every row as many, and quote cells that hold a {header.separator!r}"
                raise DataError.at(path, f"{count}; {repair}", row=row + taken - 1)
    except csv.Error as error:
        raise DataError.at(path, f"not a CSV row that can be read ({error})", row=row + taken) from error
    frame = pl.DataFrame(rows, dict.fromkeys(header.names, pl.String()), orient="row")
    return frame, pl.Series(numbers, dtype=pl.Int64), taken
