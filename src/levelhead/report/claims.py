"""The page of claims: every claim with its verdict, and behind it the plots and the settings of its study."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from levelhead.lessons import Lesson, Verdict
from levelhead.report import text
from levelhead.report.figures import chart_block, contours_block
from levelhead.report.page import assets, scripted, template
from levelhead.report.parts import Block

#: The signs that stand beside the words, so that nothing hangs on colour.
SIGNS = {"supported": "✓", "not supported": "✗", "not decided": "?"}


def render_claims(lessons: Mapping[str, Lesson]) -> str:
    """The page as text.

    Args:
        lessons: by the folder that holds each one's runs, relative to the page; one, or several in their order.

    Raises:
        ModuleNotFoundError: jinja2 or plotly is missing; the message says how to install them.
    """
    shown = [_lesson(folder, lesson) for folder, lesson in lessons.items()]
    every = [verdict for lesson in lessons.values() for verdict in lesson.verdicts]
    count = Counter(verdict.ruling for verdict in every)
    one = next(iter(lessons.values()))
    return str(
        template("claims.html").render(
            title=one.question if len(shown) == 1 else "Which claims of the lectures hold?",
            eyebrow=f"levelhead study · {one.study}" if len(shown) == 1 else "levelhead study · all",
            single=len(shown) == 1,
            lessons=shown,
            claims=len(every),
            count=[(SIGNS[ruling], ruling, count[ruling]) for ruling in SIGNS],
            runs=sum(len(lesson.runs) for lesson in lessons.values()),
            seeds=" or ".join(map(str, sorted({lesson.seeds for lesson in lessons.values()}))),
            quick=any(lesson.quick for lesson in lessons.values()),
            environment=one.environment,
            text=text,
            assets=assets(),
            **scripted([block for lesson in shown for block in lesson["blocks"]]),
        )
    )


def _lesson(folder: str, lesson: Lesson) -> dict[str, Any]:
    """One study as the template shows it."""
    prefix = f"{folder}/" if folder else ""
    return {
        "lesson": lesson,
        "verdicts": [_verdict(verdict) for verdict in lesson.verdicts],
        "blocks": _blocks(lesson),
        "runs": [(quote(prefix + name), name.rpartition("/")[2]) for name in lesson.runs],
        "data": {name: value for name, value in lesson.data.items() if name != "notes"},
    }


def _blocks(lesson: Lesson) -> list[Block]:
    """The study's charts; a name has one colour in all of them, the first the neutral one."""
    names = dict.fromkeys(line.name for chart in lesson.charts for line in chart.lines)
    palette = {name: f"--arm-{i % 7}" for i, name in enumerate(names)}
    drawn = [
        chart_block(f"{lesson.study}-{i}", chart, palette) for i, chart in enumerate(lesson.charts, 1) if chart.lines
    ]
    return drawn + [
        contours_block(f"{lesson.study}-surface-{i}", contours)
        for i, contours in enumerate(lesson.contours, 1)
        if contours.panels
    ]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """One claim as the template shows it."""
    return {
        "ruling": verdict.ruling,
        "sign": SIGNS[verdict.ruling],
        "claim": verdict.claim,
        "source": verdict.source,
        "effect": verdict.effect,
        "figure": figure(verdict),
        "rule": rule(verdict),
        "remark": verdict.remark,
        "gauge": _gauge(verdict),
        "seeds": ", ".join(map(text.number, verdict.effects)),
    }


def figure(verdict: Verdict) -> str:
    """The effect and its interval in words."""
    interval = verdict.interval
    if not math.isfinite(interval.value):
        return "no figure"
    unit = f" {verdict.unit}" if verdict.unit else ""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return f"{text.number(interval.value)}{unit}"
    return f"{text.number(interval.value)}{unit} [{text.number(interval.low)}, {text.number(interval.high)}]"


def rule(verdict: Verdict) -> str:
    """What would support the claim."""
    threshold = text.number(verdict.threshold)
    if verdict.side == "within":
        return f"supported within ±{threshold}"
    return f"supported {verdict.side} {threshold}"


def _gauge(verdict: Verdict) -> dict[str, float] | None:
    """The interval in per cent of an axis with the threshold in its middle; of a ratio, a logarithmic one."""
    ends = (verdict.interval.low, verdict.interval.value, verdict.interval.high)
    if not all(map(math.isfinite, ends)):
        return None
    ratio = verdict.unit == "times" and min(ends) > 0 and verdict.threshold > 0
    middle = 0.0 if verdict.side == "within" else verdict.threshold
    places = [math.log(end / middle) if ratio else end - middle for end in ends]
    scale = max(*map(abs, places), verdict.threshold if verdict.side == "within" else 0.0) or 1.0
    low, value, high = (round(50 + 46 * place / scale, 2) for place in places)
    found = {"low": low, "value": value, "high": high, "from": 50.0, "to": 100.0}
    if verdict.side == "below":
        found |= {"from": 0.0, "to": 50.0}
    elif verdict.side == "within":
        half = 46 * verdict.threshold / scale
        found |= {"from": round(50 - half, 2), "to": round(50 + half, 2)}
    return found


def markdown(lessons: Sequence[Lesson]) -> str:
    """The verdicts as a table of Markdown: claim, study, effect, verdict."""
    rows = ["| claim | study | effect | verdict |", "|---|---|---|---|"]
    for lesson in lessons:
        for verdict in lesson.verdicts:
            cells = (
                f"{verdict.claim} ({verdict.source})",
                f"`{lesson.study}`",
                f"{verdict.effect}: {figure(verdict)}; {rule(verdict)}",
                f"**{verdict.ruling}**",
            )
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"
