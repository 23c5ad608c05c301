"""``levelhead examine train.py``: the root causes of a script, by running it again with one change at a time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean, median
from typing import Any

from levelhead.doctor.comparison import UPSTREAM, Tried, clear, first_of, gain, number, severity_of
from levelhead.doctor.findings import SEVERITIES, Examination, Finding, Scores, Stage, Treated, Trial
from levelhead.doctor.program import ProgramError
from levelhead.doctor.rules import RULES, Suspicion, finding
from levelhead.doctor.rules.optimization import still_falls
from levelhead.doctor.rules.rule import GAIN, LARGE_GAIN
from levelhead.doctor.rules.weights import LARGE, SMALL
from levelhead.doctor.script.again import Runs
from levelhead.doctor.script.changes import CHANGES, RATES
from levelhead.doctor.script.child import Ran
from levelhead.doctor.script.patch import patch
from levelhead.doctor.script.rows import QUANTITIES
from levelhead.doctor.script.run import Script
from levelhead.records import environment

#: The part of a run that counts as its end, for the training loss.
END = 0.1
#: Updates of one run at most, by default.
STEPS = 2000
#: Answers that vary by less than this share of the targets' variance are as good as constant.
CONSTANT = 0.05
#: What is read in evaluations, is not called a loss, and is so many times the training's or its part, is another kind.
APART = 10
#: How many runs a budget is to be enough for.
SHARE = 16
LOWER = re.compile(r"loss|nll|mse|mae|rmse|perplexity|err(?!or=)|bce|elbo", re.IGNORECASE)
HIGHER = re.compile(r"acc|dice|iou|f1|auc|score|r2|correct|right|hits|reward|return_", re.IGNORECASE)


@dataclass(frozen=True)
class Measure:
    """What runs are compared by.

    Args:
        words: what it is, and what sign the script gives it.
        score: of a run: higher is better.
        floor: the score of the best constant answer, or of the start.
        validated: whether the script computes it in evaluations.
        sign: of the script's own figure in the score.
    """

    words: str
    score: Callable[[Ran], float]
    floor: float
    validated: bool
    sign: float = -1.0

    def of(self, ran: Ran) -> float:
        """The score of a run; minus infinity where it has none."""
        return number(self.score(ran))


def examine_script(
    script: Script,
    *,
    budget: float = 120.0,
    steps: int = STEPS,
    wanted: Callable[[str], bool] = lambda _: True,
    progress: Callable[[str], None] = lambda _: None,
) -> Examination:
    """Find what is wrong with the training that a script does.

    It is run twice as it is, the second time with other seeds, so that its noise is known; then with one change each
    for the causes that it may have. A cause counts if its change wins more than the noise, on the script's own
    validation loss where it computes one, on its training loss elsewhere.

    Args:
        script: what to run.
        budget: seconds that all runs together are to take, about; it sets how many updates each has.
        steps: updates of a run at most.
        wanted: whether a cause is looked for.
        progress: called with a few words before each part.

    Raises:
        ProgramError: the script cannot be run, or trains nothing.
    """
    started = time.perf_counter()
    runs = Runs(script, deadline=4 * budget)
    progress("as it is")
    first = runs.one("", "", 0, steps, budget * runs.jobs / SHARE)
    if not first.steps:
        raise ProgramError(_nothing(script, first))
    measure = _measure(first)
    seen = [f for e in first.examinations for f in _findings(e) if wanted(f.cause)]
    search = _Search(runs, first, measure, progress)
    search.run([name for name in _specific(first, measure, seen) if wanted(CHANGES[name].cause)], seen)
    rates = [("rate / 10", "rate x 10"), ("rate / 100", "rate x 100"), ("rate / 1000", "rate x 1000")]
    # Of networks that play against each other a rate under which the script's own measure is better says something.
    going = set(rates[0]) if first.facts["trained"] == 1 else {"rate / 10"} if measure.validated else set()
    if not math.isfinite(search.before) and wanted(CHANGES["clipped"].cause):
        search.run(["clipped"], seen)
    for pair in rates:
        names = [n for n in pair if n[:6] in {g[:6] for g in going} and wanted(CHANGES[n].cause)]
        if search.open and names:
            search.run(names, seen)
            going = {n for n in names if search.gains[n] > 0 or not math.isfinite(search.measure.of(search.results[n]))}
    best = search.best()
    idle = best is None and not any(f.severity == "critical" for f in seen) and search.learns_nothing
    if idle:
        search.run([n for n in ("permuted", "one batch") if wanted(CHANGES[n].cause)], seen)
    findings = _together(seen, search.finding(best, seen), first, search)
    rates = first.facts["rates"]
    other = ("penalty-too-strong", "loss")  # a term of the loss, and no weight decay that could be found
    found = [
        patch(runs.path, f.cause, rates, search.factor(f.cause)) if (f.cause, f.where) != other else ""
        for f in findings
    ]
    findings = [replace(f, patch=made or f.patch) for f, made in zip(findings, found, strict=True)]
    runs.forget()
    change = findings[0].patch if findings else ""
    notes = (
        f"compared by {measure.words}; noise between seeds {search.noise:.3g}",
        f"each run has {first.steps} updates" + (f"; the script itself ends: {first.error}" if first.error else ""),
    )
    seconds = time.perf_counter() - started
    stage = Stage("runs", seconds, f"{len(search.trials)} runs of {first.steps} updates")
    charts = Examination.from_dict(first.examinations[0]).charts if first.examinations else ()
    undecided = (
        ""
        if findings or not search.learns_nothing
        else f"does not learn: no run beats a constant answer{search.by_heart}"
    )
    return Examination(
        tuple(findings),
        (stage,),
        tuple(search.trials),
        charts,
        {"facts": first.facts},
        notes,
        environment(),
        seconds,
        metric=f"minus {measure.words}" if measure.sign < 0 else measure.words,
        undecided=undecided,
        program=script,
        _treat=partial(_treated, search, best, change),
    )


def _treated(
    search: _Search, name: str | None, patch: str, found: Examination, *, budget: float, seeds: int
) -> Treated:
    """The script with the change that won most, and without, over seeds that the examination has not used."""
    started, runs = time.perf_counter(), search.runs
    if name is None:
        as_it_is = Scores((search.before,))
        return Treated(None, False, as_it_is, as_it_is, note="no change that was made from outside wins enough")
    steps = search.first.steps
    ran = runs.all(
        [(each, search.where[name], seed, steps, 0.0) for each in ("", name) for seed in range(2, seeds + 2)]
    )
    runs.forget()
    before, after = (Scores(tuple(search.measure.of(each) for each in part)) for part in (ran[:seeds], ran[seeds:]))
    return Treated(
        program=None,
        accepted=clear(before, after, 0.0) and gain(before.median, after.median, search.measure.floor) >= GAIN,
        before=before,
        after=after,
        remedies=(CHANGES[name].words,),
        patch=patch,
        seconds=time.perf_counter() - started,
        note="made from outside; the script is as it was, and its patch is yours to apply",
    )


def _nothing(script: Script, ran: Ran) -> str:
    if ran.error:
        return f"{script.what} fails before its first update: {ran.error}"
    return f"{script.what} makes no update with an optimizer in its own process; is it the script that trains?"


def _findings(examination: dict[str, Any]) -> tuple[Finding, ...]:
    return Examination.from_dict(examination).findings


def _measure(first: Ran) -> Measure:
    """The script's own validation loss where it computes one; its training loss elsewhere."""
    finite = [loss for _, loss in first.losses[:5] if math.isfinite(loss)]
    floor = first.facts.get("floor")
    floor = -(floor if floor is not None else median(finite) if finite else math.inf)
    if len(first.validation) > 0:
        return Measure("the script's validation loss", lambda ran: -_last(ran.validation), floor, True)
    for file, line, text, values in first.readings:
        lower, higher = bool(LOWER.search(text)), bool(HIGHER.search(text))
        if lower is higher or not values:
            continue
        sign = -1.0 if lower else 1.0

        def of(ran: Ran, key: tuple[str, int] = (file.rpartition("/")[2], line), sign: float = sign) -> float:
            found = (r[3] for r in ran.readings if (r[0].rpartition("/")[2], r[1]) == key)
            return sign * _last(next(found, []))

        words = f"what line {line} reads ({text[:60]})"
        worst = min((sign * v for _, v in values if math.isfinite(v)), default=-math.inf)
        share = first.facts.get("commonest")
        if share is not None and "acc" in text.lower() and all(0 <= v <= 1 for _, v in values):
            return Measure(words, of, share, True, sign)
        alike = "loss" in text.lower() or (floor != 0 and 1 / APART < abs(worst / floor) < APART)
        return Measure(words, of, min((floor if alike else worst) if lower else 0.0, worst), True, sign)
    return Measure("the training loss at the end", lambda ran: -_end_of(ran), floor, False)


