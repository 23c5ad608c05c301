"""Charts from samples: curves over training, and figures by setting."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from levelhead.lessons import Contours
from levelhead.records import Chart, Line
from levelhead.studies.outcome import Effects
from levelhead.studies.samples import Samples

#: What the areas and the bars of charts are.
AREA = "Line: median over seeds; area: their whole range."
BARS = "Mean over seeds with its 95 % interval."


def curve_line(samples: Samples, arm: str, name: str, label: str = "", *, scale: float = 1.0) -> Line:
    """One curve of one arm: the median over seeds at each step that all of them have, with their range."""
    curves = [samples.curve(arm, seed, name) for seed in samples.seeds]
    parts = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves if curve.steps]
    steps = sorted(set.intersection(*(set(part) for part in parts))) if parts else []
    found = [(step, [scale * part[step] for part in parts]) for step in steps]
    kept = [(step, values) for step, values in found if all(map(math.isfinite, values))]
    return Line(
        label or arm,
        tuple(float(step) for step, _ in kept),
        tuple(statistics.median(values) for _, values in kept),
        tuple(min(values) for _, values in kept),
        tuple(max(values) for _, values in kept),
    )


def curves(
    samples: Samples, arms: Sequence[str], name: str, title: str, y_label: str, *, note: str = "", log_y: bool = False
) -> Chart:
    """One curve of several arms against steps; in per cent where the label says so."""
    percent = y_label.endswith("%")
    lines = (curve_line(samples, arm, name, scale=100.0 if percent else 1.0) for arm in arms if arm in samples.arms)
    drawn = tuple(line for line in lines if line.x)
    return Chart(title, "steps", y_label, drawn, log_y=log_y, note=f"{AREA} {note}".strip(), band=True)


def point_line(name: str, places: Sequence[float], values: Sequence[Sequence[float]], *, ratio: bool = False) -> Line:
    """Means over seeds with their intervals, one a place; a place without any value is left open."""
    intervals = [Effects(some, ratio).interval() for some in values]
    return Line(
        name,
        tuple(map(float, places)),
        tuple(i.value for i in intervals),
        tuple(i.value if math.isnan(i.low) else i.low for i in intervals),
        tuple(i.value if math.isnan(i.high) else i.high for i in intervals),
    )


def points(
    title: str,
    x_label: str,
    y_label: str,
    groups: Mapping[str, Mapping[int, Sequence[float]] | Mapping[float, Sequence[float]]],
    *,
    note: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> Chart:
    """Means over seeds against a number, a line a group."""
    lines = []
    for name, found in groups.items():
        kept = {place: values for place, values in found.items() if values}
        lines.append(point_line(name, list(kept), list(kept.values()), ratio=log_y))
    return Chart(title, x_label, y_label, tuple(lines), log_x, log_y, f"{BARS} {note}".strip())


#: Draws one chart of a study's runs, and all of a study's.
Draw = Callable[[Samples], Chart | Contours]
Draws = Callable[[Samples], Sequence[Chart | Contours]]


def each(*charts: Draw) -> Draws:
    """What a study draws, chart by chart."""
    return lambda samples: [chart(samples) for chart in charts]


def over_training(
    *arms: str,
    name: str = "validation_score",
    title: str = "Training",
    label: str = "validation {metric}, %",
    **how: Any,
) -> Draw:
    """One curve of some arms, or of all, as ``curves`` draws it."""
    return lambda samples: curves(samples, arms or samples.arms, name, title, label, **how)


def by_setting(
    title: str, x_label: str, y_label: str, groups: Mapping[str, Mapping[float, str]], measure: str, *more: str,
    scale: float = 100.0, **how: Any,
) -> Callable[[Samples], Chart]:  # fmt: skip
    """A figure of ``Samples``, by its method's name, of arms that stand at a number, as ``points`` draws them."""

    def draw(samples: Samples) -> Chart:
        found = {
            name: {at: [scale * value for value in samples.every(arm, measure, *more)] for at, arm in arms.items()}
            for name, arms in groups.items()
        }
        return points(title, x_label, y_label, found, **how)

    return draw


def at_the_end(samples: Samples) -> Chart:
    """Training and validation score of all arms after the last step."""
    groups = {
        name: lambda arm, seed, part=part: 100 * samples.last(arm, seed, f"{part}_score")
        for name, part in (("training", "train"), ("validation", "validation"))
    }
    return bars(samples, samples.arms, "At the end", "{metric}, %", groups)


def bars(
    samples: Samples,
    arms: Sequence[str],
    title: str,
    y_label: str,
    groups: Mapping[str, Callable[[str, int], float]],
    *,
    note: str = "",
    log_y: bool = False,
) -> Chart:
    """Figures of several arms side by side, named on the x axis."""
    arms = [arm for arm in arms if arm in samples.arms]
    lines = []
    for name, measure in groups.items():
        found = {arm: [measure(arm, seed) for seed in samples.seeds] for arm in arms}
        finite = [[value for value in values if math.isfinite(value)] for values in found.values()]
        lines.append(point_line(name, range(len(arms)), finite, ratio=log_y))
    text = f"{BARS} {note}".strip()
    return Chart(title, "", y_label, tuple(lines), log_y=log_y, note=text, ticks=tuple(arms))
