"""Tries remedies on copies, one after another, until nothing is left to gain: what pays was the cause."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from levelhead.doctor.comparison import UPSTREAM, Tried, first_of, severity_of
from levelhead.doctor.evidence.examined import Examined, gather
from levelhead.doctor.findings import Severity, Trial
from levelhead.doctor.isolation import clone, seeded
from levelhead.doctor.remedies import Remedy, several, together
from levelhead.doctor.rules import RULES, Suspicion, suspicions
from levelhead.doctor.trials import Outcome, now, train

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


class Interventions:
    """The trials of one examination, within its time.

    Args:
        facts: what is known of the program.
        budget: seconds, at the pace of each trial's first updates.
        deadline: the time (``now()``) after which everything stops, whatever the pace.
        progress: called with a few words before each trial.
    """

    def __init__(self, facts: Examined, budget: float, deadline: float, progress: Callable[[str], None]) -> None:
        self.facts, self.budget, self.deadline, self.progress = facts, budget, deadline, progress
        self.spent = 0.0
        self.trials: list[Trial] = facts.tried
        self.kept: dict[str, Outcome] = {}
        self.notes: list[str] = []
        self.base: Outcome
        self.current: Outcome
        self.applied: list[Remedy] = []
        self.again: dict[tuple[int, int], Outcome] = {}
        self.untrained: Sequence[Suspicion] = ()
        self.untried: list[Suspicion] = []

    def run_base(self, seconds: float) -> None:
        """Train a copy as it is, for ``seconds`` or somewhat longer: the measure of all the others."""
        self.base = self.current = train(
            self.facts.program, checks=True, seconds=seconds, stretch=2.0, deadline=self.deadline
        )
        self.spent += self.base.cost
        self.facts.base = self.base
        self.kept["as it is"] = self.base
        self._record("as it is", "", self.base, 0.0)

    @property
    def whole(self) -> bool:
        """Whether trials see the whole training."""
        return self.base.updates >= self.base.planned or self.base.diverged

    def judge(self, untrained: Sequence[Suspicion], trained: Sequence[Suspicion]) -> list[Verdict]:
        """The suspicions that are certain or whose repair pays, in the order of their weight.

        Args:
            untrained: those that were raised without having seen a training.
            trained: the others.
        """
        self.untrained, every = untrained, [*untrained, *trained]
        certain = [s for s in every if s.certain and s.severity != "info"]
        style = [s for s in every if s.certain and s.severity == "info"]
        found = [verdict for s in certain for verdict in self._certain(s)]
        gone: tuple[str, ...] = ()
        if any(s.severity == "critical" and not s.remedies for s in certain):
            return found + [Verdict(s, "info") for s in style]  # with such data nothing else can be judged
        paying = [s for s in style if RULES[s.cause].tried]
        open_ = [*[s for s in every if not s.certain], *paying]
        if self.applied:
            open_, gone = self._still(open_)
            found[0] = replace(found[0], symptoms=gone)
        won = self._search(open_)
        found += won
        return found + [Verdict(s, "info") for s in style if s not in [v.suspicion for v in won]]

    def _certain(self, suspicion: Suspicion) -> list[Verdict]:
        """A fault that was seen; its remedies are tried to know which is best and what is left for others."""
        before = self.current
        tried = self._try(suspicion, len(suspicion.remedies))
        best = max(tried, key=lambda t: t.outcome.score, default=None)
        if best is None or best.outcome.score < before.score - 0.02 * abs(before.score):
            remedy = suspicion.remedies[0] if suspicion.remedies else None
            return [Verdict(suspicion, suspicion.severity, {}, (), remedy)]
        severity: Severity = suspicion.severity
        if severity == "critical" and best.gain < 0.1 and self.facts.gain(self.facts.floor, before.score) > 0.5:
            severity = "warning"
        self._apply(best)
        return [Verdict(suspicion, severity, self._evidence(before, best), (), best.change)]

    def _search(self, suspicions: list[Suspicion]) -> list[Verdict]:
        """Again and again: try all that is open, keep the best that pays, until nothing does."""
        found: list[Verdict] = []
        left = list(suspicions)
        for _ in range(ROUNDS):
            before = self.current
            left = [s for s in left if self.facts.room(before.score) >= s.gain and self._worth(s)]
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
            left, gone = self._still(left)
            found.append(Verdict(best.suspicion, severity_of(gain), self._evidence(before, best), gone, best.change))
        return found

    def _still(self, open_: list[Suspicion]) -> tuple[list[Suspicion], tuple[str, ...]]:
        """The suspicions that the program raises with what was applied, too; the others were symptoms, in words."""
        mended = clone(self.facts.program)
        try:
            seeded(0)
            several(self.applied)(mended)
            facts = gather(mended)
        except Exception:
            return open_, ()
        causes = {s.cause for s in suspicions(facts, trained=False)}
        seen = {s.cause for s in open_ if not s.generic and s.measured is None and s in self.untrained}
        kept = [s for s in open_ if s.cause in causes or s.cause not in seen]
        return kept, tuple(f"{s.cause} at {s.where}: {s.summary}" for s in open_ if s not in kept)

    def _worth(self, suspicion: Suspicion) -> bool:
        """In the first updates alone, slow learning is no fault: there, only a run that does not learn is tried on.

        A rate that is too high shows early; a lower one is tried where less than half of the way is gone.
        """
        if suspicion.measured is not None and suspicion.measured < suspicion.gain:
            return False
        if self.whole or not suspicion.generic or not self.current.score > self.facts.floor:
            return True
        return RULES[suspicion.cause].early and self.facts.room(self.current.score) > 0.5

    def _best(self, left: list[Suspicion]) -> Tried | None:
        """The best of the specific suspicions; the generic ones only where these leave much to gain."""
        tried: list[Tried] = []
        for suspicion in sorted((s for s in left if not s.generic), key=self._order):
            tried += self._try(suspicion)
            if tried and self._pays(tried[-1]) and self.facts.room(tried[-1].outcome.score) < UPSTREAM:
                break  # the first, upstream repair that mends it all
        paying = [t for t in tried if self._pays(t)]
        if not paying:
            paying = self._together([s for s in left if RULES[s.cause].joint])
        best = first_of(paying, UPSTREAM / 2)
        if self.facts.idle(self.current.score) and (best is None or self._room(best) > 0.25):
            causes = [s for s in left if not s.generic and s.remedies and RULES[s.cause].in_company]
            rate = [s for s in left if s.generic and RULES[s.cause].early]
            both = self._together(causes[:TOGETHER])
            if not both and causes:
                both = self._together([*causes[:TOGETHER], *rate])
            if both and (best is None or self._room(both[0]) < self._room(best) / 2):
                paying, best = both, both[0]
        if best is not None and self._room(best) < 0.25:
            return best
        for suspicion in sorted((s for s in left if s.generic), key=self._order):
            tried += self._try(suspicion)
            if tried and self._pays(tried[-1]) and self.facts.room(tried[-1].outcome.score) < UPSTREAM:
                break
        generic = [t for t in tried if t.suspicion.generic and self._pays(t)]
        return first_of([*paying, *generic], UPSTREAM / 2, UPSTREAM)

    def _room(self, tried: Tried) -> float:
        return self.facts.room(tried.outcome.score)

    @staticmethod
    def _order(suspicion: Suspicion) -> int:
        """What is tried first, and is the cause where another repair does as much.

        A gain that was measured without training speaks for itself. A loss that blows up does so at a rate beyond
        two by the curvature (Cohen et al. 2021, section 2); the curvature of a squared error grows with the inputs,
        and not with the targets: inputs come before the rate, and targets after it.
        """
        if suspicion.measured is not None:
            return 0
        return RULES[suspicion.cause].rank if suspicion.rank is None else suspicion.rank

    def _tried(self, suspicion: Suspicion, remedy: Remedy, outcome: Outcome) -> Tried:
        """Its gain; of those that have come all of the way that there was, how near they are to a perfect score."""
        gain = self.facts.gain(self.current.score, outcome.score)
        value = gain if gain < 1 else 2 - self.facts.room(outcome.score)
        return Tried(suspicion, remedy, outcome, gain, suspicion.generic, value)

    def _pays(self, tried: Tried) -> bool:
        s, out = tried.suspicion, tried.outcome
        least = s.gain if self.whole else max(s.gain, 0.25)
        if tried.gain < least or (self._within_error(out) and not self._few):
            # What was measured on the program as it is says nothing after another repair.
            return s.measured is not None and s.measured >= s.gain and tried.gain > 0 and not self.applied
        if not s.fits:
            return True
        before, after = self.current.train_loss, out.train_loss
        return not math.isfinite(before) or after < before

    @property
    def _few(self) -> bool:
        """Whether the score is over so few rows (a truth table, say) that one run can never be beyond its error."""
        return self.facts.scored < FEW

    def _within_error(self, out: Outcome) -> bool:
        return out.score - self.current.score <= self.facts.noise(self.current.score)

    def _confirmed(self, best: Tried) -> bool:
        """A small gain must be there with other batches and noise as well; one over few rows, three times."""
        doubtful = self._few and self._within_error(best.outcome)
        if not doubtful and (best.gain >= 0.3 or best.suspicion.measured is not None):
            return True
        seeds = (1, 2, 3) if doubtful else (1,)
        if not self._affords(2 * len(seeds) * best.outcome.cost):
            self.notes.append(f"{best.suspicion.cause}: a small gain, not confirmed for lack of time")
            return False
        for seed in seeds:
            key = len(self.applied), seed
            if key not in self.again:
                self.again[key] = self._train(self.applied, seed)
            other = self._train([*self.applied, best.change], seed)
            if self.facts.gain(self.again[key].score, other.score) < best.suspicion.gain / 2:
                return False
        return True

    def _try(self, suspicion: Suspicion, count: int = 0) -> list[Tried]:
        """The remedies of a suspicion, until one leaves nothing to gain, or goes the wrong way."""
        tried: list[Tried] = []
        for remedy in suspicion.remedies[: count or None]:
            if not self._affords(self.base.cost):
                if not suspicion.generic:
                    self.untried.append(suspicion)
                said = "time ran out before every suspicion was tried; a larger budget tries them"
                if said not in self.notes:
                    self.notes.append(said)
                break
            self.progress(remedy.words)
            outcome = self._train([*self.applied, remedy])
            gain = self.facts.gain(self.current.score, outcome.score)
            self._record(remedy.words, suspicion.cause, outcome, gain)
            tried.append(self._tried(suspicion, remedy, outcome))
            if self.facts.room(outcome.score) < UPSTREAM and gain > 0:
                break
            if suspicion.generic and not gain and not outcome.train_loss < self.current.train_loss:
                break  # a step in the wrong direction: no further one
        return tried

    def _together(self, data: list[Suspicion]) -> list[Tried]:
        """Repairs that are useless without each other, in a program that learns nothing with any one of them."""
        if len(data) < 2 or not self._affords(self.base.cost):
            return []
        both = together([s.remedies[0] for s in data])
        outcome = self._train([*self.applied, both])
        gain = self.facts.gain(self.current.score, outcome.score)
        self._record(both.words, data[0].cause, outcome, gain)
        tried = self._tried(data[0], both, outcome)
        return [tried] if self._pays(tried) else []

    def _train(self, applied: Sequence[Remedy], seed: int = 0) -> Outcome:
        updates = None if self.whole else self.base.updates
        left = max(0.0, self.budget - self.spent) + 2 * self.base.cost
        outcome = train(
            self.facts.program,
            several(applied),
            updates=updates,
            seed=seed,
            seconds=min(left, 6 * max(2.0, self.base.cost)),
            deadline=self.deadline,
        )
        self.spent += outcome.cost
        return outcome

    def _affords(self, cost: float) -> bool:
        return self.spent + cost <= self.budget and now() < self.deadline

    def _apply(self, tried: Tried) -> None:
        self.applied.append(tried.change)
        self.current = tried.outcome
        self.kept[" + ".join(remedy.words for remedy in self.applied)] = tried.outcome

    def _evidence(self, before: Outcome, tried: Tried) -> dict[str, Any]:
        return {
            "score before": before.score,
            f"score with the remedy ({tried.change.words})": tried.outcome.score,
            "score of a constant answer": self.facts.floor,
            "gain": tried.gain,
        }

    def _record(self, change: str, cause: str, outcome: Outcome, gain: float) -> None:
        note = ""
        if outcome.error is not None:
            note = f"{type(outcome.error).__name__}: {outcome.error}".splitlines()[0]
        elif outcome.diverged:
            note = "diverged"
        words = " + ".join([*(r.words for r in self.applied), change]) if cause else change
        self.trials.append(
            Trial(words, cause, outcome.score, outcome.train_loss, outcome.updates, gain, outcome.seconds, note)
        )
