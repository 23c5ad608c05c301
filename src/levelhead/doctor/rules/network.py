"""Rules on architecture: activations, normalization and dropout."""

from __future__ import annotations

from torch import nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Unchanged
from levelhead.doctor.evidence.evaluation import ROUNDING
from levelhead.doctor.evidence.history import History, place_of, share_of
from levelhead.doctor.evidence.structure import (
    BATCH_NORM,
    DROPOUT,
    LINEAR,
    NORM,
    ancestors,
    dead_units,
    drift,
    hidden,
    misplaced_softmax,
    name_of,
    pairs,
    skipping,
    through_views,
)
from levelhead.doctor.findings import Severity
from levelhead.doctor.rules.rule import LEARNT, PAYS, Rule, Suspicion
from levelhead.doctor.rules.weights import DEAD, calibration

#: The share of flat values, from a slope of so much of the largest on, that counts; layers that make a deep stack; a
#: dropout that may be strong.
HALF, FLAT, DEEP, STRONG = 0.5, 0.05, 5, 0.3
#: The figure that names the layers behind sigmoids.
BEHIND = "layers behind sigmoids"


MISSING_NONLINEARITY = Rule(
    """LH301 missing-nonlinearity: stacked linear layers with nothing between them
    Why: The product of two matrices is one matrix. A narrow layer between them is a bottleneck (it limits the rank) and
    is left in peace, as are depthwise convolutions. A batch normalization between them is linear, too.
    Threshold: two linear layers in a row whose product one layer can hold (no bottleneck between); style, unless its
    repair pays
    Remedy: put an activation between them, or leave one out
    Example: nn.Sequential(first, nn.ReLU(), second)""",
    tried=True,
)


@MISSING_NONLINEARITY.check()
def linear_stack(facts: Evidence) -> list[Suspicion]:
    """Two linear layers in a row that one could stand for."""
    found = []
    for first, second in skipping(facts.loop.calls, (*DROPOUT, *BATCH_NORM, nn.Flatten, nn.Identity)):
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
    figures = {"pairs": [f"{a} -> {b}" for a, b in found[:12]]}
    summary = f"{two} takes what {one} gives, with no activation between: the two do what one linear layer does"
    cure = remedies.relu_between([a for a, _ in found], f"nn.Sequential(..., {one}, nn.ReLU(), {two}, ...)")
    return [MISSING_NONLINEARITY.suspect(one, summary, figures, True, "info", (cure,))]


def _relu(module: nn.Module) -> nn.Module:
    return nn.ReLU()


SATURATING_ACTIVATION = Rule(
    f"""LH302 saturating-activation: hidden sigmoid or tanh units driven flat, or a squashing function that stalls a
    deep stack
    Why: A sigmoid's slope is 1/4 at most, so that a stack of them divides the gradient by 4 a layer; where its input is
    beyond about 4.4 the slope is under a twentieth of that.
    Threshold: hidden sigmoid or softmax layers, or tanh layers of whose values {100 * HALF:.0f} % lie where the slope
    is under {FLAT:g} of its largest; {PAYS}; watched, such a share in the last quarter of the measured updates, or two
    layers and more that take a sigmoid's values
    Source: Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, section 3
    Remedy: ReLU in their place
    Example: nn.ReLU()  # in place of nn.Sigmoid()""",
    explains=("does-not-learn", "learning-rate-too-low", "dead-units"),
)