def _last(series: Sequence[Sequence[float]]) -> float:
    """The mean of the last two evaluations; of one, where there are few."""
    values = [value for _, value in series]
    return mean(values[-2:] if len(values) > 4 else values[-1:]) if values else math.nan


def _end_of(ran: Ran) -> float:
    values = [loss for _, loss in ran.losses]
    return mean(values[-max(3, round(END * len(values))) :]) if values else math.nan


def _specific(first: Ran, measure: Measure, seen: Sequence[Finding]) -> list[str]:
    """The changes that something speaks for, upstream ones first."""
    facts, causes = first.facts, {f.cause for f in seen}
    train, val = facts["inputs"]
    apart = bool(train and val) and (
        abs(train[0] - val[0]) > 0.5 * max(train[1], 1e-12) or not 0.5 < (val[1] + 1e-12) / (train[1] + 1e-12) < 2
    )
    rises = len(first.validation or [0]) > 2 and first.validation and first.validation[-1][1] > first.validation[0][1]
    chosen = {
        "inputs": bool(train) and abs(train[0]) + abs(train[1] - 1) > 0.5,
        "validation": measure.validated and apart,
        "targets": bool(set(facts["losses"]) & set(QUANTITIES)),
        "clearing": "gradients-accumulate" in causes,
        "sign": "gradient-ascent" in causes or rises or _rises(first),
        "all": bool(facts["untrained"]) or "parameters-not-trained" in causes,
        "training": facts["eval_steps"] > 0,
        "evaluation": measure.validated and facts["training_evaluations"] > 0,
        "statistics": measure.validated and bool(facts["batch_norm"]),
        "shape": bool(facts["mismatch"]),
        "once": facts["twice"],
        "attached": "loss-detached" in causes,
        "dropout": bool(facts["dropout"]),
        "decay": facts["decay"] > 0,
        "penalty": measure.validated and facts["penalized"] and facts["spread"] < CONSTANT,
        # Beside a part that is not trained other random weights of it may win by chance.
        "weights": not facts["untrained"] and ("constant-init" in causes or bool(_off_scale(facts))),
        "bends": "missing-nonlinearity" in causes,
    }
    if facts["trained"] > 1:  # losses of networks that play against each other say nothing
        chosen = dict.fromkeys(chosen, False) | {"all": chosen["all"]}
    return sorted((n for n, yes in chosen.items() if yes), key=lambda n: RULES[CHANGES[n].cause].rank)


