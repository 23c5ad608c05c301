"""Rules on normalization: batches, running statistics, and what stands before a normalization."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Unchanged
from levelhead.doctor.evidence.calls import Call
from levelhead.doctor.evidence.history import SOON, History
from levelhead.doctor.evidence.structure import BATCH_NORM, DROPOUT, LINEAR, ancestors, pairs
from levelhead.doctor.isolation import clone
from levelhead.doctor.rules.rule import GAIN, PAYS, Rule, Suspicion
from levelhead.doctor.trials import Outcome

#: Bytes of a number under which an average of many batches loses them.
BYTES = 4
#: The share of the values that running statistics began with, from which on they are not those of the data.
LEFT = 0.1
#: Values a channel under which batch statistics are mostly noise: at 8 their deviation is off by a quarter.
FEW = 8
#: Rows a batch under which they are mostly those of single rows, however large the maps (Wu & He 2018, figure 1).
FEW_ROWS = 4


def _used(facts: Evidence) -> list[Call]:
    """Batch normalizations that take the batch's statistics in training."""
    return [
        c
        for c in facts.calls(*BATCH_NORM)
        if facts.loop.modes.get(c.name) == {True} or not c.module.track_running_stats
    ]


POISONED_RUNNING_STATISTICS = Rule(
    """LH403 poisoned-running-statistics: non-finite running statistics
    Why: An exponential average never forgets a NaN. Values whose squares are beyond float32 do the same: a mark for
    "unknown" such as 9.97e36. Where inputs lie a million deviations (median and median distance) from the others of
    their column, the data are named, and the median is tried in their place.
    Threshold: one such value, at first or after the training
    Remedy: find the batch that held NaN, reset the statistics and recalibrate them
    Example: norm.reset_running_stats()
    lh.recalibrate(model, batches)"""
)


@POISONED_RUNNING_STATISTICS.check()
def poisoned(facts: Evidence) -> list[Suspicion]:
    """Running statistics that are not finite."""
    bad = _not_finite(facts.model)
    if not bad:
        return []
    summary = f"running statistics of {len(bad)} batch normalizations are not finite, first {bad[0]}"
    cure = remedies.reset_statistics(bad)
    figures = {"layers": bad[:12]}
    return [POISONED_RUNNING_STATISTICS.suspect(bad[0], summary, figures, True, "critical", (cure,))]


def _not_finite(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORM)
        and module.running_mean is not None
        and module.running_var is not None
        and not bool(torch.isfinite(module.running_mean).all() & torch.isfinite(module.running_var).all())
    ]


@POISONED_RUNNING_STATISTICS.check("base")
def poisoned_in_training(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Running statistics that are not finite after the training, though the losses are."""
    kept = facts.train.kept
    bad = [] if base.diverged else _not_finite(base.program.model)
    if not bad or _not_finite(facts.model):
        return []
    summary = f"after the training the running statistics of {bad[0]} are not finite"
    figures: dict[str, Any] = {"layers": bad[:12]}
    where, cures = bad[0], [remedies.reset_statistics(bad)]
    if facts.train.inputs is not None and kept is not None and isinstance(kept[0], Tensor):
        middle = kept[0].double().nanmedian(0).values
        limit = 1e6 * (kept[0].double() - middle).abs().nanmedian(0).values
        far = int(((kept[0].double() - middle).abs() > limit).sum())
        if far:  # no measurement lies a million deviations from the others: a mark for "unknown"
            where, summary = (
                "data",
                summary + f": {far} inputs lie a million deviations from the others of their column",
            )
            figures["inputs"] = far
            cures = [remedies.nothing_far(middle, limit)]
    return [POISONED_RUNNING_STATISTICS.suspect(where, summary, figures, True, "critical", tuple(cures))]


BATCH_TOO_SMALL = Rule(
    f"""LH401 batch-too-small: batch statistics over too few values, a last batch of one row included
    Why: The mean of n values is off by a deviation / √n, their deviation by about 1/√(2n) of itself: at n = 8 by a
    quarter. A group or layer normalization over one value gives 0 whatever goes in; then the layer is named, and not
    the data. Statistics over up to 4 rows are those of these rows, however large the maps.
    Threshold: fewer than {FEW} values a channel in a batch, or up to {FEW_ROWS} rows; {PAYS}; or a last batch of one
    row, or a normalization over a single value; watched, fewer than {FEW} values a channel in every batch
    Source: Wu & He 2018, Group Normalization, figure 1
    Remedy: larger batches, or a normalization that takes no batch statistics
    Example: nn.GroupNorm(8, channels)  # in place of nn.BatchNorm2d(channels)"""
)


