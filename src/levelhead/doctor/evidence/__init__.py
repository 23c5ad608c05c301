"""What is measured of a training, by examining copies of it or by watching it; judging is left to the rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor.comparison import Result, gain
from levelhead.doctor.evidence.calls import Call
from levelhead.doctor.evidence.data import Data
from levelhead.doctor.evidence.evaluation import Evaluation
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loop import Loop, Update
from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.evidence.structure import LINEAR, Output
from levelhead.doctor.findings import Trial
from levelhead.doctor.program import Program
from levelhead.doctor.trials import Outcome

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Seen:
    """What a script shows beside its model.

    Args:
        mismatch: shapes that were broadcast against each other though they hold as many values; empty where none were.
        untrained: parameters that have gradients after the first backward pass, and are in no optimizer.
        drawn: whether some of these are as PyTorch draws them: no pretrained part that is left as it is on purpose.
        dropping: how often dropout as a function dropped values though the models were in eval mode.
        train: rows of the training with what the losses say that they should give.
        val: the same of its evaluations.
        ended: whether it has run to its end.
    """

    mismatch: str = ""
    untrained: tuple[str, ...] = ()
    drawn: bool = False
    dropping: int = 0
    train: Data | None = None
    val: Data | None = None
    ended: bool = True


@dataclass(frozen=True)
class Unchanged:
    """What the unchanged run of a script that is examined shows: by it, changes are chosen that other runs may prove.

    Args:
        base: how it did.
        validated: whether what it is judged by is computed in evaluations; ``worsened``, whether that became worse.
        places: of the causes that its watch found.
        rates: the learning rates; ``usual`` where they are at or above the optimizer's default.
        ended: whether it has run to its end.
        alternating: whether networks play against each other, whose losses say nothing.
        inputs: mean and deviation in training and in evaluations.
        losses: PyTorch's loss functions that it calls; ``floor`` the loss of the best constant answer of one.
        commonest: the share of the commonest class.
        spread: the variance of its last outputs by that of their targets.
        penalized: whether its loss has a term that compares with no target; ``opposing``, one that pulls the other way.
        twice: whether what is squashed is squashed again; ``sampled``, whether gradients end at a sample.
        dropping: whether dropout drops in evaluations; ``dead``, the first layer half of whose units are off.
        layers: with the deviation of what each gives at first; ``oversized``, matrices that are too large.
    """

    base: Result = field(default_factory=Result)
    validated: bool = False
    worsened: bool = False
    places: dict[str, str] = field(default_factory=dict)
    rates: Sequence[float] = ()
    usual: bool = False
    ended: bool = False
    alternating: bool = False
    inputs: tuple[tuple[float, float] | None, ...] = (None, None)
    losses: Sequence[str] = ()
    floor: float | None = None
    commonest: float | None = None
    spread: float = 1.0
    penalized: bool = False
    opposing: bool = False
    twice: bool = False
    sampled: bool = False
    dropping: bool = False
    dead: str = ""
    layers: Sequence[tuple[str, float]] = ()
    oversized: Sequence[str] = ()


@dataclass(kw_only=True, eq=False)
class Evidence:
    """What rules judge. What is not known is as it stands here; a check says which of these it cannot do without.

    An examination knows the program and, after a first training, ``base``. A watch knows ``history``; it sees no
    targets and no outputs of the loss, and may try nothing, so what only a trial proves stays unproven.
    """

    #: The model: of an examination as it was given, of a watch as it is now; and the one after the updates of ``loop``.
    model: nn.Module
    after: nn.Module
    #: The optimizers, the program's own first, and all that hold parameters of ``after``.
    optimizers: Sequence[torch.optim.Optimizer]
    holders: Sequence[torch.optim.Optimizer]
    #: Updates that were looked at closely, and how many are planned; of a watch, how many were seen.
    loop: Loop
    updates: int
    train: Data
    val: Data | None = None
    #: What the loss is, what is done to the outputs last, and how the program is evaluated.
    loss: LossKind = field(default_factory=lambda: LossKind("unknown", "", False))
    output: Output = field(default_factory=lambda: Output("", "", False))
    evaluation: Evaluation = field(default_factory=Evaluation)
    #: The program, which may be copied and tried, and how a copy trained as it is.
    program: Program | None = None
    base: Outcome | None = None
    #: What a watch saw of the whole training.
    history: History | None = None
    #: What was seen of a script beside its model.
    script: Seen | None = None
    #: And what its unchanged run shows to an examination.
    unchanged: Unchanged | None = None
    #: The ids of the parameters that a watched model had at first.
    known: frozenset[int] | None = None
    #: What was tried on copies so far, the program as it is first; and the score of the best constant answer.
    tried: Sequence[Trial] = ()
    floor: float = -math.inf

    def _seen(self, what: str) -> Any:
        """Of the first call of the loss."""
        return getattr(self.loop.losses[0], what) if self.loop.losses else None

    @property
    def targets(self) -> Tensor | None:
        """The targets that the loss saw in the first update."""
        return seen if isinstance(seen := self._seen("targets"), Tensor) else None

    @property
    def outputs(self) -> Tensor | None:
        """The outputs that the loss saw in the first update."""
        return seen if isinstance(seen := self._seen("outputs"), Tensor) else None

    @property
    def node(self) -> Any:
        """The graph's node that made these outputs."""
        return self._seen("node")

    @property
    def usual_targets(self) -> bool:
        """Whether the loss sees the loader's targets (a step of the program's own may take others)."""
        if self.targets is None or self.train.kept is None:
            return False
        shape = self.train.kept[1].shape[1:]
        return bool(self.targets.shape[1:] == shape and self.targets.dtype == self.train.kept[1].dtype)

    @property
    def mixing(self) -> str | None:
        """The module from which on the rows of a batch are mixed, in evaluation."""
        return None

    @property
    def late(self) -> Sequence[Update]:
        """A few more updates of the program as it trained."""
        return ()

    @property
    def held(self) -> set[int]:
        """The ids of the parameters of ``after`` that an optimizer has."""
        return {id(p) for each in self.holders for group in each.param_groups for p in group["params"]}

    def calls(self, *kinds: type) -> list[Call]:
        """The modules of these kinds that ran, in order, each once."""
        return list({c.name: c for c in reversed(self.loop.calls) if isinstance(c.module, kinds)}.values())[::-1]

    @property
    def layers(self) -> list[Call]:
        """The linear and convolution layers that ran, in order."""
        return self.calls(*LINEAR)

    def gain(self, before: float, after: float) -> float:
        """The part of the way from a constant answer to ``after`` that ``before`` had not gone; 0 is no better."""
        return gain(before, after, self.floor)

    def room(self, score: float) -> float:
        """The largest gain that is still possible; 1 where that is not known."""
        return 1.0

    def noise(self, score: float) -> float:
        """Twice the standard error of a score."""
        return math.inf

    def idle(self, score: float) -> bool:
        """Whether a score is hardly better than a constant answer's: a tenth of the way to its bound, if it has one."""
        return not score > self.floor or 0.9 < self.room(score) < 1
