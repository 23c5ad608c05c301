"""Finds out by questions what a loss is: what it expects of outputs and targets, whatever it is called."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from levelhead.doctor.program import are_classes

#: Classes that are asked for one by one.
CLASSES = 100


@dataclass(frozen=True)
class LossKind:
    """What a loss does.

    Args:
        kind: ``softmax`` (applies one itself), ``nll`` (expects log-probabilities), ``logits`` (applies a sigmoid),
            ``probabilities`` (takes only 0 .. 1), ``squared`` or ``absolute`` error; empty where none of these.
        task: ``classes`` (class numbers, or rows of shares), ``binary`` (0 and 1) or ``quantity``; empty if unknown.
        broadcast: whether outputs and targets hold as many values in shapes that are not the same, and the loss
            is another one when they are aligned.
        rewards_errors: whether wrong answers cost less than right ones.
        silent: the labels for which every answer costs the same.
        not_minimal_at_target: whether answers equal to the targets, quantities, cost more than others do.
        summed: whether it is a sum over the rows, and no mean.
    """

    kind: str
    task: str
    broadcast: bool
    rewards_errors: bool = False
    silent: tuple[int, ...] = ()
    not_minimal_at_target: bool = False
    summed: bool = False


def measure(loss: Callable[..., Any], outputs: Any, targets: Any) -> LossKind:
    """Ask a loss with made-up outputs of the same shape; nothing of the program is changed."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or not outputs.is_floating_point():
        return LossKind("", "", False)
    ask = _Asking(loss, targets)
    what = task(outputs, targets)
    return LossKind(
        _kind(ask, outputs, targets, what),
        what,
        _broadcast(ask, outputs, targets),
        _rewards_errors(ask, outputs, targets, what),
        _silent(ask, outputs, targets) if what == "binary" else _unheeded(ask, outputs, targets),
        _not_minimal_at_target(ask, outputs, targets) if what == "quantity" else False,
        _summed(ask, outputs, targets),
    )


def task(outputs: Tensor, targets: Tensor) -> str:
    """What is to be learnt, by the targets' type and values."""
    if are_classes(outputs, targets):
        return "classes"
    values = targets.detach().double()
    if targets.numel() and bool(((values == 0) | (values == 1)).all()):
        one_hot = targets.ndim == 2 and targets.shape[1] > 1 and bool((values.sum(1) == 1).all())
        return "classes" if one_hot else "binary"
    shares = values.ndim > 1 and values.shape[1] > 1 and bool((values >= 0).all())
    if shares and bool(((values.sum(1) - 1).abs() < 1e-4).all()):
        return "classes"  # soft ones: blended, or smoothed
    return "quantity" if targets.is_floating_point() else ""


class _Asking:
    """The loss as a function of outputs alone; NaN where it raises."""

    def __init__(self, loss: Callable[..., Any], targets: Tensor) -> None:
        self.loss, self.targets = loss, targets

    def __call__(self, outputs: Tensor, targets: Tensor | None = None) -> float:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning of the loss comes in the user's own run, too
            try:
                return float(self.loss(outputs, self.targets if targets is None else targets))
            except Exception:
                return math.nan


def _close(a: float, b: float, tolerance: float = 1e-3) -> bool:
    """Equal up to rounding in single precision: sums of a batch are good to about 1e-5."""
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-12)


def _kind(ask: _Asking, outputs: Tensor, targets: Tensor, what: str) -> str:
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(outputs.shape, generator=generator).to(outputs)
    first = ask(made)
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        shift = torch.randn([outputs.shape[0], 1, *outputs.shape[2:]], generator=generator).to(outputs)
        if _close(first, ask(made + shift)) and not _close(first, ask(2 * made)):
            return "softmax"
        if are_classes(outputs, targets) and _close(2 * first, ask(2 * made)) and first:
            return "nll"
    aligned = _aligned(outputs, targets)
    if aligned is None:
        return ""
    for kind, error in (("squared", torch.square), ("absolute", torch.abs)):
        ratios = [ask(o) / float(error(o - aligned).double().mean() or math.nan) for o in (made, 2 * made, made + 1)]
        if _close(ratios[0], ratios[1]) and _close(ratios[0], ratios[2]) and ratios[0] > 0:
            return kind
    if what in ("binary", "quantity"):
        values, zeros = (
            [ask(torch.full_like(outputs, z), torch.full_like(targets, t)) for z in (-6.0, -1.0, 0.5, 3.0, 8.0)]
            for t in (1.0, 0.0)
        )
        if all(a > b for a, b in pairwise(values)) and (what == "binary" or all(a < b for a, b in pairwise(zeros))):
            return "logits"
        if math.isnan(values[0]) and math.isnan(values[-1]) and math.isfinite(values[2]):
            return "probabilities"
    return ""


