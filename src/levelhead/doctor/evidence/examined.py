"""The evidence of an examination: everything that the rules judge, measured once on copies."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor.evidence import Evidence, data, evaluation, loop, loss, structure
from levelhead.doctor.evidence.evaluation import mixing_module
from levelhead.doctor.evidence.loop import Update
from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.findings import Trial
from levelhead.doctor.isolation import clone, copied, random_state_kept, seeded
from levelhead.doctor.program import Program, ProgramError, first_tensor, split
from levelhead.doctor.scores import OwnLoss, judged
from levelhead.doctor.trials import PACED, now, updates_of

#: Updates that are watched closely.
WATCHED = 10
#: And of very slow ones.
LEAST_WATCHED = 2
#: And after the training.
LATE = 4


@dataclass(kw_only=True, eq=False)
class Examined(Evidence):
    """What the probes measured on one program.

    Args:
        metric: what scores are called.
        timing: seconds of each part.
        tried: the trials so far, ``base`` included.
    """

    program: Program
    metric: str
    timing: dict[str, float] = field(default_factory=dict)
    tried: list[Trial] = field(default_factory=list)

    @cached_property
    def mixing(self) -> str | None:
        """Asked of one batch, where the data are not one single batch (a graph's nodes are meant to be mixed)."""
        if self.train.batches < 2:
            return None
        copy = clone(self.program)
        try:
            return mixing_module(copy.model, split(next(iter(copy.train)))[0])
        except Exception:
            return None  # the model takes something else than the loader's inputs

    @cached_property
    def late(self) -> list[Update]:
        """A few more updates of the program as it trained: what it adds to the loss shows when the loss is small."""
        if self.base is None or self.base.diverged or self.base.error is not None or self.program.step is None:
            return []
        twin = clone(self.base.program)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return loop.measure(twin, list(islice(twin.train, LATE))).updates

    def room(self, score: float) -> float:
        """The largest gain that is still possible, where scores have an upper bound; else 1.

        A score between the constant answer's and 1 is taken to have a bound of 1, as accuracies and coefficients of
        determination do; minus a loss, one of 0.
        """
        own = isinstance(self.program.score, OwnLoss)
        bound = 0.0 if own else 1.0
        if not self.floor < score <= bound or not (own or self.floor >= -1):
            return 1.0
        return (bound - score) / (bound - self.floor)

    @property
    def scored(self) -> int:
        """Rows that a score is over."""
        return self.val.rows if self.val else self.train.rows

    def noise(self, score: float) -> float:
        """Twice the standard error of a share of right answers; scores beyond 0 .. 1 have none known."""
        share = min(max(score, 0.0), 1.0)
        return 2 * math.sqrt(share * (1 - share) / max(1, self.scored))


def gather(program: Program, budget: float = math.inf) -> Examined:
    """Measure the data, the first updates, the graph, the loss and the evaluation, all on copies.

    Raises:
        ProgramError: the program is none, its data cannot be read, or the budget is less than the least that it needs.
    """
    clock = time.perf_counter()
    copy = clone(program)
    seeded(0)
    train = data.measure(copy.train, pairs=copy.step is None)
    val = None if copy.val is None else data.measure(copy.val, pairs=copy.evaluate is None)
    after_data = time.perf_counter()
    watched = clone(program)
    seeded(0)
    updates = updates_of(watched)
    batches = list(islice(_again(watched.train), WATCHED))
    with random_state_kept():
        count = _affordable(program, batches, budget)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the program warns of, its own run warns of
        seen = loop.measure(watched, batches[:count])
    first = seen.losses[0] if seen.losses else None
    asked = copied(program.loss, {})  # a loss may count its calls, or draw numbers
    kind = loss.measure(asked, first.outputs, first.targets) if first else LossKind("", "", False)
    facts = Examined(
        program=program,
        model=program.model,
        after=watched.model,
        optimizers=program.optimizers,
        holders=watched.optimizers,
        loop=seen,
        updates=updates,
        train=train,
        val=val,
        loss=kind,
        output=structure.output(first.node if first else None, seen.calls),
        metric=judged(program, kind, first.outputs, first.targets) if first else "",
        evaluation=evaluation.measure(clone(program)),
    )
    facts.floor = constant_score(program, facts)
    facts.timing = {"data": after_data - clock, "one batch": time.perf_counter() - after_data}
    return facts


def _affordable(program: Program, batches: list[Any], budget: float) -> int:
    """How many updates can be looked at in half of the budget; each costs about two.

    Raises:
        ProgramError: not even two of them.
    """
    if math.isinf(budget):
        return len(batches)
    copy, paces = clone(program), []
    for batch in batches[:PACED]:
        start = now()
        try:
            copy.update(batch)
        except Exception:
            return len(batches)  # it is met again, and told
        paces.append(now() - start)
        if paces[-1] < budget / 100:
            return len(batches)
        if sum(paces) > budget / 2:
            break
    least = 4 * min(paces) * (LEAST_WATCHED + PACED)
    if least > 2 * budget:
        raise ProgramError(
            f"an update takes {min(paces):.2g} s, so that an examination needs a budget of {math.ceil(least / 2)} s at "
            f"least; got {budget:g}"
        )
    return max(LEAST_WATCHED, min(len(batches), int(budget / 4 / min(paces))))


def _again(loader: Any) -> Any:
    for _ in range(WATCHED):
        yield from loader


class Constant(nn.Module):
    """Answers the same for every input."""

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.row = nn.Parameter(row)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The row, once for each row of the first tensor."""
        first = first_tensor((args, kwargs))
        return self.row.expand(1 if first is None else len(first), *self.row.shape)


def constant_score(program: Program, facts: Examined) -> float:
    """The score of the best constant answer: mean target or class frequencies; of the untrained model if unknown."""
    untrained = facts.evaluation.score
    outputs, kept = facts.outputs, facts.train.kept
    if outputs is None or kept is None or not facts.usual_targets:
        return untrained
    targets = kept[1]
    if facts.loss.task == "classes" and not targets.is_floating_point():
        if targets.min() < 0 or targets.max() >= outputs.shape[1]:
            return untrained
        row = torch.bincount(targets.flatten(), minlength=outputs.shape[1]).double().add(1e-6).log()
        row = row.reshape(-1, *([1] * (outputs.ndim - 2))).expand(outputs.shape[1:]).to(outputs.dtype)
    elif targets.is_floating_point() and targets.shape[1:].numel() == outputs.shape[1:].numel():
        row = targets[torch.isfinite(targets.flatten(1)).all(1)] if targets.ndim > 1 else targets[targets.isfinite()]
        row = row.double().mean(0).reshape(outputs.shape[1:]).to(outputs.dtype)
    else:
        return untrained
    rows = [row, torch.logit(row, 1e-6)] if facts.loss.kind == "logits" else [row]
    scores = [_score_of(program, Constant(row.clone().to(outputs.device))) for row in rows]
    return max((score for score in scores if math.isfinite(score)), default=untrained)


def _score_of(program: Program, model: nn.Module) -> float:
    copy = clone(program)
    copy.model = model
    try:
        return float(copy.final_score())
    except Exception:
        return math.nan
