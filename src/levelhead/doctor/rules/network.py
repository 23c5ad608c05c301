"""Rules on architecture: activations, normalization and dropout."""

from __future__ import annotations

from torch import nn

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.probes.signal import dead_units, drift
from levelhead.doctor.probes.structure import DROPOUT, LINEAR, NORM, hidden, pairs, skipping
from levelhead.doctor.rules.suspicion import Suspicion
from levelhead.doctor.rules.weights import DEAD, calibration


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
    """Hidden sigmoids and softmaxes, and hidden tanhs that are flat."""
    found: dict[str, float] = {}
    for call in hidden(facts.loop.calls, facts.output):
        if not isinstance(call.module, nn.Sigmoid | nn.Softmax | nn.Tanh) or call.output is None or call.name in found:
            continue
        y = call.output.double()
        slope = 1 - y.square() if isinstance(call.module, nn.Tanh) else 4 * y * (1 - y)
        found[call.name] = float((slope < 0.05).double().mean())
    sigmoids = [n for n in found if not isinstance(facts.program.model.get_submodule(n), nn.Tanh)]
    flat = [n for n, share in found.items() if share > 0.5]
    if not sigmoids and not flat:
        return []
    names = list(found)
    worst = max(flat or sigmoids, key=lambda n: found[n])
    where = flat[0] if flat else sigmoids[0]
    evidence = {"share of values where the slope is under a twentieth": found}
    summary = (
        f"{len(sigmoids)} hidden sigmoids or softmaxes" if sigmoids else f"{len(flat)} hidden tanh layers are flat"
    )
    summary += f"; {100 * found[worst]:.0f} % of the values of {worst} lie where it is flat"
    cure = remedies.replace(
        names, _relu, "ReLU in place of sigmoid or tanh", "\n".join(f"# {n}: nn.ReLU()" for n in names[:6])
    )
    return [Suspicion("saturating-activation", where, summary, evidence, remedies=(cure,))]


def dead(facts: Facts) -> list[Suspicion]:
    """ReLU units that are 0 for every row, before training has moved them."""
    found = dead_units(facts.loop.calls, facts.node, facts.output)
    worst = max(found, key=lambda n: found[n], default="")
    if not worst or found[worst] < DEAD:
        return []
    first = next(n for n in found if found[n] >= DEAD)
    behind = {consumer.name: producer.name for producer, consumer in pairs(facts.loop.calls)}
    layer = behind.get(first, first) if isinstance(facts.program.model.get_submodule(first), nn.ReLU) else first
    evidence = {"share of units that are 0 for every row of a batch": found}
    summary = f"{100 * found[first]:.0f} % of the units of {first} are 0 for every row of the first batch"
    cures = calibration(facts, [call.name for call in facts.layers])
    modules = [n for n in found if isinstance(facts.program.model.get_submodule(n), nn.ReLU)]
    if modules:
        cures = (*cures, remedies.replace(modules, _leaky, "LeakyReLU in place of ReLU", "nn.LeakyReLU(0.1)"))
    return [Suspicion("dead-units", layer, summary, evidence, remedies=cures)]


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
    evidence = {"layers": len(names), "signal, last hidden layer by first": drift(facts.layers)}
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


RULES = (linear_stack, squashing, dead, unnormalized, strong_dropout)
