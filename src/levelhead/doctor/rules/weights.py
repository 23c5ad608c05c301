"""Rules on initial weights: equal units, and scales that do not keep the signal."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Seen, Unchanged
from levelhead.doctor.evidence.calls import Call
from levelhead.doctor.evidence.history import History, place_of
from levelhead.doctor.evidence.structure import dead_units, drift, equal_rows
from levelhead.doctor.evidence.weights import FAR, KEEPS, LARGE, RECURRENT, oversized
from levelhead.doctor.rules.rule import PAYS, Rule, Suspicion

#: Weights under this by sqrt(inputs) pass on next to nothing; so does a stack that shrinks the signal to this.
SMALL, SHRUNK = 0.1, 0.1
DEAD = 0.5


CONSTANT_INIT = Rule(
    """LH201 constant-init: zero or constant weights: the units of a layer stay identical
    Why: Units with equal weights get equal gradients, so that a layer of any width acts as one unit. Zeros in one layer
    that breaks the symmetry after its first update (a zero head, a residual branch) are no fault: therefore the rule
    looks again after ten updates. Of an embedding the columns are its units.
    Threshold: units (of an embedding: columns) equal at first and still equal after ten updates
    Source: Goodfellow et al. 2016, Deep Learning, section 8.4
    Remedy: random initial weights: the layers' own reset_parameters()
    Example: layer.reset_parameters()""",
    explains=("does-not-learn", "dead-units", "learning-rate-too-low"),
)


@CONSTANT_INIT.check("program")
def same_units(facts: Evidence, _: object) -> list[Suspicion]:
    """Units of a layer that begin equal and stay equal."""
    found = []
    for call in facts.layers:
        start = call_weight(facts.model, call)
        now = call.module.weight.detach()
        if start is None or len(start) < 2 or not call.module.weight.requires_grad or now.shape != start.shape:
            continue
        if equal_rows(start) and equal_rows(now):
            found.append((call, float(start.flatten()[0])))
    for call in facts.calls(nn.Embedding, nn.EmbeddingBag):
        start, now = call_weight(facts.model, call), call.module.weight.detach()
        if start is not None and start.shape[1] > 1 and equal_rows(start.T) and equal_rows(now.T):
            found.append((call, float(start.flatten()[0])))
    if not found or not facts.loop.updates:
        return []
    names = [call.name for call, _ in found]
    figures = {"layers": names[:12], "weight": found[0][1], "updates": len(facts.loop.updates)}
    summary = (
        f"all units of {names[0]} begin with equal weights and are still equal after {len(facts.loop.updates)} updates"
    )
    constant = list(names)
    constant += [
        call.name
        for call in facts.layers
        if (w := call_weight(facts.model, call)) is not None and equal_rows(w) and call.name not in names
    ]
    cure = remedies.reset([n for n in constant if hasattr(facts.model.get_submodule(n), "reset_parameters")])
    return [CONSTANT_INIT.suspect(names[0], summary, figures, True, "critical", (cure,))]


def call_weight(model: nn.Module, call: Call) -> Tensor | None:
    """The weight with which the program was given."""
    try:
        weight: Any = model.get_submodule(call.name).weight
    except AttributeError:
        return None
    return weight.detach() if isinstance(weight, Tensor) else None


def calibration(facts: Evidence, names: list[str]) -> tuple[remedies.Remedy, ...]:
    """Weights scaled layer by layer on the first rows, where the data are tensors."""
    kept = facts.train.kept
    return (remedies.calibrate(names, kept[0][:256]),) if kept is not None else ()


INIT_TOO_LARGE = Rule(
    f"""LH202 init-too-large: the weights' scale makes the signal or the gradient grow
    Why: The signal's variance is multiplied at each layer by inputs x the weights' variance; the gradient's likewise.
    Of layers that are alike the first is named, here and in the next rule. Recurrent weights are judged by the same
    scale, and matrices that are no layer's; an embedding by the values that it hands on, the next layer's inputs.
    Threshold: weights {FAR:g} times the scale that keeps the signal, or an embedding of deviation {LARGE:g}; {PAYS};
    watched, an output that is not finite before the first update
    Source: He et al. 2015, Delving deep into rectifiers, equation 10
    Remedy: draw the weights at the scale that keeps the signal's variance
    Example: lh.init.calibrate_(model, batch)"""
)


@INIT_TOO_LARGE.check("program")
def weights_too_large(facts: Evidence, _: object) -> list[Suspicion]:
    """Weights far above the scale that keeps the signal; of layers that are alike, the first one is the place."""
    gains = _scales(facts)
    if not gains or max(gains.values()) <= FAR * KEEPS:
        return []
    where = next(n for n in gains if gains[n] > FAR * KEEPS and gains[n] >= max(gains.values()) / 2)
    figures = {"weight's deviation x sqrt(inputs)": gains, "signal, last hidden layer by first": drift(facts.layers)}
    summary = f"the weights of {where} are {gains[where] / KEEPS:.1f} times the scale that keeps the signal"
    return [INIT_TOO_LARGE.suspect(where, summary, figures, remedies=calibration(facts, list(gains)))]


@INIT_TOO_LARGE.check("program")
def tables(facts: Evidence, _: object) -> list[Suspicion]:
    """Embeddings and recurrent weights far above the scale that they are drawn with."""
    ran = {call.name for call in facts.calls(nn.Embedding, nn.EmbeddingBag, *RECURRENT)}
    found: dict[str, float] = {}
    for path, (_, far) in oversized(facts.model).items():
        name = path.rpartition(".")[0]
        if name in ran:
            found[name] = max(far, found.get(name, 0.0))
    if not found:
        return []
    worst = max(found, key=lambda n: found[n])
    figures = {"weights' scale, by the largest that is usual": found}
    summary = f"the weights of {worst} are {found[worst]:.1f} times the largest scale that keeps the signal"
    return [INIT_TOO_LARGE.suspect(worst, summary, figures, remedies=(remedies.reset(list(found)),))]


@CONSTANT_INIT.check("history")
def still_same_units(facts: Evidence, history: History) -> list[Suspicion]:
    """Units of a watched model that began equal and still are."""
    names = sorted(history.same_units) if history.steps > 10 else []
    if not names:
        return []
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    summary = f"all units of {layers[0]} began with equal weights and are still equal after more than ten updates"
    figures, cure = {"layers": layers[:12]}, (remedies.reset(layers),)
    return [CONSTANT_INIT.suspect(layers[0], summary, figures, True, "critical", cure)]


def _scales(facts: Evidence) -> dict[str, float]:
    """Each layer's weights: root mean square times the root of the number of inputs."""
    gains: dict[str, float] = {}
    for call in facts.layers:
        weight = call_weight(facts.model, call)
        if weight is not None and weight.ndim >= 2 and weight.numel() > 8:
            gains[call.name] = float(weight.float().square().mean().sqrt()) * math.sqrt(weight[0].numel())
    return gains


