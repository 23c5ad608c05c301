"""Tries remedies, one after another, until nothing is left to gain: what pays was the cause."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from levelhead.doctor.comparison import UPSTREAM, Result, Tried, first_of, severity_of
from levelhead.doctor.findings import Severity, Trial
from levelhead.doctor.remedies import Remedy, together
from levelhead.doctor.rules import RULES, Suspicion

ROUNDS = 4
#: Validation rows under which a share of right answers has no normal distribution: other seeds decide.
FEW = 30
#: How many repairs are tried together at most.
TOGETHER = 4


@dataclass(frozen=True)
class Verdict:
    """A suspicion that became a finding."""

    suspicion: Suspicion
    severity: Severity
    evidence: dict[str, Any] = field(default_factory=dict)
    symptoms: tuple[str, ...] = ()
    remedy: Remedy | None = None


class Runner(Protocol):
    """Runs a training as it is and with remedies: copies of a program, or a script in other processes."""

    @property
    def base(self) -> Result:
        """The training as it is: the measure of all the others."""

    @property
    def whole(self) -> bool:
        """Whether the whole training is seen."""

    def affords(self, cost: float) -> bool:
        """Whether a run of such cost can still be made."""

    def run(self, applied: Sequence[Remedy], seed: int = 0) -> Result:
        """Train with these remedies."""

    def soon(self, wishes: Sequence[Sequence[Remedy]]) -> None:
        """These are likely to be asked for next, in place of those of before; a runner may begin with them."""


class Scale(Protocol):
    """What a score is worth."""

    floor: float

    @property
    def scored(self) -> float:
        """Rows that a score is over."""

    def gain(self, before: float, after: float) -> float:
        """The part of the way from a constant answer to ``after`` that ``before`` had not gone; 0 is no better."""

    def room(self, score: float) -> float:
        """The largest gain that is still possible."""

    def noise(self, score: float) -> float:
        """What a score must win to be beyond chance."""

    def idle(self, score: float) -> bool:
        """Whether a score is hardly better than a constant answer's."""


Still = Callable[[Sequence[Remedy], Sequence[Suspicion]], list[Suspicion]]


