"""The page: a study's answer, its runs and its figures in one HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from levelhead import install
from levelhead.records import Answer, Row, Run, write_text
from levelhead.report import text
from levelhead.report.figures import blocks
from levelhead.report.parts import Block, colours


def write_answer(folder: Path) -> Path:
    """Make ``report.html`` from ``answer.json`` and the run files that it names.

    The page holds all that it needs, plotly.js included (about 5 MB), and asks nothing of any network.

    Args:
        folder: where ``answer.json`` is; the page goes beside it.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: ``answer.json`` or a run file is missing; the message names it.
        ValueError: one of them cannot be read; the message names it and says what is wrong.
        ModuleNotFoundError: jinja2 or plotly is missing; the message says how to install them.
    """
    source = folder / "answer.json"
    if not source.is_file():
        raise FileNotFoundError(f"{source} is missing: {folder} is not a study's folder, or the study has not ended")
    answer = Answer.load(source)
    lost = [folder / name for name in answer.runs if not (folder / name).is_file()]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise FileNotFoundError(f"{lost[0]}{more} is missing, though {source} names it; run the study again")
    page = folder / "report.html"
    write_text(page, render(answer, [Run.load(folder / name) for name in answer.runs]))
    return page


def render(answer: Answer, runs: Sequence[Run]) -> str:
    """The page as text.

    Args:
        answer: what the study found out.
        runs: one for each of ``answer.runs``, in the same order.

    Raises:
        ValueError: there is not one run for each name.
        ModuleNotFoundError: jinja2 or plotly is missing; the message says how to install them.
    """
    if len(runs) != len(answer.runs):
        raise ValueError(f"a report needs each run that its answer names, got {len(runs)} for {len(answer.runs)} names")
    palette = colours([row.arm for row in answer.rows], answer.baseline)
    palette |= colours(list(dict.fromkeys([*palette, *(run.arm for run in runs)])), answer.baseline)
    figures = blocks(answer, runs, palette)
    baseline = next((run for run in runs if run.arm == answer.baseline), None)
    scale = _scale(answer.rows)
    return str(
        template("page.html").render(
            answer=answer,
            palette=palette,
            rows=[_row(row, answer, scale) for row in answer.rows],
            blocks=figures,
            **scripted(figures),
            runs=[(quote(name), run) for name, run in zip(answer.runs, runs, strict=True)],
            # Its notes are among the answer's.
            data={name: value for name, value in runs[0].data.items() if name != "notes"} if runs else {},
            recipe=baseline.recipe if baseline else {},
            seeds=max((row.runs for row in answer.rows), default=0),
            text=text,
            assets=assets(),
        )
    )


def _row(row: Row, answer: Answer, scale: float) -> dict[str, Any]:
    """One arm as the table shows it."""
    lost = [f"{n} {what}" for n, what in ((row.diverged, "diverged"), (row.failed, "failed")) if n]
    return {
        "arm": row.arm,
        "settings": [(text.label(name), text.setting(value)) for name, value in row.settings.items()],
        "reached": f"{row.reached} of {row.runs}",
        "steps": text.steps(row.steps, answer.steps),
        "steps_interval": text.steps_interval(row.steps),
        "speedup": text.speedup(row, answer.baseline),
        "speedup_interval": text.speedup_interval(row, answer.baseline),
        "gauge": _gauge(row, scale),
        "best": text.score(row.best.value, answer.metric),
        "best_interval": text.score_interval(row.best, answer.metric),
        "test": text.score(row.test.value, answer.metric),
        "test_interval": text.score_interval(row.test, answer.metric),
        "lost": ", ".join(lost) or "none",
        "trouble": bool(lost),
    }


def _scale(rows: Sequence[Row]) -> float:
    """The half width, in powers of 2, of the axis on which the table draws speed-ups; 1 × is its middle."""
    ends = [end for row in rows for end in (row.speedup.low, row.speedup.value, row.speedup.high)]
    return max([1.0, *(abs(math.log2(end)) for end in ends if math.isfinite(end) and end > 0)])


def _gauge(row: Row, scale: float) -> dict[str, float] | None:
    """A speed-up and its interval as percent of a logarithmic axis; an unknown end goes to the edge."""
    value, low, high = row.speedup.value, row.speedup.low, row.speedup.high
    if not (math.isfinite(value) and value > 0):
        return None

    def place(ratio: float) -> float:
        if math.isnan(ratio):
            return place(value)
        power = math.copysign(scale, ratio - 1) if ratio <= 0 or math.isinf(ratio) else math.log2(ratio)
        return round(50 + 46 * power / scale, 2)

    return {"low": place(low), "value": place(value), "high": place(high)}


def scripted(figures: Sequence[Block]) -> dict[str, Any]:
    """What the script is given of the figures."""
    return {
        "plots": [_plot(block.id, block.paired, asdict(plot)) for block in figures for plot in block.plots],
        "views": {block.id: [[view for _, view in t.views] for t in block.toggles] for block in figures},
    }


def _plot(block: str, paired: bool, plot: dict[str, Any]) -> dict[str, Any]:
    """A plot for the script: strict JSON, what is not finite as null, which leaves a gap in a line."""
    spec: dict[str, Any] = _finite({**plot, "block": block, "paired": paired})
    return spec


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@cache
def assets() -> dict[str, str]:
    """The style sheet and the scripts, which the page carries in itself."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    folder = resources.files("levelhead.report") / "templates"
    files = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    return {**files, "plotly": get_plotlyjs()}


@cache
def template(name: str) -> Any:
    """A page's template."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    loader = PackageLoader("levelhead.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


def _not_installed(error: ModuleNotFoundError) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"a report needs {error.name}: {install.hint('study')}", name=error.name)
