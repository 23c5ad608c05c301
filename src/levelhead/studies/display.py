"""What a person sees of a study while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from levelhead.lessons import score
from levelhead.records import Run
from levelhead.studies.jobs import Job
from levelhead.studies.pool import Watcher

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Display(Watcher):
    """Draws a study's progress: a bar an arm on a terminal, else a line a finished run.

    Args:
        console: where to; standard error is the right place, so that standard output holds the result alone.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.finished = self.reused = 0
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._steps: dict[Path, int] = {}
        self._total = self._ended = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kept(self) -> int:
        """How many finished runs the folder holds."""
        return self.finished + self.reused

    def stage(self, title: str, jobs: Sequence[Job]) -> None:
        """A bar for each group of the jobs."""
        self.close()
        self._total, self._ended = len(jobs), 0
        if not self.console.is_terminal:
            self.console.print(f"{title}: {len(jobs)} runs", highlight=False)
            return
        self._progress = _progress(self.console)
        self._progress.start()
        from rich.markup import escape

        self._bars = {title: self._bar(f"[bold]{title}", jobs)}
        for group in dict.fromkeys(job.group for job in jobs if job.group != title):
            self._bars[group] = self._bar(escape(group), [job for job in jobs if job.group == group])

    def step(self, job: Job, done: int) -> None:
        """Move the bars on."""
        gain = done - self._steps.get(job.path, 0)
        self._steps[job.path] = done
        self._each(job, advance=gain)

    def end(self, job: Job, run: Run, reused: bool) -> None:
        """Count a run."""
        self._ended += 1
        if reused:
            self.reused += 1
            self._each(job, shrink=job.recipe.steps, runs=1)
            return
        self.finished += 1
        self._each(job, advance=job.recipe.steps - self._steps.pop(job.path, 0), runs=1)
        if self._progress is None:
            self.console.print(f"[{self._ended}/{self._total}] {_line(run)}", highlight=False, markup=False)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False, markup=False)

    def _bar(self, name: str, jobs: Sequence[Job]) -> TaskID:
        assert self._progress is not None
        return self._progress.add_task(name, total=sum(job.recipe.steps for job in jobs), runs=0, of=len(jobs))

    def _each(self, job: Job, *, advance: int = 0, shrink: int = 0, runs: int = 0) -> None:
        if self._progress is None:
            return
        for bar in {next(iter(self._bars.values())), self._bars[job.group]}:
            task = self._progress.tasks[bar]
            # A run that was found is taken out of the bar, or the steps a second would lie.
            total = (task.total or 0) - shrink
            self._progress.update(bar, advance=advance or None, total=total, runs=task.fields["runs"] + runs)

    def close(self) -> None:
        """Take the bars away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._steps.clear()


@contextmanager
def shown(watcher: Watcher | None) -> Iterator[Watcher]:
    """The watcher; where there is none, a display on standard error, if rich is installed."""
    if watcher is not None:
        yield watcher
        return
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        yield Watcher()
        return
    with Display(Console(stderr=True)) as display:
        yield display


def print_studies(console: Console, name: str | None = None) -> None:
    """Print every study's name and question, or one study's question and claims.

    Raises:
        SettingsError: there is no study of that name.
    """
    from rich.table import Table

    from levelhead.studies.registry import find, questions

    table = Table(box=None, show_header=False, highlight=False)
    if name is None:
        for study, question in questions().items():
            table.add_row(f"[bold]{study}", question)
    else:
        table.add_row(f"[bold]{name}", f"[bold]{find(name).QUESTION}")
        for claim in getattr(find(name), "claims", ()):
            table.add_row("", claim.text)
    console.print(table)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        """Steps a second, over all workers."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} steps/s" if speed else "", style="dim")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[runs]} of {task.fields[of]} runs"),
        Speed(),
        TimeRemainingColumn(compact=True),
        console=console,
        refresh_per_second=5,
        get_time=time.monotonic,
    )


def _line(run: Run) -> str:
    if run.status == "failed":
        return f"{run.arm}, seed {run.seed}: failed: {run.message}"
    best = score(run.score.best(), run.metric)
    text = f"{run.arm}, seed {run.seed}: best {run.metric} {best} in {run.steps:,} steps, {run.seconds:.1f} s"
    return f"{text}; diverged" if run.status == "diverged" else text
