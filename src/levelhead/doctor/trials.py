"""Trains copies of a program and says how well each did."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from levelhead.doctor.comparison import Result, number
from levelhead.doctor.isolation import Change, clone, random_state_kept, seeded
from levelhead.doctor.program import Program, ProgramError

#: The first updates, by whose fastest seconds are turned into updates.
PACED = 5
#: When validation scores are taken: close together at first, where overfitting may begin.
_CHECKED = (0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8)


@dataclass(kw_only=True)
class Outcome(Result):
    """How a copy of a program did.

    Args:
        program: the copy, trained.
        scores: validation scores during training: (updates done, score).
        rates: the largest learning rate at each update.
        pace: seconds of the fastest of the first updates; ``cost``: of all updates and scores, at that pace.
        finite_when_lost: whether the weights were finite after the first lost loss, a NaN.
        eval_since: the first of the latest updates that all left the model in eval mode, or -1.
        error: what the program raised, if it did.
    """

    program: Program
    scores: list[tuple[int, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    pace: float = math.nan
    finite_when_lost: bool = False
    eval_since: int = -1
    error: Exception | None = None

    @property
    def diverged(self) -> bool:
        """Whether the loss or the weights stopped being finite."""
        return super().diverged or not finite(self.program)


def finite(program: Program) -> bool:
    """Whether all parameters are finite."""
    return all(bool(torch.isfinite(p).all()) for p in program.model.parameters() if p.numel())


def updates_of(program: Program) -> int:
    """How many updates the program plans."""
    try:
        return program.epochs * len(program.train)  # type: ignore[arg-type]
    except TypeError:
        return program.epochs * sum(1 for _ in program.train)


def now() -> float:
    """Seconds on a clock that stands while other processes keep this thread from a processor (where Linux tells)."""
    return time.perf_counter() - waited("thread-self")


def waited(process: int | str) -> float:
    """Seconds for which other processes have kept a process's first thread from a processor, where Linux tells."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def endless(loader: Any) -> Iterator[Any]:
    """Pass after pass over the loader."""
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ProgramError("the training loader yields no batch")


def train(
    program: Program,
    change: Change | None = None,
    *,
    updates: int | None = None,
    seed: int = 0,
    checks: bool = False,
    seconds: float = math.inf,
    stretch: float = 1.0,
    deadline: float = math.inf,
) -> Outcome:
    """Train a copy of the program, changed, for as many updates as it plans; the program itself is left alone.

    Seconds are those of ``now``, and are turned into updates once, by the fastest of the first updates, so that a busy
    machine gives the same verdict as an idle one: where not all updates fit, as many as fit, rounded down to a power
    of two.

    Args:
        program: what to copy.
        change: a remedy to apply to the copy first.
        updates: how many updates at most; by default the copy's own plan.
        seed: of batches and noise: copies with one seed see the same batches.
        checks: whether to take validation scores on the way, after 1, 2, 4, ... percent of the updates.
        seconds: how long it may take, by the pace of its first updates.
        stretch: how many times as long it may take where it can then be whole.
        deadline: the time (``now()``) after which it stops in any case.
    """
    start = now()
    copy = clone(program)
    done = Outcome(program=copy)
    scored: list[float] = []
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # what the program warns of, its own run warns of
        try:
            seeded(seed)
            if change is not None:
                change(copy)
            planned = updates_of(copy)
            done.planned = planned if updates is None else min(updates, planned)
            marks = {max(1, round(done.planned * part)) for part in _CHECKED} if checks else set()
            seeded(seed)
            last, paces = done.planned, []
            clock = now()
            for batch in endless(copy.train):
                if done.updates >= last or now() > deadline:
                    break
                done.losses.append(copy.update(batch))
                done.rates.append(max((float(group["lr"]) for group in copy.optimizer.param_groups), default=0.0))
                done.updates += 1
                if copy.model.training:
                    done.eval_since = -1
                elif done.eval_since < 0:
                    done.eval_since = done.updates - 1
                paces.append(now() - clock)
                if done.updates == PACED:
                    last = affordable(done.planned, min(paces), seconds, stretch)
                if done.updates in marks:
                    before = now()
                    done.scores.append((done.updates, score(copy)))
                    scored.append(now() - before)
                if not math.isfinite(done.losses[-1]):
                    if all(map(math.isfinite, done.losses[:-1])):
                        done.finite_when_lost = math.isnan(done.losses[-1]) and finite(copy)
                    if done.updates > 20 and not finite(copy):
                        break  # NaN stays NaN
                clock = now()
            done.pace = min(paces[:PACED], default=math.nan)
            before = now()
            done.score = number(copy.final_score())
            scored.append(now() - before)
            done.cost = done.updates * done.pace + len(scored) * min(scored) if paces else 0.0
        except Exception as error:
            done.error = error
    done.seconds = now() - start
    return done


def affordable(planned: int, pace: float, seconds: float, stretch: float) -> int:
    """How many of the planned updates fit into the seconds: all, or a power of two, so that a busy machine agrees."""
    if planned * pace <= stretch * seconds or planned <= PACED:
        return planned
    return max(PACED, 1 << math.floor(math.log2(max(1.0, seconds / pace))))


def score(program: Program) -> float:
    """The validation score now, taken on a copy: modes and statistics stay as they are."""
    with random_state_kept():
        try:
            return number(clone(program).final_score())
        except Exception:
            return -math.inf
