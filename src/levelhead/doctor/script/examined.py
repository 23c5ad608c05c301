"""``levelhead examine train.py``: the root causes of a script, by running it again with one change at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial

from levelhead.doctor import remedies
from levelhead.doctor.comparison import clear, gain
from levelhead.doctor.findings import SEVERITIES, Examination, Finding, Scores, Stage, Treated, Trial
from levelhead.doctor.program import ProgramError
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.rules import RULES, Suspicion, finding
from levelhead.doctor.rules.optimization import HIGHER_RATES, LOWER_RATES
from levelhead.doctor.rules.rule import GAIN
from levelhead.doctor.script.again import Runs
from levelhead.doctor.script.child import LONGEST
from levelhead.doctor.script.measure import Ran, measure
from levelhead.doctor.script.patch import patch
from levelhead.doctor.script.reruns import Reruns
from levelhead.doctor.script.run import Script
from levelhead.doctor.search import Search, Verdict
from levelhead.doctor.trials import PACED
from levelhead.records import environment

#: Updates of one run at most, by default.
STEPS = 2000
#: How many runs a budget is to be enough for.
SHARE = 16


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
        budget: seconds that all runs together are to take, about; it sets how many updates each has. After twice as
            many none is begun and all are ended, on a clock that stands while others keep the runs from a processor.
        steps: updates of a run at most.
        wanted: whether a cause is looked for.
        progress: called with a few words before each part.

    Raises:
        ProgramError: the script cannot be run, or trains nothing, or needs a larger budget; the message has the least.
    """
    started = time.perf_counter()
    with Runs(script, deadline=2 * budget) as runs:
        progress("as it is")
        first = runs.begin([], 0, steps, budget * runs.jobs / SHARE).result()
        _checked(script, first, budget, runs.jobs)
        again = Reruns(runs, first, measure(first))
        seen = [f for e in first.examinations for f in e.findings if wanted(f.cause)]
        search = Search(again, again, progress, rounds=1)  # another cause would take as many runs once more
        won = search.causes([s for s in _suspected(first) if wanted(s.cause)])
        if not won and not any(f.severity == "critical" for f in seen) and _learns_nothing(search):
            probes = {"labels-corrupted": remedies.permuted(), "does-not-learn": remedies.one_batch()}
            asked = {cause: remedy for cause, remedy in probes.items() if wanted(cause)}
            again.soon([[remedy] for remedy in asked.values()])
            for cause, remedy in asked.items() if again.affords(again.base.cost) else ():
                search.record(remedy.words, cause, again.run([remedy]), 0.0)
            if again.measure.validated:  # neighbours share labels by chance, and nothing carries over to other rows
                seen = [replace(f, severity="critical") if f.cause == "labels-corrupted" else f for f in seen]
        search.record("other seeds", "", again.run([], 1), 0.0)
        noise = again.apart
    runs.forget()
    proven = _proven(again, won[0]) if won else None
    findings = _together(seen, proven)
    found = [_patched(runs, f, first, search) for f in findings]
    chosen = won[0].remedy if won else None
    notes = (
        f"compared by {again.measure.words}; noise between seeds {noise:.3g}",
        f"each run has {first.steps} updates" + (f"; the script itself ends: {first.error}" if first.error else ""),
        *search.notes,
    )
    seconds = time.perf_counter() - started
    stage = Stage("runs", seconds, f"{len(search.trials)} runs of {first.steps} updates")
    charts = first.examinations[0].charts if first.examinations else ()
    undecided = search.out_of_time
    if first.error:
        undecided = f"after {first.steps} updates {first.error}"
    elif _learns_nothing(search):
        undecided = f"does not learn: no run beats a constant answer{_by_heart(search)}"
    return Examination(
        tuple(found),
        (stage,),
        tuple(search.trials),
        charts,
        {"facts": asdict(first.facts)},
        notes,
        environment(),
        seconds,
        metric=f"minus {again.measure.words}" if again.measure.sign < 0 else again.measure.words,
        undecided="" if found else undecided,
        program=script,
        _treat=partial(_treated, again, chosen, found[0].patch if found else ""),
    )


def _suspected(first: Ran) -> list[Suspicion]:
    """What the rules suspect of the unchanged run, each change once, at the place that its watch has found."""
    found: dict[tuple[str, str], Suspicion] = {}
    for s in first.raised:
        if RULES[s.cause].in_games or not first.facts.alternating:
            place = first.facts.places.get(s.cause, s.where)
            found.setdefault((s.cause, s.remedies[0].words), replace(s, where=place))
    return list(found.values())


