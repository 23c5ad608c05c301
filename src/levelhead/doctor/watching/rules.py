"""Judges what a watch has seen. Rules of the examination are used where they need no trial; the others are here.

A watch tries nothing on copies, so its rules ask for more than those of an examination: a figure that is far off, or
a fault together with what it does. What a found cause explains is its symptom, not a second finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from levelhead.doctor.causes import CAUSES
from levelhead.doctor.facts import Facts
from levelhead.doctor.findings import SEVERITIES, Finding, Severity
from levelhead.doctor.probes.loop import Call, Loop, Update
from levelhead.doctor.probes.structure import BATCH_NORM, DROPOUT, NORM
from levelhead.doctor.rules import loop as loop_rules
from levelhead.doctor.rules import network as network_rules
from levelhead.doctor.rules import normalization as normalization_rules
from levelhead.doctor.rules.suspicion import Suspicion
from levelhead.doctor.watching.history import Measured

if TYPE_CHECKING:
    from levelhead.doctor.watching.watch import watch

#: Updates before which a trend is not judged.
SOON = 100
#: What each cause explains: these are then its symptoms.
EXPLAINS: dict[str, frozenset[str]] = {
    "non-finite-data": frozenset({"learning-rate-too-high", "poisoned-running-statistics", "output-mismatch"}),
    "gradient-ascent": frozenset(
        {"learning-rate-too-high", "poisoned-running-statistics", "dead-units", "saturating-activation"}
    ),
    "gradients-accumulate": frozenset(
        {"learning-rate-too-high", "poisoned-running-statistics", "dead-units", "saturating-activation"}
    ),
    "inputs-not-normalized": frozenset(
        {"learning-rate-too-high", "dead-units", "saturating-activation", "poisoned-running-statistics"}
    ),
    "learning-rate-too-high": frozenset({"dead-units", "saturating-activation", "poisoned-running-statistics"}),
    "constant-init": frozenset({"dead-units", "learning-rate-too-low"}),
    "saturating-activation": frozenset({"learning-rate-too-low", "dead-units"}),
    "dead-units": frozenset({"learning-rate-too-low"}),
    "loss-detached": frozenset({"learning-rate-too-low", "parameters-not-trained"}),
    "eval-mode-in-training": frozenset({"stale-running-statistics"}),
}


def structure(seen: watch, calls: list[Call]) -> list[Finding]:
    """What the order of the modules in one forward pass shows."""
    facts = _facts(seen, calls)
    found = [*network_rules.linear_stack(facts), *normalization_rules.bias_before(facts)]
    return [_as_finding(suspicion) for suspicion in found]


def judge(seen: watch) -> tuple[Finding, ...]:
    """All findings, the most severe first and, of equal ones, that which lies further upstream."""
    facts = _facts(seen, [])
    found = [finding for rule in RULES if (finding := rule(seen)) is not None]
    if seen.history.measured:
        found += [_as_finding(s) for rule in SHARED for s in rule(facts)]
    found += seen.structure or []
    kept: list[Finding] = []
    order = list(EXPLAINS)
    for finding in sorted(found, key=lambda f: order.index(f.cause) if f.cause in order else len(order)):
        cause = next((i for i, k in enumerate(kept) if finding.cause in EXPLAINS.get(k.cause, ())), None)
        if cause is None:
            kept.append(finding)
        else:
            kept[cause] = replace(kept[cause], symptoms=(*kept[cause].symptoms, finding.summary))
    return tuple(sorted(kept, key=lambda f: SEVERITIES.index(f.severity)))


def _as_finding(suspicion: Suspicion) -> Finding:
    """A shared rule's suspicion, without the figures that a watch does not take."""
    finding = suspicion.finding(suspicion.severity, {}, (), None)
    known = {name: value for name, value in finding.evidence.items() if not _unknown(value)}
    return replace(finding, evidence=known)


def _unknown(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, float) and math.isnan(v) for v in value)


def _facts(seen: watch, calls: list[Call]) -> Facts:
    """What the shared rules read, of what was watched."""
    moves = [m.move for m in seen.history.measured if math.isfinite(m.move)]
    groups = [group for optimizer in seen.optimizers for group in optimizer.param_groups]
    program = SimpleNamespace(model=seen.model, optimizer=SimpleNamespace(param_groups=groups))
    mode = {True} if not seen.history.eval_steps else {False} if not seen.history.training_steps else {True, False}
    looped = Loop(
        calls=calls,
        updates=[Update(math.nan, 1.0, math.nan, math.nan, math.nan, move) for move in moves],
        modes={**seen.modes, "": mode},
        reached=seen.reached,
        executed=seen.executed,
    )
    return cast(Facts, SimpleNamespace(program=program, watched=program, loop=looped))