def _aligned(outputs: Tensor, targets: Tensor) -> Tensor | None:
    """The targets as numbers of the outputs' shape: class numbers as one-hot rows."""
    if are_classes(outputs, targets):
        if targets.min() < 0 or targets.max() >= outputs.shape[1]:
            return None
        return F.one_hot(targets.long(), outputs.shape[1]).movedim(-1, 1).to(outputs)
    return targets.to(outputs) if targets.shape == outputs.shape else None


def _broadcast(ask: _Asking, outputs: Tensor, targets: Tensor) -> bool:
    if outputs.shape == targets.shape or outputs.numel() != targets.numel() or outputs.numel() < 2:
        return False
    made = torch.linspace(0, 1, outputs.numel()).reshape(outputs.shape).to(outputs)
    as_it_is, aligned = ask(made), ask(made.reshape(targets.shape))
    return math.isfinite(as_it_is) and math.isfinite(aligned) and not _close(as_it_is, aligned)


def _rewards_errors(ask: _Asking, outputs: Tensor, targets: Tensor, what: str) -> bool:
    """Right answers cost more than wrong ones, as scores, as probabilities and as their logarithms."""
    right = _aligned(outputs, targets)
    if right is None and targets.numel() == outputs.numel():
        right = targets.reshape(outputs.shape).to(outputs)
    if right is None:
        return False
    if what == "quantity":
        step = _step(right)
        costs = [(ask(right), ask(wrong)) for wrong in (right + step, right - step)]
    else:
        wrong = right.roll(1, 1) if what == "classes" else 1 - right
        costs = [(ask(a), ask(b)) for a, b in zip(_forms(right), _forms(wrong), strict=True)]
    known = [(a, b) for a, b in costs if math.isfinite(a) and math.isfinite(b)]
    return bool(known) and all(a > b and not _close(a, b) for a, b in known)


def _forms(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels of 0 and 1 as scores, as probabilities, and as the logarithms of these."""
    shares = 0.05 + 0.9 * labels
    return 8 * labels - 4, shares, shares.log()


def _step(values: Tensor) -> float:
    """How far apart the values lie."""
    spread = float(values.double().std()) if values.numel() > 1 else 0.0
    return spread or float(values.abs().max()) or 1.0


def _silent(ask: _Asking, outputs: Tensor, targets: Tensor) -> tuple[int, ...]:
    """The labels for which the loss is the same whatever the answer, as a score or as a probability."""
    found = []
    for label in (0, 1):
        labels = torch.full_like(targets, label)
        for answers in ((-4.0, -1.0, 0.5, 2.0), (0.1, 0.4, 0.7, 0.9)):
            costs = [ask(torch.full_like(outputs, a), labels) for a in answers]
            if not all(math.isfinite(c) and abs(c - costs[0]) <= 1e-6 * max(1.0, abs(costs[0])) for c in costs):
                break
        else:
            found.append(label)
    return tuple(found)


def _unheeded(ask: _Asking, outputs: Tensor, targets: Tensor) -> tuple[int, ...]:
    """The classes whose rows may be answered in any way, while the other half of the rows is of another class."""
    if not are_classes(outputs, targets) or len(targets) < 2 or outputs.shape[1] > CLASSES:
        return ()
    generator = torch.Generator().manual_seed(0)
    half = len(targets) // 2
    made, again = (torch.randn(outputs.shape, generator=generator).log_softmax(1).to(outputs) for _ in range(2))
    other = torch.cat([again[:half], made[half:]])
    found = []
    for label in range(outputs.shape[1]):
        labels = torch.full_like(targets, (label + 1) % outputs.shape[1])
        labels[:half] = label
        costs = ask(made, labels), ask(other, labels)
        if all(math.isfinite(c) for c in costs) and abs(costs[0] - costs[1]) <= 1e-6 * abs(costs[0]):
            found.append(label)
    return tuple(found)


def _not_minimal_at_target(ask: _Asking, outputs: Tensor, targets: Tensor) -> bool:
    """Answers that are not the targets cost less than the targets themselves."""
    right = _aligned(outputs, targets)
    if right is None:
        return False
    step, cost = _step(right), ask(right)
    others = [ask(right + part * step) for part in (-1.0, -0.5, 0.5, 1.0)] + [ask(right * part) for part in (0.25, 0.5)]
    return any(c < cost and not _close(c, cost) for c in others)


def _summed(ask: _Asking, outputs: Tensor, targets: Tensor) -> bool:
    """The loss of all rows is that of the first half plus that of the second."""
    half = len(outputs) // 2
    if half < 2 or not targets.ndim or len(targets) != len(outputs):
        return False
    parts = [ask(outputs[rows], targets[rows]) for rows in (slice(None, half), slice(half, None))]
    return _close(ask(outputs), sum(parts)) and sum(parts) != 0
