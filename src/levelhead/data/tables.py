"""Files of tables, piece by piece: CSV, Parquet and Feather."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.data import formats
from levelhead.data.cells import MISSING, Blocks, Column, Table
from levelhead.data.source import DataError, Progress, Reading, first_line
from levelhead.terminal import printable

if TYPE_CHECKING:
    import polars as pl

_PARQUET, _FEATHER = (".parquet", ".pq"), (".feather", ".arrow", ".ipc")
SUFFIXES = (".csv", ".tsv", ".txt", *_PARQUET, *_FEATHER)
#: Bytes of a CSV file, rows of another, that are read at once: large enough for the parser to keep two cores busy.
_CHUNK, _ROWS = 2**23, 2**16
#: A quote that is still open after so many bytes was never one.
_LONGEST_RECORD = 2**26


def open_table(path: Path, reading: Reading) -> Table:
    """A table by its file's name; nothing is read yet.

    Raises:
        DataError: an option does not go with the file.
    """
    if path.suffix.lower() not in _PARQUET + _FEATHER:
        return Table(path, reading, _csv_blocks)
    for name in ("decimal", "thousands", "encoding"):
        if getattr(reading, name) is not None:
            raise DataError(f"{path}: {name} is for CSV files; this file says it itself")
    return Table(path, reading, _scanned_blocks)


def _scanned_blocks(table: Table, progress: Progress) -> Blocks:
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


def _csv_blocks(table: Table, progress: Progress) -> Blocks:
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
    if "" in names:
        raise DataError.at(path, f"column {names.index('') + 1} has no name; give it one", row=1)
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError.at(path, "the name is there twice; rename one", row=1, column=twice)
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