def _finding(
    cause: str, where: str, severity: Severity, summary: str, evidence: dict[str, Any], threshold: str, patch: str = ""
) -> Finding:
    known = CAUSES[cause]
    return Finding(known.code, cause, where, severity, summary, evidence, threshold, (), known.remedy, patch)


def _late(seen: watch) -> list[Measured]:
    """The last quarter of the measured steps, four at least; nothing before that."""
    measured = seen.history.measured
    return measured[-max(4, len(measured) // 4) :] if len(measured) >= 4 else []


def _share(steps: list[Measured], name: str, what: str) -> float:
    """The median of a layer's share over some steps."""
    values = [getattr(m.layers[name], what) for m in steps if name in m.layers]
    finite = [v for v in values if math.isfinite(v)]
    return median(finite) if finite else math.nan


def _place(name: str) -> str:
    return name.removeprefix("input of ")


def lost_inputs(seen: watch) -> Finding | None:
    """NaN or infinity in the inputs."""
    at = seen.history.input_lost_at
    if at < 0:
        return None
    return _finding(
        "non-finite-data", "data", "critical", f"the inputs of update {at + 1} hold NaN or infinity",
        {"first at update": at + 1}, "one such value",
    )  # fmt: skip


def accumulating(seen: watch) -> Finding | None:
    """No update cleared the gradients of the one before."""
    history = seen.history
    if history.uncleared < 8 or history.cleared:
        return None
    summary = f"at none of {history.uncleared} updates the gradients of the one before had been cleared"
    return _finding(
        "gradients-accumulate", "loop", "critical", summary, {"updates": history.uncleared},
        "8 updates or more, and not one with cleared gradients", "optimizer.zero_grad()  # before loss.backward()",
    )  # fmt: skip


def raw_inputs(seen: watch) -> Finding | None:
    """Inputs whose scale the first layer cannot take, together with what it does."""
    batches = [m.batch for m in seen.history.measured if m.batch is not None]
    first = next((m for name, m in seen._modules.items() if name in seen.executed and m._parameters), None)
    if not batches or isinstance(first, (*NORM, nn.Embedding)) or first is None:
        return None
    rms = median(b.rms for b in batches)
    if not math.isfinite(rms) or not (rms > 5 or 0 < rms < 0.02):
        return None
    lost = seen.history.loss_lost_at >= 0
    flat = _worst(seen, "flat", _early(seen))
    stuck = flat is not None and flat[1] > 0.5
    if not (rms > 30 or rms < 0.001 or lost or stuck):
        return None
    low, high = min(b.low for b in batches), max(b.high for b in batches)
    evidence = {
        "root mean square": rms,
        "mean": batches[-1].mean,
        "deviation": batches[-1].std,
        "least": low,
        "largest": high,
    }
    return _finding(
        "inputs-not-normalized", "data", "warning",
        f"inputs run from {low:.4g} to {high:.4g}, with a root mean square of {rms:.4g} in front of {_name(seen, first)}",
        evidence,
        "root mean square above 30 or below 0.001; or above 5 together with flat units or a loss that is not finite "
        "(LeCun et al. 1998, Efficient BackProp, section 4.3)",
        "mean, std = x_train.mean(), x_train.std()\nx = (x - mean) / std",
    )  # fmt: skip


def _early(seen: watch) -> list[Measured]:
    return seen.history.measured[:4]


def _worst(seen: watch, what: str, steps: list[Measured]) -> tuple[str, float] | None:
    names = dict.fromkeys(name for m in steps for name in m.layers)
    shares = {name: _share(steps, name, what) for name in names}
    finite = {name: share for name, share in shares.items() if math.isfinite(share)}
    return max(finite.items(), key=lambda pair: pair[1]) if finite else None


def _name(seen: watch, module: nn.Module) -> str:
    return next((name for name, m in seen._modules.items() if m is module), "the first layer")


def lost_loss(seen: watch) -> Finding | None:
    """A loss that is not finite at the first update, or later, or jumps."""
    history = seen.history
    at = history.loss_lost_at
    if at == 0 and history.measured:
        layers = history.measured[0].layers
        bad = next((name for name, layer in layers.items() if not math.isfinite(layer.mean + layer.std)), "")
        if bad:
            summary = f"before any update the output of {bad} is not finite, though the inputs are"
            return _finding(
                "init-too-large", _place(bad), "critical", summary, {"first layer that is not finite": bad},
                "a value that is not finite before the first update",
            )  # fmt: skip
        summary = (
            "the first loss is not finite, though the model's outputs are: they lie outside of what the loss can take"
        )
        return _finding(
            "output-mismatch", "loss", "critical", summary, {}, "a loss that is not finite of finite outputs"
        )
    jumped = history.largest > 100 * abs(history.first_loss) > 0 and history.steps > 1
    if at < 0 and not jumped:
        return None
    rates = [float(g["lr"]) for o in seen.optimizers for g in o.param_groups]
    evidence = {"learning rate": rates, "first loss": history.first_loss, "largest loss": history.largest}
    if at > 0:
        evidence["update of the first loss that is not finite"] = at + 1
        summary = f"at a learning rate of {max(rates):g} the loss is no longer finite at update {at + 1}"
    else:
        summary = f"at a learning rate of {max(rates):g} the loss jumps from {history.first_loss:.4g} to {history.largest:.4g}"
    return _finding(
        "learning-rate-too-high", "optimizer", "critical", summary, evidence,
        "a loss that is not finite, or 100 times the first one", f"lr = {max(rates) / 10:g}  # in place of {max(rates):g}",
    )  # fmt: skip


def no_progress(seen: watch) -> Finding | None:
    """A loss that stays where it was, while the weights hardly move or are thrown about."""
    history = seen.history
    measured = [m for m in history.measured if m.weights]
    if history.steps < SOON or len(measured) < 6 or history.loss_lost_at >= 0 or len(history.losses) < 20:
        return None
    values = history.losses.values
    tenth = max(2, len(values) // 10)
    start, end = median(values[:tenth]), median(values[-tenth:])
    ratios = [
        median(finite) for m in measured if (finite := [r for w in m.weights.values() if math.isfinite(r := w.ratio)])
    ]
    if not ratios or not start:
        return None
    fell = (start - end) / abs(start)
    ratio = median(ratios)
    rates = [float(g["lr"]) for o in seen.optimizers for g in o.param_groups]
    evidence = {"learning rate": rates, "loss at first": start, "at last": end, "change by weight, an update": ratio}
    if fell < 0.1 and ratio * history.steps < 0.01 and any(m.move < 0 for m in measured):
        summary = f"in {history.steps} updates the weights moved by less than {100 * ratio * history.steps:.2g} % of their size"
        return _finding(
            "learning-rate-too-low", "optimizer", "warning", summary, evidence,
            "all updates together under 1 % of the weights, and the loss has fallen by less than a tenth",
            f"lr = {max(rates) * 10:g}  # in place of {max(rates):g}",
        )  # fmt: skip
    if fell <= 0 and ratio > 0.1:
        summary = f"each update changes a weight by {100 * ratio:.0f} % of its size, and the loss has not fallen"
        return _finding(
            "learning-rate-too-high", "optimizer", "warning", summary, evidence,
            "changes above a tenth of the weights at each update, and a loss that is no lower than at first",
            f"lr = {max(rates) / 10:g}  # in place of {max(rates):g}",
        )  # fmt: skip
    return None


def same_units(seen: watch) -> Finding | None:
    """Units that began equal and still are."""
    names = sorted(seen.history.same_units)
    if not names or seen.history.steps <= 10:
        return None
    layers = [name.rpartition(".")[0] or name for name in names]
    return _finding(
        "constant-init", layers[0], "critical",
        f"all units of {layers[0]} began with equal weights and are still equal after more than ten updates",
        {"layers": layers[:12]}, CAUSES["constant-init"].threshold, f"model.get_submodule({layers[0]!r}).reset_parameters()",
    )  # fmt: skip


def dead(seen: watch) -> Finding | None:
    """Hidden ReLU units that stay off."""
    return _stuck(
        seen, "dead-units", "idle", "of the units of {} are 0 for every row", "units", "half of a layer's units"
    )


def flat(seen: watch) -> Finding | None:
    """Hidden sigmoid or tanh units that stay where they are flat."""
    said = "of the values of {} lie where its slope is under a twentieth"
    return _stuck(seen, "saturating-activation", "flat", said, "values", "half of a layer's values")


def _stuck(seen: watch, cause: str, what: str, said: str, of: str, half: str) -> Finding | None:
    late = _late(seen)
    last = next(reversed(late[-1].layers), "") if late else ""  # the outputs may well be flat, or 0
    shares = {name: _share(late, name, what) for m in late[-1:] for name in m.layers if name != last}
    bad = {name: share for name, share in shares.items() if share >= 0.5}
    if not bad:
        return None
    first = next(iter(bad))
    return _finding(
        cause, _place(first), "warning",
        f"{100 * bad[first]:.0f} % {said.format(first)}, in the last {len(late)} measured updates",
        {f"share of {of}": bad}, f"{half}, in the median of the last quarter of the measured updates, 4 at least",
    )  # fmt: skip


def small_batches(seen: watch) -> Finding | None:
    """Batch normalization over few values."""
    few = {n: c for m in seen.history.measured for n, c in m.channels.items()}
    few = {n: c for n, c in few.items() if max(m.channels.get(n, 0) for m in seen.history.measured) < 8}
    if not few:
        return None
    worst = min(few, key=lambda n: few[n])
    return _finding(
        "batch-too-small", "data", "warning", f"{worst} normalizes over {few[worst]} values a channel",
        {"values a channel": few}, "fewer than 8 values a channel in every batch (Wu & He 2018, Group Normalization, figure 1)",
    )  # fmt: skip


def stale(seen: watch) -> Finding | None:
    """Running statistics that still hold much of what they began with."""
    slow = {}
    for name, module in seen.model.named_modules():
        if not isinstance(module, BATCH_NORM) or module.momentum is None or module.num_batches_tracked is None:
            continue
        left = (1 - module.momentum) ** int(module.num_batches_tracked)
        if seen.modes.get(name) == {True} and seen.history.steps >= SOON and left > 0.1:
            slow[name] = left
    if not slow:
        return None
    first = next(iter(slow))
    momentum = seen.model.get_submodule(first).momentum
    return _finding(
        "stale-running-statistics", first, "warning",
        f"after {seen.history.steps} updates {100 * slow[first]:.0f} % of the running statistics of {first} are still "
        f"the values that they began with (momentum {momentum})",
        {"share that is left": slow}, f"(1 - momentum)^batches above 0.1 after {SOON} updates", "momentum=0.1",
    )  # fmt: skip


def training_evaluation(seen: watch) -> Finding | None:
    """Evaluations in training mode."""
    history = seen.history
    kinds = (*BATCH_NORM, *DROPOUT)
    concerned = [
        n
        for n, m in seen._modules.items()
        if isinstance(m, kinds) and (m.training or not isinstance(m, DROPOUT) or m.p)
    ]
    if history.training_evaluations < 2 or history.eval_evaluations or not concerned or not history.steps:
        return None
    return _finding(
        "train-mode-in-eval", "loop", "warning",
        f"all {history.training_evaluations} forward passes without gradients ran in training mode, {concerned[0]} included",
        {"in training mode": history.training_evaluations, "in eval mode": 0},
        "two forward passes without gradients, all of them in training mode", "model.eval()  # before evaluation",
    )  # fmt: skip


def not_in_optimizer(seen: watch) -> Finding | None:
    """Parameters that get gradients and are in no optimizer, behind some that are trained."""
    held = {id(p) for p in seen._parameters.values()}
    order = [(name, p) for name, p in seen.model.named_parameters() if name.rpartition(".")[0] in seen.executed]
    trained = [i for i, (_, p) in enumerate(order) if id(p) in held]
    left = [
        name
        for i, (name, p) in enumerate(order)
        if id(p) not in held and p.requires_grad and trained and i > trained[0]
    ]
    if not left:
        return None
    return _finding(
        "parameters-not-trained", "optimizer", "warning",
        f"{len(left)} parameters that need gradients and run behind trained ones are in no optimizer, first {left[0]}",
        {"parameters": left[:12]}, "a parameter that needs gradients, runs behind a trained one, and is in no optimizer",
        "optimizer = Optimizer(model.parameters(), ...)",
    )  # fmt: skip


def overfitting(seen: watch) -> Finding | None:
    """Validation losses that rise from their least while the training loss falls."""
    told = list(seen.history.validation)
    if len(told) < 4 or len(seen.history.losses) < 8:
        return None
    at, best = min(told, key=lambda pair: pair[1])
    _, last = told[-1]
    before = [v for s, v in seen.history.losses if s <= at][-8:]
    after = seen.history.losses.values[-8:]
    if not before or not (best > 0 and last > 1.2 * best and median(after) < 0.9 * median(before)):
        return None
    return _finding(
        "overfitting", "loop", "warning",
        f"the validation loss rose from {best:.4g} after {at} updates to {last:.4g}, while the training loss fell on",
        {"least validation loss": best, "after updates": at, "last": last, "training loss then": median(before), "now": median(after)},
        "validation loss a fifth above its least (generalization loss of 20 %, Prechelt 1998, Early stopping - but when?) "
        "and a training loss a tenth lower than then",
    )  # fmt: skip


RULES: tuple[Callable[[watch], Finding | None], ...] = (
    lost_inputs, accumulating, raw_inputs, lost_loss, same_units, flat, dead, no_progress, small_batches, stale,
    training_evaluation, not_in_optimizer, overfitting,
)  # fmt: skip
#: Rules of the examination that need no trial.
SHARED = (
    loop_rules.ascending,
    loop_rules.detached,
    loop_rules.eval_in_training,
    loop_rules.decay_on_norm,
    normalization_rules.poisoned,
)
