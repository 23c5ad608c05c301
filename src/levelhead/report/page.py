"""The page of studies: answers, claims, runs and figures in one HTML file."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from levelhead import install, lessons
from levelhead.lessons import SIGNS, Answer, Row, Verdict, number
from levelhead.records import Run, read_json, write_text
from levelhead.report import text
from levelhead.report.figures import blocks, chart_block, contours_block
from levelhead.report.parts import Block, colours

#: Names the studies of a folder that holds several, in order.
INDEX = "all.json"


def write(folder: Path) -> Path:
    """Make ``report.html`` from the records of a folder: ``answer.json``, or ``all.json`` and a folder for each study.

    The page holds all that it needs, plotly.js included, and asks nothing of any network. Tables of arms and
    of verdicts are written to ``verdicts.md`` too, in Markdown.

    Args:
        folder: where the records are; the page goes beside them.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: the records, or a run file that they name, are missing; the message names it.
        ValueError: one of them cannot be read; the message names it and says what is wrong.
        ModuleNotFoundError: jinja2 or plotly is missing; the message says how to install them.
    """
    names = _names(folder / INDEX) if (folder / INDEX).is_file() else [""]
    answers = {name: Answer.load(_there(folder / name / "answer.json")) for name in names}
    runs = {name: _runs(folder / name, answer) for name, answer in answers.items()}
    page = folder / "report.html"
    write_text(page, render(answers, runs))
    tables = [lessons.markdown(answer) for answer in answers.values() if answer.rows]
    if any(answer.claims for answer in answers.values()):
        tables.append(lessons.markdown_of_claims(list(answers.values())))
    write_text(folder / "verdicts.md", "\n".join(tables))
    return page


def _names(index: Path) -> list[str]:
    names = read_json(index).get("studies")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{index} does not name the studies; run 'levelhead study --all' again")
    return names


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {path.parent} is not a study's folder, or the study has not ended")
    return path


def _runs(folder: Path, answer: Answer) -> list[Run]:
    """The runs that the figures of a table are drawn from; a study of claims has its charts in its answer."""
    lost = [folder / name for name in answer.runs if not (folder / name).is_file()]
    if lost and answer.rows:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise FileNotFoundError(
            f"{lost[0]}{more} is missing, though {folder / 'answer.json'} names it; run the study again"
        )
    return [Run.load(folder / name) for name in answer.runs] if answer.rows else []


def render(answers: Mapping[str, Answer], runs: Mapping[str, Sequence[Run]]) -> str:
    """The page as text.

    Args:
        answers: by the folder that holds each one's runs, relative to the page; one, or several in their order.
        runs: of each answer with a table, one for each of its ``runs``, in the same order.

    Raises:
        ValueError: there is not one run for each name.
        ModuleNotFoundError: jinja2 or plotly is missing; the message says how to install them.
    """
    every = [verdict for answer in answers.values() for verdict in answer.claims]
    corrected = iter(lessons.corrected(every))
    shown = [_study(folder, answer, runs[folder], corrected) for folder, answer in answers.items()]
    one = next(iter(answers.values()))
    single = len(shown) == 1
    title, lead = headline(one)
    return str(
        template("study.html").render(
            title=title if single else "Which claims of the lectures hold?",
            eyebrow=f"levelhead study · {one.study}" if single else "levelhead study · all",
            question=one.question if single else "",
            lead=lead if single else lessons.count(every),
            multiplicity=lessons.multiplicity(every),
            single=single,
            studies=shown,
            runs=sum(len(answer.runs) for answer in answers.values()),
            quick=any(answer.quick for answer in answers.values()),
            environment=one.environment,
            text=text,
            assets=assets(),
            **scripted([block for study in shown for block in study["blocks"]]),
        )
    )


def headline(answer: Answer) -> tuple[str, str]:
    """The answer in a line, and what is to be said beside it."""
    first = answer.verdicts[0] if answer.rows and answer.verdicts else None
    if first is None or lessons.nobody(answer):
        return answer.sentence, answer.sentence
    opening = lessons.opening(first)
    title = f"{opening.partition(' (')[0]}: {first.claim}"
    if first.ruling in ("supported", "contradicted"):
        title = f"{title.removesuffix('.')}, {lessons.figure(first)}"
    return title, answer.sentence.removeprefix(f"{opening}: {first.claim} ")


def _study(folder: str, answer: Answer, runs: Sequence[Run], corrected: Any) -> dict[str, Any]:
    """One study as the template shows it."""
    if answer.rows and len(runs) != len(answer.runs):
        raise ValueError(f"a report needs each run that its answer names, got {len(runs)} for {len(answer.runs)} names")
    prefix = f"{folder}/" if folder else ""
    palette = colours([row.arm for row in answer.rows], answer.baseline)
    palette |= colours(list(dict.fromkeys([*palette, *(run.arm for run in runs)])), answer.baseline)
    heads, cells = lessons.cells(answer)
    scale = _scale([row.verdict for row in answer.rows if row.verdict])
    return {
        "answer": answer,
        "target": lessons.score(answer.target, answer.metric),
        "chance": "" if math.isnan(answer.chance) else lessons.by_chance(answer),
        "palette": palette,
        "heads": heads,
        # The last line of the cells may be chance, which stands on the page apart.
        "rows": [_row(row, cell, scale) for row, cell in zip(answer.rows, cells[: len(answer.rows)], strict=True)],
        "claims": [_claim(verdict, next(corrected)) for verdict in answer.claims],
        "blocks": _blocks(answer, runs, palette),
        "runs": [(quote(prefix + name), name.rpartition("/")[2]) for name in answer.runs],
        "made": list(runs),
        "link": quote(f"{prefix}answer.json"),
        # Its notes are among the answer's.
        "data": {name: value for name, value in answer.data.items() if name != "notes"},
    }


def _blocks(answer: Answer, runs: Sequence[Run], palette: dict[str, str]) -> list[Block]:
    """The figures of the runs, then the study's own charts; a name has one colour in all of them."""
    if not answer.rows:
        names = dict.fromkeys(line.name for chart in answer.charts for line in chart.lines)
        palette = {name: f"--arm-{i % 7}" for i, name in enumerate(names)}
    charts = [chart for chart in answer.charts if chart.lines]
    surfaces = [contours for contours in answer.contours if contours.panels]
    return [
        *(blocks(answer, runs, palette) if answer.rows else []),
        *(chart_block(f"{answer.study}-{i}", chart, palette) for i, chart in enumerate(charts, 1)),
        *(contours_block(f"{answer.study}-surface-{i}", contours) for i, contours in enumerate(surfaces, 1)),
    ]


