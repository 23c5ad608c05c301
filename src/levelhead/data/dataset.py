"""What a study trains on: three splits, and the sentences that say how they were made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from levelhead.data.source import TOO_LARGE, DataError
from levelhead.moments import Moments
from levelhead.terminal import listed

Task = Literal["classification", "regression"]
#: Classes are skewed where more than this share of the training rows is of one: to name it always is right in 4 of 5.
SKEWED = 0.8


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs and targets, row by row.

    Args:
        inputs: float32, (rows, features) or (rows, channels, ...).
        targets: int64 class indices (rows,), or float32 (rows, outputs) for regression.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data that is ready to train on.

    Args:
        name: what to call it.
        source: where it came from: a package, a file, a function.
        task: what the targets ask for.
        train: the rows that the weights, and all statistics of the preparation, are taken from.
        validation: the rows that choose between settings.
        test: the rows that nothing was chosen on.
        classes: the names of the classes in the order of their indices; empty for regression.
        features: the names of the columns, or ``channel 0``, ``channel 1``, ...
        notes: sentences for the reader: which task and why, what was filled, encoded, left out, split, standardized.
        measure: the score; empty takes the one that the training rows ask for.
    """

    name: str
    source: str
    task: Task
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    features: tuple[str, ...]
    notes: tuple[str, ...]
    measure: str = ""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the rows."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def outputs(self) -> int:
        """How many values a network must give for a row: one a class, or one a target column."""
        return len(self.classes) if self.task == "classification" else self.train.targets.shape[1]

    @property
    def metric(self) -> str:
        """``r2``, ``accuracy``, or of skewed classes ``balanced accuracy``: the mean over classes of what is right."""
        if self.measure or self.task == "regression":
            return self.measure or "r2"
        return "balanced accuracy" if self.train.targets.bincount().max() > SKEWED * len(self.train) else "accuracy"

    def describe(self) -> dict[str, Any]:
        """Name, source, sizes and preparation as plain data, for ``Run.data``; of skewed classes their score, too."""
        skewed = self.metric == "balanced accuracy"
        counts = self.validation.targets.bincount() if skewed else None
        return {
            # What one validation row of the rarest class changes is the grain of a balanced accuracy.
            **({} if counts is None else {"metric": self.metric, "grain": grain(counts)}),
            "name": self.name,
            "source": self.source,
            "task": self.task,
            "sizes": {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)},
            "input_shape": list(self.input_shape),
            "outputs": self.outputs,
            "classes": list(self.classes),
            "features": list(self.features),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Unsplit:
    """What a reader hands over: rows in the order of the source, nothing filled and nothing scaled.

    Args:
        name: as in ``Dataset``; so are ``source``, ``task``, ``classes``, ``features`` and ``notes``.
        x: real values (rows, features) or (rows, channels, ...); NaN where a value is missing.
        y: int64 class indices (rows,), or real values (rows, outputs).
        given: how many rows the source itself sets apart for training, validation and test, in this order; None where
            it does not.
        offsets: what was taken off the integers of each feature, which float64 does not hold; empty where nothing was.
    """

    name: str
    source: str
    task: Task
    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    features: tuple[str, ...]
    notes: tuple[str, ...] = ()
    given: tuple[int, int, int] | None = None
    offsets: tuple[int, ...] = ()


def grain(counts: Tensor) -> float:
    """What one row of the rarest class changes in the balanced accuracy of rows with so many of each class."""
    there = counts[counts > 0]
    return 1 / (len(there) * int(there.min()))


def prepare(data: Unsplit, parts: tuple[Tensor, Tensor, Tensor], *, standardize: bool) -> Dataset:
    """Take the parts, fill what is missing, standardize; every statistic comes from the training part alone.

    Args:
        data: what was read.
        parts: the row indices of training, validation and test.
        standardize: whether inputs become (x - mean) / std per feature, or per channel.

    Raises:
        DataError: a feature has no known value among the training rows, or the target of a regression is constant.
    """
    notes = list(data.notes)
    train, *others = (data.x[rows] for rows in parts)
    axes = tuple(d for d in range(train.ndim) if d != 1)
    known = ~train.isnan()
    complete = bool(known.all()) and not any(bool(part.isnan().any()) for part in others)
    moments = Moments.of(train, axes, None if complete else known)
    if not complete:
        if bool((moments.count == 0).any()):
            empty = data.features[int((moments.count == 0).nonzero()[0])]
            raise DataError.at(data.source, "no row of the training part has a value; remove it", column=empty)
        notes.append("Missing values were filled with the mean of the training rows.")
    shape = [-1 if d == 1 else 1 for d in range(train.ndim)]
    mean, scale = moments.mean.view(shape), moments.std().view(shape)
    if standardize and not bool(scale.isfinite().all()):
        much = data.features[int((~scale.flatten().isfinite()).nonzero()[0])]
        raise DataError.at(data.source, TOO_LARGE, column=much)
    inputs = [part if complete else part.double().where(~part.isnan(), mean) for part in (train, *others)]
    if standardize:
        # Exact: the spread of a constant that has no short binary form would come out as rounding, not as 0.
        constant = inputs[0].amin(axes, keepdim=True) == inputs[0].amax(axes, keepdim=True)
        mean, scale = mean.where(~constant, inputs[0].amin(axes, keepdim=True)), scale.masked_fill(constant, 1)
        inputs = [(part - mean) / scale for part in inputs]
        unit = "feature" if train.ndim == 2 else "channel"
        names = [name for name, same in zip(data.features, constant.flatten().tolist(), strict=True) if same]
        ones = "1 constant one was" if len(names) == 1 else f"{len(names)} constant ones were"
        left = f"; {ones} centred, not scaled ({listed(names)})" if names else ""
        notes.append(f"Inputs were standardized per {unit} with mean and deviation of the training rows{left}.")
    else:
        notes.append("Inputs were not standardized.")
    targets = [data.y[rows] for rows in parts]
    if data.task == "regression":
        moments = Moments.of(targets[0], 0)
        if bool((targets[0] == targets[0][0]).all(0).any()):
            raise DataError(f"{data.source}: the target is the same in every training row; there is nothing to learn")
        targets = [((y - moments.mean) / moments.std()).float() for y in targets]
        notes.append(
            "Targets were standardized with mean and deviation of the training rows; r2 does not change by it."
        )
    splits = [Split(x.float().contiguous(), y) for x, y in zip(inputs, targets, strict=True)]
    for part in splits:
        if not bool(part.inputs.isfinite().all()):
            raise DataError(f"{data.source}: values too large for float32; rescale the data, or standardize it")
    said = (data.classes, data.features, tuple(notes))
    return Dataset(data.name, data.source, data.task, splits[0], splits[1], splits[2], *said)


def as_float(x: Tensor) -> Tensor:
    """Real values as they are, integers and booleans as float64."""
    return x if x.is_floating_point() else x.to(torch.float64)