@SATURATING_ACTIVATION.check("program")
def squashing(facts: Evidence, _: object) -> list[Suspicion]:
    """Hidden sigmoids and softmaxes, and hidden tanhs that are flat."""
    found: dict[str, float] = {}
    for call in hidden(facts.loop.calls, facts.output):
        if not isinstance(call.module, nn.Sigmoid | nn.Softmax | nn.Tanh) or call.output is None or call.name in found:
            continue
        y = call.output.double()
        slope = 1 - y.square() if isinstance(call.module, nn.Tanh) else 4 * y * (1 - y)
        found[call.name] = float((slope < FLAT).double().mean())
    sigmoids = [n for n in found if not isinstance(facts.model.get_submodule(n), nn.Tanh)]
    flat = [n for n, share in found.items() if share > HALF]
    if not sigmoids and not flat:
        return []
    names = list(found)
    worst = max(flat or sigmoids, key=lambda n: found[n])
    where = flat[0] if flat else sigmoids[0]
    figures = {"share of values where the slope is under a twentieth": found}
    summary = (
        f"{len(sigmoids)} hidden sigmoids or softmaxes" if sigmoids else f"{len(flat)} hidden tanh layers are flat"
    )
    summary += f"; {100 * found[worst]:.0f} % of the values of {worst} lie where it is flat"
    cure = remedies.replace(
        names, _relu, "ReLU in place of sigmoid or tanh", "\n".join(f"# {n}: nn.ReLU()" for n in names[:6])
    )
    return [SATURATING_ACTIVATION.suspect(where, summary, figures, remedies=(cure,))]


@SATURATING_ACTIVATION.check("history")
def sigmoid_stack(facts: Evidence, _: History) -> list[Suspicion]:
    """Layers of a watched model that take what a sigmoid, module or function, gives as it is."""
    behind = [c for c in facts.layers if name_of(through_views(c.input_node)) == "Sigmoid"]
    if len(behind) < 2:
        return []
    producers = {id(b): a.name for a, b in pairs(facts.loop.calls)}
    before = facts.loop.calls[max(0, facts.loop.calls.index(behind[0]) - 1)].name
    where, names = producers.get(id(behind[0]), before), [c.name for c in behind]
    summary = f"{len(names)} layers take what a sigmoid gives, first {names[0]}"
    cure = remedies.relu_for_sigmoid(names)
    return [SATURATING_ACTIVATION.suspect(where, summary, {BEHIND: names}, remedies=(cure,))]


DEAD_UNITS = Rule(
    f"""LH303 dead-units: ReLU units that no input turns on
    Why: A ReLU that is 0 for every row passes no gradient and stays so. `torch.relu` counts as the module does; then
    the layer in front of it is named.
    Threshold: {100 * DEAD:.0f} % of a layer's units are 0 for every row looked at; {PAYS}; watched, in the last quarter
    of the measured updates: a remark where the loss has fallen by {100 * LEARNT:.0f} %
    Source: Lu et al. 2020, Dying ReLU and initialization
    Remedy: zero biases and calibrated weights, or LeakyReLU
    Example: nn.init.zeros_(layer.bias)
    lh.init.calibrate_(model, batch)""",
    explains=("does-not-learn", "learning-rate-too-low"),
)


@DEAD_UNITS.check("program")
def dead(facts: Evidence, _: object) -> list[Suspicion]:
    """ReLU units that are 0 for every row, before training has moved them."""
    found = dead_units(facts.loop.calls, facts.node, facts.output)
    worst = max(found, key=lambda n: found[n], default="")
    if not worst or found[worst] < DEAD:
        return []
    first = next(n for n in found if found[n] >= DEAD)
    behind = {consumer.name: producer.name for producer, consumer in pairs(facts.loop.calls)}
    layer = behind.get(first, first) if isinstance(facts.model.get_submodule(first), nn.ReLU) else first
    figures = {"share of units that are 0 for every row of a batch": found}
    summary = f"{100 * found[first]:.0f} % of the units of {first} are 0 for every row of the first batch"
    cures = calibration(facts, [call.name for call in facts.layers])
    modules = [n for n in found if isinstance(facts.model.get_submodule(n), nn.ReLU)]
    if modules:
        cures = (*cures, remedies.replace(modules, _leaky, "LeakyReLU in place of ReLU", "nn.LeakyReLU(0.1)"))
    return [DEAD_UNITS.suspect(layer, summary, figures, remedies=cures)]