def _row(row: Row, cells: Sequence[tuple[str, str]], scale: float) -> dict[str, Any]:
    """One arm as the table shows it."""
    return {
        "arm": row.arm,
        "settings": [(text.label(name), text.setting(value)) for name, value in row.settings.items()],
        "baseline": row.verdict is None,
        "cells": cells[1:],
        "gauge": _gauge(row.verdict, scale) if row.verdict else None,
        "ruling": _ruling(row.verdict) if row.verdict else None,
    }


def _ruling(verdict: Verdict) -> dict[str, str]:
    said = lessons.opening(verdict)
    return {"name": verdict.ruling, "sign": SIGNS[verdict.ruling], "said": said[0].lower() + said[1:]}


def _claim(verdict: Verdict, corrected: tuple[float, float]) -> dict[str, Any]:
    """One claim as the template shows it."""
    holm, bh = corrected
    return {
        "ruling": _ruling(verdict),
        "claim": verdict.claim,
        "source": verdict.source,
        "effect": f"{verdict.effect}: ",
        "figure": lessons.figure(verdict),
        "rule": lessons.rule(verdict),
        "remark": verdict.remark,
        "gauge": _gauge(verdict, _scale([verdict])),
        "seen": lessons.seen(verdict),
        "p": "p {}, by Holm {}, by Benjamini-Hochberg {}".format(*map(lessons.chance_of, (verdict.p, holm, bh))),
        "seeds": ", ".join(map(number, verdict.effects)),
    }


def _places(verdict: Verdict) -> list[float] | None:
    """Low end, value and high end as distances from the threshold; of ratios, on a logarithmic axis."""
    low, value, high = verdict.interval.low, verdict.interval.value, verdict.interval.high
    ratio = _ratio(verdict)
    if not math.isfinite(value) or math.isnan(low) or math.isnan(high) or (ratio and value <= 0):
        return None
    if not ratio:
        return [end - _middle(verdict) for end in (low, value, high)]
    return [math.log(end / verdict.threshold) if end else -math.inf for end in (low, value, high)]


def _ratio(verdict: Verdict) -> bool:
    return verdict.unit == "times" and verdict.threshold > 0


def _middle(verdict: Verdict) -> float:
    return 0.0 if verdict.side == "within" else verdict.threshold


def _scale(verdicts: Sequence[Verdict]) -> float:
    """The half width of the axis on which these intervals are drawn; its middle is the threshold."""
    found = [abs(place) for verdict in verdicts for place in _places(verdict) or [] if math.isfinite(place)]
    within = [verdict.threshold for verdict in verdicts if verdict.side == "within"]
    return max([*found, *within], default=0.0) or 1.0


def _gauge(verdict: Verdict, scale: float) -> dict[str, Any] | None:
    """The interval in per cent of an axis with the threshold in its middle, and what stands at its ends."""
    places = _places(verdict)
    if places is None:
        return None
    # An end without a bound goes to the edge.
    low, value, high = (round(50 + max(-50.0, min(50.0, 46 * place / scale)), 2) for place in places)
    half = 46 * verdict.threshold / scale if verdict.side == "within" else 50.0
    shaded = {"above": (50.0, 100.0), "below": (0.0, 50.0), "within": (round(50 - half, 2), round(50 + half, 2))}
    middle = _middle(verdict)
    ends = [middle * math.exp(s * scale) if _ratio(verdict) else middle + s * scale for s in (-1, 0, 1)]
    return {"low": low, "value": value, "high": high, "shaded": shaded[verdict.side], "ends": list(map(number, ends))}


def scripted(figures: Sequence[Block]) -> dict[str, str]:
    """What the script is given of the figures, packed."""
    given = {
        "plots": [_plot(block.id, block.paired, asdict(plot)) for block in figures for plot in block.plots],
        "views": {block.id: [[view for _, view in t.views] for t in block.toggles] for block in figures},
    }
    return {"plots": _packed(json.dumps(given, allow_nan=False, separators=(",", ":")))}


def _packed(content: str) -> str:
    return base64.b64encode(gzip.compress(content.encode("utf-8"), 9, mtime=0)).decode("ascii")


def _plot(block: str, paired: bool, plot: dict[str, Any]) -> dict[str, Any]:
    """A plot for the script: strict JSON of six digits, what is not finite as null, which leaves a gap in a line."""
    spec: dict[str, Any] = _finite({**plot, "block": block, "paired": paired})
    return spec


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@cache
def assets() -> dict[str, str]:
    """The style sheet and the scripts, which the page carries in itself; plotly.js packed, a third of its size."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    folder = resources.files("levelhead.report") / "templates"
    files = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    return {**files, "plotly": _packed(get_plotlyjs())}


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
