"""Rules on a run that was seen: learning rate, length, penalties, overfitting. Only a paying remedy proves them."""

from __future__ import annotations

import inspect
import math

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.rules.suspicion import Suspicion

#: A schedule that has left less than this of the rate when half of the updates are to come has stopped the training.
FADED = 0.01
#: And one that has brought it to so many times its initial value trains at a rate that nobody has written down.
GROWN = 30
#: Groups of one optimizer whose rates are this far apart: one of them is hardly trained.
UNEVEN = 100
#: Updates to an epoch under which smaller batches are the nearer way to more of them.
FEW_BATCHES = 8
#: Updates that are tried at most where a program plans few.
LONG = 2000


def _rates(facts: Facts) -> list[float]:
    """The rate of each group, as it is before a schedule changes it."""
    return [float(group.get("initial_lr", group["lr"])) for group in facts.program.optimizer.param_groups]


def rate_too_high(facts: Facts) -> list[Suspicion]:
    """Lower rates are to be tried; first of all where the loss rose or was not finite."""
    base = facts.base
    assert base is not None
    losses = base.losses
    blown = base.diverged or (len(losses) > 2 and max(losses[1:]) > 100 * abs(losses[0]) > 0)
    evidence = {
        "learning rate": _rates(facts),
        "first loss": losses[0] if losses else math.nan,
        "last": base.train_loss,
    }
    if blown:
        finite = [loss for loss in losses if math.isfinite(loss)]
        evidence["largest loss"] = max(finite, default=math.nan)
        if base.diverged:
            evidence["updates until the loss is not finite"] = len(finite)
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
        evidence["largest learning rate"] = most
        cures = (remedies.without_schedule(), *cures)
    rows = facts.train.sizes[0] if facts.train.sizes else 1
    if facts.loss.summed and rows > 1:
        where, summary = "loss", summary + f"; the loss is the sum over {rows} rows, and so is its gradient"
        cures = (remedies.times(1 / rows, "mean over the rows", 'reduction="mean"  # in the loss'), *cures)
    return [
        Suspicion(
            "learning-rate-too-high",
            where,
            summary,
            evidence,
            remedies=cures,
            generic=not blown,
            gain=0.1 if blown else 0.25,
        )
    ]


def slow(facts: Facts) -> list[Suspicion]:
    """Learning that has not arrived: a rate that is too low, or too few updates; the first is tried first.

    A rate at or above the optimizer's own default is the usual one, and a longer training is tried before a higher
    rate; plain gradient descent has no usual one.
    """
    found = [*rate_too_low(facts), *too_short(facts)]
    optimizer = type(facts.program.optimizer)
    usual = getattr(inspect.signature(optimizer).parameters.get("lr"), "default", math.inf)
    at_least = optimizer.__name__ != "SGD" and isinstance(usual, float) and max(_rates(facts), default=0) >= usual
    return sorted(found, key=lambda s: s.where == "optimizer") if at_least else found


