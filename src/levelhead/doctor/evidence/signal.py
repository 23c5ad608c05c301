"""How the signal fares on its way through the layers, at the first update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from levelhead.doctor.evidence.loop import Call
from levelhead.doctor.evidence.structure import Output, hidden, rectified_nodes, rows_of, through_views


def drift(layers: Sequence[Call]) -> float:
    """Deviation over rows of the last hidden layer's output, by that of the first's."""
    signals = [
        rows_of(c.output.double()).std(0).mean().item()
        for c in layers[:-1]
        if c.output is not None and len(c.output) > 1
    ]
    return signals[-1] / signals[0] if len(signals) > 1 and signals[0] else 1.0


def dead_units(calls: list[Call], node: Any, last: Output) -> dict[str, float]:
    """The share of units that are 0 for every row: of each ReLU, or of the layer in front of one that is a function."""
    called = {through_views(c.input_node) for c in calls if isinstance(c.module, nn.ReLU)}
    rectified = set(rectified_nodes(node)) - called
    found: dict[str, float] = {}
    for call in hidden(calls, last):
        if call.output is None or len(call.output) < 8:
            continue
        if isinstance(call.module, nn.ReLU) or through_views(call.output_node) in rectified:
            found[call.name] = float((rows_of(call.output) <= 0).all(0).double().mean())
    return found
