"""What every reader shares: how a source is to be read, and the one error of what cannot be. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from levelhead.terminal import closest

#: The integers up to here are float64 values, all of them.
EXACT = 2**53
#: The names that the parts of a split go by, in the order of training, validation and test.
PARTS = (("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing"))
#: What is said of a column whose deviation is no number.
TOO_LARGE = "values too large for float64 to square; rescale them"
#: Called as ``progress(done, total)``, in bytes, rows or files.
Progress = Callable[[int, int], object]


class DataError(ValueError):
    """Data that cannot be used: one line that names the file, where possible the row and column, and the repair."""

    @classmethod
    def at(cls, file: str | Path, problem: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """The error of one place; ``row`` is counted as a person counts in the file, from 1."""
        place = [str(file)]
        if row is not None:
            place.append(f"row {row}")
        if column is not None:
            place.append(f"column {column!r}")
        return cls(f"{', '.join(place)}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a source is read, where it does not say so itself; the same for ``load`` and ``describe``.

    Args:
        decimal: the decimal sign of a CSV file, ``.`` or ``,``; recognised column by column by default.
        thousands: what stands between thousands there; recognised by default.
        na: cells that stand for "not known", beside ``cells.MISSING``.
        encoding: of a CSV file; UTF-8, UTF-16 with its mark, and Latin-1 (Windows-1252) are recognised.
        ignore: columns of a table that are left out.
        drop_missing: rows of a table in which a value is missing are left out.
        image_size: width and height in pixels that images are brought to.
        skip_damaged: images that cannot be read are left out and listed.

    Raises:
        DataError: a value cannot be.
    """

    decimal: str | None = None
    thousands: str | None = None
    na: tuple[str, ...] = ()
    encoding: str | None = None
    ignore: tuple[str, ...] = ()
    drop_missing: bool = False
    image_size: tuple[int, int] | None = None
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        if self.decimal not in (None, ".", ","):
            raise DataError(f"decimal must be '.' or ',', got {self.decimal!r}")
        if self.thousands is not None and self.thousands not in (",", ".", " ", "'", "_"):
            raise DataError(f"thousands must be one of , . ' _ or a space, got {self.thousands!r}")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise DataError(
                f"{self.thousands!r} cannot be the decimal sign and stand between thousands; give --decimal"
            )
        if self.image_size is not None and min(self.image_size) < 1:
            raise DataError(f"image_size must be 1 pixel or more, got {self.image_size}")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError as error:
                raise DataError(f"no encoding {self.encoding!r}; try utf-8, latin-1, cp1252 or utf-16") from error

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From plain values, as TOML and the command line have them: texts between commas, ``64`` or ``64x48``.

        Raises:
            DataError: an unknown name, or a value of the wrong kind.
        """
        known, given = [field.name for field in fields(cls)], dict(values)
        for name, value in values.items():
            if name not in known:
                raise DataError(f"reading has no {name!r}{closest(name, known)}; it has {', '.join(known)}")
            if name in ("na", "ignore"):
                parts = value.split(",") if isinstance(value, str) else value
                given[name] = tuple(str(part).strip() for part in parts)
            elif name == "image_size" and value is not None:
                given[name] = _size(value)
            elif not isinstance(value, bool if name in ("drop_missing", "skip_damaged") else str | None):
                raise DataError(f"reading: {name} cannot be {value!r}")
        return cls(**given)


def _size(value: Any) -> tuple[int, int]:
    parts = str(value).lower().split("x") if isinstance(value, int | str) else list(value)
    try:
        width, height = (int(part) for part in (parts * 2 if len(parts) == 1 else parts))
    except (TypeError, ValueError) as error:
        raise DataError(f"image_size must be pixels as 64 or as width x height, 64x48, got {value!r}") from error
    return width, height


def first_line(error: Exception) -> str:
    """The first line of another library's message."""
    return next(iter(str(error).splitlines()), type(error).__name__).strip()


def rows_of(count: int) -> str:
    """A count of rows in words."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def channel_names(channels: int) -> tuple[str, ...]:
    """The names of features that have none of their own."""
    return tuple(f"channel {i}" for i in range(channels))