def _leaky(module: nn.Module) -> nn.Module:
    return nn.LeakyReLU(0.1)


MISSING_NORMALIZATION = Rule(
    f"""LH305 missing-normalization: a deep stack whose signal drifts and that a normalization layer would hold
    Why: A normalization holds the signal in a deep stack whatever the weights become.
    Threshold: {DEEP} layers or more without normalization; {PAYS}, more than calibrated weights do
    Source: Ioffe & Szegedy 2015, Batch Normalization, section 3
    Remedy: a normalization layer in front of each activation
    Example: nn.Sequential(layer, nn.BatchNorm1d(width), nn.ReLU())"""
)


@MISSING_NORMALIZATION.check("program")
def unnormalized(facts: Evidence, _: object) -> list[Suspicion]:
    """A deep stack without a normalization layer."""
    known = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [call.name for call in facts.layers if type(call.module) in known]
    if len(names) < DEEP or facts.calls(*NORM):
        return []
    flat = all(
        c.output is not None and (c.output.ndim == 2 or not isinstance(c.module, nn.Linear)) for c in facts.layers
    )
    if not flat:
        return []
    figures = {"layers": len(names), "signal, last hidden layer by first": drift(facts.layers)}
    summary = f"{len(names)} layers without a normalization"
    cure = remedies.followed_by(
        names[:-1],
        remedies.norm_for,
        "batch normalization behind each hidden layer",
        "nn.Sequential(layer, nn.BatchNorm1d(width), activation)",
    )
    return [MISSING_NORMALIZATION.suspect(names[0], summary, figures, remedies=(cure,))]


DROPOUT_TOO_STRONG = Rule(
    f"""LH702 dropout-too-strong: dropout that keeps the model from fitting the training data
    Why: With a rate p a unit hears 1 - p of its inputs.
    Threshold: dropout of {STRONG:g} or more; training without: {PAYS}, and fits the training data better
    Source: Srivastava et al. 2014, Dropout, section A.4
    Remedy: a smaller dropout rate
    Example: nn.Dropout(0.1)"""
)


@DROPOUT_TOO_STRONG.check("unchanged")
def drops(facts: Evidence, _: Unchanged) -> list[Suspicion]:
    """Dropout in a script."""
    rates = [(m.p, name) for name, m in facts.model.named_modules() if isinstance(m, DROPOUT) and m.p]
    names = [name for _, name in sorted(rates, reverse=True)]
    return [DROPOUT_TOO_STRONG.tried_with(names[0], remedies.dropout(names, 0.0))] if names else []


@DROPOUT_TOO_STRONG.check("program")
def strong_dropout(facts: Evidence, _: object) -> list[Suspicion]:
    """Dropout that may keep the model from fitting."""
    rates = {c.name: float(c.module.p) for c in facts.calls(*DROPOUT) if c.module.training and c.module.p >= STRONG}
    if not rates:
        return []
    worst = max(rates, key=lambda n: rates[n])
    figures = {"rates": rates}
    summary = f"dropout of {rates[worst]:g} at {worst}"
    names = list(rates)
    cures = (remedies.dropout(names, 0.0), remedies.dropout(names, 0.1))
    return [DROPOUT_TOO_STRONG.suspect(worst, summary, figures, remedies=cures, fits=True)]


@SATURATING_ACTIVATION.check("history")
def flat(facts: Evidence, history: History) -> list[Suspicion]:
    """Hidden sigmoid or tanh units of a watched model that stay where they are flat."""
    said = "of the values of {} lie where its slope is under a twentieth"
    return _stuck(SATURATING_ACTIVATION, history, "flat", HALF, said)


@DEAD_UNITS.check("history")
def dead_at_last(facts: Evidence, history: History) -> list[Suspicion]:
    """Hidden ReLU units of a watched model that stay off."""
    return _stuck(DEAD_UNITS, history, "idle", DEAD, "of the units of {} are 0 for every row")


