"""The figures of a study: what ``series`` measured and the study's own charts, as blocks of plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from levelhead.lessons import Answer, Contours, in_percent, score
from levelhead.records import Chart, Line, Run
from levelhead.report import text
from levelhead.report.parts import Block, Plot, Spec, Toggle, axis, band, line, plain, points
from levelhead.report.series import Band, by_arm, finite_part, over_seeds

_GRADIENT = "gradient_norm/"
_PERCENTILES = ("15", "50", "85")
#: Room beside the axes, the same for plots under each other, so that their steps are too.
_ALIGNED = {"l": 64, "r": 56}
_CURVES = {"train_loss": "training loss", "validation_loss": "validation loss"}


def blocks(answer: Answer, runs: Sequence[Run], palette: dict[str, str]) -> list[Block]:
    """All the figures of the runs for which there is data, in the order of the page."""
    arms = by_arm(runs)
    drawn = [_training(answer, arms, palette), _percentiles(answer, arms, palette), _gradients(answer, arms)]
    return [block for block in drawn if block]


def _training(answer: Answer, arms: dict[str, list[Run]], palette: dict[str, str]) -> Block | None:
    """Score and loss against steps, median and range over the seeds."""
    plots = [p for p in (_scores(answer, arms, palette), _losses(answer, arms, palette)) if p]
    if not plots:
        return None
    seeds = max(len(its) for its in arms.values())
    caption = (
        f"Line: median over {seeds} seeds. Band: lowest to highest seed that goes on. ● median step at which the "
        "target is reached. "
        if seeds > 1
        else "One seed. ● step at which the target is reached. "
    )
    if any(run.status == "diverged" for its in arms.values() for run in its):
        caption += "× a run diverged; the line ends where half of the runs have."
    first = min((s for its in arms.values() for r in its for c in r.curves.values() for s in c.steps if s), default=1)
    log_steps = {"xaxis": {"type": "log", "range": [math.log10(first), math.log10(answer.steps)]}}
    toggles = [Toggle("Steps", (("linear", {}), ("logarithmic", {plot.id: log_steps for plot in plots})))]
    if plots[0].id == "score" and (close := _close_up(plots[0])):
        toggles.append(Toggle(text.sentence(answer.metric), (("near the target", {"score": close}), ("all", {}))))
    legend = {arm: palette[arm] for arm in palette if arm in arms}
    return Block("training", "Training", caption.strip(), tuple(plots), legend, tuple(toggles))


def _steps(answer: Answer) -> Spec:
    return axis("steps", range=[0, answer.steps], autorange=False)


def _scores(answer: Answer, arms: dict[str, list[Run]], palette: dict[str, str]) -> Plot | None:
    bands = {arm: b for arm, its in arms.items() if (b := over_seeds(its, "validation_score", -math.inf))}
    if not bands:
        return None
    percent = in_percent(answer.metric)
    unit = 100 if percent else 1
    target = unit * answer.target
    traces = [spec for arm, b in bands.items() for spec in _banded(arm, b.times(unit), palette[arm])]
    for row in answer.rows:
        if row.arm in bands and math.isfinite(row.steps.value):
            said = f"{row.arm}: target reached at step {text.count(row.steps.value)}"
            dot = points([row.steps.value], [target], "dot", palette[row.arm], [said], legendgroup=row.arm)
            traces.append(dot)
    ruler = {"xref": "paper", "x0": 0, "x1": 1, "y0": target, "y1": target, "type": "line"}
    label = {"text": "target", "xref": "paper", "x": 1, "y": target, "xshift": 6}
    layout = {
        "xaxis": _steps(answer),
        "yaxis": axis("", ticksuffix=" %" if percent else "", hoverformat=".1f" if percent else ".3f"),
        "margin": _ALIGNED,
        "shapes": [{**ruler, "line": {"color": "--quiet", "width": 1.25, "dash": "dot"}}],
        "annotations": [{**label, "xanchor": "left", "showarrow": False}],
    }
    last = ", ".join(f"{arm} {score(b.middle[-1], answer.metric)}" for arm, b in bands.items() if b.middle)
    alt = f"Validation {answer.metric} against steps, one line an arm. Last medians: {last}."
    return Plot("score", alt, tuple(traces), layout, title=f"Validation {answer.metric}")


def _close_up(plot: Plot) -> Spec | None:
    """The view of the scores in which the arms that train well can be told apart."""
    target: float = plot.layout["shapes"][0]["y0"]
    top = max((y for trace in plot.traces for y in trace["y"]), default=math.nan)
    gap = top - target
    if not (math.isfinite(gap) and gap > 0):
        return None
    return {"yaxis": {"range": [target - 4 * gap, top + gap / 2], "autorange": False}}


def _losses(answer: Answer, arms: dict[str, list[Run]], palette: dict[str, str]) -> Plot | None:
    """Both losses to choose from, in view up to twice their start: a run that diverges leaves the frame."""
    found = {
        name: {arm: b for arm, its in arms.items() if (b := over_seeds(its, curve, math.inf))}
        for curve, name in _CURVES.items()
    }
    found = {name: bands for name, bands in found.items() if bands}
    every = [b for bands in found.values() for b in bands.values() if b.middle]
    if not every:
        return None
    top, bottom = 2 * max(b.middle[0] for b in every), min(min(b.middle + b.low) for b in every)
    log = bottom > 0
    traces = [
        {**spec, "meta": {"option": name}}
        for name, bands in found.items()
        for arm, b in bands.items()
        for spec in _banded(arm, b, palette[arm], top)
    ]
    edges = [math.log10(bottom / 1.3), math.log10(top)] if log else [bottom, top]
    layout = {
        "xaxis": _steps(answer),
        "yaxis": axis("", log=log, range=edges, autorange=False, hoverformat=".4f"),
        "margin": _ALIGNED,
    }
    options = {
        name: f"{name.capitalize()} against steps, one line an arm. Last medians: "
        + ", ".join(f"{arm} {b.middle[-1]:.3g}" for arm, b in bands.items() if b.middle)
        for name, bands in found.items()
    }
    chosen = next(iter(options))
    return Plot("loss", options[chosen], tuple(traces), layout, "Loss", options, chosen, "loss")


def _banded(arm: str, b: Band, colour: str, top: float = math.inf) -> list[Spec]:
    """A median with its band, and a cross at each end of a diverged run (at the frame where it left it)."""
    specs = [
        band(b.steps[: len(b.low)], b.low, b.high, colour, legendgroup=arm),
        line(arm, b.steps, b.middle, colour, legendgroup=arm),
    ]
    if b.ends:
        hover = [f"{arm}, seed {end.seed}: diverged after step {text.count(end.step)}" for end in b.ends]
        ys = [min(end.value, top) for end in b.ends]
        specs.append(points([end.step for end in b.ends], ys, "x", colour, hover, legendgroup=arm))
    return specs


def _percentiles(answer: Answer, arms: dict[str, list[Run]], palette: dict[str, str]) -> Block | None:
    """The input of one hidden unit, as in figure 1 of Ioffe & Szegedy 2015: the first seed of each of two arms."""
    names = [f"unit_input_p{p}" for p in _PERCENTILES]
    shown = {arm: run for arm, its in arms.items() for run in its[:1] if all(finite_part(run, n) for n in names)}
    if not shown:
        return None
    traces: list[Spec] = []
    alts = {}
    for arm, run in shown.items():
        low, middle, high = (finite_part(run, name) for name in names)
        steps = tuple(step for step in middle if step in low and step in high)
        ends: list[tuple[float, ...]] = [tuple(part[step] for step in steps) for part in (low, middle, high)]
        meta = {"option": arm}
        traces.append(band(steps, ends[0], ends[2], palette[arm], meta=meta))
        for percentile, values in zip(_PERCENTILES, ends, strict=True):
            width = 2.25 if percentile == "50" else 1.25
            labelled = ["" for _ in steps[1:]] + [f"\u2002{percentile}th"]
            style: Spec = {"line": {"color": palette[arm], "width": width}, "meta": meta, "mode": "lines+text"}
            style |= {"text": labelled, "textposition": "middle right", "cliponaxis": False}
            hover = {"hovertemplate": "%{y:.2f}<extra></extra>"}
            traces.append(line(f"{percentile}th percentile", steps, values, palette[arm], **style, **hover))
        if run.status == "diverged":
            said = [f"{arm}, seed {run.seed}: diverged after step {text.count(steps[-1])}"]
            traces.append(points([steps[-1]], [ends[1][-1]], "x", palette[arm], said, meta=meta))
        alts[arm] = (
            f"Input of one hidden unit of {arm} against steps. 15th, 50th and 85th percentile at first: "
            f"{', '.join(f'{e[0]:.2f}' for e in ends)}; at last: {', '.join(f'{e[-1]:.2f}' for e in ends)}."
        )
    layout = {"xaxis": _steps(answer), "yaxis": axis("input of the unit", zeroline=True), "margin": {"r": 44}}
    caption = (
        "The 15th, 50th and 85th percentile of what one hidden unit gives to its activation, over validation data: "
        f"one run of each arm (seed {_seeds(shown)}), both sides on the same axis. "
        "After figure 1 of Ioffe & Szegedy 2015."
    )
    pair = _pair("unit", answer, alts, tuple(traces), layout)
    return Block("inputs", "What one hidden unit sees", caption, pair, paired=True)


def _seeds(shown: dict[str, Run]) -> str:
    return " or ".join(str(seed) for seed in sorted({run.seed for run in shown.values()}))


def _gradients(answer: Answer, arms: dict[str, list[Run]]) -> Block | None:
    """The gradient norm of each layer, median over seeds, for two arms side by side."""
    layers = list(
        dict.fromkeys(name for its in arms.values() for r in its for name in r.curves if name.startswith(_GRADIENT))
    )
    if not layers:
        return None
    ramp = {layer: f"--ramp {round(100 * i / max(1, len(layers) - 1))}" for i, layer in enumerate(layers)}
    traces, alts = [], {}
    for arm, its in arms.items():
        bands = {layer: b for layer in layers if (b := over_seeds(its, layer, math.inf)) and b.middle}
        for layer, b in bands.items():
            name = layer.removeprefix(_GRADIENT)
            hover = {"hovertemplate": "%{y:.2g}"}
            spec = line(name, b.steps, b.middle, ramp[layer], legendgroup=name, meta={"option": arm}, **hover)
            traces.append({**spec, "line": {**spec["line"], "width": 1.75}})
        if bands:
            said = ", ".join(f"{layer.removeprefix(_GRADIENT)} {b.middle[-1]:.2g}" for layer, b in bands.items())
            alts[arm] = f"Gradient norm of each layer of {arm} against steps, logarithmic. At last: {said}."
    layout = {"xaxis": _steps(answer), "yaxis": axis("gradient norm", log=True)}
    legend = {layer.removeprefix(_GRADIENT): colour for layer, colour in ramp.items()}
    caption = "Norm of the loss's gradient in the weights of each layer, first to last; median over seeds."
    pair = _pair("gradient", answer, alts, tuple(traces), layout)
    return Block("gradients", "Gradients by layer", caption, pair, legend, paired=True)


def _pair(id: str, answer: Answer, alts: dict[str, str], traces: tuple[Spec, ...], layout: Spec) -> tuple[Plot, ...]:
    """Two plots of the same traces, in each of which an arm can be chosen.

    At first the baseline stands beside the arm that differs from it by a normalization and least else.
    """
    left = answer.baseline if answer.baseline in alts else next(iter(alts))
    others = [row for row in answer.rows if row.arm in alts and row.arm != left]
    nearest = sorted(others, key=lambda row: ("normalization" not in row.settings, len(row.settings)))
    chosen = [left, *[row.arm for row in nearest[:1]]]
    return tuple(
        Plot(f"{id}-{side}", alts[arm], traces, layout, options=alts, chosen=arm, choice="arm")
        for side, arm in zip(("left", "right"), chosen, strict=False)
    )


def chart_block(id: str, chart: Chart, palette: dict[str, str]) -> Block:
    """A study's own chart. A point without a finite value is a cross at the edge of the frame, never dropped."""
    free = [f"--arm-{i}" for i in (1, 2, 3, 4, 5, 6) if f"--arm-{i}" not in {palette.get(c.name) for c in chart.lines}]
    spare = iter([*free, *[f"--arm-{i}" for i in range(1, 7)]] * (1 + len(chart.lines) // 6))
    legend = {each.name: palette.get(each.name) or next(spare) for each in chart.lines}
    if chart.band:
        return _curves(id, chart, legend)
    lines = _apart(chart.lines) if chart.ticks else chart.lines
    traces = [spec for i, each in enumerate(lines) for spec in _charted(each, legend[each.name], 0.04 * i)]
    edge = any(trace.get("yaxis") == "y2" for trace in traces)
    unbounded = any(math.isinf(high) for each in chart.lines for high in each.high)
    caption = chart.note + (" × at the edge: no finite value (diverged, or not reached)." if edge else "")
    caption += " A bar that leaves the frame has no upper bound." if unbounded else ""
    places = sorted({x for each in chart.lines for x in each.x})
    ticks: Spec = {"tickvals": places, "ticktext": [f"{x:g}" for x in places]} if len(places) <= 8 else {}
    if chart.ticks:
        edges = [-0.5, len(chart.ticks) - 0.5]
        ticks = {"tickvals": list(range(len(chart.ticks))), "ticktext": list(map(plain, chart.ticks)), "range": edges}
        traces = [{**trace, "mode": "markers"} for trace in traces]
    layout: Spec = {
        "xaxis": axis(chart.x_label, log=chart.log_x, **ticks),
        "yaxis": axis(chart.y_label, log=chart.log_y),
        "hovermode": "closest",
    }
    if unbounded:
        layout["yaxis"] |= _frame([y for each in chart.lines for y in each.y + each.low + each.high], chart.log_y)
    if edge:
        layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    said = "; ".join(
        f"{each.name}: "
        + ", ".join(f"{y:.3g} at {x:g}" for x, y in zip(each.x, each.y, strict=True) if math.isfinite(y))
        for each in chart.lines
    )
    against = f" against {chart.x_label}" if chart.x_label else ""
    alt = f"{chart.title}. {chart.y_label}{against}. {said}."
    return Block(id, chart.title, caption.strip(), (Plot(f"{id}-plot", alt, tuple(traces), layout),), legend)


def _apart(lines: Sequence[Line]) -> list[Line]:
    """Marks at the same place beside each other."""
    middle = (len(lines) - 1) / 2
    return [replace(each, x=tuple(x + 0.14 * (i - middle) for x in each.x)) for i, each in enumerate(lines)]


def _curves(id: str, chart: Chart, legend: dict[str, str]) -> Block:
    """Curves with an area around them."""
    traces: list[Spec] = []
    for each in chart.lines:
        colour = legend[each.name]
        if each.low:
            traces.append(band(each.x, each.low, each.high, colour, legendgroup=each.name))
        hover = {"hovertemplate": f"{plain(each.name)}: %{{y:.4g}}<extra></extra>"}
        traces.append(line(each.name, each.x, each.y, colour, legendgroup=each.name, **hover))
    layout = {"xaxis": axis(chart.x_label, log=chart.log_x), "yaxis": axis(chart.y_label, log=chart.log_y)}
    last = "; ".join(f"{each.name} {each.y[-1]:.3g} at {each.x[-1]:g}" for each in chart.lines if each.y)
    alt = f"{chart.title}. {chart.y_label} against {chart.x_label}. At last: {last}."
    return Block(id, chart.title, chart.note, (Plot(f"{id}-plot", alt, tuple(traces), layout),), legend)


def contours_block(id: str, contours: Contours) -> Block:
    """Surfaces as lines of equal height, side by side, each with axes of its own in which a circle is round."""
    plots = []
    for i, panel in enumerate(contours.panels, start=1):
        spec: Spec = {"type": "contour", "x": list(panel.x), "y": list(panel.y), "z": [list(row) for row in panel.z]}
        spec |= {"showscale": False, "ncontours": 14, "contours": {"coloring": "none"}, "name": plain(panel.name)}
        spec |= {"line": {"color": "--arm-1", "width": 1.5}, "hovertemplate": "%{z:.3g}<extra></extra>"}
        layout = {
            "xaxis": axis(contours.x_label, constrain="domain"),
            "yaxis": axis(contours.y_label, scaleanchor="x", constrain="domain"),
            "hovermode": "closest",
        }
        heights = [z for row in panel.z for z in row]
        alt = f"{contours.title}, {panel.name}: lines of equal height from {min(heights):.3g} to {max(heights):.3g}."
        plots.append(Plot(f"{id}-{i}", alt, (spec,), layout, title=panel.name))
    return Block(id, contours.title, contours.note, tuple(plots), grid=True)


def _frame(values: Sequence[float], log: bool) -> Spec:
    """The range of an axis that holds all the finite values, with some room."""
    seen = [math.log10(y) if log else y for y in values if math.isfinite(y) and (y > 0 or not log)]
    room = 0.08 * ((max(seen) - min(seen)) or 1) if seen else 0
    return {"range": [min(seen) - room, max(seen) + room], "autorange": False} if seen else {}


def _said(each: Line) -> str:
    values = [f"{y:.3g} at {x:g}" for x, y in zip(each.x, each.y, strict=True) if math.isfinite(y)]
    return f"{each.name} {', '.join(values) or 'has no finite value'}"


def _charted(each: Line, colour: str, off_edge: float) -> list[Spec]:
    kept = [i for i, y in enumerate(each.y) if math.isfinite(y)]
    x, y = tuple(each.x[i] for i in kept), tuple(each.y[i] for i in kept)
    spec = line(each.name, x, y, colour, mode="lines+markers", legendgroup=each.name)
    spec["marker"] = {"size": 7, "color": colour}
    spec["hovertemplate"] = f"{plain(each.name)}: %{{y:.4g}} at %{{x:.4g}}<extra></extra>"
    if each.low and each.high:
        # An infinite end leaves the frame: 1000 times the largest number is far beyond it, on both kinds of axis.
        beyond = 1000 * max((abs(y) for y in (*y, *each.high) if math.isfinite(y)), default=1)
        up = [each.high[i] - each.y[i] if math.isfinite(each.high[i]) else beyond for i in kept]
        down = [each.y[i] - each.low[i] if math.isfinite(each.low[i]) else 0 for i in kept]
        spec["error_y"] = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
        spec["error_y"] |= {"color": f"{colour} 55%", "thickness": 1.5, "width": 3}
    lost = [
        (x, 0.975 - off_edge if y == math.inf else 0.025 + off_edge)
        for x, y in zip(each.x, each.y, strict=True)
        if not math.isfinite(y)
    ]
    if not lost:
        return [spec]
    hover = [f"{each.name}: no finite value at {x:g}" for x, _ in lost]
    crosses = points([x for x, _ in lost], [y for _, y in lost], "x", colour, hover, yaxis="y2", legendgroup=each.name)
    return [spec, crosses]
