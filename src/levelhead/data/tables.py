"""CSV and Parquet: the kinds of the columns, and a table as features and target."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from levelhead.data.dataset import DataError, Task, Unsplit, listed
from levelhead.data.split import choose_task, class_indices

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["number", "text"]

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
#: Cells that stand for "not known".
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none", "?")
#: A column of more distinct texts than this is an identifier or prose, not a category.
MOST_CATEGORIES = 64
#: The names that a target column goes by, where none is given.
TARGET_NAMES = ("target", "label", "class", "y")

_MISSING_CATEGORY = "(missing)"


@dataclass(frozen=True, slots=True)
class Header:
    """The first row of a CSV file: the names of the columns and what stands between them."""

    names: tuple[str, ...]
    separator: str


def read_table(path: Path, target: str | None, task: Task | None) -> Unsplit:
    """Read a CSV or Parquet file with a target column.

    Cells are numbers or texts by column, see ``parse_cells``. A column of texts becomes one column of 0 and 1 a
    category; one with more than 64 distinct texts is left out. Missing numbers stay NaN, a missing text is a category
    of its own.

    Raises:
        DataError: the file, its header, the target or a cell cannot be used.
    """
    frame, first_row = read_frame(path)
    target, notes = _find_target(path, frame.columns, target)
    kind, cells = parse_cells(frame[target], path, first_row)
    if cells.null_count():
        row = first_row + int(cells.is_null().arg_true()[0])
        raise DataError.at(path, "the target is missing; fill it in or remove the row", row=row, column=target)
    y, classes, chosen, why = _target_values(cells, kind, path, first_row, target, task)
    columns: list[Tensor] = []
    features: list[str] = []
    for name in frame.columns:
        if name == target:
            continue
        kind, cells = parse_cells(frame[name], path, first_row)
        values, names, said = _encode(kind, cells, path, first_row)
        columns += values
        features += names
        notes += said
    if not columns:
        raise DataError(f"{path}: no column but the target {target!r} can be used; a study needs inputs")
    x = torch.stack(columns, 1)
    return Unsplit(path.name, str(path), chosen, x, y, classes, tuple(features), (why, *notes))


def read_frame(path: Path) -> tuple[pl.DataFrame, int]:
    """The whole file, a CSV as texts, and the row that its first data row has in the file (a header is row 1)."""
    import polars as pl

    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            frame, first_row = pl.read_parquet(path), 1
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path}: not a Parquet file that can be read ({first_line(error)})") from error
    else:
        with path.open("rb") as file:
            header = read_header(path, file.read(2**20))
        try:
            frame = pl.read_csv(
                path,
                separator=header.separator,
                infer_schema=False,
                new_columns=list(header.names),
                raise_if_empty=False,
            )
        except (pl.exceptions.PolarsError, OSError) as error:
            raise csv_error(path, header, error) from error
        first_row = 2
    if frame.is_empty():
        raise DataError(f"{path}: there are no rows; a data set needs a header and rows")
    return frame, first_row


def read_header(path: Path, start: bytes) -> Header:
    """The header from the first bytes of a CSV file.

    Raises:
        DataError: the file is empty or not text, a name is twice or not there, or the first row holds numbers.
    """
    if not start.strip():
        raise DataError(f"{path}: the file is empty")
    try:
        line = start[: record_end(start)].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from error
    separator = max(",;\t", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    for i, name in enumerate(names, 1):
        if not name:
            raise DataError.at(path, f"column {i} has no name; give it one", row=1)
        if name in names[: i - 1]:
            raise DataError.at(path, "the name is there twice; rename one", row=1, column=name)
    if all(_is_number(name) for name in names):
        raise DataError.at(path, "the first row holds numbers, not the names of the columns; add a header", row=1)
    return Header(tuple(names), separator)


def csv_error(path: Path, header: Header, error: Exception) -> DataError:
    """What is wrong with a CSV file that Polars refuses: the first row of another length, or else its own words."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter=header.separator), 1):
                if len(row) > len(header.names):
                    problem = f"{len(row)} cells where the header has {len(header.names)}; quote cells that hold a"
                    return DataError.at(path, f"{problem} {header.separator!r}", row=number)
    except UnicodeDecodeError as encoding:
        return DataError(f"{path}: not a text file in UTF-8 ({encoding.reason}); save it as UTF-8")
    except csv.Error as malformed:
        return DataError(f"{path}: not a CSV file that can be read ({malformed})")
    return DataError(f"{path}: not a CSV file that can be read ({first_line(error)})")