def rate_too_low(facts: Facts) -> list[Suspicion]:
    """Higher rates are to be tried."""
    base = facts.base
    assert base is not None
    if base.diverged:
        return []
    rates = _rates(facts)
    evidence = {"learning rate": rates, "first loss": base.first_loss, "last": base.train_loss}
    summary = (
        f"at a learning rate of {max(rates):g} the loss goes from {base.first_loss:.4g} "
        f"to {base.train_loss:.4g} "
        f"in {base.updates} updates"
    )
    cures = tuple(remedies.learning_rate(factor, rates) for factor in (10, 100, 1000))
    where, halfway = "optimizer", base.rates[len(base.rates) // 2] if base.rates else math.inf
    most = max(base.rates, default=math.inf)
    if halfway < FADED * max(rates) or most < max(rates) / 2:
        # A schedule may end at 0, but not have done so by half of the time; and a warm-up must end before the training.
        where = "loop"
        evidence |= {"learning rate halfway": halfway, "largest": most}
        summary += f"; its schedule brings it to {most:.3g} at most, and to {halfway:.3g} by half of them"
        cures = (remedies.without_schedule(), *cures)
    elif facts.program.step is not None and _cut(facts):
        where = "loop"
        evidence["norm that the optimizer gets, by what arrives"] = [u.held / u.arrived for u in facts.loop.updates]
        summary += "; the gradient is cut before the optimizer gets it"
        cures = (remedies.standard_loop(), *cures)
    return [
        Suspicion("learning-rate-too-low", where, summary, evidence, remedies=cures, generic=True, gain=0.25, fits=True)
    ]


def _cut(facts: Facts) -> bool:
    """Whether less than a tenth of each gradient is left for the optimizer."""
    updates = facts.loop.updates
    return len(updates) > 1 and all(0 < u.held < 0.1 * u.arrived for u in updates)


def uneven_rates(facts: Facts) -> list[Suspicion]:
    """A group of parameters whose rate is far under another's."""
    rates, base = _rates(facts), facts.base
    assert base is not None
    if len(rates) < 2 or base.diverged or not max(rates) > UNEVEN * min(rates):
        return []
    groups = facts.program.optimizer.param_groups
    counts = [sum(p.numel() for p in group["params"]) for group in groups]
    slowest = rates.index(min(rates))
    evidence = {"learning rate": rates, "parameters": counts}
    summary = f"group {slowest} ({counts[slowest]} values) has a rate of {min(rates):g}, another one {max(rates):g}"
    cure = remedies.one_rate(max(rates))
    return [Suspicion("learning-rate-too-low", "optimizer", summary, evidence, remedies=(cure,), fits=True)]


def too_short(facts: Facts) -> list[Suspicion]:
    """More epochs are to be tried, or smaller batches where an epoch has few."""
    base, rows = facts.base, facts.train.rows
    assert base is not None
    if base.diverged or base.updates < base.planned:
        return []
    evidence = {
        "epochs": facts.program.epochs,
        "updates": base.updates,
        "first loss": base.first_loss,
        "last": base.train_loss,
    }
    summary = f"training stops after {base.updates} updates, at a loss of {base.train_loss:.4g}"
    factors = [4, *(f for f in (16, 64) if f * base.planned <= LONG)]
    cures = [remedies.epochs(factor * facts.program.epochs) for factor in factors]
    where, size = "loop", max(facts.train.sizes, default=0)
    if size > 64 and facts.train.batches <= FEW_BATCHES:
        where, summary = "data", summary + f": an epoch has {facts.train.batches}, of up to {size} of the {rows} rows"
        cures.insert(0, remedies.batches(32, "batches of 32"))
    tried = tuple(cures)
    return [Suspicion("too-few-updates", where, summary, evidence, remedies=tried, generic=True, gain=0.25, fits=True)]


def penalty(facts: Facts) -> list[Suspicion]:
    """Weight decay is to be left out."""
    decay = [float(group.get("weight_decay", 0.0)) for group in facts.program.optimizer.param_groups]
    spans = [[u.descent for u in updates if math.isfinite(u.descent)] for updates in (facts.loop.updates, facts.late)]
    seen = next((s for s in spans if s and sum(s) / len(s) < 0.9 and min(s) > -0.5), [])
    found = []
    if max(decay, default=0) > 0:
        evidence = {"weight_decay": decay, "learning rate": _rates(facts)}
        summary = f"weight decay of {max(decay):g}"
        cures = tuple(
            remedies.set_in_optimizer("weight_decay", value, f"weight decay {value:g}")
            for value in (0.0, max(decay) / 100)
        )
        found.append(Suspicion("penalty-too-strong", "optimizer", summary, evidence, remedies=cures, fits=True))
    if seen:
        evidence = {"cosine of the gradient used with the loss's": seen}
        summary = (
            "what the update adds to the loss outweighs it: the gradient used points elsewhere than the loss's own"
        )
        found.append(Suspicion("penalty-too-strong", "loop", summary, evidence, remedies=(remedies.standard_loop(),)))
    return found


def overfitting(facts: Facts) -> list[Suspicion]:
    """Validation falls from its best while the training loss falls on."""
    base = facts.base
    assert base is not None
    if base.diverged or len(base.scores) < 4 or base.updates < base.planned:
        return []
    at, best = max(base.scores, key=lambda pair: pair[1])
    before = base.losses[max(0, at - max(1, len(base.losses) // 50)) : at]
    fell = base.train_loss < 0.7 * sum(before) / len(before) if before else False
    lost = facts.gain(base.score, best)
    untrained = facts.evaluation.score  # to be lost, something must have been learnt
    if not fell or lost < 0.05 or best - max(base.score, untrained) <= facts.noise(base.score):
        return []
    epochs = max(1, round(facts.program.epochs * at / base.updates))
    evidence = {
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
    cures = [remedies.epochs(epochs)] if epochs < facts.program.epochs else []
    cures += [*decay]
    return [
        Suspicion(
            "overfitting", "loop", summary, evidence, remedies=tuple(cures), measured=lost if lost >= 0.1 else None
        )
    ]


def _decay(facts: Facts) -> list[remedies.Remedy]:
    name = type(facts.program.optimizer).__name__
    if "weight_decay" not in facts.program.optimizer.defaults:
        return []
    value = 1.0 if name == "AdamW" else 0.01
    return [remedies.set_in_optimizer("weight_decay", value, f"weight decay {value:g}")]


TRAINED = (overfitting, rate_too_high, uneven_rates, penalty, slow)
