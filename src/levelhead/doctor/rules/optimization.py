"""Rules on a run that was seen: learning rate, length, penalties, overfitting."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Seen, Unchanged
from levelhead.doctor.evidence.history import SOON, History, place_of, rate_of, share_of
from levelhead.doctor.rules.rule import AFTERMATH, GAIN, LARGE_GAIN, PAYS, PAYS_MUCH, Rule, Suspicion
from levelhead.doctor.trials import Outcome

#: A loss of so many times its first value has blown up; one that fell by less than this share has not fallen.
JUMP, FALL = 100, 0.1
#: The share of flat or idle units that the updates have brought about, from less than half of it.
STUCK = 0.5
#: The rank of a higher rate where the rate is the usual one: a longer training is tried before it.
LATER = 7
#: And that of a schedule that was seen to keep the rate down.
SCHEDULED = 2
#: An update that changes the weights by more than this share shakes them; all updates together under that leave them.
SHAKEN, STILL = 0.1, 0.01
#: Overfitting: how far the training loss must have fallen, and a watched validation loss have risen from its least.
FELL, ROSE = 0.3, 0.2
#: A schedule that has left less than this of the rate when half of the updates are to come has stopped the training.
FADED = 0.01
#: And one that has brought it to so many times its initial value trains at a rate that nobody has written down.
GROWN = 30
#: Groups of one optimizer whose rates are this far apart: one of them is hardly trained.
UNEVEN = 100
#: Updates to an epoch under which smaller batches are the nearer way to more of them.
FEW_BATCHES = 8
#: The part of the way that a loss goes in its last third, from the first one, where it is far from its end.
STEADY = 0.25
#: How many times a script's rate is tried, one after another while it wins.
LOWER_RATES, HIGHER_RATES = (0.1, 0.01, 0.001), (10.0, 100.0, 1000.0)
#: Answers that vary by less than this share of the targets' variance are as good as constant.
CONSTANT = 0.05
#: Updates that are tried at most where a program plans few.
LONG = 2000


def _rates(facts: Evidence) -> list[float]:
    """The rate of each group, as it is before a schedule changes it."""
    groups = [group for each in facts.optimizers[: 1 if facts.program else None] for group in each.param_groups]
    return [float(group.get("initial_lr", group["lr"])) for group in groups]


LEARNING_RATE_TOO_HIGH = Rule(
    f"""LH601 learning-rate-too-high: the learning rate is too high: the loss rises, jumps, or is not finite
    Why: Gradient descent on a curvature h diverges beyond a rate of 2/h (Cohen et al. 2021, Gradient descent on neural
    networks typically occurs at the edge of stability, section 2). Of a loss that is the sum over a batch, the loss is
    named, and its mean is tried first; of a schedule that brings the rate to 30 times its first value, the loop.
    Threshold: a loss that is not finite, or {JUMP:g} times its first value: a rate of a tenth or less, {PAYS}; else
    {PAYS_MUCH}; watched, such a loss, or changes above {SHAKEN:g} of the weights at each update and a loss that is no
    lower than at first
    Source: Cohen et al. 2021, Gradient descent on neural networks typically occurs at the edge of stability, section 2
    Remedy: a smaller learning rate
    Example: lr = 0.01  # a tenth""",
    rank=2,
    early=True,
    in_company=False,
    in_games=True,
    explains=(*AFTERMATH, "does-not-learn", "learning-rate-too-low"),
)


