"""What goes to a terminal: texts that it shows and does not obey, and a progress bar. No torch."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


def printable(text: str) -> str:
    """A text with its control characters as escapes; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def closest(name: object, names: Iterable[str]) -> str:
    """A suggestion for a misspelled name, to stand behind it; nothing where none is like it."""
    folded = {each.lower(): each for each in names}
    found = difflib.get_close_matches(str(name).lower(), folded, 1, 0.5)
    return f" (did you mean {folded[found[0]]!r}?)" if found else ""


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message, no more than so many."""
    shown = ", ".join(names[:most])
    return f"{shown}, and {len(names) - most} more" if len(names) > most else shown


@contextmanager
def bar(title: str, unit: str = "", console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, on that of standard error where no other is given; nothing elsewhere."""
    if not (sys.stderr.isatty() if console is None else console.is_terminal):  # rich is slow to import
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    count = "{task.completed:,.0f} of {task.total:,.0f} " + unit if unit else "{task.percentage:3.0f} %"
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn(count), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=1)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=max(total, 1))

        yield report
