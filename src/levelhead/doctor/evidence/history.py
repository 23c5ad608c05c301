"""What a watch has seen, as plain figures: its size does not grow with the length of the training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

#: How many points of a curve, and how many measured steps, are kept at most.
LIMIT = 512
#: Updates before which a trend is not judged.
SOON = 100


class Series:
    """A curve of any length in at most ``LIMIT`` points: where it is full, each two neighbours become their mean."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []
        self._width = 1
        self._open: list[float] = []

    @classmethod
    def of(cls, values: Iterable[float]) -> Series:
        """A curve of these values after 1, 2, ... steps."""
        made = cls()
        for step, value in enumerate(values, start=1):
            made.append(step, value)
        return made

    def append(self, step: int, value: float) -> None:
        """Add the value of a step; steps ascend."""
        self._open.append(value)
        if len(self._open) < self._width:
            return
        self.steps.append(step)
        self.values.append(sum(self._open) / len(self._open))
        self._open.clear()
        if len(self.values) == LIMIT:
            self.values = [(a + b) / 2 for a, b in zip(self.values[::2], self.values[1::2], strict=True)]
            self.steps = self.steps[1::2]
            self._width *= 2

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.steps, self.values, strict=True)


@dataclass(frozen=True, slots=True)
class Layer:
    """One module's output in one measured step.

    Args:
        kind: ``relu``, ``sigmoid`` or ``tanh`` where it is an activation's, else empty.
        mean: over all values looked at; ``std`` likewise.
        idle: share of units that are 0 for every row looked at; NaN where it is no activation.
        flat: share of values where a sigmoid's or tanh's slope is under a twentieth of its largest.
    """

    kind: str
    mean: float
    std: float
    idle: float = math.nan
    flat: float = math.nan


@dataclass(frozen=True, slots=True)
class Weights:
    """One parameter in one measured step: norms of its gradient, of itself and of its change."""

    gradient: float
    weight: float
    update: float

    @property
    def ratio(self) -> float:
        """The change by the parameter; NaN where that is 0."""
        return self.update / self.weight if self.weight > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Batch:
    """The model's first floating-point input in one measured step."""

    rows: int
    mean: float
    std: float
    low: float
    high: float

    @property
    def rms(self) -> float:
        """The root of the mean square."""
        return math.hypot(self.mean, self.std)


@dataclass(frozen=True, slots=True)
class Measured:
    """One step that was measured.

    Args:
        step: updates done before it.
        batch: its inputs; None where none is floating-point.
        layers: what ran, by name, in order.
        weights: the optimizers' parameters by name.
        move: cosine between the parameters' change and their gradient: negative is descent.
        channels: of each batch normalization, values a channel; in training mode only.
        rate: the largest learning rate.
    """

    step: int
    batch: Batch | None
    layers: dict[str, Layer]
    weights: dict[str, Weights]
    move: float
    channels: dict[str, int] = field(default_factory=dict)
    rate: float = math.nan


@dataclass
class History:
    """Everything that the rules of a watch judge.

    Args:
        steps: updates done.
        losses: what backward was called on, a step.
        first_loss: the first of them that was finite, and ``largest`` the largest.
        loss_lost_at: the first step whose loss was not finite; ``input_lost_at`` the same of the inputs, or -1.
        finite_when_lost: whether the weights, and the outputs of the model, were finite at the first lost loss.
        twice: the loss's own softmax or sigmoid, where it is applied to what one has given.
        eval_since: the first of the latest updates that were all in eval mode, or -1.
        validation: losses that the user (or an integration) reported.
        measured: the steps that were measured; where they are many, every second, fourth, ... of the older ones.
        uncleared: updates, of those looked at, whose gradient was added to the last update's; ``cleared`` the others.
        training_steps: updates with the model in training mode; ``eval_steps`` in eval mode.
        training_evaluations: forward passes without gradients in training mode; ``eval_evaluations`` in eval mode.
        same_units: weights whose units were all equal at first and after ten updates.
    """

    steps: int = 0
    finite_when_lost: bool = False
    twice: str = ""
    eval_since: int = -1
    losses: Series = field(default_factory=Series)
    first_loss: float = math.nan
    largest: float = math.nan
    loss_lost_at: int = -1
    input_lost_at: int = -1
    validation: Series = field(default_factory=Series)
    measured: list[Measured] = field(default_factory=list)
    uncleared: int = 0
    cleared: int = 0
    training_steps: int = 0
    eval_steps: int = 0
    training_evaluations: int = 0
    eval_evaluations: int = 0
    same_units: set[str] = field(default_factory=set)

    def add_loss(self, step: int, value: float) -> None:
        """Add the loss of a step."""
        self.losses.append(step, value)
        if not math.isfinite(value):
            self.loss_lost_at = step if self.loss_lost_at < 0 else self.loss_lost_at
            return
        if math.isnan(self.first_loss):
            self.first_loss = self.largest = value
        self.largest = max(self.largest, value)

    @property
    def late(self) -> list[Measured]:
        """The last quarter of the measured steps, four at least; nothing before that."""
        return self.measured[-max(4, len(self.measured) // 4) :] if len(self.measured) >= 4 else []

    @property
    def ends(self) -> tuple[float, float] | None:
        """The median loss of the first and of the last tenth; None of fewer than 20 points."""
        values = self.losses.values
        tenth = max(2, len(values) // 10)
        return (median(values[:tenth]), median(values[-tenth:])) if len(values) >= 20 else None

    @property
    def fell(self) -> float:
        """The share of the first loss by which the last one is lower; NaN where that is not known."""
        ends = self.ends
        return (ends[0] - ends[1]) / abs(ends[0]) if ends is not None and ends[0] else math.nan

    def add(self, measured: Measured) -> None:
        """Add a measured step."""
        self.measured.append(measured)
        if len(self.measured) > LIMIT:  # the newest quarter stays whole
            old = len(self.measured) * 3 // 4
            self.measured = self.measured[:old:2] + self.measured[old:]


def rate_of(group: dict[str, Any], first: float) -> float:
    """The learning rate that a group is meant to have: its schedule's largest, or the one that a schedule starts from.

    Args:
        group: of an optimizer's parameters.
        first: its rate at the first update, where its schedule keeps none (``ReduceLROnPlateau``).
    """
    return float(group.get("max_lr", group.get("initial_lr", first)))


def share_of(steps: list[Measured], name: str, what: str) -> float:
    """The median of a layer's share over some steps."""
    values = [getattr(m.layers[name], what) for m in steps if name in m.layers]
    finite = [v for v in values if math.isfinite(v)]
    return median(finite) if finite else math.nan


def place_of(name: str) -> str:
    """The module that a figure belongs to."""
    return name.removeprefix("input of ")