@LEARNING_RATE_TOO_HIGH.check("unchanged")
def lower_rates(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """Lower rates are to be tried; of networks that play against each other, if the script measures itself."""
    cures, lost = _at_rates(run, LOWER_RATES), not math.isfinite(run.base.score)
    if run.alternating and (lost or not run.validated):
        return []
    words = f"at a learning rate of {max(run.rates, default=math.nan):g}"
    if lost:
        cures = (remedies.clipped(), *cures)
    gain = GAIN if lost else LARGE_GAIN
    return [LEARNING_RATE_TOO_HIGH.suspect("optimizer", words, remedies=cures, generic=not lost, gain=gain, fits=True)]


def _at_rates(run: Unchanged, factors: Sequence[float]) -> tuple[remedies.Remedy, ...]:
    return tuple(remedies.learning_rate(factor, run.rates) for factor in factors)


@LEARNING_RATE_TOO_HIGH.check("base")
def rate_too_high(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Lower rates are to be tried; first of all where the loss rose or was not finite."""
    losses = base.losses
    blown = base.diverged or (len(losses) > 2 and max(losses[1:]) > JUMP * abs(losses[0]) > 0)
    figures = {"learning rate": _rates(facts), "first loss": losses[0] if losses else math.nan, "last": base.train_loss}
    if blown:
        finite = [loss for loss in losses if math.isfinite(loss)]
        figures["largest loss"] = max(finite, default=math.nan)
        if base.diverged:
            figures["updates until the loss is not finite"] = len(finite)
        summary = f"at a learning rate of {max(_rates(facts)):g} the loss " + (
            f"is not finite after {len(finite)} updates" if base.diverged else f"jumps to {max(finite):.3g}"
        )
    else:
        summary = f"at a learning rate of {max(_rates(facts)):g} the loss ends at {base.train_loss:.4g}"
    factors = (0.1, 0.01, 0.001) if blown else (0.1,)
    cures = tuple(remedies.learning_rate(factor, _rates(facts)) for factor in factors)
    where, most = "optimizer", max(base.rates, default=0.0)
    if most > GROWN * max(_rates(facts)):
        where, summary = "loop", summary + f"; its schedule brings it to {most:.3g}"
        figures["largest learning rate"] = most
        cures = (remedies.without_schedule(), *cures)
    rows = facts.train.sizes[0] if facts.train.sizes else 1
    if facts.loss.summed and rows > 1:
        where, summary = "loss", summary + f"; the loss is the sum over {rows} rows, and so is its gradient"
        cures = (remedies.times(1 / rows, "mean over the rows", 'reduction="mean"  # in the loss'), *cures)
    return [
        LEARNING_RATE_TOO_HIGH.suspect(
            where, summary, figures, remedies=cures, generic=not blown, gain=GAIN if blown else LARGE_GAIN
        )
    ]


LEARNING_RATE_TOO_LOW = Rule(
    f"""LH602 learning-rate-too-low: the learning rate is too low to arrive in the updates given
    Why: The way that the weights can go is bounded by rate x updates. Where a schedule has left a hundredth of the rate
    when half of the updates are still to come (it is stepped at each batch, say), the loop is named, and not the
    optimizer. So it is where a warm-up never reaches half of the rate, and where less than a tenth of each gradient is
    left for the optimizer (clipped, say). Of a script, what such a schedule keeps down is tried without it. Groups of
    parameters with rates 100 times apart are tried with one rate.
    Threshold: a rate of ten times or more at the same number of updates, or no schedule: {PAYS_MUCH}; of a script, no
    schedule where one has kept the rate down so: {PAYS}; one rate for
    groups whose rates are {UNEVEN} times apart: {PAYS}; watched, all updates together under {100 * STILL:g} % of the
    weights, and a loss that has fallen by less than {100 * FALL:.0f} %
    Remedy: a larger learning rate
    Example: lr = 1.0  # ten times""",
    rank=5,
    in_company=False,
    slowness=True,
    explains=("does-not-learn",),
)


@LEARNING_RATE_TOO_LOW.check("base")
def uneven_rates(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """A group of parameters whose rate is far under another's."""
    rates = _rates(facts)
    if len(rates) < 2 or base.diverged or not max(rates) > UNEVEN * min(rates):
        return []
    groups = facts.optimizers[0].param_groups
    counts = [sum(p.numel() for p in group["params"]) for group in groups]
    slowest = rates.index(min(rates))
    figures = {"learning rate": rates, "parameters": counts}
    summary = f"group {slowest} ({counts[slowest]} values) has a rate of {min(rates):g}, another one {max(rates):g}"
    cure = remedies.one_rate(max(rates))
    return [LEARNING_RATE_TOO_LOW.suspect("optimizer", summary, figures, remedies=(cure,), fits=True)]


@LEARNING_RATE_TOO_LOW.check("base")
def rate_too_low(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Higher rates are to be tried."""
    if base.diverged:
        return []
    rates = _rates(facts)
    figures: dict[str, Any] = {"learning rate": rates, "first loss": base.first_loss, "last": base.train_loss}
    summary = (
        f"at a learning rate of {max(rates):g} the loss goes from {base.first_loss:.4g} "
        f"to {base.train_loss:.4g} "
        f"in {base.updates} updates"
    )
    cures = tuple(remedies.learning_rate(factor, rates) for factor in (10, 100, 1000))
    where, kept = "optimizer", _kept_down(facts, base.rates)
    if kept:
        where = "loop"
        figures |= kept
        summary += "; its schedule brings it to {:.3g} at most, and to {:.3g} by half of them".format(*kept.values())
        cures = (remedies.without_schedule(), *cures)
    elif base.program.step is not None and _cut(facts):
        where = "loop"
        figures["norm that the optimizer gets, by what arrives"] = [u.held / u.arrived for u in facts.loop.updates]
        summary += "; the gradient is cut before the optimizer gets it"
        cures = (remedies.standard_loop(), *cures)
    rank = LATER if where == "optimizer" and usual(facts.optimizers[0], rates) else None
    return [
        LEARNING_RATE_TOO_LOW.suspect(
            where, summary, figures, remedies=cures, generic=True, gain=LARGE_GAIN, fits=True, rank=rank
        )
    ]


def _kept_down(facts: Evidence, rates: Sequence[float], ended: bool = True) -> dict[str, float]:
    """The largest rate and that at half of the updates, where a schedule holds them down; else nothing.

    A schedule may end at 0, but not have done so by half of the time; and a warm-up must end before the training.
    """
    groups = [group for each in facts.optimizers[: 1 if facts.program else None] for group in each.param_groups]
    meant = max((rate_of(group, rates[0]) for group in groups), default=0.0) if rates else 0.0
    most, halfway = max(rates, default=math.inf), rates[len(rates) // 2] if rates else math.inf
    low = halfway < (FADED + 1e-6) * meant or (ended and most < meant / 2)
    return {"largest learning rate": most, "learning rate halfway": halfway} if low else {}


@LEARNING_RATE_TOO_LOW.check("history", "script")
def scheduled_away(facts: Evidence, history: History, seen: Seen) -> list[Suspicion]:
    """The schedule of a script that is over by half of the time, or does not get to half of its rate by the end."""
    steps = [m for m in history.measured if math.isfinite(m.rate)]
    even = [next(m.rate for m in steps if m.step >= i * steps[-1].step / 16) for i in range(17) if len(steps) > 5]
    kept = _kept_down(facts, even, seen.ended)
    if not kept:
        return []
    summary = "a schedule brings the learning rate to {:.3g} at most, and to {:.3g} by half of the updates"
    cure = (remedies.without_schedule(),)
    figures, words = {**kept}, summary.format(*kept.values())
    return [LEARNING_RATE_TOO_LOW.suspect("loop", words, figures, remedies=cure, fits=True, rank=SCHEDULED)]


def usual(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> bool:
    """Whether the rate is at or above the optimizer's own default; plain gradient descent has no usual one."""
    default = getattr(inspect.signature(type(optimizer)).parameters.get("lr"), "default", math.inf)
    return type(optimizer).__name__ != "SGD" and isinstance(default, float) and max(rates, default=0) >= default


def still_falls(losses: Sequence[float]) -> bool:
    """Whether a loss falls in its last third by at least a part of all that it has fallen: it is given up early."""
    third = len(losses) // 3
    if third < 5:
        return False
    first, middle, last = (median(losses[i * third : (i + 1) * third]) for i in range(3))
    return middle - last >= STEADY * (first - last) > 0


def _cut(facts: Evidence) -> bool:
    """Whether less than a tenth of each gradient is left for the optimizer."""
    updates = facts.loop.updates
    return len(updates) > 1 and all(0 < u.held < 0.1 * u.arrived for u in updates)


TOO_FEW_UPDATES = Rule(
    f"""LH603 too-few-updates: training stops long before it has converged
    Why: If only a longer training helps, and no repair at equal length, the training was too short. A rate at or above
    the optimizer's own default (of an optimizer that scales its gradients) is the usual one: then more updates are
    tried before a higher rate. Where an epoch has at most 8 batches of more than 64 rows, smaller batches are tried
    first, and the data are named. A script cannot be run for longer from outside: there, a higher rate stands for it.
    Threshold: the same program for four times as many updates or more: {PAYS_MUCH}; and no other repair does it in the
    updates given, or the rate is at least the optimizer's default; of a script that runs to its end at such a rate, a
    higher one: {PAYS_MUCH}, and the loss's median falls from the second third of the updates to the last by
    {100 * STEADY:.0f} % of its fall from the first
    Remedy: more epochs
    Example: epochs = 40  # four times""",
    rank=6,
    slowness=True,
)


@TOO_FEW_UPDATES.check("unchanged")
def higher_rates(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """Higher rates are to be tried of a script; where the rate is the usual one, they stand for a longer training."""
    if run.alternating or not math.isfinite(run.base.score):
        return []
    rule, where, cures = LEARNING_RATE_TOO_LOW, "optimizer", _at_rates(run, HIGHER_RATES)
    if run.ended and run.usual and still_falls(run.base.losses):
        rule, where = TOO_FEW_UPDATES, "loop"
        cures = tuple(replace(remedy, patch=rule.example) for remedy in cures)
    words = f"at a learning rate of {max(run.rates, default=math.nan):g}"
    return [rule.suspect(where, words, remedies=cures, generic=True, gain=LARGE_GAIN, fits=True)]


@TOO_FEW_UPDATES.check("base")
def too_short(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """More epochs are to be tried, or smaller batches where an epoch has few."""
    rows = facts.train.rows
    if base.diverged or base.updates < base.planned:
        return []
    figures = {
        "epochs": base.program.epochs,
        "updates": base.updates,
        "first loss": base.first_loss,
        "last": base.train_loss,
    }
    summary = f"training stops after {base.updates} updates, at a loss of {base.train_loss:.4g}"
    factors = [4, *(f for f in (16, 64) if f * base.planned <= LONG)]
    cures = [remedies.epochs(factor * base.program.epochs) for factor in factors]
    where, size = "loop", max(facts.train.sizes, default=0)
    if size > 64 and facts.train.batches <= FEW_BATCHES:
        where, summary = "data", summary + f": an epoch has {facts.train.batches}, of up to {size} of the {rows} rows"
        cures.insert(0, remedies.batches(32, "batches of 32"))
    tried = tuple(cures)
    return [TOO_FEW_UPDATES.suspect(where, summary, figures, remedies=tried, generic=True, gain=LARGE_GAIN, fits=True)]


PENALTY_TOO_STRONG = Rule(
    f"""LH607 penalty-too-strong: weight decay or a penalty that holds the model back
    Why: A strong penalty holds the weights near 0, whatever the data say. What a step of the program's own adds to the
    loss is seen where the gradient used is not the loss's: in the first updates, and after the training, when the loss
    is small. Of a script, a ten-thousandth is tried of a term that compares with no target and hangs on some of the
    parameters alone (the divergence of a variational autoencoder), where the answers are as good as constant.
    Threshold: training without it: {PAYS}, and fits the training data better
    Remedy: a smaller weight_decay, or a smaller factor of the penalty
    Example: torch.optim.AdamW(model.parameters(), weight_decay=0.0)"""
)


@PENALTY_TOO_STRONG.check("unchanged")
def penalized(facts: Evidence, run: Unchanged) -> list[Suspicion]:
    """Weight decay of a script; and a term of its loss that compares with no target, where answers are constant."""
    cure = remedies.set_in_optimizer("weight_decay", 0.0, "without weight decay")
    decay = any(group.get("weight_decay") for each in facts.optimizers for group in each.param_groups)
    found = [PENALTY_TOO_STRONG.tried_with("optimizer", cure)] if decay else []
    if run.validated and run.penalized and run.spread < CONSTANT:
        found.append(PENALTY_TOO_STRONG.tried_with("loss", remedies.penalty_lightened()))
    return found


@PENALTY_TOO_STRONG.check("base")
def penalty(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Weight decay is to be left out."""
    decay = [float(group.get("weight_decay", 0.0)) for group in facts.optimizers[0].param_groups]
    spans = [[u.descent for u in updates if math.isfinite(u.descent)] for updates in (facts.loop.updates, facts.late)]
    seen = next((s for s in spans if s and sum(s) / len(s) < 0.9 and min(s) > -0.5), [])
    found = []
    if max(decay, default=0) > 0:
        figures = {"weight_decay": decay, "learning rate": _rates(facts)}
        summary = f"weight decay of {max(decay):g}"
        cures = tuple(
            remedies.set_in_optimizer("weight_decay", value, f"weight decay {value:g}")
            for value in (0.0, max(decay) / 100)
        )
        found.append(PENALTY_TOO_STRONG.suspect("optimizer", summary, figures, remedies=cures, fits=True))
    if seen:
        figures = {"cosine of the gradient used with the loss's": seen}
        summary = (
            "what the update adds to the loss outweighs it: the gradient used points elsewhere than the loss's own"
        )
        found.append(PENALTY_TOO_STRONG.suspect("loop", summary, figures, remedies=(remedies.standard_loop(),)))
    return found


OVERFITTING = Rule(
    f"""LH701 overfitting: validation worsens while training improves
    Why: Noise in the training data is learnt after the signal. What is lost must have been learnt: the best score must
    be beyond that of the untrained model, too.
    Threshold: the final validation score is {100 * GAIN:.0f} % of the way (from a constant answer), and twice its
    standard error, under its best during training, while the training loss fell by {100 * FELL:.0f} %; watched, a
    validation loss {100 * ROSE:.0f} % above its least, and a training loss {100 * FALL:.0f} % lower than then
    Source: Prechelt 1998, Early stopping - but when?
    Remedy: stop at the best epoch, penalize, or take a smaller model
    Example: epochs = 12  # where the validation score was best""",
    in_company=False,
)


@OVERFITTING.check("base")
def overfitting(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Validation falls from its best while the training loss falls on."""
    if base.diverged or len(base.scores) < 4 or base.updates < base.planned:
        return []
    at, best = max(base.scores, key=lambda pair: pair[1])
    before = base.losses[max(0, at - max(1, len(base.losses) // 50)) : at]
    fell = base.train_loss < (1 - FELL) * sum(before) / len(before) if before else False
    lost = facts.gain(base.score, best)
    untrained = facts.evaluation.score  # to be lost, something must have been learnt
    if not fell or lost < 0.05 or best - max(base.score, untrained) <= facts.noise(base.score):
        return []
    epochs = max(1, round(base.program.epochs * at / base.updates))
    figures = {
        "best validation score": best,
        "after updates": at,
        "final": base.score,
        "training loss then": before[-1],
        "at the end": base.train_loss,
    }
    summary = (
        f"the validation score is best ({best:.3f}) after {at} of {base.updates} updates and ends at {base.score:.3f}, "
        f"while the training loss falls to {base.train_loss:.3g}"
    )
    decay = _decay(facts)
    cures = [remedies.epochs(epochs)] if epochs < base.program.epochs else []
    cures += [*decay]
    return [
        Suspicion(
            "overfitting", "loop", summary, figures, remedies=tuple(cures), measured=lost if lost >= GAIN else None
        )
    ]


def _decay(facts: Evidence) -> list[remedies.Remedy]:
    name = type(facts.optimizers[0]).__name__
    if "weight_decay" not in facts.optimizers[0].defaults:
        return []
    value = 1.0 if name == "AdamW" else 0.01
    return [remedies.set_in_optimizer("weight_decay", value, f"weight decay {value:g}")]


@LEARNING_RATE_TOO_HIGH.check("history")
def lost_loss(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched loss that is no longer finite, or jumps."""
    if history.loss_lost_at == 0 or history.finite_when_lost:
        return []
    at = history.loss_lost_at
    if at < 0 and not (history.largest > JUMP * abs(history.first_loss) > 0 and history.steps > 1):
        return []
    rate = max(_rates(facts))
    figures = {"learning rate": _rates(facts), "first loss": history.first_loss, "largest loss": history.largest}
    if at > 0:
        figures["update of the first loss that is not finite"] = at + 1
        summary = f"at a learning rate of {rate:g} the loss is no longer finite at update {at + 1}"
    else:
        summary = f"at a learning rate of {rate:g} the loss goes from {history.first_loss:.4g} to {history.largest:.4g}"
    cure = (remedies.learning_rate(0.1, _rates(facts)),)
    return [LEARNING_RATE_TOO_HIGH.suspect("optimizer", summary, figures, True, "critical", cure)]


def _fall(facts: Evidence, history: History) -> tuple[float, float, dict[str, Any]] | None:
    """By what share a watched loss fell, the usual change of a weight by its size, and the figures."""
    measured = [m for m in history.measured if m.weights]
    if history.steps < SOON or len(measured) < 6 or history.loss_lost_at >= 0:
        return None
    ends = history.ends
    ratios = [
        median(finite) for m in measured if (finite := [r for w in m.weights.values() if math.isfinite(r := w.ratio)])
    ]
    if not ratios or ends is None or not ends[0]:
        return None
    ratio = median(ratios)
    figures = {"learning rate": _rates(facts), "loss at first": ends[0], "at last": ends[1]}
    return history.fell, ratio, figures | {"change by weight, an update": ratio}


@LEARNING_RATE_TOO_HIGH.check("history")
def shaken(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched loss that is no lower than at first, while the weights are thrown about."""
    seen = _fall(facts, history)
    if seen is None or seen[0] > 0 or seen[1] <= SHAKEN:
        return []
    summary = f"each update changes a weight by {100 * seen[1]:.0f} % of its size, and the loss has not fallen"
    cure = (remedies.learning_rate(0.1, _rates(facts)),)
    return [LEARNING_RATE_TOO_HIGH.suspect("optimizer", summary, seen[2], True, "warning", cure)]


@LEARNING_RATE_TOO_LOW.check("history")
def still(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched loss that has hardly fallen, while the weights hardly moved."""
    seen = _fall(facts, history)
    if seen is None or seen[0] >= FALL or seen[1] * history.steps >= STILL:
        return []
    if not any(m.move < 0 for m in history.measured):
        return []
    way = 100 * seen[1] * history.steps
    summary = f"in {history.steps} updates the weights moved by under {way:.2g} % of their size"
    cure = (remedies.learning_rate(10, _rates(facts)),)
    return [LEARNING_RATE_TOO_LOW.suspect("optimizer", summary, seen[2], True, "warning", cure)]


@OVERFITTING.check("history")
def validation_rises(facts: Evidence, history: History) -> list[Suspicion]:
    """A validation loss that was told to a watch, and rose while the training loss fell on."""
    told = list(history.validation)
    if len(told) < 4 or len(history.losses) < 8:
        return []
    at, best = min(told, key=lambda pair: pair[1])
    last, after = told[-1][1], history.losses.values[-8:]
    before = [v for s, v in history.losses if s <= at][-8:]
    if not before or not (best > 0 and last > (1 + ROSE) * best and median(after) < (1 - FALL) * median(before)):
        return []
    figures = {"least validation loss": best, "after updates": at, "last": last}
    figures |= {"training loss then": median(before), "now": median(after)}
    rose = f"the validation loss rose from {best:.4g} after {at} updates to {last:.4g}"
    summary = f"{rose}, while the training loss fell on"
    return [OVERFITTING.suspect("loop", summary, figures, True, "warning")]


DOES_NOT_LEARN = Rule(
    f"""LH608 does-not-learn: the training ends no better than a constant answer, and no change that was tried helps
    Why: Such a program is not healthy, though no rule says why: labels that have nothing to do with their inputs, a
    task that these inputs do not hold, or a fault of a kind that the doctor does not know.
    Threshold: a whole training, and every trial, within a tenth of the way from a constant answer to a perfect score;
    watched, a loss that has fallen by less than {100 * FALL:.0f} % in {SOON} updates or more: a remark
    Remedy: fit ten rows first; then look at what the model is given, row by row, next to its label
    Example: x, y = next(iter(train))  # a few rows, over and over: the loss must go to 0""",
    last=True,
)


@DOES_NOT_LEARN.check("base")
def learns_nothing(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """A whole training that ends at the level of a constant answer, whatever was tried."""
    if base.error is not None or not math.isfinite(facts.floor) or not facts.idle(base.score):
        return []
    if any(not facts.idle(trial.score) for trial in facts.tried):
        return []
    figures = {
        "score": base.score,
        "constant answer": facts.floor,
        "tried": [f"{trial.change} ({trial.score:.3g})" for trial in facts.tried[1:]],
    }
    summary = (
        f"does not learn: a score of {base.score:.3g} after {base.updates} updates, and none of {len(facts.tried) - 1} "
        f"changes tried beats a constant answer's {facts.floor:.3g}"
    )
    return [DOES_NOT_LEARN.suspect("loop", summary, figures, True, "warning")]


@DOES_NOT_LEARN.check("history")
def hardly_falls(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched loss that has hardly fallen, for no reason that is known."""
    ends = history.ends
    if ends is None or history.steps < SOON or history.loss_lost_at >= 0:
        return []
    if not history.fell < FALL:
        return []
    summary = f"in {history.steps} updates the loss went from {ends[0]:.4g} to {ends[1]:.4g}"
    return [DOES_NOT_LEARN.suspect("loop", summary, {"at first": ends[0], "at last": ends[1]}, True, "info")]


@LEARNING_RATE_TOO_HIGH.check("history")
def driven_flat(facts: Evidence, history: History) -> list[Suspicion]:
    """Units of a watched model that the updates drove to where they are flat or off, while the loss did not fall."""
    seen = _fall(facts, history)
    if seen is None or seen[1] * history.steps < STILL:
        return []
    if history.first_loss - seen[2]["at last"] >= FALL * abs(history.first_loss):
        return []
    last = next(reversed(history.measured[-1].layers), "")
    for what in ("flat", "idle"):
        for name in history.measured[-1].layers:
            before, after = (share_of(steps, name, what) for steps in (history.measured[:1], history.late))
            if name != last and 2 * before < STUCK <= after:
                summary = (
                    f"updates drove {place_of(name)} to where it is flat: {100 * before:.0f} % of it at first, "
                    f"{100 * after:.0f} % at last, and the loss has not fallen"
                )
                cure = (remedies.learning_rate(0.1, _rates(facts)),)
                return [LEARNING_RATE_TOO_HIGH.suspect("optimizer", summary, seen[2], True, "warning", cure)]
    return []


RULES = (
    OVERFITTING,
    LEARNING_RATE_TOO_HIGH,
    LEARNING_RATE_TOO_LOW,
    PENALTY_TOO_STRONG,
    TOO_FEW_UPDATES,
    DOES_NOT_LEARN,
)