def _off_scale(facts: dict[str, Any]) -> list[tuple[str, float]]:
    """The layers whose outputs are large or small at first; small ones of the last layer are those of a new network."""
    layers = facts["layers"]
    return [(name, size) for name, size in layers if size >= LARGE or (size <= SMALL and name != layers[-1][0])]


def _rises(ran: Ran) -> bool:
    """Whether what the script reads of its evaluations became worse on the way."""
    for _, _, text, values in ran.readings:
        if len(values) > 2 and LOWER.search(text) and not HIGHER.search(text):
            return bool(values[-1][1] > values[0][1])
    return False


class _Search:
    """The runs that were made, and what they won."""

    def __init__(self, runs: Runs, first: Ran, measure: Measure, progress: Callable[[str], None]) -> None:
        self.runs, self.first, self.measure, self.progress = runs, first, measure, progress
        self.before = measure.of(first)
        self.noise = math.nan
        self.gains: dict[str, float] = {}
        self.where: dict[str, str] = {}
        self.results: dict[str, Ran] = {}
        self.trials = [_trial("as it is", "", self.before, first, 0.0)]

    @property
    def learns_nothing(self) -> bool:
        """Whether no run is better than a constant answer."""
        ends = [self.before, *(self.measure.of(ran) for ran in self.results.values())]
        return not any(math.isfinite(end) and end > self.measure.floor + GAIN * abs(self.measure.floor) for end in ends)

    @property
    def by_heart(self) -> str:
        """Whether one batch could be learnt: then the network and its optimizer do, and the data say nothing."""
        if "one batch" not in self.results:
            return ""
        fell = _end_of(self.results["one batch"]) < 0.5 * _end_of(self.first)
        return "; one batch, over and over, is learnt by heart" if fell else "; nor is one batch, over and over, learnt"

    @property
    def open(self) -> bool:
        """Whether what was tried so far leaves something to win."""
        return max(self.gains.values(), default=0.0) < 1 - UPSTREAM

    def run(self, names: Sequence[str], seen: Sequence[Finding]) -> None:
        """Make the runs of some changes."""
        self.progress(", ".join(CHANGES[name].words for name in names))
        places = {f.cause: f.where for f in reversed(seen)}
        self.where |= {n: places.get(CHANGES[n].cause, "") for n in names}
        orders = [(n, self.where[n], 0, self.first.steps, 0.0) for n in names]
        if math.isnan(self.noise):
            orders.append(("", "", 1, self.first.steps, 0.0))
        done = self.runs.all(orders)
        if math.isnan(self.noise):
            other, floor = self.measure.of(done[-1]), self.measure.floor
            both = max(self.before, floor) - max(other, floor)  # how much worse than a constant says nothing
            self.noise = abs(both) if math.isfinite(both) else 0.0
            self.trials.append(_trial("other seeds", "", other, done[-1], 0.0))
        for name, ran in zip(names, done, strict=False):
            self.results[name] = ran
            after = self.measure.of(ran)
            won = (
                gain(self.before, after, self.measure.floor)
                if ran.steps >= self.first.steps or ran.error == ""
                else 0.0
            )
            if math.isfinite(self.before) and after - max(self.before, self.measure.floor) <= 2 * self.noise:
                won = 0.0
            ended = _end_of(self.first)
            if CHANGES[name].fits and math.isfinite(ended) and not _end_of(ran) < ended:
                won = 0.0
            self.gains[name] = won
            self.trials.append(_trial(CHANGES[name].words, CHANGES[name].cause, after, ran, won))

    def best(self) -> str | None:
        """The change that wins most; one that is upstream wins where another's gain is not clearly larger."""
        tried = [
            Tried(CHANGES[name].cause, name, self.results[name], won, CHANGES[name].generic, won)
            for name, won in sorted(self.gains.items(), key=lambda item: self._order(item[0]))
            if won >= (LARGE_GAIN if CHANGES[name].generic else GAIN)
        ]
        best = first_of(tried, UPSTREAM)
        return None if best is None else best.change

    @staticmethod
    def _order(name: str) -> tuple[bool, int]:
        return CHANGES[name].generic, RULES[CHANGES[name].cause].rank

    def finding(self, name: str | None, seen: Sequence[Finding]) -> Finding | None:
        """The finding that a change proves."""
        if name is None:
            return None
        change, won = CHANGES[name], self.gains[name]
        cause, where = self._named(name, seen)
        scores = self.before, self.measure.of(self.results[name]), self.measure.floor
        before, after, floor = (self.measure.sign * score for score in scores)
        summary = f"with {change.words} {self.measure.words} is {after:.4g}, and {before:.4g} as it is"
        figures = {"as it is": before, f"with {change.words}": after, "of a constant answer": floor, "gain": won}
        suspicion = Suspicion(cause, where, summary, figures, True, severity_of(won))
        return replace(finding(suspicion), patch=self._code(name, cause))

    def _named(self, name: str, seen: Sequence[Finding]) -> tuple[str, str]:
        """The cause that a change has proven, and its place."""
        facts, cause = self.first.facts, CHANGES[name].cause
        known = next((f for f in seen if f.cause == cause), None)
        if name == "weights":
            same = next((f for f in seen if f.cause == "constant-init"), None)
            if same is not None:
                return same.cause, same.where
            name, size = _off_scale(facts)[0]
            return ("init-too-small" if size <= SMALL else "init-too-large"), name
        if known is not None:
            return cause, known.where
        losses = [loss for _, loss in self.first.losses]
        if RATES.get(name, 0.0) > 1 and facts["ended"] and facts["usual"] and still_falls(losses):
            return "too-few-updates", "loop"
        places = {"dropout": facts["dropout"], "statistics": facts["batch_norm"]}
        if name == "once" and facts["layers"]:
            return cause, facts["layers"][-1][0]
        return cause, places.get(name, CHANGES[name].where)

    def _code(self, name: str, cause: str) -> str:
        rates = self.first.facts["rates"]
        if name in RATES and cause == CHANGES[name].cause and rates:
            return f"lr = {max(rates) * RATES[name]:g}  # in place of {max(rates):g}"
        if name == "penalty":
            return "loss = comparison + 1e-4 * penalty  # or both as sums, or as means, over the same rows and elements"
        return RULES[cause].example

    def factor(self, cause: str) -> float:
        """How many times as high a rate won most; a tenth where none was tried."""
        won = {name: self.gains[name] for name in RATES if CHANGES[name].cause == cause and name in self.gains}
        return RATES[max(won, key=won.__getitem__)] if any(won.values()) else 10.0 if "low" in cause else 0.1


