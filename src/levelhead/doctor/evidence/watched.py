"""The evidence of a watch: what hooks saw of a loop that nothing may be tried on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from levelhead.doctor.evidence import Evidence
from levelhead.doctor.evidence.data import Columns, Data, moments_of
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loop import Call, Loop, Update
from levelhead.doctor.evidence.structure import LINEAR


@dataclass
class Watched(Evidence):
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

    def __post_init__(self) -> None:
        self.after, self.holders, self.updates = self.model, self.optimizers, self.history.steps
        self.train = self._inputs()

    def _inputs(self) -> Data:
        """The moments of the inputs that were measured, merged over batches."""
        batches = [m.batch for m in self.history.measured if m.batch is not None and math.isfinite(m.batch.rms)]
        if not batches or not self._scaled:
            return Data()
        merged = sum((moments_of(b.mean, b.std) for b in batches[1:]), moments_of(batches[0].mean, batches[0].std))
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
