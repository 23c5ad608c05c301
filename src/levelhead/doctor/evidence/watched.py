"""The evidence of a watch: what hooks saw of a loop that nothing may be tried on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from levelhead.doctor.evidence.data import Columns, Data
from levelhead.doctor.evidence.evaluation import Evaluation
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loop import Call, Loop, Update
from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.evidence.structure import LINEAR, Output
from levelhead.doctor.findings import Trial
from levelhead.moments import Moments


@dataclass
class Watched:
    """What a watch knows; scores, targets and outputs of the loss it never sees.

    Args:
        model: as it is now.
        optimizers: all that are watched.
        history: figures over the whole training.
        loop: modules, modes and updates that were measured.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    history: History
    loop: Loop

    program = base = val = targets = outputs = node = mixing = None
    tried: tuple[Trial, ...] = ()
    loss = LossKind("unknown", "", False)
    output = Output("", "", False)
    floor = -math.inf
    usual_targets = False

    @property
    def after(self) -> nn.Module:
        """The model."""
        return self.model

    @property
    def held(self) -> set[int]:
        """The ids of the parameters that an optimizer has."""
        return {id(p) for each in self.optimizers for group in each.param_groups for p in group["params"]}

    @property
    def updates(self) -> int:
        """How many were seen."""
        return self.history.steps

    @property
    def evaluation(self) -> Evaluation:
        """Nothing of it but what the history counts."""
        return Evaluation()

    @property
    def late(self) -> list[Update]:
        """None: nothing is run again."""
        return []

    @property
    def train(self) -> Data:
        """The moments of the inputs that were measured, merged over batches."""
        batches = [m.batch for m in self.history.measured if m.batch is not None and math.isfinite(m.batch.rms)]
        if not batches or not self._scaled:
            return Data()
        parts = [Moments(*(torch.tensor(v, dtype=torch.float64) for v in (1.0, b.mean, b.std**2))) for b in batches]
        merged = parts[0]
        for part in parts[1:]:
            merged = merged + part
        low, high = min(b.low for b in batches), max(b.high for b in batches)
        return Data(inputs=Columns((), merged, merged, low, high, 0))

    @property
    def _scaled(self) -> bool:
        """Whether the first layer with parameters takes inputs as they are: no table, and no normalization."""
        ran = (m for name, m in self.model.named_modules() if name in self.loop.executed and m._parameters)
        return isinstance(next(ran, None), LINEAR)

    @property
    def harmed(self) -> bool:
        """Whether the training shows harm that an unproven cause may have done."""
        history, ends = self.history, self.history.ends
        stuck = [layer for m in (*history.measured[:4], *history.late) for layer in m.layers.values()]
        flat = any(max(layer.flat, 0.0) > 0.5 or max(layer.idle, 0.0) > 0.5 for layer in stuck[:-1])
        return history.loss_lost_at >= 0 or flat or (ends is not None and ends[1] > 0.9 * ends[0])

    def calls(self, *kinds: type) -> list[Call]:
        """The modules of these kinds that ran in the forward pass whose order was kept."""
        return list({c.name: c for c in reversed(self.loop.calls) if isinstance(c.module, kinds)}.values())[::-1]

    @property
    def layers(self) -> list[Call]:
        """The linear and convolution layers among these."""
        return self.calls(*LINEAR)

    def gain(self, before: float, after: float) -> float:
        """Nothing is tried."""
        return 0.0

    def room(self, score: float) -> float:
        """Not known."""
        return 1.0

    def idle(self, score: float) -> bool:
        """Not known."""
        return False

    def noise(self, score: float) -> float:
        """Not known."""
        return math.inf


def loop_of(
    history: History,
    calls: list[Call],
    modes: dict[str, set[bool]],
    reached: set[str],
    executed: set[str],
) -> Loop:
    """What was measured, in the form in which an examination has it."""
    mode = {True} if not history.eval_steps else {False} if not history.training_steps else {True, False}
    moves = [m.move for m in history.measured if math.isfinite(m.move)]
    gradients = {n for m in history.measured for n, w in m.weights.items() if w.gradient != 0}
    return Loop(
        calls=calls,
        updates=[Update(math.nan, 1.0, math.nan, math.nan, math.nan, move) for move in moves],
        modes={**modes, "": mode},
        reached=reached,
        gradients=gradients,
        executed=executed,
        ran=executed,
    )
