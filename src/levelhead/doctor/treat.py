"""Treatment: the remedies of an examination, retrained over seeds, and kept only where they are better."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from levelhead.doctor import remedies
from levelhead.doctor.comparison import LEAST, clear
from levelhead.doctor.findings import Examination, Scores, Treated, Trial
from levelhead.doctor.isolation import clone, random_state_kept, seeded
from levelhead.doctor.program import Program
from levelhead.doctor.remedies import Remedy, several
from levelhead.doctor.trials import Outcome, train

#: Steps of the learning rate that are tried where a mended program still has room.
REFINED = (3.0, 1 / 3)


def treat(
    examine: Callable[..., Examination], examination: Examination, budget: float = 60.0, seeds: int = 3
) -> Treated:
    """Retrain copies with the remedies that the examination found, and keep them if they are better.

    Each version is trained as long as the program itself, with ``seeds`` orders of batches; the examination's own
    trials, by which the remedies were chosen, do not count. Where the mended program still has much to gain it is
    examined again. Accepted is a version that is better with every seed, by more than twice the standard error of the
    differences or with no overlap. Scores are on ``program.val``; a last word needs data that the program has not.

    Raises:
        ValueError: ``seeds`` is less than 2: one seed says nothing about the noise.
    """
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, got {seeds}: one seed says nothing about the noise")
    program: Program = examination.program
    start = time.perf_counter()
    chosen = [verdict.remedy for verdict in examination._remedies if verdict.severity != "info"]
    with random_state_kept():
        trying = _Treatment(program, budget, seeds)
        if not chosen:
            said = "no remedy is known for what was found" if not examination.healthy else "nothing to mend"
            return _left(program, trying, said, start)
        before, after = trying.scores([], seeds), trying.scores(chosen, seeds)
        best, best_scores = chosen, after
        tuning: list[Remedy] = []
        if not examination.healthy and _room(after) > 0.1 and trying.left > budget / 3:
            more = _again(examine, program, chosen, trying.left / 3)
            if more:
                best, best_scores = trying.better(best, best_scores, [*chosen, *more])
        for factor in REFINED:
            if _room(best_scores) > 0.05 and trying.left > seeds * trying.longest:
                step = remedies.learning_rate(factor, _rates(program, best))
                tuned, best_scores = trying.better(best, best_scores, [*best, step])
                tuning += tuned[len(best) :]
                best = tuned
        accepted = clear(before, best_scores, LEAST * _room(before))
        note = "" if accepted else "the remedies are not better beyond the noise; the program is left as it was"
        outcome = trying.median_outcome(best) if accepted else None
    return Treated(
        program=outcome.program if outcome else clone(program),
        accepted=accepted,
        before=before,
        after=best_scores,
        remedies=tuple(remedy.words for remedy in best if remedy not in tuning),
        tuning=tuple(remedy.words for remedy in tuning),
        patch="\n".join(remedy.patch for remedy in best),
        trials=tuple(trying.trials),
        seconds=time.perf_counter() - start,
        note=note,
    )


def _left(program: Program, trying: _Treatment, note: str, start: float) -> Treated:
    before = trying.scores([], 1)
    return Treated(clone(program), False, before, before, note=note, seconds=time.perf_counter() - start)


def _rates(program: Program, chosen: Sequence[Remedy]) -> list[float]:
    """The learning rates of the program with these remedies."""
    mended = clone(program)
    seeded(0)
    several(chosen)(mended)
    return [float(group["lr"]) for group in mended.optimizer.param_groups]


def _room(scores: Scores) -> float:
    """How far a median score is from 1, where it lies between 0 and 1; else all of it."""
    return 1 - scores.median if 0 <= scores.median <= 1 else 1.0


def _again(
    examine: Callable[..., Examination], program: Program, chosen: Sequence[Remedy], budget: float
) -> list[Remedy]:
    """What a second examination, of the mended program before its training, finds on top."""
    mended = clone(program)
    seeded(0)
    several(chosen)(mended)
    try:
        found = examine(mended, budget=budget)
    except ValueError:
        return []
    return [verdict.remedy for verdict in found._remedies if verdict.severity != "info"]


class _Treatment:
    """Trains versions over seeds, within the time."""

    def __init__(self, program: Program, budget: float, seeds: int) -> None:
        self.program, self.left, self.seeds = program, budget, seeds
        self.trials: list[Trial] = []
        self.outcomes: dict[tuple[str, ...], list[Outcome]] = {}
        self.longest = 0.0

    def scores(self, chosen: Sequence[Remedy], seeds: int) -> Scores:
        """The final scores with these remedies, one a seed; the seeds are not those of the examination."""
        start = time.perf_counter()
        done = [train(self.program, several(chosen), seed=100 + seed) for seed in range(seeds)]
        seconds = time.perf_counter() - start
        self.left -= sum(outcome.cost for outcome in done)
        self.longest = max(self.longest, *(outcome.cost for outcome in done))
        self.outcomes[_key(chosen)] = done
        found = Scores(tuple(outcome.score for outcome in done))
        words = " + ".join(remedy.words for remedy in chosen) or "as it is"
        note = next((f"{type(o.error).__name__}: {o.error}" for o in done if o.error is not None), "")
        loss = statistics.median(outcome.train_loss for outcome in done)
        self.trials.append(Trial(words, "", found.median, loss, done[0].updates, 0.0, seconds, note))
        return found

    def better(self, chosen: list[Remedy], scores: Scores, other: list[Remedy]) -> tuple[list[Remedy], Scores]:
        """The other remedies with their scores, if these are clearly better."""
        found = self.scores(other, self.seeds)
        return (other, found) if clear(scores, found, LEAST * _room(scores)) else (chosen, scores)

    def median_outcome(self, chosen: Sequence[Remedy]) -> Outcome:
        """The run with the median score: neither the luckiest nor the unluckiest."""
        ordered = sorted(self.outcomes[_key(chosen)], key=lambda outcome: outcome.score)
        return ordered[len(ordered) // 2]


def _key(chosen: Sequence[Remedy]) -> tuple[str, ...]:
    return tuple(remedy.words for remedy in chosen)
