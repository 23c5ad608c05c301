"""Rules on initial weights: equal units, and scales that do not keep the signal."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.probes.loop import Call
from levelhead.doctor.probes.signal import dead_units, drift
from levelhead.doctor.rules.suspicion import Suspicion

#: He et al. 2015: sqrt(2 / inputs) keeps a ReLU's signal; torch's own default is sqrt(1 / (3 inputs)).
KEEPS = math.sqrt(2)
#: Beyond this many times the scale, or under a tenth of it, weights are suspected.
FAR = 3
DEAD = 0.5
#: Embeddings are the next layer's inputs, whose deviation is to be about 1 (LeCun et al. 1998, section 4.3).
LARGE = 5.0
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


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
    for call in facts.calls(nn.Embedding, nn.EmbeddingBag):
        start, now = call_weight(facts.program.model, call), call.module.weight.detach()
        if start is not None and start.shape[1] > 1 and _equal_rows(start.T) and _equal_rows(now.T):
            found.append((call, float(start.flatten()[0])))
    if not found or not facts.loop.updates:
        return []
    names = [call.name for call, _ in found]
    evidence = {"layers": names[:12], "weight": found[0][1], "updates": len(facts.loop.updates)}
    summary = (
        f"all units of {names[0]} begin with equal weights and are still equal after {len(facts.loop.updates)} updates"
    )
    constant = list(names)
    constant += [
        call.name
        for call in facts.layers
        if (w := call_weight(facts.program.model, call)) is not None and _equal_rows(w) and call.name not in names
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
    shrinks = drift(facts.layers)
    # Of layers that are alike, the first one is the place.
    most, least = max(gains.values()), min(gains.values())
    largest = next(n for n in gains if gains[n] >= most / 2)
    smallest = next(n for n in gains if gains[n] <= 2 * least)
    cure = calibration(facts, list(gains))
    evidence = {"weight's deviation x sqrt(inputs)": gains, "signal, last hidden layer by first": shrinks}
    if gains[largest] > FAR * KEEPS:
        summary = f"the weights of {largest} are {gains[largest] / KEEPS:.1f} times the scale that keeps the signal"
        return [Suspicion("init-too-large", largest, summary, evidence, remedies=cure)]
    if gains[smallest] < 0.1:
        summary = f"the weights of {smallest} are {gains[smallest] / KEEPS:.2g} of the scale that keeps the signal"
        return [Suspicion("init-too-small", smallest, summary, evidence, remedies=cure)]
    if len(gains) < 3 or shrinks >= 0.1:
        return []
    if next(iter(dead_units(facts.loop.calls, facts.node, facts.output).values()), 0.0) >= DEAD:
        return []  # the first units are off: that ends the signal, whatever the weights' scale
    summary = f"the signal shrinks to {shrinks:.2g} of its size between the first and the last hidden layer"
    return [Suspicion("init-too-small", next(iter(gains)), summary, evidence, remedies=cure)]  # each takes its part


def calibration(facts: Facts, names: list[str]) -> tuple[remedies.Remedy, ...]:
    """Weights scaled layer by layer on the first rows, where the data are tensors."""
    kept = facts.train.kept
    return (remedies.calibrate(names, kept[0][:256]),) if kept is not None else ()


def tables(facts: Facts) -> list[Suspicion]:
    """Embeddings and recurrent weights far above the scale that they are drawn with."""
    found: dict[str, float] = {}
    for call in facts.calls(nn.Embedding, nn.EmbeddingBag, *RECURRENT):
        module = facts.program.model.get_submodule(call.name)
        for weight in (p.detach().float() for p in module.parameters() if p.ndim == 2):
            size = float(weight.square().mean().sqrt())
            far = size * math.sqrt(weight.shape[1]) / (FAR * KEEPS) if isinstance(module, RECURRENT) else size / LARGE
            found[call.name] = max(far, found.get(call.name, 0.0))
    worst = max(found, key=lambda n: found[n], default="")
    if not worst or found[worst] <= 1:
        return []
    large = [name for name in found if found[name] > 1]
    evidence = {"weights' scale, by the largest that is usual": found}
    summary = f"the weights of {worst} are {found[worst]:.1f} times the largest scale that keeps the signal"
    return [Suspicion("init-too-large", worst, summary, evidence, remedies=(remedies.reset(large),))]


RULES = (same_units, weight_scale, tables)
