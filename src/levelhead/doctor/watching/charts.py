"""The charts of a watch: what was measured, by layer and by update."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

from levelhead.doctor.evidence.history import History, Measured
from levelhead.records import Chart, Line

#: Lines in a chart at most: of more layers, evenly spaced ones are drawn.
LINES = 8


def charts(history: History) -> tuple[Chart, ...]:
    """Losses, activations, gradients and changes; those for which there is data."""
    made = [_losses(history)]
    measured = history.measured
    if len(measured) > 1:
        made += [_activations(measured), _gradients(measured), _changes(measured), _profile(measured)]
    return tuple(chart for chart in made if chart is not None)


def _losses(history: History) -> Chart | None:
    lines = [
        Line(name, tuple(float(s) for s, _ in series), tuple(v for _, v in series))
        for name, series in (("training", history.losses), ("validation", history.validation))
        if len(series)
    ]
    if not lines:
        return None
    positive = all(y > 0 for line in lines for y in line.y if math.isfinite(y))
    return Chart("Loss", "updates", "loss", tuple(lines), log_y=positive)


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


def _weights(measured: list[Measured]) -> list[str]:
    return _spaced([name for name in measured[-1].weights if not name.endswith("bias")] or list(measured[-1].weights))


def _by_weight(measured: list[Measured], value: Callable[[Measured, str], float]) -> tuple[Line, ...]:
    names = _weights(measured)
    lines = []
    for name in names:
        seen = [(float(m.step), v) for m in measured if name in m.weights and (v := value(m, name)) > 0]
        if seen:
            lines.append(Line(name, tuple(s for s, _ in seen), tuple(v for _, v in seen)))
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
        kept = [(float(i), s) for i, s in enumerate(sizes) if s > 0]
        lines.append(Line(label, tuple(i for i, _ in kept), tuple(s for _, s in kept)))
    order = ", ".join(f"{i}: {name}" for i, name in enumerate(list(measured[0].layers)[:40]))
    note = f"Root mean square of each layer's output, in the order of the forward pass: {order}."
    drawn = all(len(line.x) > 1 for line in lines)
    return (
        Chart("Size of the signal through the layers", "layer", "size", tuple(lines), log_y=True, note=note)
        if drawn
        else None
    )


def _spaced(names: list[str]) -> list[str]:
    if len(names) <= LINES:
        return names
    return [names[round(i * (len(names) - 1) / (LINES - 1))] for i in range(LINES)]


def _left_out(names: list[str], of: int) -> str:
    return f" {len(names)} of {of} layers, evenly spaced." if len(names) < of else ""
