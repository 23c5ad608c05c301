"""Which task the targets ask for, and the seeded stratified split."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from levelhead.data.dataset import Task, Unsplit
from levelhead.data.source import DataError, rows_of

#: The shares of training, validation and test.
SHARES = (0.6, 0.2, 0.2)
#: Whole numbers with no more distinct values than this are read as classes.
MOST_CLASSES = 20


def choose_task(values: Tensor, what: str, task: Task | None) -> tuple[Task, str]:
    """Tell classification from regression, with the sentence that says why.

    The rule: whole numbers with at most 20 distinct values are classes, and so are integers that are exactly 0, 1, ...,
    K - 1 with ten rows or more a value; everything else is a regression. ``task`` overrides the rule. (A target of
    texts is always a classification; its reader says so.)

    Args:
        values: the targets, (rows,) or (rows, outputs).
        what: how to call them in the sentence.
        task: the user's choice, if there is one.
    """
    if task is not None:
        return task, f"Task: {task}, as asked for."
    if values.ndim > 1 and values.shape[1] > 1:
        return "regression", f"Task: regression, because {what} has {values.shape[1]} columns."
    distinct = values.unique()
    if not bool((distinct == distinct.round()).all()):
        return "regression", f"Task: regression, because {what} holds numbers that are not whole."
    k = len(distinct)
    if k <= MOST_CLASSES:
        return "classification", f"Task: classification, because {what} holds {k} distinct whole numbers."
    from_zero = not values.is_floating_point() and int(distinct[0]) == 0 and int(distinct[-1]) == k - 1
    if from_zero and len(values) >= 10 * k:
        return "classification", f"Task: classification, because {what} holds the integers 0 to {k - 1}, none left out."
    return "regression", f"Task: regression, because {what} holds {k} distinct numbers, more than {MOST_CLASSES}."


def class_indices(values: Tensor, offset: int = 0) -> tuple[Tensor, tuple[str, ...]]:
    """Numbers as class indices, and the names of the classes in ascending order; ``offset`` was taken off them."""
    distinct, indices = values.flatten().unique(return_inverse=True)
    names = tuple(str(int(v) + offset) if float(v).is_integer() else str(v) for v in distinct.tolist())
    return indices, names


def split(data: Unsplit, seed: int) -> tuple[tuple[Tensor, Tensor, Tensor], str]:
    """The row indices of training, validation and test, and a sentence on them.

    60/20/20 by rows, class by class where there are classes, so that every part has the shares of the whole; the same
    seed gives the same rows on every machine. Parts that the source sets apart stay; without validation it is a quarter
    of the training rows, without test it is half of the validation rows.

    Raises:
        DataError: there is one class only, or a class or the whole has too few rows for three parts.
    """
    rows = torch.arange(len(data.x))
    stratified = "class by class" if data.task == "classification" else "by rows"
    if data.given is None:
        parts = _deal(data, rows, SHARES, seed, "the data")
        how = f"{stratified}, seed {seed}"
    else:
        parts = list(rows.split(list(data.given)))
        how = "as the source sets them apart"
        if not len(parts[2]):
            parts[1:] = _deal(data, parts[1], (0.5, 0.5), seed, "the validation part")
            halved = f"halved {stratified}, seed {seed}"
            how = f"the source's training rows; test rows were taken from the validation data, {halved}"
        elif not len(parts[1]):
            parts[:2] = _deal(data, parts[0], (0.75, 0.25), seed, "the training part")
            how = f"the source's test rows; a quarter of its training rows became validation {stratified}, seed {seed}"
        if data.task == "classification":
            _check_classes(data, data.y[parts[0]], least=1, part="the training part")
    sizes = " / ".join(str(len(part)) for part in parts)
    return (parts[0], parts[1], parts[2]), f"Split: {sizes} rows for training / validation / test ({how})."


def _deal(data: Unsplit, rows: Tensor, shares: tuple[float, ...], seed: int, part: str) -> list[Tensor]:
    """Deal the rows out in parts of the given shares, none empty."""
    generator = np.random.default_rng(seed)
    if data.task == "regression":
        if len(rows) < 2 * len(shares):
            raise DataError(f"{data.source}: {rows_of(len(rows))}, too few for {len(shares)} parts; add rows")
        groups = [rows]
    else:
        _check_classes(data, data.y[rows], least=len(shares), part=part)
        groups = [rows[data.y[rows] == c] for c in data.y[rows].unique()]
    dealt: list[list[Tensor]] = [[] for _ in shares]
    for group in groups:
        shuffled = group[torch.from_numpy(generator.permutation(len(group)))]
        sizes = [max(1, round(len(group) * share)) for share in shares[1:]]
        for part_rows, piece in zip(dealt, shuffled.split([len(group) - sum(sizes), *sizes]), strict=True):
            part_rows.append(piece)
    parts = [torch.cat(pieces) for pieces in dealt]
    return [part[torch.from_numpy(generator.permutation(len(part)))] for part in parts]


def _check_classes(data: Unsplit, y: Tensor, *, least: int, part: str) -> None:
    counts = y.bincount(minlength=len(data.classes))
    if len(data.classes) < 2:
        only = data.classes[0] if data.classes else "none"
        raise DataError(f"{data.source}: one class only ({only!r}); a classification needs two or more")
    if int(counts.min()) < least:
        rare = int(counts.argmin())
        repair = "add rows, or leave the class out"
        raise DataError(
            f"{data.source}: class {data.classes[rare]!r} has {rows_of(int(counts[rare]))} in {part}, "
            f"and {least} are needed; {repair}"
        )
