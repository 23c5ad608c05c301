"""One run, or one look at data, as the command line shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.records import Run
from levelhead.studies import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from levelhead.data import Dataset, Description
    from levelhead.nn import Standardizer
    from levelhead.training import Recipe


def train_one(recipe: Recipe, data: Dataset, folder: Path, console: Console, *, accelerator: str = "auto") -> Run:
    """Train one recipe with a progress bar; keep checkpoints, weights and ``run.json`` in the folder.

    Raises:
        RecipeError: recipe and data do not go together.
        CheckpointError: the folder's checkpoint is damaged or of another run.
    """
    from levelhead.training import train

    with _bar("training", "steps", console) as progress:
        run = train(recipe, data, arm=folder.name, folder=folder, progress=progress, accelerator=accelerator)
    run.save(folder / "run.json")
    return run


def sum_up(run: Run) -> str:
    """What came out of a run, in a sentence."""
    best = run.score.best()
    at = run.score.first_step_at(best)
    text = (
        f"Best validation {run.metric} {words.score(best, run.metric)} at step {at:,}; test {run.metric} there "
        f"{words.score(run.test_score, run.metric)}; {run.steps:,} steps, {run.seconds:.1f} s."
        if at is not None
        else f"No validation {run.metric} was finite; {run.steps:,} steps."
    )
    return f"{text} {run.status.capitalize()}: {run.message}." if run.message else text


def print_statistics(source: str, out: Console, console: Console, *, as_json: bool, save: Path | None = None) -> None:
    """Print the statistics of every feature as a table or as JSON (a number that is not there is null).

    Args:
        source: the data.
        out: what the statistics are printed to.
        console: what else is said.
        as_json: JSON, and no table.
        save: a file that a ``Standardizer`` of the features that are numbers is written to.

    Raises:
        DataError: the data cannot be read, or the file cannot be of that type.
    """
    from levelhead.data import DataError, describe
    from levelhead.nn import standardizer_files

    if save is not None:
        try:
            standardizer_files.check_suffix(save)  # before hours of reading
        except ValueError as error:
            raise DataError(str(error)) from error
    with _bar("reading", "", console) as progress:
        found = describe(source, progress=progress)
    if as_json:
        out.out(json.dumps(_null(found.to_dict()), indent=1, allow_nan=False), highlight=False)
    else:
        _print_table(found, out)
    if save is not None:
        numbers = _standardizer(found)
        numbers.save(save)
        console.print(f"Standardizer of {numbers.n_features_in_} features: {save}", highlight=False, markup=False)


def _standardizer(found: Description) -> Standardizer:
    """The Standardizer of the features that are numbers; infinite values count as missing."""
    import torch

    from levelhead.data import DataError
    from levelhead.moments import Moments
    from levelhead.nn import Standardizer

    numbers = [feature for feature in found.features if feature.kind == "number"]
    if not numbers:
        raise DataError(f"{found.source}: there is no column of numbers to save a Standardizer of")
    count = torch.tensor([feature.count for feature in numbers])
    mean, std = torch.tensor([(feature.mean, feature.std) for feature in numbers], dtype=torch.float64).unbind(1)
    moments = Moments(count, mean, (std.square() * count).masked_fill(count == 0, 0))
    return Standardizer.from_moments(moments, feature_names=[feature.name for feature in numbers])


def _print_table(found: Description, out: Console) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    with_infinite = any(feature.infinite for feature in found.features)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("feature", overflow="fold")
    for heading in ("count", "mean", "std", "min", "max", "missing", *(["infinite"] if with_infinite else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for feature in found.features:
        numbers = [_number(value) for value in (feature.mean, feature.std, feature.min, feature.max)]
        counts = [f"{feature.missing:,}", *([f"{feature.infinite:,}"] if with_infinite else [])]
        table.add_row(escape(feature.name), f"{feature.count:,}", *numbers, *counts)
    out.print(f"{found.source}: {found.rows:,} rows", highlight=False, markup=False)
    out.print(table)
    for note in found.notes:
        out.print(note, style="dim", highlight=False, markup=False)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _null(item) for key, item in value.items()}
    return [_null(item) for item in value] if isinstance(value, list | tuple) else value


@contextmanager
def _bar(title: str, unit: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    count = "{task.completed:,.0f} of {task.total:,.0f} " + unit if unit else "{task.percentage:3.0f} %"
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn(count), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=1)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=max(total, 1))

        yield report
