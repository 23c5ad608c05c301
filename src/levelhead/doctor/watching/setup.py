"""Rules of a watch on what stands before training: inputs, modes, gradients, batches, and what is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from torch import nn

from levelhead.doctor.findings import Finding
from levelhead.doctor.probes.structure import BATCH_NORM, DROPOUT, NORM
from levelhead.doctor.watching.common import SOON, early, finding_of, worst_of

if TYPE_CHECKING:
    from levelhead.doctor.watching.observer import watch


def lost_inputs(seen: watch) -> Finding | None:
    """NaN or infinity in the inputs."""
    at = seen.history.input_lost_at
    if at < 0:
        return None
    return finding_of(
        "non-finite-data",
        "data",
        "critical",
        f"the inputs of update {at + 1} hold NaN or infinity",
        {"first at update": at + 1},
        "one such value",
    )


def accumulating(seen: watch) -> Finding | None:
    """No update cleared the gradients of the one before."""
    history = seen.history
    if history.uncleared < 5 or history.cleared:
        return None
    summary = f"at none of the {history.uncleared} updates looked at, the gradients of the one before had been cleared"
    return finding_of(
        "gradients-accumulate",
        "loop",
        "critical",
        summary,
        {"updates looked at": history.uncleared},
        "5 updates that were looked at, or more, and not one with cleared gradients",
        "optimizer.zero_grad()  # before loss.backward()",
    )


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
    flat = worst_of(seen, "flat", early(seen))
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
    return finding_of(
        "inputs-not-normalized",
        "data",
        "warning",
        f"inputs run from {low:.4g} to {high:.4g}, with root mean square {rms:.4g}, into {_name(seen, first)}",
        evidence,
        "root mean square above 30 or below 0.001; or above 5 together with flat units or a loss that is not finite "
        "(LeCun et al. 1998, Efficient BackProp, section 4.3)",
        "mean, std = x_train.mean(), x_train.std()\nx = (x - mean) / std",
    )


def _name(seen: watch, module: nn.Module) -> str:
    return next((name for name, m in seen._modules.items() if m is module), "the first layer")


def small_batches(seen: watch) -> Finding | None:
    """Batch normalization over few values."""
    few = {n: c for m in seen.history.measured for n, c in m.channels.items()}
    few = {n: c for n, c in few.items() if max(m.channels.get(n, 0) for m in seen.history.measured) < 8}
    if not few:
        return None
    worst = min(few, key=lambda n: few[n])
    return finding_of(
        "batch-too-small",
        "data",
        "warning",
        f"{worst} normalizes over {few[worst]} values a channel",
        {"values a channel": few},
        "fewer than 8 values a channel in every batch (Wu & He 2018, Group Normalization, figure 1)",
    )


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
    return finding_of(
        "stale-running-statistics",
        first,
        "warning",
        f"after {seen.history.steps} updates {100 * slow[first]:.0f} % of the running statistics of {first} are still "
        f"the values that they began with (momentum {momentum})",
        {"share that is left": slow},
        f"(1 - momentum)^batches above 0.1 after {SOON} updates",
        "momentum=0.1",
    )


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
    return finding_of(
        "train-mode-in-eval",
        "loop",
        "warning",
        f"all {history.training_evaluations} passes without gradients ran in training mode, {concerned[0]} included",
        {"in training mode": history.training_evaluations, "in eval mode": 0},
        "two forward passes without gradients, all of them in training mode",
        "model.eval()  # before evaluation",
    )


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
    return finding_of(
        "parameters-not-trained",
        "optimizer",
        "warning",
        f"{len(left)} parameters that need gradients and run behind trained ones are in no optimizer, first {left[0]}",
        {"parameters": left[:12]},
        "a parameter that needs gradients, runs behind a trained one, and is in no optimizer",
        "optimizer = Optimizer(model.parameters(), ...)",
    )


RULES: tuple[Callable[[watch], Finding | None], ...] = (
    lost_inputs,
    accumulating,
    raw_inputs,
    small_batches,
    stale,
    training_evaluation,
    not_in_optimizer,
)