INIT_TOO_SMALL = Rule(
    f"""LH203 init-too-small: the weights' scale makes the signal or the gradient die with depth
    Why: The same, to zero: outputs do not depend on inputs, and no gradient arrives at the first layers. Where the
    first units are off (LH303), that is what ends the signal.
    Threshold: weights under {SMALL:g} / sqrt(inputs), or a signal that shrinks to less than {SHRUNK:g} of itself over
    three layers and more, whose first units are not off; {PAYS}
    Source: He et al. 2015, Delving deep into rectifiers, section 2.2
    Remedy: draw the weights at the scale that keeps the signal's variance
    Example: lh.init.calibrate_(model, batch)"""
)


@INIT_TOO_SMALL.check("unchanged", "script")
def drawn_badly(_: Evidence, run: Unchanged, script: Seen) -> list[Suspicion]:
    """Weights of a script that are equal, large or small, or turn units off: all are drawn anew.

    Small outputs of the last layer are those of a new network. Beside a part that is not trained other random weights
    of it may win by chance.
    """
    last = run.layers[-1][0] if run.layers else ""
    sizes = [(n, size) for n, size in run.layers if size >= LARGE or (size <= SMALL and n != last)]
    found = [
        (CONSTANT_INIT.cause, run.places.get(CONSTANT_INIT.cause, "")),
        ("dead-units", run.dead),
        *((INIT_TOO_LARGE.cause, name) for name in run.oversized),
        *(((INIT_TOO_SMALL if size <= SMALL else INIT_TOO_LARGE).cause, name) for name, size in sizes),
    ]
    cure = remedies.drawn_anew()
    seen = [Suspicion(cause, where, cure.words, remedies=(cure,)) for cause, where in found if where]
    return [] if script.untrained else seen[:1]


@INIT_TOO_SMALL.check("program")
def weights_too_small(facts: Evidence, _: object) -> list[Suspicion]:
    """Weights far under the scale that keeps the signal, or a stack in which it dies."""
    gains = _scales(facts)
    if not gains or max(gains.values()) > FAR * KEEPS:
        return []
    least, shrinks = min(gains.values()), drift(facts.layers)
    where = next(n for n in gains if gains[n] <= 2 * least)
    figures = {"weight's deviation x sqrt(inputs)": gains, "signal, last hidden layer by first": shrinks}
    cure = calibration(facts, list(gains))
    if least < SMALL:
        summary = f"the weights of {where} are {gains[where] / KEEPS:.2g} of the scale that keeps the signal"
        return [INIT_TOO_SMALL.suspect(where, summary, figures, remedies=cure)]
    if len(gains) < 3 or shrinks >= SHRUNK:
        return []
    if next(iter(dead_units(facts.loop.calls, facts.node, facts.output).values()), 0.0) >= DEAD:
        return []  # the first units are off: that ends the signal, whatever the weights' scale
    summary = f"the signal shrinks to {shrinks:.2g} of its size between the first and the last hidden layer"
    return [INIT_TOO_SMALL.suspect(next(iter(gains)), summary, figures, remedies=cure)]  # each takes its part


@INIT_TOO_LARGE.check("history")
def outputs_lost_at_first(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched model whose outputs are not finite before any update, though its inputs are."""
    if history.loss_lost_at != 0 or not history.measured or history.input_lost_at >= 0:
        return []
    layers = history.measured[0].layers
    bad = next((name for name, layer in layers.items() if not math.isfinite(layer.mean + layer.std)), "")
    if not bad:
        return []
    summary = f"before any update the output of {bad} is not finite, though the inputs are"
    figures = {"first layer that is not finite": bad}
    return [INIT_TOO_LARGE.suspect(place_of(bad), summary, figures, True, "critical")]


RULES = (CONSTANT_INIT, INIT_TOO_LARGE, INIT_TOO_SMALL)
