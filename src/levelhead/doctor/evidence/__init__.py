"""What is measured of a training, by examining copies of it or by watching it; judging is left to the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from levelhead.doctor.evidence.data import Data
from levelhead.doctor.evidence.evaluation import Evaluation
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loop import Call, Loop, Update
from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.evidence.structure import Output
from levelhead.doctor.findings import Trial
from levelhead.doctor.program import Program
from levelhead.doctor.trials import Outcome

__all__ = ["Evidence"]


class Evidence(Protocol):
    """What rules judge. What is not known is None, or empty; a check says which of these it cannot do without.

    An examination knows the program and, after a first training, ``base``. A watch knows ``history``; it sees no
    targets and no outputs of the loss, and may try nothing, so what only a trial proves stays unproven.
    """

    @property
    def model(self) -> nn.Module:
        """The model: of an examination as it was given, of a watch as it is now."""

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The optimizers, the program's own first."""

    @property
    def after(self) -> nn.Module:
        """The model after the updates of ``loop``: an examination's copy, or the watched one itself."""

    @property
    def held(self) -> set[int]:
        """The ids of the parameters of ``after`` that an optimizer has."""

    @property
    def loop(self) -> Loop:
        """Updates that were looked at closely."""

    @property
    def train(self) -> Data:
        """The training data."""

    @property
    def val(self) -> Data | None:
        """The validation data."""

    @property
    def loss(self) -> LossKind:
        """What the loss is."""

    @property
    def output(self) -> Output:
        """What is done to the outputs last."""

    @property
    def evaluation(self) -> Evaluation:
        """How it is evaluated."""

    @property
    def program(self) -> Program | None:
        """The program, which may be copied and tried; None of a watch."""

    @property
    def base(self) -> Outcome | None:
        """How a copy trained as it is; None before, and of a watch."""

    @property
    def history(self) -> History | None:
        """What a watch saw of the whole training; None of an examination."""

    @property
    def updates(self) -> int:
        """How many updates are planned; of a watch, how many were seen."""

    @property
    def floor(self) -> float:
        """The score of the best constant answer."""

    @property
    def targets(self) -> Tensor | None:
        """The targets that the loss saw in the first update."""

    @property
    def outputs(self) -> Tensor | None:
        """The outputs that the loss saw in the first update."""

    @property
    def node(self) -> Any:
        """The graph's node that made these outputs."""

    @property
    def usual_targets(self) -> bool:
        """Whether the loss sees the loader's targets (a step of the program's own may take others)."""

    @property
    def late(self) -> list[Update]:
        """A few more updates of the program as it trained."""

    @property
    def mixing(self) -> str | None:
        """The module from which on the rows of a batch are mixed, in evaluation."""

    @property
    def tried(self) -> Sequence[Trial]:
        """What was tried on copies so far, the program as it is first."""

    def calls(self, *kinds: type) -> list[Call]:
        """The modules of these kinds that ran, in order, each once."""

    @property
    def layers(self) -> list[Call]:
        """The linear and convolution layers that ran, in order."""

    def gain(self, before: float, after: float) -> float:
        """The part of the way from a constant answer to ``after`` that ``before`` had not gone."""

    def room(self, score: float) -> float:
        """The largest gain that is still possible."""

    def noise(self, score: float) -> float:
        """Twice the standard error of a score."""

    def idle(self, score: float) -> bool:
        """Whether a score is hardly better than a constant answer's."""
