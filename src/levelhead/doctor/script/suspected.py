"""What may be wrong with a script, by what its unchanged run shows; each suspicion with a change made from outside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.nn import functional as F

from levelhead.doctor import remedies
from levelhead.doctor.comparison import Result
from levelhead.doctor.evidence.weights import LARGE
from levelhead.doctor.findings import Finding
from levelhead.doctor.rules import RULES, Suspicion
from levelhead.doctor.rules.network import BEHIND
from levelhead.doctor.rules.optimization import SCHEDULED, still_falls
from levelhead.doctor.rules.rule import GAIN, LARGE_GAIN
from levelhead.doctor.rules.weights import SMALL
from levelhead.doctor.script.child import Ran
from levelhead.doctor.script.measure import HIGHER, LOWER, Measure

#: Answers that vary by less than this share of the targets' variance are as good as constant.
CONSTANT = 0.05
#: How many times the rate is tried, one after another while it wins.
LOWER_RATES, HIGHER_RATES = (0.1, 0.01, 0.001), (10.0, 100.0, 1000.0)


def suspected(first: Ran, measure: Measure, seen: Sequence[Finding]) -> list[Suspicion]:
    """The causes that something speaks for, each with its change; and the rate, of which only the outcome speaks.

    Args:
        first: the unchanged run.
        measure: what runs are compared by.
        seen: what a watch of it found.
    """
    facts, base, places = first.facts, measure.of(first), {f.cause: f.where for f in reversed(seen)}
    train, val = ([mean, max(std, 1e-12)] for mean, std in (pair or (0.0, 1.0) for pair in facts["inputs"]))
    apart = abs(train[0] - val[0]) > 0.5 * train[1] or not 0.5 < val[1] / train[1] < 2
    apart = apart and None not in facts["inputs"]
    layers, drops, validated = facts["layers"], facts["dropout"], measure.validated
    init, layer = _weights(facts, places)
    bent = places.get("missing-nonlinearity", "")
    no_decay = remedies.set_in_optimizer("weight_decay", 0.0, "without weight decay")
    alike = remedies.validation_like_training(*train, *val)
    quantities = set(facts["losses"]) & set(remedies.QUANTITIES)
    untrained = bool(facts["untrained"]) or "parameters-not-trained" in places
    penalized = validated and facts["penalized"] and facts["spread"] < CONSTANT
    squashed: list[str] = next((f.evidence[BEHIND] for f in seen if BEHIND in f.evidence), [])
    mismatched = "loss-mismatch" in places and not facts["mismatch"]
    squared = remedies.other_loss(F.mse_loss, "squared error", "criterion = nn.MSELoss()")
    classes = remedies.other_loss(remedies.cross_entropy, "cross-entropy", "criterion = nn.CrossEntropyLoss()")
    rows = [
        (abs(train[0]) + abs(train[1] - 1) > 0.5, "inputs-not-normalized", "data", remedies.inputs_standardized()),
        (validated and apart, "train-val-mismatch", "data", alike),
        (bool(quantities), "targets-not-normalized", "data", remedies.targets_standardized()),
        ("gradients-accumulate" in places, "gradients-accumulate", "loop", remedies.cleared()),
        (
            "gradient-ascent" in places or _worsens(first) or (validated and base.train_loss < 0),
            "gradient-ascent",
            "loop",
            remedies.turned_round(),
        ),
        (validated and facts["opposing"], "gradient-ascent", "loss", remedies.term_turned()),
        (untrained, "parameters-not-trained", "optimizer", remedies.all_parameters()),
        (facts["eval_steps"] > 0, "eval-mode-in-training", "loop", remedies.train_mode()),
        (
            validated and (facts["training_evaluations"] > 0 or facts["dropping"]),
            "train-mode-in-eval",
            "loop",
            remedies.standard_evaluation(),
        ),
        (
            validated and bool(facts["batch_norm"]) and "batch-too-small" not in places,
            "stale-running-statistics",
            facts["batch_norm"],
            remedies.batch_statistics(),
        ),
        (bool(facts["mismatch"]), "loss-broadcast", "loss", remedies.aligned_loss()),
        (facts["twice"], "output-mismatch", layers[-1][0] if layers else "loss", remedies.squashed_once()),
        ("loss-detached" in places or facts["sampled"], "loss-detached", "loss", remedies.let_through()),
        (bool(drops), "dropout-too-strong", drops[0] if drops else "", remedies.dropout(drops, 0.0)),
        (facts["decay"] > 0, "penalty-too-strong", "optimizer", no_decay),
        (penalized, "penalty-too-strong", "loss", remedies.penalty_lightened()),
        # Beside a part that is not trained other random weights of it may win by chance.
        (bool(init) and not facts["untrained"], init, layer, remedies.drawn_anew()),
        (mismatched and bool(quantities), "loss-mismatch", "loss", classes),
        (mismatched and bool(quantities - {"mse_loss"}), "loss-mismatch", "loss", squared),
        (bool(squashed), "saturating-activation", "loop", remedies.relu_for_sigmoid(squashed)),
        (bool(bent), "missing-nonlinearity", bent, remedies.relu_between([bent], "nn.ReLU()  # between")),
    ]
    if facts["alternating"]:  # losses of networks that play against each other say nothing
        rows = [row for row in rows if row[1] == "parameters-not-trained"]
    found = [RULES[c].suspect(places.get(c, where), r.words, remedies=(r,)) for yes, c, where, r in rows if yes]
    return found + _schedule(seen) + _rates(facts, base, validated)


def _schedule(seen: Sequence[Finding]) -> list[Suspicion]:
    """A schedule that was seen to keep the rate down, before what else would learn faster."""
    rule, cures = RULES["learning-rate-too-low"], (remedies.without_schedule(),)
    kept = [f for f in seen if (f.cause, f.where) == (rule.cause, "loop")]
    return [rule.suspect("loop", f.summary, remedies=cures, fits=True, rank=SCHEDULED) for f in kept]


def _rates(facts: dict[str, Any], base: Result, validated: bool) -> list[Suspicion]:
    """Lower and higher rates; of networks that play against each other a lower one, if the script measures itself."""
    lower, higher = (
        tuple(remedies.learning_rate(factor, facts["rates"]) for factor in factors)
        for factors in (LOWER_RATES, HIGHER_RATES)
    )
    rule = RULES["learning-rate-too-high"]
    words = f"at a learning rate of {max(facts['rates'], default=math.nan):g}"
    if not math.isfinite(base.score):
        lower = (remedies.clipped(), *lower)
        return (
            [rule.suspect("optimizer", words, remedies=lower, gain=GAIN, fits=True)] if not facts["alternating"] else []
        )
    down = rule.suspect("optimizer", words, remedies=lower, generic=True, gain=LARGE_GAIN, fits=True)
    if facts["alternating"]:
        return [down] if validated else []
    rule, where = RULES["learning-rate-too-low"], "optimizer"
    if facts["ended"] and facts["usual"] and still_falls(base.losses):
        rule, where = RULES["too-few-updates"], "loop"
        higher = tuple(replace(remedy, patch=rule.example) for remedy in higher)
    return [down, rule.suspect(where, words, remedies=higher, generic=True, gain=LARGE_GAIN, fits=True)]


def factor_of(cause: str, trials: Sequence[Any]) -> float:
    """How many times as high a rate won most against a cause; a tenth, or ten times, where none did."""
    factors = {remedies.learning_rate(factor, []).words: factor for factor in (*LOWER_RATES, *HIGHER_RATES)}
    won = {trial.gain: factors[trial.change] for trial in trials if trial.cause == cause and trial.change in factors}
    return won[max(won)] if any(won) else 10.0 if "low" in cause else 0.1


def _weights(facts: dict[str, Any], places: dict[str, str]) -> tuple[str, str]:
    """The cause and the place of initial weights that are equal, large, small, or turn units off; empty if none do.

    Small outputs of the last layer are those of a new network.
    """
    if "constant-init" in places:
        return "constant-init", places["constant-init"]
    if facts["dead"]:
        return "dead-units", facts["dead"]
    if facts["oversized"]:
        return "init-too-large", facts["oversized"][0]
    layers = facts["layers"]
    for name, size in layers:
        if size >= LARGE or (size <= SMALL and name != layers[-1][0]):
            return "init-too-small" if size <= SMALL else "init-too-large", name
    return "", ""


def _worsens(first: Ran) -> bool:
    """Whether the validation loss, or what the script reads of its evaluations, became worse on the way."""
    series = [(first.validation, True)]
    for _, _, text, values in first.readings:
        lower, higher = bool(LOWER.search(text)), bool(HIGHER.search(text))
        if lower is not higher and len(values) > 2:
            series.append((values, lower))
            break
    return any(len(values) > 2 and (values[-1][1] > values[0][1]) is lower for values, lower in series)
