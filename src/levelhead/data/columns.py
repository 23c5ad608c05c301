"""A table as inputs and targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from levelhead.data import formats
from levelhead.data.dataset import Task, Unsplit
from levelhead.data.source import DataError, Reading
from levelhead.data.split import MOST_CLASSES, choose_task, class_indices
from levelhead.data.tables import open_table
from levelhead.terminal import closest, listed, printable

if TYPE_CHECKING:
    import polars as pl

#: A column of more distinct texts than this is an identifier or prose, not a category.
MOST_CATEGORIES = 64
#: The names that a target column goes by, where none is given.
TARGET_NAMES = ("target", "label", "class", "y")

_MISSING_CATEGORY = "(missing)"


def read_table(path: Path, target: str | None, task: Task | None, reading: Reading) -> Unsplit:
    """Read a table with a target column.

    A column of texts becomes one column of 0 and 1 a category; identifiers, prose, and numbers among which many cells
    are none are left out. Missing numbers stay NaN, a missing text is a category of its own.

    Raises:
        DataError: the file, its header, the target or a cell cannot be used.
    """
    import polars as pl

    table = open_table(path, reading)
    blocks = list(table.blocks(lambda done, total: None))
    frame = pl.concat([block for block, _ in blocks], how="vertical_relaxed")
    frame = frame.with_columns(pl.col(pl.Float64).fill_nan(None))
    rows = pl.concat([numbers for _, numbers in blocks])
    target, notes = _find_target(path, frame.columns, target)
    cells = frame[target]
    if cells.null_count():
        row = rows[cells.is_null().arg_true()[0]]
        problem = "the target is missing; fill it in, remove the row, or use --drop-missing"
        raise DataError.at(path, problem, row=row, column=target)
    offset = next(column.offset for column in table.columns if column.name == target)
    y, classes, chosen, why = _target_values(cells, path, rows, task, offset)
    columns: list[Tensor] = []
    features: list[str] = []
    for name in frame.columns:
        if name == target:
            continue
        values, names, said = _encode(frame[name], path, rows)
        columns += values
        features += names
        notes += said
    if not columns:
        raise DataError(f"{path}: no column but the target {target!r} can be used; a study needs inputs")
    x = torch.stack(columns, 1)
    return Unsplit(path.name, str(path), chosen, x, y, classes, tuple(features), (why, *table.notes, *notes))


def _numbers(cells: pl.Series, path: Path, rows: pl.Series) -> Tensor:
    """Float64 values, NaN where there is none.

    Raises:
        DataError: a value is infinite.
    """
    infinite = cells.is_infinite().fill_null(False).arg_true()
    if len(infinite):
        problem = "the value is infinite; correct it or leave it empty"
        raise DataError.at(path, problem, row=rows[infinite[0]], column=str(cells.name))
    return torch.tensor(cells.fill_null(float("nan")).to_numpy())


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
    cells: pl.Series, path: Path, rows: pl.Series, task: Task | None, offset: int
) -> tuple[Tensor, tuple[str, ...], Task, str]:
    """Targets, names of classes, the task and why; of numbers that an offset was taken off."""
    import polars as pl

    target = str(cells.name)
    what = f"column {target!r}"
    if cells.dtype == pl.String:
        if task == "regression":
            problem = f"a regression needs numbers, and the cells are texts such as {cells[0]!r}"
            raise DataError.at(path, problem, column=target)
        classes = cells.unique().sort().to_list()
        if _identifies(classes, cells):
            found = f"{len(classes):,} distinct texts in {len(cells):,} rows"
            raise DataError.at(path, f"the target looks like an identifier: {found}; name another", column=target)
        indices = cells.replace_strict(classes, list(range(len(classes))), return_dtype=pl.Int64)
        why = f"Task: classification, because {what} holds texts, {len(classes)} distinct ones."
        return torch.tensor(indices.to_numpy()), tuple(map(printable, classes)), "classification", why
    values = _numbers(cells, path, rows)
    chosen, why = choose_task(values, what, task)
    if chosen == "regression":
        if _counts_up(cells):
            why += f" It looks like an identifier: each of {len(cells):,} is one more than the one before."
        return values.view(-1, 1), (), chosen, why
    return *class_indices(values, offset), chosen, why


def _encode(cells: pl.Series, path: Path, rows: pl.Series) -> tuple[list[Tensor], list[str], list[str]]:
    """One column as columns of numbers, their names, and what there is to say."""
    import polars as pl

    name, missing = str(cells.name), cells.null_count()
    if missing == len(cells):
        return [], [], [f"Column {name!r} was left out: it is empty."]
    share = f"{missing} of {len(cells)} rows"
    if cells.dtype != pl.String:
        notes = [f"Column {name!r} has no value in {share}."] if missing else []
        if _counts_up(cells):
            notes.append(
                f"Column {name!r} looks like an identifier: each of {len(cells):,} is one more than the one before; "
                f"--ignore-column {name} leaves it out."
            )
        return [_numbers(cells, path, rows)], [name], notes
    known = cells.drop_nulls().unique().sort().to_list()
    numbers = formats.PLAIN.parse(pl.Series(known))
    odd = len(known) > MOST_CLASSES and 2 * numbers.null_count() <= len(known)
    if odd or len(known) > MOST_CATEGORIES or _identifies(known, cells):
        found = f"{len(known)} distinct texts"
        if odd:
            example = known[int(numbers.is_null().arg_max() or 0)]
            found += (
                f", of which most are numbers, and {example!r} is not; correct them, or read it as missing with --na"
            )
        elif _identifies(known, cells):
            found = f"it looks like an identifier, {found} in {len(cells):,} rows"
        else:
            found += f", more than {MOST_CATEGORIES}"
        return [], [], [f"Column {name!r} was left out: {found}."]
    categories = known + [_MISSING_CATEGORY] * bool(missing)
    filled = cells.fill_null(_MISSING_CATEGORY)
    note = f"Column {name!r} was encoded as one column of 0 and 1 for each of {len(known)} categories"
    note += f"; no value, in {share}, is one more." if missing else "."
    values = [torch.tensor((filled == category).to_numpy()).double() for category in categories]
    return values, [f"{name}={printable(category)}" for category in categories], [note]


def _identifies(texts: Sequence[str], cells: pl.Series) -> bool:
    """Whether texts are names of rows rather than categories: many, and most of them of one row."""
    return len(texts) > MOST_CLASSES and 2 * len(texts) > len(cells)


def _counts_up(cells: pl.Series) -> bool:
    """Whether each of many values is one more than the one before, as numbers of rows are."""
    many = len(cells) > MOST_CLASSES and not cells.null_count()
    return many and cells[1] - cells[0] == 1 and bool((cells.diff().drop_nulls() == 1).all())