def _stuck(rule: Rule, history: History, what: str, most: float, said: str) -> list[Suspicion]:
    steps = history.late
    last = next(reversed(steps[-1].layers), "") if steps else ""  # the outputs may well be flat, or 0
    shares = {name: share_of(steps, name, what) for m in steps[-1:] for name in m.layers if name != last}
    bad = {name: share for name, share in shares.items() if share >= most}
    if not bad:
        return []
    first = next(iter(bad))
    summary = f"{100 * bad[first]:.0f} % {said.format(first)}, in the last {len(steps)} measured updates"
    severity: Severity = "info" if history.fell > LEARNT else "warning"  # a network may have units to spare
    return [rule.suspect(place_of(first), summary, {"shares": bad}, True, severity)]


ROWS_MIXED = Rule(
    f"""LH306 rows-mixed: the rows of a batch are mixed: an output answers for another row's input
    Why: Each row's answer must hang on its own inputs. A permute with a reshape, a flip, a softmax over dimension 0 or
    a sequence layer that takes the batch for time mixes rows, raises no error, and leaves little to learn. One row of a
    batch is changed, in evaluation, and the other rows' outputs are looked at. Not told where outputs are noisy, have a
    dimension that may be time, or one for each row of the batch, or all data are one batch.
    Threshold: another row's output changes by more than {ROUNDING:g} of its size
    Remedy: keep the batch in dimension 0, and reduce over the others
    Example: x = x.permute(0, 2, 1).reshape(len(x), -1)  # and softmax(dim=1)""",
    explains=("does-not-learn",),
)


@ROWS_MIXED.check()
def rows_mixed(facts: Evidence) -> list[Suspicion]:
    """An output that hangs on other rows of the batch, in evaluation."""
    where = facts.mixing
    if where is None:
        return []
    what = f"from {where} on" if where else "of the model"
    summary = f"the values {what} for one row of a batch change when only another row is changed: rows are mixed"
    return [ROWS_MIXED.suspect(where, summary, {"first module": where}, True, "critical")]


SOFTMAX_DIMENSION = Rule(
    """LH307 softmax-dimension: the shares of a softmax add up to 1 in another dimension than they are summed over
    Why: Attention weighs the values by shares that are to add up to 1 over the positions that are looked at. A softmax
    over the queries, the heads or a single value leaves weights of any sum, or all of them 1; it raises no error. The
    graph of the first update says over which dimension a matrix product sums up, and over which the softmax went.
    Threshold: the first factor of a matrix product holds a softmax's values, and the dimension that it sums over is
    another one; or every softmax of three dimensions and more goes over a single value
    Source: Vaswani et al. 2017, Attention is all you need, equation 1
    Remedy: softmax over the dimension of the positions, usually the last
    Example: weights = scores.softmax(dim=-1)  # scores: batch, queries, positions
    answer = weights @ values""",
    explains=("does-not-learn", "learning-rate-too-low", "rows-mixed", "loss-detached"),
)


@SOFTMAX_DIMENSION.check()
def softmax_dimension(facts: Evidence) -> list[Suspicion]:
    """A softmax in front of a matrix product, over a dimension that the product does not sum over."""
    calls = [call for call in facts.loop.calls if call.output_node is not None]
    node = next((n for call in reversed(calls) if (n := misplaced_softmax(call.output_node)) is not None), None)
    if node is None:
        return []
    behind = set(ancestors(node))
    before = next((c.name for c in reversed(calls) if c.output_node in behind), "")
    where = before.rpartition(".")[0] or before
    summary = f"behind {before or 'the inputs'}, a softmax shares out another dimension than its values are summed over"
    return [SOFTMAX_DIMENSION.suspect(where, summary, {"behind": before}, True, "critical")]


RULES = (
    *(MISSING_NONLINEARITY, SATURATING_ACTIVATION, DEAD_UNITS, MISSING_NORMALIZATION, DROPOUT_TOO_STRONG, ROWS_MIXED),
    SOFTMAX_DIMENSION,
)
