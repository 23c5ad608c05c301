"""The losses of a watched loop: heard at each step, read where that does not keep a device waiting."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.probe import Figures
from levelhead.doctor.evidence.structure import squashed_twice
from levelhead.doctor.program import first_tensor


class Losses:
    """What backward passes begin with, or the loop tells itself, and why the first one was lost that is not finite.

    Args:
        history: where they go.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.inputs: Any = None
        self.outputs: Any = None
        self.heard: float | Tensor | None = None
        self._told: list[float | Tensor] = []
        self._explicit = self._looked = False
        self._known: list[tuple[int, float]] = []
        self._unread = Figures()

    def tell(self, loss: Tensor | float) -> None:
        """The loop's own word; what is heard does not count any more."""
        self._explicit = True
        value = _value(loss)
        self._look(value)
        self._told.append(value)

    def hear(self, tensor: Tensor) -> None:
        """A backward pass begins here."""
        if self._explicit or tensor.numel() != 1:
            return
        self.heard = heard = _value(tensor)
        if not isinstance(heard, float) or not math.isfinite(heard):
            self._look(heard)
        if self.history.steps == 0:
            self.history.twice = squashed_twice(tensor.grad_fn)

    def enters(self, x: Tensor) -> None:
        """Inputs on a device: NaN and infinity stay in a sum; that of half precision would overflow without them."""
        total = x.detach().sum(dtype=torch.float32 if x.dtype == torch.float16 else None)
        self._unread.add(("input", self.history.steps), total)

    def _look(self, loss: float | Tensor) -> None:
        """Of the first loss that is not finite: were the model's outputs, and so the weights before it?"""
        if isinstance(loss, Tensor) or math.isfinite(loss) or self.history.loss_lost_at >= 0 or self._looked:
            return
        self._looked = True
        outputs = first_tensor(self.outputs, floating=True)
        nan = math.isnan(loss) or self.history.steps == 0  # large but finite outputs may have an infinite loss
        self.history.finite_when_lost = nan and outputs is not None and bool(torch.isfinite(outputs).all())

    def end(self) -> None:
        """The step is over: keep its loss until the figures are read."""
        if self._told:
            self.heard = sum(self._told) / len(self._told)
            self._told = []
        loss, self.heard, self.outputs = self.heard, None, None
        if loss is None:
            return
        if isinstance(loss, Tensor):
            self._unread.add(("loss", self.history.steps), loss)
            return
        self._known.append((self.history.steps, loss))
        if math.isfinite(loss) or self.history.input_lost_at >= 0:
            return
        x = first_tensor(self.inputs, floating=True)
        if x is not None and not bool(torch.isfinite(x).all()):
            self.history.input_lost_at = self.history.steps

    def read(self) -> None:
        """Bring the figures over that have gathered since the last measured step."""
        for step, loss in self._known:
            self.history.add_loss(step, loss)
        self._known = []
        for (what, step), value in self._unread.read().items():
            if what == "loss":
                self.history.add_loss(step, value)
            elif not math.isfinite(value) and self.history.input_lost_at < 0:
                self.history.input_lost_at = step


def _value(loss: Tensor | float) -> float | Tensor:
    """A loss as a number; on an accelerator as it is, to be read later: reading it now would wait for the device."""
    if not isinstance(loss, Tensor):
        return float(loss)
    return loss.item() if loss.is_cpu else loss.detach().reshape(())
