"""The end of training, before it fits what is only noise."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

from torch import nn


class EarlyStopping:
    """Tells when the validation score has not got better for a while, and keeps the weights of the best.

    ::

        stopping = EarlyStopping(model, patience=10)
        while not stopping(validation_loss):
            ...
        stopping.restore()

    Args:
        model: whose weights and buffers are kept, on their own devices.
        patience: evaluations without a better score before the end.
        better: whether a ``lower`` or a ``higher`` score is better.
        least: by how much it must be better to count.

    Attributes:
        best: the best score; NaN before the first.
        best_evaluation: which evaluation had it, from 1; 0 before the first.
        evaluations: how many there were.

    Raises:
        ValueError: the patience is below 1, or ``least`` is negative, or ``better`` neither.

    Source: Prechelt 1998, "Early stopping - but when?", section 2 (criterion UP).
    """

    def __init__(
        self, model: nn.Module, patience: int = 10, better: Literal["lower", "higher"] = "lower", least: float = 0.0
    ) -> None:
        if patience < 1:
            raise ValueError(f"the patience must be at least 1 evaluation, got {patience}")
        if better not in ("lower", "higher"):
            raise ValueError(f"better must be 'lower' or 'higher', got {better!r}")
        if not 0 <= least < math.inf:
            raise ValueError(f"least must be at least 0 and finite, got {least}")
        self.model, self.patience, self.better, self.least = model, patience, better, least
        self.best, self.best_evaluation, self.evaluations = math.nan, 0, 0
        self._weights: dict[str, Any] = {}

    def __call__(self, score: float) -> bool:
        """Take the score of an evaluation; True once training should end. A score of NaN is never better."""
        score = float(score)
        self.evaluations += 1
        gain = score - self.best if self.better == "higher" else self.best - score
        if gain > self.least or (math.isnan(self.best) and not math.isnan(score)):
            self.best, self.best_evaluation = score, self.evaluations
            self._weights = copy.deepcopy(self.model.state_dict())
        return self.evaluations - self.best_evaluation >= self.patience

    def restore(self) -> None:
        """Give the model the weights of its best evaluation.

        Raises:
            RuntimeError: there has been no evaluation with a score.
        """
        if not self._weights:
            raise RuntimeError("there are no best weights: no evaluation has given a score")
        self.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` goes on from, the best weights among it."""
        names = ("best", "best_evaluation", "evaluations")
        return {**{name: getattr(self, name) for name in names}, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.best, self.best_evaluation = state["best"], state["best_evaluation"]
        self.evaluations, self._weights = state["evaluations"], state["weights"]