@BATCH_TOO_SMALL.check("program")
def single_values(facts: Evidence, _: object) -> list[Suspicion]:
    """A normalization over one value: what it gives is 0, whatever goes in."""
    alone: list[str] = []
    for call in facts.calls(nn.GroupNorm, nn.LayerNorm):
        norm, x = call.module, call.input
        if x is None:
            continue
        grouped = isinstance(norm, nn.GroupNorm)
        values = x[0].numel() // norm.num_groups if grouped else math.prod(norm.normalized_shape)
        if values == 1:
            alone.append(call.name)
    if not alone:
        return []
    summary = f"{alone[0]} normalizes over one value: what it gives is the same for every input"
    code = "\n".join(f"# {name}: nn.GroupNorm(1, channels), or none" for name in alone)
    cure = remedies.replace(alone, remedies.over_all_channels, "normalization over all channels", code)
    return [BATCH_TOO_SMALL.suspect(alone[0], summary, {"layers": alone[:12]}, True, "critical", (cure,))]


@BATCH_TOO_SMALL.check("program")
def small_batch(facts: Evidence, _: object) -> list[Suspicion]:
    """Batch statistics over few values."""
    error = str(facts.loop.error or "")
    norms = facts.calls(*BATCH_NORM)
    if "more than 1 value per channel" in error:
        sizes = sorted(set(facts.train.sizes))
        figures = {"batch sizes": sizes[:8], "failed at batch": facts.loop.failed_at}
        summary = f"a batch of one value a channel stops the training (batches have {sizes[0]} to {sizes[-1]} rows)"
        cure = remedies.batches(max(32, sizes[-1]), "larger batches, the last one dropped")
        return [BATCH_TOO_SMALL.suspect("data", summary, figures, True, "critical", (cure,))]
    used = _used(facts)
    if not norms or not used or not facts.train.sizes:
        return []
    each = {c.name: c.input.numel() // c.module.num_features for c in used if c.input is not None}
    if not each:
        return []
    worst = min(each, key=lambda n: each[n])
    rows = facts.train.sizes[0]
    last = min(facts.train.sizes)
    if each[worst] == rows and last == 1 and rows > 1 and isinstance(facts.model.get_submodule(worst), nn.BatchNorm1d):
        summary = (
            "the last batch of an epoch has one row, which batch normalization refuses "
            f"({facts.train.rows} rows in batches of {rows})"
        )
        cure = remedies.batches(rows, "the last batch dropped")
        figures = {"rows": facts.train.rows, "batch": rows}
        return [BATCH_TOO_SMALL.suspect("data", summary, figures, True, "critical", (cure,))]
    if each[worst] >= FEW and rows > FEW_ROWS:
        return []
    summary = f"{worst} normalizes over {each[worst]} values a channel, in batches of {rows}"
    figures = {"values a channel": each, "rows a batch": rows}
    names = list(each)
    code = "\n".join(f"# {n}: nn.LayerNorm or nn.GroupNorm" for n in names[:6])
    cures = (
        remedies.batches(32, "batches of 32"),
        remedies.replace(names, remedies.without_batch_statistics, "normalization of single rows", code),
    )
    return [BATCH_TOO_SMALL.suspect("data", summary, figures, remedies=cures)]


BIAS_BEFORE_NORM = Rule(
    """LH404 bias-before-norm: a bias that the following normalization removes
    Why: The normalization subtracts the mean, and with it the bias; one over the channels of a row (layer, group)
    subtracts the biases' mean, and has a bias of its own for the rest. It costs time and memory only.
    Threshold: a linear or convolution layer with a bias straight before a batch, instance, group or layer
    normalization; style
    Remedy: bias=False in that layer
    Example: nn.Linear(inputs, width, bias=False)"""
)


@BIAS_BEFORE_NORM.check()
def bias_before(facts: Evidence) -> list[Suspicion]:
    """A bias that the normalization takes out again."""
    removing = (*BATCH_NORM, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)
    names = [
        a.name
        for a, b in pairs(facts.loop.calls)
        if isinstance(a.module, LINEAR) and a.module.bias is not None and isinstance(b.module, removing)
    ]
    names = list(dict.fromkeys(names))
    if not names:
        return []
    summary = f"{len(names)} layers have a bias that the normalization behind them takes out, first {names[0]}"
    figures = {"layers": names[:12]}
    return [BIAS_BEFORE_NORM.suspect(names[0], summary, figures, True, "info", (remedies.no_bias(names),))]


def _dropouts_before(facts: Evidence) -> list[Call]:
    """Active dropouts that a batch normalization's input was computed from."""
    behind = [set(ancestors(call.input_node)) for call in facts.calls(*BATCH_NORM) if call.input_node is not None]
    return [
        call
        for call in facts.calls(*DROPOUT)
        if call.module.p > 0
        and call.output_node is not None
        and any(call.output_node in nodes for nodes in behind)
        and facts.loop.modes.get(call.name) == {True}
    ]


@BATCH_TOO_SMALL.check("history")
def small_batches_seen(facts: Evidence, history: History) -> list[Suspicion]:
    """Batch normalization over few values, in every batch that was watched."""
    most: dict[str, int] = {}
    for step in history.measured:
        for name, count in step.channels.items():
            most[name] = max(count, most.get(name, 0))
    few = {name: count for name, count in most.items() if count < FEW}
    if not few:
        return []
    worst = min(few, key=lambda n: few[n])
    summary = f"{worst} normalizes over {few[worst]} values a channel"
    return [BATCH_TOO_SMALL.suspect("data", summary, {"values a channel": few}, True, "warning")]


STALE_RUNNING_STATISTICS = Rule(
    f"""LH402 stale-running-statistics: running mean and variance far from the population's
    Why: After k updates a momentum m has brought the statistics 1 - (1 - m)^k of the way. The rule puts the
    population's statistics in their place, without training, and scores again. Where evaluation runs a copy of the
    model (an average of its weights, say), the copy's layer is named.
    Threshold: population statistics in their place win {100 * GAIN:.0f} % of the way from a constant answer to the
    score with them; watched, more than {LEFT:g} of the values that they began with is left after {SOON} updates
    Source: Wu & Johnson 2021, Rethinking 'Batch' in BatchNorm, section 3
    Remedy: momentum=0.1, or recalibrate with population statistics before evaluation
    Example: lh.recalibrate(model, batches)  # before evaluation"""
)


@STALE_RUNNING_STATISTICS.check("unchanged")
def statistics_of_evaluations(facts: Evidence, run: Unchanged) -> list[Suspicion]:
    """Running statistics of a script, where small batches do not explain them."""
    norm = next((name for name, module in facts.model.named_modules() if isinstance(module, BATCH_NORM)), None)
    if not run.validated or norm is None or BATCH_TOO_SMALL.cause in run.places:
        return []
    return [STALE_RUNNING_STATISTICS.tried_with(norm, remedies.batch_statistics())]


@STALE_RUNNING_STATISTICS.check("history")
def slow_statistics(facts: Evidence, history: History) -> list[Suspicion]:
    """Running statistics of a watched model that still hold much of what they began with."""
    slow = {}
    for name, module in facts.model.named_modules():
        if not isinstance(module, BATCH_NORM) or module.momentum is None or module.num_batches_tracked is None:
            continue
        left = (1 - module.momentum) ** int(module.num_batches_tracked)
        if facts.loop.modes.get(name) == {True} and history.steps >= SOON and left > LEFT:
            slow[name] = left
    if not slow:
        return []
    first = next(iter(slow))
    momentum = facts.model.get_submodule(first).momentum
    summary = (
        f"after {facts.updates} updates {100 * slow[first]:.0f} % of the running statistics of {first} are still "
        f"the values that they began with (momentum {momentum})"
    )
    figures, cure = {"share that is left": slow}, (remedies.momentum(list(slow)),)
    return [STALE_RUNNING_STATISTICS.suspect(first, summary, figures, True, "warning", cure)]


def _population(facts: Evidence, base: Outcome) -> tuple[float, dict[str, Any]] | None:
    """The gain of the population's statistics in place of the running ones, with its figures."""
    kept, norms = facts.train.kept, facts.calls(*BATCH_NORM)
    if kept is None or not norms or base.diverged or base.error is not None:
        return None
    if not all(call.module.track_running_stats for call in norms) or len(_used(facts)) < len(norms):
        return None
    if any(c.input is not None and c.input.numel() // c.module.num_features < FEW for c in norms):
        return None  # statistics of tiny batches: another cause
    copy = clone(base.program)
    try:
        remedies.recalibrate(copy.model, kept[0])
        score = copy.final_score()
    except Exception:
        return None  # the model takes something else than the loader's inputs
    figures = {"score with running statistics": base.score, "with the population's, dropout off": score}
    return facts.gain(base.score, score), figures


@STALE_RUNNING_STATISTICS.check("base")
def running_statistics(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Running statistics that are not the population's: too slow, or those of another model."""
    found = None if _dropouts_before(facts) else _population(facts, base)
    kept, norms = facts.train.kept, facts.calls(*BATCH_NORM)
    if found is None or kept is None:
        return []
    gain, figures = found
    recalibration = remedies.recalibration(kept[0])
    momenta = {call.name: call.module.momentum for call in norms}
    slow = {n: m for n, m in momenta.items() if m is not None and (1 - m) ** facts.updates > LEFT}
    others = [
        name
        for name, module in facts.model.named_modules()
        if isinstance(module, BATCH_NORM) and name in facts.evaluation.ran and name not in momenta
    ]
    if others:  # a copy of the model answers in evaluation (an average of its weights, say)
        slow = {}
    first = next(iter((*others, *slow)), norms[0].name)
    if slow:
        arrived = 1 - (1 - slow[first]) ** facts.updates
        summary = (
            f"momentum {slow[first]:g} brings the statistics of {first} {100 * arrived:.0f} % of the way "
            f"in {facts.updates} updates"
        )
        figures["momentum"] = slow
    else:
        summary = f"the running statistics of {first} are not those of the data"
    cures = [remedies.momentum(list(slow or momenta)), recalibration] if slow else [recalibration]
    return [STALE_RUNNING_STATISTICS.suspect(first, summary, figures, remedies=tuple(cures), measured=gain)]


DROPOUT_BEFORE_BATCH_NORM = Rule(
    f"""LH405 dropout-before-batch-norm: dropout ahead of batch normalization shifts the variance between training and
    evaluation
    Why: Dropout of rate p raises the second moment by 1 / (1 - p) in training; the running variance keeps that, and
    evaluation, without dropout, is scaled wrongly.
    Threshold: statistics taken with dropout off, in place of the running ones, win {100 * GAIN:.0f} % of the way from a
    constant answer to the score with them
    Source: Li et al. 2019, Understanding the disharmony between dropout and batch normalization, section 3
    Remedy: dropout behind the last batch normalization
    Example: nn.Dropout(p)  # behind the last batch normalization"""
)


@DROPOUT_BEFORE_BATCH_NORM.check("base")
def statistics_under_dropout(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Running statistics of values with dropout, which evaluation never sees."""
    dropouts = _dropouts_before(facts)
    found, kept = _population(facts, base) if dropouts else None, facts.train.kept
    if found is None or kept is None:
        return []
    names = [call.name for call in dropouts]
    summary = (
        f"{len(names)} dropouts stand before batch normalizations, first {names[0]}: their statistics are those "
        "of values with dropout, which evaluation never sees"
    )
    last = facts.layers[-1].name if facts.layers else ""
    rate = max(float(call.module.p) for call in dropouts)
    cures = [remedies.dropout(names, 0.0), remedies.recalibration(kept[0])]
    if last and last not in names:
        cures.insert(0, remedies.moved_dropout(names, last, rate))
    gain, figures = found
    return [DROPOUT_BEFORE_BATCH_NORM.suspect(names[0], summary, figures, remedies=tuple(cures), measured=gain)]


NARROW_STATISTICS = Rule(
    f"""LH408 narrow-statistics: running mean and variance in half precision
    Why: An exponential average adds a small part of each batch. In bfloat16 (8 bits) a step of under 1/256 of the value
    is lost, so that the average stands still on the way; in float16 a variance above 65504 is infinite.
    Threshold: a running variance of fewer than {BYTES} bytes
    Remedy: keep the normalization's buffers in float32: convert the model by autocast, or all but its norms
    Example: for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.float()"""
)


@NARROW_STATISTICS.check()
def narrow_statistics(facts: Evidence) -> list[Suspicion]:
    """Running statistics in a type of few digits."""
    narrow = {
        name: str(module.running_var.dtype).removeprefix("torch.")
        for name, module in facts.model.named_modules()
        if isinstance(module, BATCH_NORM) and module.running_var is not None and module.running_var.itemsize < BYTES
    }
    if not narrow:
        return []
    first = next(iter(narrow))
    summary = f"the running statistics of {len(narrow)} batch normalizations are {narrow[first]}, first {first}"
    cure = remedies.wide_statistics(list(narrow))
    return [NARROW_STATISTICS.suspect(first, summary, {"types": narrow}, True, "warning", (cure,))]


RULES = (
    POISONED_RUNNING_STATISTICS,
    BATCH_TOO_SMALL,
    BIAS_BEFORE_NORM,
    STALE_RUNNING_STATISTICS,
    DROPOUT_BEFORE_BATCH_NORM,
    NARROW_STATISTICS,
)
