"""The examination: measure, suspect, try each remedy on a copy, and keep as findings what is certain or pays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from levelhead.doctor.charts import of_outcome
from levelhead.doctor.copies import Copies
from levelhead.doctor.evidence.data import Columns
from levelhead.doctor.evidence.evaluation import traced
from levelhead.doctor.evidence.examined import Examined, gather
from levelhead.doctor.evidence.structure import rows_of
from levelhead.doctor.findings import SEVERITIES, Examination, Finding, Stage
from levelhead.doctor.isolation import Untouched, clone, random_state_kept, seeded
from levelhead.doctor.program import Program, ProgramError
from levelhead.doctor.remedies import Remedy, several
from levelhead.doctor.rules import Suspicion, Wanted, chosen, finding, suspicions
from levelhead.doctor.search import Search, Verdict
from levelhead.doctor.treat import treat
from levelhead.doctor.trials import now
from levelhead.records import environment

Progress = Callable[[str], None]


def examine(
    program: Any,
    budget: float = 30.0,
    *,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    progress: Progress | None = None,
) -> Examination:
    """Find what is wrong with a training program, why and where, and what mends it.

    All work is done on copies: parameters, buffers, optimizer, modes, random states and the loaders' state are
    afterwards as they were. A rule's suspicion counts where what was seen is itself a fault, or where its repair, tried
    on a copy that is trained as long as the program itself, pays.

    Args:
        program: a ``Program``, any object with its attributes, or a function without arguments that builds one.
        budget: seconds, turned into updates by the pace of the first ones, so that a verdict does not hang on what
            else the machine does; a program that trains longer is judged by its first updates. Twice as many seconds
            at most; while others keep it from a processor they do not run (on Linux).
        select: causes or codes (or beginnings of codes, ``LH3``) to look for; all of them by default.
        ignore: causes or codes to leave out.
        progress: called with a few words at each stage.

    Returns:
        The examination: ``.findings``, the most probable cause first; ``.treat()`` retrains with the remedies.

    Raises:
        ProgramError: the program cannot be run; the message names the mistake and the repair.
    """
    start = time.perf_counter()
    with random_state_kept():
        subject = copy(Program.of(program))  # it gets a score, where it has none
        guard = Untouched(subject, clone(subject))
        try:
            found = _examine(
                subject, now() + 2 * budget, budget, chosen(select, ignore), progress or (lambda _: None), guard
            )
        finally:
            guard.restore()
    return replace(found, seconds=time.perf_counter() - start, program=subject, _treat=partial(treat, examine))


def _examine(
    program: Program, deadline: float, budget: float, wanted: Wanted, progress: Progress, guard: Untouched
) -> Examination:
    progress("data and one batch")
    facts = gather(program, budget)
    if guard.reached:
        raise ProgramError(
            "the step changes the program's own model, not the copy that it is given, so nothing can be "
            "tried on copies (all is restored): take program.model and program.optimizer in step(program, batch)"
        )
    stages = [Stage(name, seconds) for name, seconds in facts.timing.items()]
    untrained = suspicions(facts, trained=False)
    error = facts.loop.error or facts.evaluation.error
    stopping = [s for s in untrained if s.certain and s.severity == "critical"]
    if error is not None and not stopping:
        raise _failure(facts) from error

    progress("short run")
    clock = time.perf_counter()
    copies = Copies(program, budget, deadline)
    base = facts.base = copies.base
    note = "" if base.updates >= base.planned else f"{base.updates} of {base.planned} updates, for lack of time"
    stages.append(Stage("short run", time.perf_counter() - clock, note))
    notes = (
        [f"judged by the first {note}: a longer budget judges the whole training"] if note and not base.diverged else []
    )
    if base.error is not None and not stopping:
        raise _failure(facts, base.error, base.updates + 1) from base.error

    clock = time.perf_counter()
    trained = suspicions(facts, trained=True) if base.error is None else []
    known = {(s.cause, s.where) for s in untrained}
    trained = [s for s in trained if (s.cause, s.where) not in known]
    search = Search(facts, copies, progress, partial(_still, program, untrained))
    facts.tried = search.trials
    verdicts = search.judge([s for s in (*untrained, *trained) if wanted(s.cause)])
    undecided = ""
    if not any(v.severity != "info" for v in verdicts):
        undecided = search.out_of_time
        if not undecided and copies.whole:
            verdicts += [Verdict(s, s.severity) for s in suspicions(facts, last=True) if wanted(s.cause)]
        elif not undecided and facts.idle(base.score):
            undecided = (
                f"after {base.updates} of {base.planned} updates the program is no better than a constant answer; "
                "a larger budget judges more of its training"
            )
    stages.append(Stage("interventions", time.perf_counter() - clock, f"{len(search.trials) - 1} copies trained"))
    notes += search.notes
    return Examination(
        findings=_findings(verdicts, facts),
        stages=tuple(stages),
        trials=tuple(search.trials),
        charts=tuple(of_outcome({n: o.losses for n, o in search.kept.items()}, base.scores, facts.loop.first_norms)),
        measured=_measured(facts),
        notes=tuple(notes),
        environment=environment(),
        metric=facts.metric,
        undecided=undecided,
        _remedies=tuple(v for v in verdicts if v.remedy is not None),
    )


def _still(
    program: Program, untrained: Sequence[Suspicion], applied: Sequence[Remedy], open_: Sequence[Suspicion]
) -> list[Suspicion]:
    """The suspicions that the program raises with these remedies, too, as far as it takes no training to raise them."""
    mended = clone(program)
    try:
        seeded(0)
        several(applied)(mended)
        facts = gather(mended)
    except Exception:
        return list(open_)
    causes = {s.cause for s in suspicions(facts, trained=False)}
    seen = {s.cause for s in open_ if not s.generic and s.measured is None and s in untrained}
    return [s for s in open_ if s.cause in causes or s.cause not in seen]


def _failure(facts: Examined, error: Exception | None = None, batch: int = 0) -> ProgramError:
    """What a user needs to know of a program that raises."""
    if error is None and facts.loop.error is None and facts.evaluation.error is not None:
        said = facts.evaluation.error
        return ProgramError(f"the program fails at its evaluation: {type(said).__name__}: {_first_line(said)}")
    said = error or facts.loop.error or RuntimeError("unknown")
    if isinstance(said, ProgramError):
        return ProgramError(str(said))
    number = batch or facts.loop.failed_at
    return ProgramError(
        f"the program fails at batch {number}: {type(said).__name__}: {_first_line(said)}; "
        "run that batch by hand, then examine it again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _findings(verdicts: list[Verdict], facts: Examined) -> tuple[Finding, ...]:
    """The most severe first, in the order in which they were found."""
    symptoms = _symptoms(facts)
    ordered = sorted(verdicts, key=lambda v: SEVERITIES.index(v.severity))
    found = []
    for i, verdict in enumerate(ordered):
        mine = (*symptoms, *verdict.symptoms) if i == 0 and verdict.severity != "info" else verdict.symptoms
        found.append(finding(verdict.suspicion, verdict.severity, verdict.evidence, mine, verdict.remedy))
    return tuple(found)


def _symptoms(facts: Examined) -> tuple[str, ...]:
    """What the run as it is shows, and the first cause explains."""
    base = facts.base
    if base is None or base.error is not None:
        return ()
    found = []
    if base.diverged:
        count = next((i for i, loss in enumerate(base.losses, 1) if not math.isfinite(loss)), len(base.losses))
        found.append(f"loss or weights are not finite after {count} updates")
    elif math.isfinite(facts.floor) and facts.gain(facts.floor, base.score) < 0.05 and base.score < 1:
        found.append(f"a score of {base.score:.3g}, no better than a constant answer's {facts.floor:.3g}")
    shares = _dead_after(facts)
    if shares:
        name = max(shares, key=lambda n: shares[n])
        found.append(f"{100 * shares[name]:.0f} % of the units of {name} are 0 for every row after training")
    return tuple(found)


def _dead_after(facts: Examined) -> dict[str, float]:
    base, kept = facts.base, facts.train.kept
    if base is None or kept is None or base.diverged:
        return {}
    twin = clone(base.program)
    twin.model.eval()
    try:
        seen = traced(twin.model, kept[0][:512], len(kept[0][:512]))
    except Exception:
        return {}
    hidden = {n for n, m in twin.model.named_modules() if isinstance(m, nn.ReLU) and n != facts.output.where}
    shares = {name: float((rows_of(y) == 0).all(0).double().mean()) for name, y in seen if name in hidden}
    return {name: share for name, share in shares.items() if share > 0.5}


def _measured(facts: Examined) -> dict[str, Any]:
    """The figures of the probes, for the record."""
    x, y = facts.train.inputs, facts.train.targets
    return {
        "data": {"rows": facts.train.rows, "batches": facts.train.batches, "inputs": _scale(x), "targets": _scale(y)},
        "loss": {"kind": facts.loss.kind, "task": facts.loss.task, "broadcast": facts.loss.broadcast},
        "output": {"activation": facts.output.activation, "where": facts.output.where},
        "gradient norms": facts.loop.first_norms,
        "updates": facts.updates,
        "constant answer": facts.floor,
    }


def _scale(c: Columns | None) -> dict[str, float] | None:
    return None if c is None else {"mean": c.mean, "std": c.std, "low": c.low, "high": c.high, "bad": c.bad}