def parse_cells(cells: pl.Series, path: Path, first_row: int, kind: Kind | None = None) -> tuple[Kind, pl.Series]:
    """A column as float64 or as texts, null where a cell is missing.

    The rule for texts: a column is of numbers where more than half of its known cells are numbers, and then all of them
    must be; otherwise it is of texts.

    Args:
        cells: the column, as it was read.
        path: the file, for messages.
        first_row: the row of the first cell in the file, for messages.
        kind: what the column is, where that is known from earlier rows.

    Raises:
        DataError: a cell is not a number where the others are, or the type cannot be used.
    """
    import polars as pl

    place = str(cells.name)
    if cells.dtype == pl.Boolean or cells.dtype.is_numeric():
        numbers = cells.cast(pl.Float64).fill_nan(None)
    else:
        if cells.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise DataError.at(path, f"cells of type {cells.dtype} cannot be used; make them numbers", column=place)
        texts = cells.cast(pl.String).str.strip_chars()
        texts = texts.set(texts.is_in(MISSING), None)
        numbers = texts.cast(pl.Float64, strict=False)
        known, good = len(texts) - texts.null_count(), len(numbers) - numbers.null_count()
        if kind == "text" or (kind is None and 2 * good <= known and known):
            return "text", texts
        if good < known:
            bad = int((numbers.is_null() & texts.is_not_null()).arg_true()[0])
            problem = f"{texts[bad]!r} is not a number, as the column's other cells are; correct it or leave it empty"
            raise DataError.at(path, problem, row=first_row + bad, column=place)
    return "number", numbers


def to_tensor(numbers: pl.Series, path: Path, first_row: int) -> Tensor:
    """Float64 values, NaN where there is none.

    Raises:
        DataError: a value is infinite.
    """
    infinite = numbers.is_infinite().fill_null(False)
    if infinite.any():
        row = first_row + int(infinite.arg_true()[0])
        problem = "the value is infinite; correct it or leave it empty"
        raise DataError.at(path, problem, row=row, column=str(numbers.name))
    return torch.tensor(numbers.fill_null(float("nan")).to_numpy())


def _find_target(path: Path, columns: Sequence[str], target: str | None) -> tuple[str, list[str]]:
    if target is None:
        named = [name for name in columns if name.lower() in TARGET_NAMES]
        if len(named) == 1:
            return named[0], [f"Column {named[0]!r} was taken as the target, by its name."]
        raise DataError(f"{path}: which column is the target? Say so with --target; the columns are {listed(columns)}")
    if target not in columns:
        raise DataError(f"{path}: no column {target!r}{closest(target, columns)}; the columns are {listed(columns)}")
    return target, []


def _target_values(
    cells: pl.Series, kind: Kind, path: Path, first_row: int, target: str, task: Task | None
) -> tuple[Tensor, tuple[str, ...], Task, str]:
    """Targets, names of classes, the task and why."""
    import polars as pl

    what = f"column {target!r}"
    if kind == "text":
        if task == "regression":
            problem = f"a regression needs numbers, and the cells are texts such as {cells[0]!r}"
            raise DataError.at(path, problem, column=target)
        classes = tuple(cells.unique().sort().to_list())
        indices = cells.replace_strict(list(classes), list(range(len(classes))), return_dtype=pl.Int64)
        why = f"Task: classification, because {what} holds texts, {len(classes)} distinct ones."
        return torch.tensor(indices.to_numpy()), classes, "classification", why
    values = to_tensor(cells, path, first_row)
    chosen, why = choose_task(values, what, task)
    if chosen == "regression":
        return values.view(-1, 1), (), chosen, why
    return *class_indices(values), chosen, why


def _encode(kind: Kind, cells: pl.Series, path: Path, first_row: int) -> tuple[list[Tensor], list[str], list[str]]:
    """One column as columns of numbers, their names, and what there is to say."""
    name, missing = str(cells.name), cells.null_count()
    if missing == len(cells):
        return [], [], [f"Column {name!r} was left out: it is empty."]
    share = f"{missing} of {len(cells)} rows"
    if kind == "number":
        return (
            [to_tensor(cells, path, first_row)],
            [name],
            [f"Column {name!r} has no value in {share}."] if missing else [],
        )
    known = cells.drop_nulls().unique().sort().to_list()
    if len(known) > MOST_CATEGORIES:
        return [], [], [f"Column {name!r} was left out: {len(known)} distinct texts, more than {MOST_CATEGORIES}."]
    categories = known + [_MISSING_CATEGORY] * bool(missing)
    filled = cells.fill_null(_MISSING_CATEGORY)
    note = f"Column {name!r} was encoded as one column of 0 and 1 for each of {len(known)} categories"
    note += f"; no value, in {share}, is one more." if missing else "."
    values = [torch.tensor((filled == category).to_numpy()).double() for category in categories]
    return values, [f"{name}={category}" for category in categories], [note]


def record_end(start: bytes) -> int:
    """Where the first line break is that is not inside quotes."""
    end = -1
    while (end := start.find(b"\n", end + 1)) >= 0:
        if start.count(b'"', 0, end) % 2 == 0:
            return end
    return len(start)


def records(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of a CSV file, cut anew so that each ends with a whole record: a line break inside quotes is no end."""
    rest = b""
    for block in blocks:
        rest += block
        end = len(rest)
        while (end := rest.rfind(b"\n", 0, end)) >= 0:
            if rest.count(b'"', 0, end) % 2 == 0:
                yield rest[: end + 1]
                rest = rest[end + 1 :]
                break
    if rest.strip():
        yield rest


def closest(name: str, names: Sequence[str]) -> str:
    """A suggestion for a misspelled name, or nothing."""
    folded = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower(), folded, n=1)
    return f", did you mean {folded[found[0]]!r}?" if found else ""


def first_line(error: Exception) -> str:
    """The first line of another library's message."""
    return next(iter(str(error).splitlines()), type(error).__name__).strip()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
