"""The page of an examination: verdict, findings with their evidence, patches to copy, trials and treatment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from levelhead.lessons import number
from levelhead.records import Chart, Line
from levelhead.report import text
from levelhead.report.figures import chart_block
from levelhead.report.page import assets, scripted, template
from levelhead.report.parts import Block

if TYPE_CHECKING:
    from levelhead.doctor.findings import Examination, Finding, Treated, Trial

#: The verdict as a heading, by the first finding's severity.
HEADINGS = {
    "critical": "Something breaks this training",
    "warning": "Something costs this training",
    "info": "Nothing found that costs",
}
SIGNS = {"critical": "✗", "warning": "!", "info": "·"}
#: A line of so many points is drawn as a curve, without a mark at each.
MANY = 24


def render_examination(examination: Examination, treated: Treated | None = None, subject: str = "") -> str:
    """The page as text; it holds all that it needs (plotly.js included, about 5 MB) and asks nothing of any network.

    Args:
        examination: what was found.
        treated: what became of its treatment, where there was one.
        subject: what was examined, in a word: ``train.py:build``.

    Raises:
        ModuleNotFoundError: jinja2 or plotly is missing; the message says how to install them.
    """
    figures = [*_treatment_figures(treated), *_figures(examination.charts)]
    severity = examination.findings[0].severity if examination.findings else "info"
    return str(
        template("examination.html").render(
            heading="Not decided" if examination.undecided else HEADINGS[severity],
            severity="healthy" if examination.healthy else severity,
            lead=_lead(examination),
            subject=subject,
            findings=[_finding(i, each) for i, each in enumerate(examination.findings, 1)],
            metric=examination.metric,
            trials=[_trial(each) for each in examination.trials],
            treated=None if treated is None else _treated(treated),
            stages=[(each.name, text.duration(each.seconds), each.note) for each in examination.stages],
            seconds=text.duration(examination.seconds),
            notes=examination.notes,
            environment={"command": "", "started": "", "machine": {}, "versions": {}} | examination.environment,
            blocks=figures,
            text=text,
            assets=assets(),
            **scripted(figures),
        )
    )


def _lead(examination: Examination) -> str:
    if examination.undecided:
        return f"{text.sentence(examination.undecided)}"
    if not examination.findings:
        return "No rule found a fault. What was measured, and what could not be judged, is below."
    first = examination.findings[0]
    if examination.healthy:
        count = len(examination.findings)
        return f"{count} remark{'s' if count > 1 else ''} on style, and no fault that costs."
    others = sum(each.severity != "info" for each in examination.findings) - 1
    more = f" {others} more finding{'s' if others > 1 else ''} below." if others else ""
    return f"Most probable cause: {first.meaning or first.summary} ({first.cause}, at {first.where}).{more}"


def _finding(number: int, finding: Finding) -> dict[str, Any]:
    return {
        "id": f"finding-{number}",
        "sign": SIGNS[finding.severity],
        "severity": finding.severity,
        "code": finding.code,
        "cause": finding.cause,
        "where": finding.where,
        "summary": text.sentence(finding.summary),
        "evidence": [(text.label(name), shown(value)) for name, value in finding.evidence.items()],
        "symptoms": [text.sentence(symptom) for symptom in finding.symptoms],
        "threshold": finding.threshold,
        "remedy": finding.remedy,
        "patch": finding.patch,
        "page": finding.page,
    }


def shown(value: Any) -> str:
    """A figure of the evidence: four digits at most, and at most twelve of a list."""
    if isinstance(value, bool) or value is None:
        return text.setting(value)
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "not a number" if math.isnan(value) else "infinite"
    if isinstance(value, Mapping):
        return _listed([f"{name} {shown(item)}" for name, item in value.items()])
    if isinstance(value, list | tuple):
        return _listed([shown(item) for item in value])
    return str(value)


def _listed(items: list[str]) -> str:
    return ", ".join(items[:12]) + (f" and {len(items) - 12} more" if len(items) > 12 else "")


def _trial(trial: Trial) -> dict[str, str]:
    return {
        "change": trial.change,
        "cause": trial.cause,
        "score": number(trial.score),
        "loss": number(trial.train_loss),
        "gain": f"{100 * trial.gain:+.0f} %" if math.isfinite(trial.gain) and trial.cause else "",
        "updates": text.count(trial.updates),
        "time": text.duration(trial.seconds),
        "note": trial.note,
    }


def _treated(treated: Treated) -> dict[str, Any]:
    return {
        "accepted": treated.accepted,
        "verdict": "Mended" if treated.accepted else "Not mended",
        "before": _scores(treated.before.values),
        "after": _scores(treated.after.values),
        "remedies": [
            *(text.sentence(remedy) for remedy in treated.remedies),
            *(text.sentence(f"tuned besides: {step}") for step in treated.tuning),
        ],
        "patch": treated.patch,
        "note": text.sentence(treated.note),
        "trials": [_trial(each) for each in treated.trials],
        "seconds": text.duration(treated.seconds),
    }


def _scores(values: tuple[float, ...]) -> str:
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return "no finite score"
    lost = f", {len(values) - len(finite)} without a finite score" if len(finite) < len(values) else ""
    middle = number(_median(finite))
    span = f" ({number(finite[0])} to {number(finite[-1])}, {len(values)} seeds{lost})"
    return middle + (span if len(values) > 1 else "")


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _treatment_figures(treated: Treated | None) -> list[Block]:
    """Scores before and after, one mark a seed's range."""
    if treated is None:
        return []
    lines = []
    for place, (name, scores) in enumerate((("as it is", treated.before), ("with the remedy", treated.after))):
        finite = sorted(value for value in scores.values if math.isfinite(value))
        if finite:
            lines.append(Line(name, (float(place),), (_median(finite),), (finite[0],), (finite[-1],)))
    note = "Final scores over seeds: the median, the lowest and the highest."
    chart = Chart("Before and after", "", "score", tuple(lines), note=note, ticks=("as it is", "with the remedy"))
    palette = {"as it is": "--arm-0", "with the remedy": "--arm-1"}
    return [chart_block("treatment", chart, palette)] if lines else []


def _figures(charts: tuple[Chart, ...]) -> list[Block]:
    """The charts; a name has one colour in all of them."""
    names = list(dict.fromkeys(line.name for chart in charts for line in chart.lines))
    names.sort(key=lambda name: name != "as it is")  # the program itself is the neutral one
    first = 0 if names[:1] == ["as it is"] else 1
    palette = {name: f"--arm-{(i + first) % 7}" for i, name in enumerate(names)}
    return [chart_block(f"chart-{i}", _drawn(chart), palette) for i, chart in enumerate(charts, 1) if chart.lines]


def _drawn(chart: Chart) -> Chart:
    """The chart as curves where its lines have many points; a line ends where its values do."""
    if not any(len(line.x) > MANY or line.low for line in chart.lines) or chart.ticks:
        return chart
    lines = tuple(_finite(line) for line in chart.lines)
    ends = any(len(a.x) < len(b.x) for a, b in zip(lines, chart.lines, strict=True))
    note = " ".join(
        part for part in (chart.note, "A line ends where its values are no longer finite." if ends else "") if part
    )
    return replace(chart, lines=lines, band=True, note=note)


def _finite(line: Line) -> Line:
    """The line up to its first value that is not finite."""
    ends = [line.y, line.low or line.y, line.high or line.y]
    count = next(
        (i for i, values in enumerate(zip(*ends, strict=True)) if not all(map(math.isfinite, values))), len(line.y)
    )
    return Line(line.name, line.x[:count], line.y[:count], line.low[:count], line.high[:count])