def _factor(cause: str, trials: Sequence[Trial]) -> float:
    """How many times as high a rate won most against a cause; a tenth, or ten times, where none did."""
    factors = {remedies.learning_rate(factor, []).words: factor for factor in (*LOWER_RATES, *HIGHER_RATES)}
    won = {trial.gain: factors[trial.change] for trial in trials if trial.cause == cause and trial.change in factors}
    return won[max(won)] if any(won) else 10.0 if "low" in cause else 0.1


def _learns_nothing(search: Search) -> bool:
    """Whether no run is better than a constant answer."""
    return all(search.scale.idle(trial.score) for trial in search.trials)


def _by_heart(search: Search) -> str:
    """Whether one batch could be learnt: then the network and its optimizer do, and the data say nothing."""
    losses = {trial.change: trial.train_loss for trial in search.trials}
    if remedies.one_batch().words not in losses:
        return ""
    fell = losses[remedies.one_batch().words] < 0.5 * losses["as it is"]
    return "; one batch, over and over, is learnt by heart" if fell else "; nor is one batch, over and over, learnt"


def _treated(
    again: Reruns, remedy: Remedy | None, patch: str, found: Examination, *, budget: float, seeds: int
) -> Treated:
    """The script with the change that won most, and without, over seeds that the examination has not used."""
    started = time.perf_counter()
    if remedy is None:
        as_it_is = Scores((again.base.score,))
        return Treated(None, False, as_it_is, as_it_is, note="no change that was made from outside wins enough")
    with Runs(again.runs.script, 2 * budget) as runs:
        ran = [[runs.begin(changes, seed, again.steps) for seed in range(2, seeds + 2)] for changes in ([], [remedy])]
        scores = [[again.measure.of(each.result(), again.base.updates).score for each in part] for part in ran]
    runs.forget()
    before, after = (Scores(tuple(part)) for part in scores)
    return Treated(
        program=None,
        accepted=clear(before, after, 0.0) and gain(before.median, after.median, again.floor) >= GAIN,
        before=before,
        after=after,
        remedies=(remedy.words,),
        patch=patch,
        seconds=time.perf_counter() - started,
        note="made from outside; the script is as it was, and its patch is yours to apply",
    )


def _checked(script: Script, first: Ran, budget: float, jobs: int) -> None:
    """That the unchanged run has trained, and leaves time for others."""
    least = (first.setup + (PACED - 1) * first.pace) * SHARE / (LONGEST * jobs)
    if first.setup and least > budget:
        raise ProgramError(
            f"{script.what} takes {first.setup:.2g} s up to its first update, {first.pace:.2g} s for each other one; "
            f"an examination needs a budget of {math.ceil(least)} s at least; got {budget:g}"
        )
    if not first.steps and first.error:
        raise ProgramError(f"{script.what} fails before its first update: {first.error}")
    if not first.steps:
        said = "makes no update with an optimizer in its own process; is it the script that trains?"
        raise ProgramError(f"{script.what} {said}")


def _proven(again: Reruns, verdict: Verdict) -> Finding:
    """The finding of what a change has proven, in the script's own figures."""
    assert verdict.remedy is not None
    words, measured, sign = verdict.remedy.words, again.measure.words, again.measure.sign
    before, after, floor = (sign * score for score in list(verdict.evidence.values())[:3])
    summary = f"with {words} {measured} is {after:.4g}, and {before:.4g} as it is"
    figures = {"as it is": before, f"with {words}": after, "of a constant answer": floor}
    suspicion = replace(verdict.suspicion, summary=summary, figures=figures | {"gain": verdict.evidence["gain"]})
    return finding(suspicion, verdict.severity, None, verdict.symptoms, verdict.remedy)


def _patched(runs: Runs, found: Finding, first: Ran, search: Search) -> Finding:
    """With a diff of the script, where the place of the change is certain: a loss's penalty is no weight decay."""
    if (found.cause, found.where) == ("penalty-too-strong", "loss"):
        return found
    scheduled = (found.cause, found.where) == ("learning-rate-too-low", "loop")
    made = patch(
        runs.path, "schedule" if scheduled else found.cause, first.facts.rates, _factor(found.cause, search.trials)
    )
    return replace(found, patch=made or found.patch)


def _together(seen: list[Finding], proven: Finding | None) -> list[Finding]:
    """What was seen and what was proven: what a proven cause explains is its symptom."""
    found = list(seen)
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
