"""The statistics of data, as the command line shows them; without torch, unless a Standardizer is saved."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.terminal import bar, printable

if TYPE_CHECKING:
    from levelhead.data import Description, Reading
    from levelhead.nn import Standardizer


def show(source: str, *, as_json: bool, save: Path | None = None, reading: Reading) -> None:
    """Print the statistics of every feature as a table or as JSON (a number that is not there is null).

    Args:
        source: the data.
        as_json: JSON, and no table.
        reading: how the source is read.
        save: a file that a ``Standardizer`` of the features that are numbers is written to.

    Raises:
        DataError: the data cannot be read, or the file cannot be of that type.
    """
    from levelhead.data import DataError, describe

    if save is not None:
        from levelhead.nn import standardizer_files

        try:
            standardizer_files.check_suffix(save)  # before hours of reading
        except ValueError as error:
            raise DataError(str(error)) from error
    with bar("reading") as progress:
        found = describe(source, progress=progress, reading=reading)
    if as_json:
        print(json.dumps(_null(found.to_dict()), indent=1, allow_nan=False))
    else:
        _print_table(found)
    if save is not None:
        numbers = _standardizer(found)
        numbers.save(save)
        print(f"Standardizer of {numbers.n_features_in_} features: {printable(str(save))}", file=sys.stderr)


def _standardizer(found: Description) -> Standardizer:
    """The Standardizer of the features that are numbers; infinite values count as missing."""
    import torch

    from levelhead.data import DataError
    from levelhead.data.source import TOO_LARGE
    from levelhead.moments import Moments
    from levelhead.nn import Standardizer

    numbers = [feature for feature in found.features if feature.kind == "number"]
    if not numbers:
        raise DataError(f"{found.source}: there is no column of numbers to save a Standardizer of")
    for feature in numbers:
        if math.isinf(feature.std):
            raise DataError.at(found.source, TOO_LARGE, column=feature.name)
    count = torch.tensor([feature.count for feature in numbers], device="cpu")
    values = [(feature.mean, feature.std) for feature in numbers]
    mean, std = torch.tensor(values, dtype=torch.float64, device="cpu").unbind(1)
    moments = Moments(count, mean, (std.square() * count).masked_fill(count == 0, 0))
    return Standardizer.from_moments(moments, feature_names=[feature.name for feature in numbers])


def _print_table(found: Description) -> None:
    from rich import box
    from rich.console import Console
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
    out = Console()
    out.print(f"{printable(found.source)}: {found.rows:,} rows", highlight=False, markup=False)
    out.print(table)
    for note in found.notes:
        out.print(printable(note), style="dim", highlight=False, markup=False)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _null(item) for key, item in value.items()}
    return [_null(item) for item in value] if isinstance(value, list | tuple) else value