class Search:
    """Which suspicions are causes: their remedies are tried, and what pays is kept, again and again.

    Args:
        scale: what scores are worth.
        runner: makes the runs.
        progress: called with a few words before each run.
        still: the suspicions that are raised with these remedies applied, too; the others were symptoms.
        rounds: after so many causes it ends.
    """

    def __init__(
        self,
        scale: Scale,
        runner: Runner,
        progress: Callable[[str], None],
        still: Still = lambda _, left: list(left),
        rounds: int = ROUNDS,
    ) -> None:
        self.scale, self.runner, self.progress, self.still, self.rounds = scale, runner, progress, still, rounds
        self.current = runner.base
        self.applied: list[Remedy] = []
        self.trials: list[Trial] = []
        self.kept = {"as it is": runner.base}
        self.notes: list[str] = []
        self.untried: list[Suspicion] = []
        self._again: dict[tuple[int, int], Result] = {}
        self.record("as it is", "", runner.base, 0.0)

    def judge(self, every: Sequence[Suspicion]) -> list[Verdict]:
        """The suspicions that are certain or whose repair pays, in the order of their weight."""
        certain = [s for s in every if s.certain and s.severity != "info"]
        style = [s for s in every if s.certain and s.severity == "info"]
        found = [self._certain(s) for s in certain]
        if any(s.severity == "critical" and not s.remedies for s in certain):
            return found + [Verdict(s, "info") for s in style]  # with such data nothing else can be judged
        open_ = [*[s for s in every if not s.certain], *[s for s in style if RULES[s.cause].tried]]
        if self.applied:
            open_, gone = self._without_symptoms(open_)
            found[0] = replace(found[0], symptoms=gone)
        won = self.causes(open_)
        return [*found, *won, *(Verdict(s, "info") for s in style if s not in [v.suspicion for v in won])]

    @property
    def out_of_time(self) -> str:
        """What was left for lack of time, in words; empty where nothing was."""
        causes = ", ".join(dict.fromkeys(s.cause for s in self.untried))
        return f"time ran out before what speaks for {causes} was tried; give a larger budget" if causes else ""

    def _certain(self, suspicion: Suspicion) -> Verdict:
        """A fault that was seen; its remedies are tried to know which is best and what is left for others."""
        before = self.current
        tried = self._try(suspicion, len(suspicion.remedies))
        best = max(tried, key=lambda t: t.outcome.score, default=None)
        if best is None or best.outcome.score < before.score - 0.02 * abs(before.score):
            return Verdict(suspicion, suspicion.severity, remedy=next(iter(suspicion.remedies), None))
        severity: Severity = suspicion.severity
        if severity == "critical" and best.gain < 0.1 and self.scale.gain(self.scale.floor, before.score) > 0.5:
            severity = "warning"
        self._apply(best)
        return Verdict(suspicion, severity, self._evidence(before, best), (), best.change)

    def causes(self, suspicions: Sequence[Suspicion]) -> list[Verdict]:
        """Again and again: try all that is open, keep the best that pays, until nothing does."""
        found: list[Verdict] = []
        left = list(suspicions)
        for _ in range(self.rounds):
            before = self.current
            left = [s for s in left if self.scale.room(before.score) >= s.gain and self._worth(s)]
            best = self._best(left)
            if best is None:
                break
            left = [s for s in left if s is not best.suspicion]
            if not self._confirmed(best):
                continue
            if RULES[best.suspicion.cause].slowness:
                left = [s for s in left if not RULES[s.cause].slowness]
            gain = best.gain
            if best.suspicion.measured is not None and not self.applied:
                gain = max(gain, best.suspicion.measured)
            self._apply(best)
            left, gone = self._without_symptoms(left)
            found.append(Verdict(best.suspicion, severity_of(gain), self._evidence(before, best), gone, best.change))
        return found

    def _without_symptoms(self, open_: list[Suspicion]) -> tuple[list[Suspicion], tuple[str, ...]]:
        """The suspicions that are raised with what was applied, too; the others were symptoms, in words."""
        kept = self.still(self.applied, open_)
        return kept, tuple(f"{s.cause} at {s.where}: {s.summary}" for s in open_ if s not in kept)

    def _worth(self, suspicion: Suspicion) -> bool:
        """In the first updates alone, slow learning is no fault: there, only a run that does not learn is tried on.

        A rate that is too high shows early; a lower one is tried where less than half of the way is gone.
        """
        if suspicion.measured is not None and suspicion.measured < suspicion.gain:
            return False
        if self.runner.whole or not suspicion.generic or not self.current.score > self.scale.floor:
            return True
        return RULES[suspicion.cause].early and self.scale.room(self.current.score) > 0.5

    def _best(self, left: list[Suspicion]) -> Tried | None:
        """The best of the specific suspicions; the generic ones only where these leave much to gain."""
        tried = self._try_all([s for s in left if not s.generic])
        paying = [t for t in tried if self._pays(t)]
        if not paying:
            paying = self._together([s for s in left if RULES[s.cause].joint])
        best = first_of(paying, UPSTREAM / 2)
        if self.scale.idle(self.current.score) and (best is None or self._room(best) > 0.25):
            causes = [s for s in left if not s.generic and s.remedies and RULES[s.cause].in_company]
            rate = [s for s in left if s.generic and RULES[s.cause].early]
            both = self._together(causes[:TOGETHER])
            if not both and causes:
                both = self._together([*causes[:TOGETHER], *rate])
            if both and (best is None or self._room(both[0]) < self._room(best) / 2):
                paying, best = both, both[0]
        if best is not None and self._room(best) < 0.25:
            return best
        generic = [t for t in self._try_all([s for s in left if s.generic]) if self._pays(t)]
        return first_of([*paying, *generic], UPSTREAM / 2, UPSTREAM)

    def _try_all(self, suspicions: list[Suspicion]) -> list[Tried]:
        """The remedies of each, upstream ones first, until one mends it all."""
        ordered = sorted(suspicions, key=_order)
        self.runner.soon([[*self.applied, s.remedies[0]] for s in ordered if s.remedies])
        tried: list[Tried] = []
        for suspicion in ordered:
            tried += self._try(suspicion)
            if tried and self._pays(tried[-1]) and self._room(tried[-1]) < UPSTREAM:
                break
        return tried

    def _room(self, tried: Tried) -> float:
        return self.scale.room(tried.outcome.score)

    def _tried(self, suspicion: Suspicion, remedy: Remedy, outcome: Result) -> Tried:
        """Its gain; of those that have come all of the way that there was, how near they are to a perfect score."""
        gain = self.scale.gain(self.current.score, outcome.score)
        self.record(remedy.words, suspicion.cause, outcome, gain)
        value = gain if gain < 1 else 2 - self.scale.room(outcome.score)
        return Tried(suspicion, remedy, outcome, gain, suspicion.generic, value)

    def _pays(self, tried: Tried) -> bool:
        s, out = tried.suspicion, tried.outcome
        least = s.gain if self.runner.whole else max(s.gain, 0.25)
        if tried.gain < least or (self._within_error(out) and not self._few):
            # What was measured on the training as it is says nothing after another repair.
            return s.measured is not None and s.measured >= s.gain and tried.gain > 0 and not self.applied
        before = self.current.train_loss
        return not s.fits or not math.isfinite(before) or bool(out.train_loss < before)

    @property
    def _few(self) -> bool:
        """Whether the score is over so few rows (a truth table, say) that one run can never be beyond its error."""
        return self.scale.scored < FEW

    def _within_error(self, out: Result) -> bool:
        return out.score - self.current.score <= self.scale.noise(self.current.score)

    def _confirmed(self, best: Tried) -> bool:
        """A small gain must be there with other batches and noise as well; one over few rows, three times."""
        doubtful = self._few and self._within_error(best.outcome)
        if not doubtful and (best.gain >= 0.3 or best.suspicion.measured is not None):
            return True
        seeds = (1, 2, 3) if doubtful else (1,)
        if not self.runner.affords(2 * len(seeds) * best.outcome.cost):
            self.notes.append(f"{best.suspicion.cause}: a small gain, not confirmed for lack of time")
            return False
        for seed in seeds:
            key = len(self.applied), seed
            if key not in self._again:
                self._again[key] = self.runner.run(self.applied, seed)
            other = self.runner.run([*self.applied, best.change], seed)
            if self.scale.gain(self._again[key].score, other.score) < best.suspicion.gain / 2:
                return False
        return True

    def _try(self, suspicion: Suspicion, count: int = 0) -> list[Tried]:
        """The remedies of a suspicion, until one leaves nothing to gain, or goes the wrong way."""
        tried: list[Tried] = []
        for remedy in suspicion.remedies[: count or None]:
            if not self.runner.affords(self.runner.base.cost):
                if not suspicion.generic:
                    self.untried.append(suspicion)
                said = "time ran out before every suspicion was tried; a larger budget tries them"
                if said not in self.notes:
                    self.notes.append(said)
                break
            self.progress(remedy.words)
            outcome = self.runner.run([*self.applied, remedy])
            tried.append(self._tried(suspicion, remedy, outcome))
            gain = tried[-1].gain
            if self.scale.room(outcome.score) < UPSTREAM and gain > 0:
                break
            if suspicion.generic and not gain and not outcome.train_loss < self.current.train_loss:
                break  # a step in the wrong direction: no further one
        return tried

    def _together(self, suspicions: list[Suspicion]) -> list[Tried]:
        """Repairs that are useless without each other, in a training that learns nothing with any one of them."""
        if len(suspicions) < 2 or not self.runner.affords(self.runner.base.cost):
            return []
        both = together([s.remedies[0] for s in suspicions])
        tried = self._tried(suspicions[0], both, self.runner.run([*self.applied, both]))
        return [tried] if self._pays(tried) else []

    def _apply(self, tried: Tried) -> None:
        self.applied.append(tried.change)
        self.current = tried.outcome
        self.kept[" + ".join(remedy.words for remedy in self.applied)] = tried.outcome

    def _evidence(self, before: Result, tried: Tried) -> dict[str, Any]:
        return {
            "score before": before.score,
            f"score with the remedy ({tried.change.words})": tried.outcome.score,
            "score of a constant answer": self.scale.floor,
            "gain": tried.gain,
        }

    def record(self, change: str, cause: str, outcome: Result, gain: float) -> None:
        """Keep a run for the page."""
        words = " + ".join([*(r.words for r in self.applied), change]) if cause else change
        loss, updates, seconds = outcome.train_loss, outcome.updates, outcome.seconds
        self.trials.append(Trial(words, cause, outcome.score, loss, updates, gain, seconds, outcome.note))


def _order(suspicion: Suspicion) -> int:
    """What is tried first, and is the cause where another repair does as much.

    A gain that was measured without training speaks for itself. A loss that blows up does so at a rate beyond
    two by the curvature (Cohen et al. 2021, section 2); the curvature of a squared error grows with the inputs,
    and not with the targets: inputs come before the rate, and targets after it.
    """
    if suspicion.measured is not None:
        return 0
    return RULES[suspicion.cause].rank if suspicion.rank is None else suspicion.rank
