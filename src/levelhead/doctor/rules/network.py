"""Rules on initial weights and architecture."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.probes.loop import Call
from levelhead.doctor.probes.structure import (
    DROPOUT,
    LINEAR,
    NORM,
    hidden,
    pairs,
    rectified_nodes,
    rows_of,
    skipping,
    through_views,
)
from levelhead.doctor.rules.suspicion import Suspicion

#: He et al. 2015: sqrt(2 / inputs) keeps a ReLU's signal; torch's own default is sqrt(1 / (3 inputs)).
KEEPS = math.sqrt(2)
DEAD = 0.5


def same_units(facts: Facts) -> list[Suspicion]:
    """Units of a layer that begin equal and stay equal."""
    found = []
    for call in facts.layers:
        start = call_weight(facts.program.model, call)
        now = call.module.weight.detach()
        if start is None or len(start) < 2 or not call.module.weight.requires_grad or now.shape != start.shape:
            continue
        if _equal_rows(start) and _equal_rows(now):
            found.append((call, float(start.flatten()[0])))
    if not found or not facts.loop.updates:
        return []
    names = [call.name for call, _ in found]
    evidence = {"layers": names[:12], "weight": found[0][1], "updates": len(facts.loop.updates)}
    summary = (
        f"all units of {names[0]} begin with equal weights and are still equal after {len(facts.loop.updates)} updates"
    )
    constant = [
        call.name
        for call in facts.layers
        if (w := call_weight(facts.program.model, call)) is not None and _equal_rows(w)
    ]
    cure = remedies.reset([n for n in constant if hasattr(facts.program.model.get_submodule(n), "reset_parameters")])
    return [Suspicion("constant-init", names[0], summary, evidence, True, "critical", (cure,))]


def call_weight(model: nn.Module, call: Call) -> Tensor | None:
    """The weight with which the program was given."""
    try:
        weight: Any = model.get_submodule(call.name).weight
    except AttributeError:
        return None
    return weight.detach() if isinstance(weight, Tensor) else None


def _equal_rows(weight: Tensor) -> bool:
    rows = weight.flatten(1)
    return bool((rows == rows[:1]).all())


def weight_scale(facts: Facts) -> list[Suspicion]:
    """Weights far from the scale that keeps the signal."""
    gains: dict[str, float] = {}
    for call in facts.layers:
        weight = call_weight(facts.program.model, call)
        if weight is not None and weight.ndim >= 2 and weight.numel() > 8:
            gains[call.name] = float(weight.float().square().mean().sqrt()) * math.sqrt(weight[0].numel())
    if not gains:
        return []
    drift = signal_drift(facts)
    # Of layers that are alike, the first one is the place.
    most, least = max(gains.values()), min(gains.values())
    largest = next(n for n in gains if gains[n] >= most / 2)
    smallest = next(n for n in gains if gains[n] <= 2 * least)
    cure = _calibration(facts, list(gains))
    evidence = {"weight's deviation x sqrt(inputs)": gains, "signal, last hidden layer by first": drift}
    if gains[largest] > 3 * KEEPS:
        summary = f"the weights of {largest} are {gains[largest] / KEEPS:.1f} times the scale that keeps the signal"
        return [Suspicion("init-too-large", largest, summary, evidence, remedies=cure)]
    if gains[smallest] < 0.1:
        summary = f"the weights of {smallest} are {gains[smallest] / KEEPS:.2g} of the scale that keeps the signal"
        return [Suspicion("init-too-small", smallest, summary, evidence, remedies=cure)]
    if len(gains) < 3 or drift >= 0.1:
        return []
    if next(iter(dead_units(facts).values()), 0.0) >= DEAD:
        return []  # the first units are off: that ends the signal, whatever the weights' scale
    summary = f"the signal shrinks to {drift:.2g} of its size between the first and the last hidden layer"
    return [Suspicion("init-too-small", next(iter(gains)), summary, evidence, remedies=cure)]  # each takes its part


def _calibration(facts: Facts, names: list[str]) -> tuple[remedies.Remedy, ...]:
    kept = facts.train.kept
    return (remedies.calibrate(names, kept[0][:256]),) if kept is not None else ()


def signal_drift(facts: Facts) -> float:
    """Deviation over rows of the last hidden layer's output, by that of the first's."""
    signals = [
        rows_of(c.output.double()).std(0).mean().item()
        for c in facts.layers[:-1]
        if c.output is not None and len(c.output) > 1
    ]
    return signals[-1] / signals[0] if len(signals) > 1 and signals[0] else 1.0


def linear_stack(facts: Facts) -> list[Suspicion]:
    """Two linear layers in a row that one could stand for."""
    found = []
    for first, second in skipping(facts.loop.calls, (*DROPOUT, nn.Flatten, nn.Identity)):
        if not isinstance(first.module, LINEAR) or not isinstance(second.module, LINEAR) or first.name == second.name:
            continue
        if getattr(first.module, "groups", 1) > 1 or getattr(second.module, "groups", 1) > 1:
            continue  # depthwise and pointwise: a factorization
        inside = first.module.weight[0].numel()
        middle, outside = len(first.module.weight), len(second.module.weight)
        if middle >= min(inside, outside):
            found.append((first.name, second.name))
    if not found:
        return []
    one, two = found[0]
    evidence = {"pairs": [f"{a} -> {b}" for a, b in found[:12]]}
    summary = f"{two} takes what {one} gives, with no activation between: the two do what one linear layer does"
    cure = remedies.followed_by(
        [a for a, _ in found], _relu, "ReLU between", f"nn.Sequential(..., {one}, nn.ReLU(), {two}, ...)"
    )
    return [Suspicion("missing-nonlinearity", one, summary, evidence, True, "info", (cure,))]


def _relu(module: nn.Module) -> nn.Module:
    return nn.ReLU()


def squashing(facts: Facts) -> list[Suspicion]:
    """Hidden sigmoids, and hidden tanhs that are flat."""
    found: dict[str, float] = {}
    for call in hidden(facts.loop.calls, facts.output):
        if not isinstance(call.module, nn.Sigmoid | nn.Tanh) or call.output is None or call.name in found:
            continue
        y = call.output.double()
        slope = 4 * y * (1 - y) if isinstance(call.module, nn.Sigmoid) else 1 - y.square()
        found[call.name] = float((slope < 0.05).double().mean())
    sigmoids = [n for n in found if isinstance(facts.program.model.get_submodule(n), nn.Sigmoid)]
    flat = [n for n, share in found.items() if share > 0.5]
    if not sigmoids and not flat:
        return []
    names = list(found)
    worst = max(flat or sigmoids, key=lambda n: found[n])
    where = flat[0] if flat else sigmoids[0]
    evidence = {"share of values where the slope is under a twentieth": found}
    summary = f"{len(sigmoids)} hidden sigmoid layers" if sigmoids else f"{len(flat)} hidden tanh layers are flat"
    summary += f"; {100 * found[worst]:.0f} % of the values of {worst} lie where it is flat"
    cure = remedies.replace(
        names, _relu, "ReLU in place of sigmoid or tanh", "\n".join(f"# {n}: nn.ReLU()" for n in names[:6])
    )
    return [Suspicion("saturating-activation", where, summary, evidence, remedies=(cure,))]


def dead(facts: Facts) -> list[Suspicion]:
    """ReLU units that are 0 for every row, before training has moved them."""
    found = dead_units(facts)
    worst = max(found, key=lambda n: found[n], default="")
    if not worst or found[worst] < DEAD:
        return []
    first = next(n for n in found if found[n] >= DEAD)
    behind = {consumer.name: producer.name for producer, consumer in pairs(facts.loop.calls)}
    layer = behind.get(first, first) if isinstance(facts.program.model.get_submodule(first), nn.ReLU) else first
    evidence = {"share of units that are 0 for every row of a batch": found}
    summary = f"{100 * found[first]:.0f} % of the units of {first} are 0 for every row of the first batch"
    cures = _calibration(facts, [call.name for call in facts.layers])
    modules = [n for n in found if isinstance(facts.program.model.get_submodule(n), nn.ReLU)]
    if modules:
        cures = (*cures, remedies.replace(modules, _leaky, "LeakyReLU in place of ReLU", "nn.LeakyReLU(0.1)"))
    return [Suspicion("dead-units", layer, summary, evidence, remedies=cures)]


def dead_units(facts: Facts) -> dict[str, float]:
    """The share of units that are 0 for every row: of each ReLU, or of the layer in front of one that is a function."""
    called = {through_views(c.input_node) for c in facts.loop.calls if isinstance(c.module, nn.ReLU)}
    rectified = set(rectified_nodes(facts.node)) - called
    found: dict[str, float] = {}
    for call in hidden(facts.loop.calls, facts.output):
        if call.output is None or len(call.output) < 8:
            continue
        if isinstance(call.module, nn.ReLU) or through_views(call.output_node) in rectified:
            found[call.name] = float((rows_of(call.output) <= 0).all(0).double().mean())
    return found


def _leaky(module: nn.Module) -> nn.Module:
    return nn.LeakyReLU(0.1)


def unnormalized(facts: Facts) -> list[Suspicion]:
    """A deep stack without a normalization layer."""
    known = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [call.name for call in facts.layers if type(call.module) in known]
    if len(names) < 5 or facts.calls(*NORM):
        return []
    flat = all(
        c.output is not None and (c.output.ndim == 2 or not isinstance(c.module, nn.Linear)) for c in facts.layers
    )
    if not flat:
        return []
    evidence = {"layers": len(names), "signal, last hidden layer by first": signal_drift(facts)}
    summary = f"{len(names)} layers without a normalization"
    cure = remedies.followed_by(
        names[:-1],
        remedies.norm_for,
        "batch normalization behind each hidden layer",
        "nn.Sequential(layer, nn.BatchNorm1d(width), activation)",
    )
    return [Suspicion("missing-normalization", names[0], summary, evidence, remedies=(cure,))]


def strong_dropout(facts: Facts) -> list[Suspicion]:
    """Dropout that may keep the model from fitting."""
    rates = {c.name: float(c.module.p) for c in facts.calls(*DROPOUT) if c.module.training and c.module.p >= 0.3}
    if not rates:
        return []
    worst = max(rates, key=lambda n: rates[n])
    evidence = {"rates": rates}
    summary = f"dropout of {rates[worst]:g} at {worst}"
    names = list(rates)
    cures = (remedies.dropout(names, 0.0), remedies.dropout(names, 0.1))
    return [Suspicion("dropout-too-strong", worst, summary, evidence, remedies=cures, fits=True)]


RULES = (same_units, linear_stack, weight_scale, squashing, dead, unnormalized, strong_dropout)
