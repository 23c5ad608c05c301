"""Rules of a watch on the course of training: loss, units, changes of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from levelhead.doctor.causes import CAUSES
from levelhead.doctor.findings import Finding
from levelhead.doctor.watching.common import SOON, finding_of, late, place_of, share_of

if TYPE_CHECKING:
    from levelhead.doctor.watching.observer import watch


def lost_loss(seen: watch) -> Finding | None:
    """A loss that is not finite at the first update, or later, or jumps."""
    history = seen.history
    at = history.loss_lost_at
    if at == 0 and history.measured:
        layers = history.measured[0].layers
        bad = next((name for name, layer in layers.items() if not math.isfinite(layer.mean + layer.std)), "")
        if bad:
            summary = f"before any update the output of {bad} is not finite, though the inputs are"
            return finding_of(
                "init-too-large",
                place_of(bad),
                "critical",
                summary,
                {"first layer that is not finite": bad},
                "a value that is not finite before the first update",
            )
        summary = (
            "the first loss is not finite, though the model's outputs are: they lie outside of what the loss can take"
        )
        return finding_of(
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
        summary = (
            f"at a learning rate of {max(rates):g} the loss goes from {history.first_loss:.4g} to {history.largest:.4g}"
        )
    return finding_of(
        "learning-rate-too-high",
        "optimizer",
        "critical",
        summary,
        evidence,
        "a loss that is not finite, or 100 times the first one",
        f"lr = {max(rates) / 10:g}  # in place of {max(rates):g}",
    )


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
        summary = (
            f"in {history.steps} updates the weights moved by under {100 * ratio * history.steps:.2g} % of their size"
        )
        return finding_of(
            "learning-rate-too-low",
            "optimizer",
            "warning",
            summary,
            evidence,
            "all updates together under 1 % of the weights, and the loss has fallen by less than a tenth",
            f"lr = {max(rates) * 10:g}  # in place of {max(rates):g}",
        )
    if fell <= 0 and ratio > 0.1:
        summary = f"each update changes a weight by {100 * ratio:.0f} % of its size, and the loss has not fallen"
        return finding_of(
            "learning-rate-too-high",
            "optimizer",
            "warning",
            summary,
            evidence,
            "changes above a tenth of the weights at each update, and a loss that is no lower than at first",
            f"lr = {max(rates) / 10:g}  # in place of {max(rates):g}",
        )
    return None


def same_units(seen: watch) -> Finding | None:
    """Units that began equal and still are."""
    names = sorted(seen.history.same_units)
    if not names or seen.history.steps <= 10:
        return None
    layers = [name.rpartition(".")[0] or name for name in names]
    return finding_of(
        "constant-init",
        layers[0],
        "critical",
        f"all units of {layers[0]} began with equal weights and are still equal after more than ten updates",
        {"layers": layers[:12]},
        CAUSES["constant-init"].threshold,
        f"model.get_submodule({layers[0]!r}).reset_parameters()",
    )


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
    steps = late(seen)
    last = next(reversed(steps[-1].layers), "") if steps else ""  # the outputs may well be flat, or 0
    shares = {name: share_of(steps, name, what) for m in steps[-1:] for name in m.layers if name != last}
    bad = {name: share for name, share in shares.items() if share >= 0.5}
    if not bad:
        return None
    first = next(iter(bad))
    return finding_of(
        cause,
        place_of(first),
        "warning",
        f"{100 * bad[first]:.0f} % {said.format(first)}, in the last {len(steps)} measured updates",
        {f"share of {of}": bad},
        f"{half}, in the median of the last quarter of the measured updates, 4 at least",
    )


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
    return finding_of(
        "overfitting",
        "loop",
        "warning",
        f"the validation loss rose from {best:.4g} after {at} updates to {last:.4g}, while the training loss fell on",
        {
            "least validation loss": best,
            "after updates": at,
            "last": last,
            "training loss then": median(before),
            "now": median(after),
        },
        "validation loss a fifth above its least (a generalization loss of 20; Prechelt 1998, Early stopping - but "
        "when?) and a training loss a tenth lower than then",
    )


RULES: tuple[Callable[[watch], Finding | None], ...] = (lost_loss, same_units, flat, dead, no_progress, overfitting)
