"""Rules on normalization: batches, running statistics, and what stands before a normalization."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.isolation import clone
from levelhead.doctor.probes.loop import Call
from levelhead.doctor.probes.structure import BATCH_NORM, DROPOUT, LINEAR, ancestors, pairs
from levelhead.doctor.rules.suspicion import Suspicion

#: Values a channel under which batch statistics are mostly noise: at 8 their deviation is off by a quarter.
FEW = 8
#: Rows a batch under which they are mostly those of single rows, however large the maps (Wu & He 2018, figure 1).
FEW_ROWS = 4


def _used(facts: Facts) -> list[Call]:
    """Batch normalizations that take the batch's statistics in training."""
    return [
        c
        for c in facts.calls(*BATCH_NORM)
        if facts.loop.modes.get(c.name) == {True} or not c.module.track_running_stats
    ]


def poisoned(facts: Facts) -> list[Suspicion]:
    """Running statistics that are not finite."""
    bad = _not_finite(facts.program.model)
    if not bad:
        return []
    summary = f"running statistics of {len(bad)} batch normalizations are not finite, first {bad[0]}"
    cure = remedies.reset_statistics(bad)
    evidence = {"layers": bad[:12]}
    return [Suspicion("poisoned-running-statistics", bad[0], summary, evidence, True, "critical", (cure,))]


def _not_finite(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORM)
        and module.running_mean is not None
        and module.running_var is not None
        and not bool(torch.isfinite(module.running_mean).all() & torch.isfinite(module.running_var).all())
    ]


def poisoned_in_training(facts: Facts) -> list[Suspicion]:
    """Running statistics that are not finite after the training, though the losses are."""
    base, kept = facts.base, facts.train.kept
    bad = [] if base is None or base.diverged else _not_finite(base.program.model)
    if not bad or _not_finite(facts.program.model):
        return []
    summary = f"after the training the running statistics of {bad[0]} are not finite"
    evidence: dict[str, Any] = {"layers": bad[:12]}
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
            evidence["inputs"] = far
            cures = [remedies.nothing_far(middle, limit)]
    return [Suspicion("poisoned-running-statistics", where, summary, evidence, True, "critical", tuple(cures))]


def small_batch(facts: Facts) -> list[Suspicion]:
    """Batch statistics over few values."""
    error = str(facts.loop.error or "")
    norms = facts.calls(*BATCH_NORM)
    if "more than 1 value per channel" in error:
        sizes = sorted(set(facts.train.sizes))
        evidence = {"batch sizes": sizes[:8], "failed at batch": facts.loop.failed_at}
        summary = f"a batch of one value a channel stops the training (batches have {sizes[0]} to {sizes[-1]} rows)"
        cure = remedies.batches(max(32, sizes[-1]), "larger batches, the last one dropped")
        return [Suspicion("batch-too-small", "data", summary, evidence, True, "critical", (cure,))]
    used = _used(facts)
    if not norms or not used or not facts.train.sizes:
        return []
    each = {c.name: c.input.numel() // c.module.num_features for c in used if c.input is not None}
    if not each:
        return []
    worst = min(each, key=lambda n: each[n])
    rows = facts.train.sizes[0]
    last = min(facts.train.sizes)
    if (
        each[worst] == rows
        and last == 1
        and rows > 1
        and isinstance(facts.program.model.get_submodule(worst), nn.BatchNorm1d)
    ):
        summary = (
            "the last batch of an epoch has one row, which batch normalization refuses "
            f"({facts.train.rows} rows in batches of {rows})"
        )
        cure = remedies.batches(rows, "the last batch dropped")
        evidence = {"rows": facts.train.rows, "batch": rows}
        return [Suspicion("batch-too-small", "data", summary, evidence, True, "critical", (cure,))]
    if each[worst] >= FEW and rows > FEW_ROWS:
        return []
    summary = f"{worst} normalizes over {each[worst]} values a channel, in batches of {rows}"
    evidence = {"values a channel": each, "rows a batch": rows}
    names = list(each)
    code = "\n".join(f"# {n}: nn.LayerNorm or nn.GroupNorm" for n in names[:6])
    cures = (
        remedies.batches(32, "batches of 32"),
        remedies.replace(names, remedies.without_batch_statistics, "normalization of single rows", code),
    )
    return [Suspicion("batch-too-small", "data", summary, evidence, remedies=cures)]


def single_values(facts: Facts) -> list[Suspicion]:
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
    return [Suspicion("batch-too-small", alone[0], summary, {"layers": alone[:12]}, True, "critical", (cure,))]


def bias_before(facts: Facts) -> list[Suspicion]:
    """A bias that the normalization takes out again."""
    removing = (*BATCH_NORM, nn.modules.instancenorm._InstanceNorm)
    names = [
        a.name
        for a, b in pairs(facts.loop.calls)
        if isinstance(a.module, LINEAR) and a.module.bias is not None and isinstance(b.module, removing)
    ]
    names = list(dict.fromkeys(names))
    if not names:
        return []
    summary = f"{len(names)} layers have a bias that the normalization behind them subtracts, first {names[0]}"
    evidence = {"layers": names[:12]}
    return [Suspicion("bias-before-norm", names[0], summary, evidence, True, "info", (remedies.no_bias(names),))]


def _dropouts_before(facts: Facts) -> list[Call]:
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


def running_statistics(facts: Facts) -> list[Suspicion]:
    """Running statistics that are not the population's: too slow, or taken under dropout."""
    base, kept, norms = facts.base, facts.train.kept, facts.calls(*BATCH_NORM)
    if base is None or kept is None or not norms or base.diverged or base.error is not None:
        return []
    if not all(call.module.track_running_stats for call in norms) or len(_used(facts)) < len(norms):
        return []
    if any(c.input is not None and c.input.numel() // c.module.num_features < FEW for c in norms):
        return []  # statistics of tiny batches: another cause
    copy = clone(base.program)
    try:
        remedies.recalibrate(copy.model, kept[0])
        score = copy.final_score()
    except Exception:
        return []  # the model takes something else than the loader's inputs
    gain = facts.gain(base.score, score)
    recalibration = remedies.recalibration(kept[0])
    dropouts = _dropouts_before(facts)
    evidence: dict[str, Any] = {
        "score with running statistics": base.score,
        "with the population's, dropout off": score,
    }
    if dropouts:
        names = [call.name for call in dropouts]
        summary = (
            f"{len(names)} dropouts stand before batch normalizations, first {names[0]}: their statistics are those "
            "of values with dropout, which evaluation never sees"
        )
        last = facts.layers[-1].name if facts.layers else ""
        rate = max(float(call.module.p) for call in dropouts)
        cures = [remedies.dropout(names, 0.0), recalibration]
        if last and last not in names:
            cures.insert(0, remedies.moved_dropout(names, last, rate))
        return [
            Suspicion("dropout-before-batch-norm", names[0], summary, evidence, remedies=tuple(cures), measured=gain)
        ]
    momenta = {call.name: call.module.momentum for call in norms}
    slow = {n: m for n, m in momenta.items() if m is not None and 1 - (1 - m) ** facts.updates < 0.9}
    others = [
        name
        for name, module in facts.program.model.named_modules()
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
        evidence["momentum"] = slow
    else:
        summary = f"the running statistics of {first} are not those of the data"
    cures = [remedies.momentum(list(slow or momenta)), recalibration] if slow else [recalibration]
    return [Suspicion("stale-running-statistics", first, summary, evidence, remedies=tuple(cures), measured=gain)]


RULES = (poisoned, single_values, small_batch, bias_before)
TRAINED = (poisoned_in_training, running_statistics)