def _trial(words: str, cause: str, value: float, ran: Ran, won: float) -> Trial:
    note = ran.error.splitlines()[0][:80] if ran.error else "" if math.isfinite(value) else "diverged"
    return Trial(words, cause, value, _end_of(ran), ran.steps, won, ran.seconds, note)


def _together(seen: list[Finding], proven: Finding | None, first: Ran, search: _Search) -> list[Finding]:
    """What was seen and what was proven: what a proven cause explains is its symptom."""
    found = list(seen)
    if first.facts["mismatch"] and not any(
        f.cause == "loss-broadcast" for f in [*found, *([proven] if proven else [])]
    ):
        said = f"outputs and targets of shapes {first.facts['mismatch']} are broadcast against each other"
        found.append(finding(Suspicion("loss-broadcast", "loss", said, {}, True, "critical")))
    left = first.facts["untrained"]
    if left and not any(f.cause == "parameters-not-trained" for f in [*found, *([proven] if proven else [])]):
        said = f"{len(left)} parameters get gradients and are in no optimizer, first {left[0]}"
        severity = severity_of(search.gains.get("all", 0.0))
        found.append(
            finding(Suspicion("parameters-not-trained", "optimizer", said, {"parameters": left[:12]}, True, severity))
        )
    if proven is not None:
        found = [f for f in found if (f.cause, f.where) != (proven.cause, proven.where)]
        above = [f for f in found if f.severity == "critical" and proven.cause in RULES[f.cause].explains]
        if above:
            found = [replace(f, symptoms=(*f.symptoms, proven.summary)) if f is above[0] else f for f in found]
        else:
            below = [f for f in found if f.cause in RULES[proven.cause].explains and f.severity != "critical"]
            proven = replace(proven, symptoms=(*proven.symptoms, *(f.summary for f in below)))
            found = [proven, *(f for f in found if f not in below)]
    return sorted(found, key=lambda f: SEVERITIES.index(f.severity))
