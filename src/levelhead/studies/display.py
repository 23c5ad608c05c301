"""What a person sees of a study: progress while it runs, a table when it is done."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from levelhead.lessons import SIGNS, Lesson, figure, rule
from levelhead.records import Answer, Run
from levelhead.studies import words
from levelhead.studies.jobs import Job

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Display:
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


def print_lessons(lessons: Sequence[Lesson], console: Console) -> None:
    """Print every claim with its verdict and the effect that it comes from."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    styles = {"supported": "green", "not supported": "red", "no difference": "blue", "not decided": "yellow"}
    for lesson in lessons:
        table = Table(
            box=box.SIMPLE_HEAD, title=lesson.question, title_justify="left", title_style="bold", pad_edge=False
        )
        table.add_column("verdict", no_wrap=True)
        table.add_column("claim", ratio=2)
        table.add_column("effect, with its 95 % interval", ratio=3)
        for verdict in lesson.verdicts:
            text = f"{verdict.effect}: {figure(verdict)}; {rule(verdict)}. {verdict.remark}".strip()
            table.add_row(
                Text(f"{SIGNS[verdict.ruling]} {verdict.ruling}", style=styles[verdict.ruling]),
                Text(verdict.claim),
                Text(text),
            )
        console.print(table)
    count = Counter(verdict.ruling for lesson in lessons for verdict in lesson.verdicts)
    said = ", ".join(f"{count[ruling]} {ruling}" for ruling in SIGNS)
    seeds = " or ".join(map(str, sorted({lesson.seeds for lesson in lessons})))
    quick = " A quick run: fewer seeds and steps decide less." if any(lesson.quick for lesson in lessons) else ""
    console.print(
        f"{sum(count.values())} claims: {said}. Means over {seeds} seeds with 95 % intervals.{quick}", highlight=False
    )


def print_answer(answer: Answer, console: Console) -> None:
    """Print the table and the sentence."""
    from rich import box
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    target = words.score(answer.target, answer.metric)
    table = Table(box=box.SIMPLE_HEAD, title=answer.question, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("arm", no_wrap=True)
    for heading in (
        f"steps to {target}",
        "reached",
        f"speed-up over {answer.baseline}",
        f"best {answer.metric}",
        "test",
    ):
        table.add_column(heading, justify="right")
    for row in answer.rows:
        ended = [f"{n} {word}" for n, word in ((row.diverged, "diverged"), (row.failed, "failed")) if n]
        cells = (
            words.steps(row.steps, answer.steps),
            "\n".join([f"{row.reached} of {row.runs}", *ended]),
            "1" if row.arm == answer.baseline else words.ratio(row.speedup),
            words.scores(row.best, answer.metric),
            words.scores(row.test, answer.metric),
        )
        # On a narrow terminal each interval has its own line, or it would be broken anywhere.
        narrow = console.width < 110
        table.add_row(escape(row.arm), *(cell.replace(" [", "\n[") if narrow else cell for cell in map(escape, cells)))
    console.print(table)
    by_chance = "" if math.isnan(answer.chance) else f" By chance: {words.chance(answer)}."
    said = "Medians over seeds with 95 % bootstrap intervals; speed-ups paired by seed." + by_chance
    console.print(said, style="dim", highlight=False)
    console.print(Padding(answer.sentence, (1, 0)), highlight=False, markup=False)


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
    score = words.score(run.score.best(), run.metric)
    text = f"{run.arm}, seed {run.seed}: best {run.metric} {score} in {run.steps:,} steps, {run.seconds:.1f} s"
    return f"{text}; diverged" if run.status == "diverged" else text
