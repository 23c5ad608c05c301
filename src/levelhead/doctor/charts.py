"""Charts of an examination and of a watch: what was measured, by layer and by update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median

from levelhead.doctor.evidence.history import History, Measured, Series
from levelhead.records import Chart, Line

#: Lines in a chart at most: of more layers, evenly spaced ones are drawn.
LINES = 8


def line(name: str, points: Iterable[tuple[float, float]]) -> Line:
    """A line through points."""
    kept = [(float(x), y) for x, y in points]
    return Line(name, tuple(x for x, _ in kept), tuple(y for _, y in kept))


def curves(title: str, of: str, lines: Iterable[Line]) -> Chart | None:
    """Curves over the updates, on a logarithmic axis where all values are positive; None without a line."""
    drawn = tuple(lines)
    positive = all(y > 0 for each in drawn for y in each.y if math.isfinite(y))
    return Chart(title, "updates", of, drawn, log_y=positive) if drawn else None


def of_outcome(losses: dict[str, list[float]], scores: list[tuple[int, float]], norms: dict[str, float]) -> list[Chart]:
    """Losses of a program and of its repair, its validation scores, and its first gradients by parameter."""
    thinned = {name: Series.of(values) for name, values in losses.items() if len(values) > 1}
    loss = "Loss of the program and of its repair"
    made = [curves(loss, "training loss", (line(name, series) for name, series in thinned.items()))]
    if len(scores) > 3:
        score = "Validation score of the program as it is"
        made.append(Chart(score, "updates", "score", (line("as it is", scores),)))
    if len(norms) > 1 and any(norms.values()):
        names = ", ".join(f"{i} {name}" for i, name in enumerate(list(norms)[:24]))
        first, log = (line("gradient norm", enumerate(norms.values())),), min(norms.values()) > 0
        made.append(Chart("Gradient norm at the first update", "parameter", "norm", first, log_y=log, note=names))
    return [chart for chart in made if chart is not None]


def of_history(history: History) -> tuple[Chart, ...]:
    """Losses, activations, gradients and changes; those for which there is data."""
    both = (("training", history.losses), ("validation", history.validation))
    made = [curves("Loss", "loss", (line(name, series) for name, series in both if len(series)))]
    measured = history.measured
    if len(measured) > 1:
        made += [_activations(measured), _gradients(measured), _changes(measured), _profile(measured)]
    return tuple(chart for chart in made if chart is not None)


def _activations(measured: list[Measured]) -> Chart | None:
    names = _spaced(list(measured[-1].layers))
    lines = []
    for name in names:
        seen = [(m.step, m.layers[name]) for m in measured if name in m.layers]
        mean = tuple(layer.mean for _, layer in seen)
        low = tuple(layer.mean - layer.std for _, layer in seen)
        high = tuple(layer.mean + layer.std for _, layer in seen)
        lines.append(Line(name, tuple(float(s) for s, _ in seen), mean, low, high))
    note = "Mean of each layer's output, and one deviation to either side." + _left_out(names, len(measured[-1].layers))
    return Chart("Activations by layer", "updates", "output", tuple(lines), note=note) if lines else None


def _by_weight(measured: list[Measured], value: Callable[[Measured, str], float]) -> tuple[Line, ...]:
    every = list(measured[-1].weights)
    lines = []
    for name in _spaced([name for name in every if not name.endswith("bias")] or every):
        points = [(m.step, v) for m in measured if name in m.weights and (v := value(m, name)) > 0]
        lines += [line(name, points)] if points else []
    return tuple(lines)


def _gradients(measured: list[Measured]) -> Chart | None:
    lines = _by_weight(measured, lambda m, n: m.weights[n].gradient)
    return Chart("Gradients by layer", "updates", "gradient norm", lines, log_y=True) if lines else None


def _changes(measured: list[Measured]) -> Chart | None:
    lines = _by_weight(measured, lambda m, n: m.weights[n].ratio)
    note = "Norm of one update's change by the norm of the weight; about 0.001 is usual."
    return Chart("Change by weight", "updates", "change / weight", lines, log_y=True, note=note) if lines else None


def _profile(measured: list[Measured]) -> Chart | None:
    """How the size of signal and gradient goes from layer to layer: the first and the last measured updates."""
    lines = []
    for label, part in (("at first", measured[:3]), ("at last", measured[-3:])):
        names = [name for name in part[0].layers if all(name in m.layers for m in part)]
        sizes = [median(math.hypot(m.layers[n].mean, m.layers[n].std) for m in part) for n in names]
        lines.append(line(label, ((i, s) for i, s in enumerate(sizes) if s > 0)))
    order = ", ".join(f"{i}: {name}" for i, name in enumerate(list(measured[0].layers)[:40]))
    note = f"Root mean square of each layer's output, in the order of the forward pass: {order}."
    drawn = all(len(each.x) > 1 for each in lines)
    title = "Size of the signal through the layers"
    return Chart(title, "layer", "size", tuple(lines), log_y=True, note=note) if drawn else None


def _spaced(names: list[str]) -> list[str]:
    if len(names) <= LINES:
        return names
    return [names[round(i * (len(names) - 1) / (LINES - 1))] for i in range(LINES)]


def _left_out(names: list[str], of: int) -> str:
    return f" {len(names)} of {of} layers, evenly spaced." if len(names) < of else ""
