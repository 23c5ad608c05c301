"""The evidence of a watch: what hooks saw of a loop that nothing may be tried on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from levelhead.doctor.evidence import Evidence, loss, structure
from levelhead.doctor.evidence.calls import Call
from levelhead.doctor.evidence.data import Columns, Data, moments_of
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loop import Loop, LossCall, Update
from levelhead.doctor.evidence.structure import LINEAR


@dataclass(frozen=True, slots=True)
class Compared:
    """One call of a loss.

    Args:
        ask: the loss, of outputs and targets.
        outputs: what it was given; targets likewise.
        node: of the graph, that made the outputs.
    """

    ask: Callable[[Tensor, Tensor], Any]
    outputs: Tensor
    targets: Tensor
    node: Any


@dataclass(kw_only=True, eq=False)
class Watched(Evidence):
    """What a watch knows; of scores nothing, and of targets and outputs what a script's first comparisons show."""

    history: History
    #: What a run of its own found out of a script's model: see ``mixing``.
    mixed: str | None = None

    @property
    def mixing(self) -> str | None:
        """Asked of the first batch of a script that is run for an examination; a watch asks nothing of the model."""
        return self.mixed

    @property
    def usual_targets(self) -> bool:
        """Rows are kept with what the loss saw."""
        return self.train.kept is not None

    def compare(self, seen: Compared) -> None:
        """Judge this call of a loss with what else is known."""
        value = float(seen.ask(seen.outputs, seen.targets).detach().mean())
        self.loop.losses = [LossCall(seen.outputs, seen.targets, value, True, seen.node)]
        self.loss = loss.measure(seen.ask, seen.outputs, seen.targets)
        self.output = structure.output(seen.node, self.loop.calls)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        history: History,
        calls: list[Call],
        modes: dict[str, set[bool]],
        reached: set[str],
        known: frozenset[int],
    ) -> Self:
        """What was measured, in the form in which an examination has it.

        Args:
            model: as it is now.
            optimizers: all that are watched.
            history: figures over the whole training.
            calls: the modules that ran in the forward pass whose order was kept.
            modes: of each module that ran.
            reached: parameters that had a gradient.
            known: the ids of the parameters that the model had at first.
        """
        mode = {True} if not history.eval_steps else {False} if not history.training_steps else {True, False}
        moves = [m.move for m in history.measured if math.isfinite(m.move)]
        loop = Loop(
            calls=calls,
            updates=[Update(math.nan, 1.0, math.nan, math.nan, math.nan, move) for move in moves],
            modes={**modes, "": mode},
            reached=reached,
            gradients={n for m in history.measured for n, w in m.weights.items() if w.gradient != 0},
            executed=set(modes),
            ran=set(modes),
        )
        first = next((m for name, m in model.named_modules() if name in modes and m._parameters), None)
        plain = isinstance(first, LINEAR)  # takes inputs as they are: no table, and no normalization
        return cls(
            model=model,
            after=model,
            optimizers=optimizers,
            holders=optimizers,
            loop=loop,
            updates=history.steps,
            train=Data(inputs=_inputs(history) if plain else None),
            history=history,
            known=known,
        )


def _inputs(history: History) -> Columns | None:
    """The moments of the inputs that were measured, merged over batches."""
    batches = [m.batch for m in history.measured if m.batch is not None and math.isfinite(m.batch.rms)]
    if not batches:
        return None
    parts = [moments_of(b.mean, b.std) for b in batches]
    merged = sum(parts[1:], parts[0])
    return Columns((), merged, merged, min(b.low for b in batches), max(b.high for b in batches), 0)
