"""Remedies of the data: scales and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from levelhead.doctor.evidence.data import moments_of
from levelhead.doctor.evidence.neighbours import agreeing
from levelhead.doctor.isolation import IndexedBatches
from levelhead.doctor.program import Program, ProgramError
from levelhead.doctor.remedies.base import Remedy
from levelhead.moments import Moments
from levelhead.nn import Standardizer


class Standardized:
    """A forward pre-hook: the first argument, standardized; in evaluation alone, if so asked."""

    def __init__(self, moments: Moments, in_training: bool = True) -> None:
        self.standardizer, self.in_training = Standardizer.from_moments(_flat(moments)), in_training

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Standardize the first argument."""
        if module.training and not self.in_training:
            return args
        return (_by(self.standardizer, self.standardizer.forward, args[0]), *args[1:])


class Unstandardized:
    """A forward hook: outputs in the units of these moments."""

    def __init__(self, moments: Moments) -> None:
        self.standardizer = Standardizer.from_moments(_flat(moments))

    def __call__(self, module: nn.Module, args: Any, outputs: Tensor) -> Tensor:
        """Scale the outputs back."""
        return _by(self.standardizer, self.standardizer.inverse, outputs)


def _flat(moments: Moments) -> Moments:
    count = moments.count.expand_as(moments.mean)
    return Moments(*(value.reshape(-1) for value in (count, moments.mean, moments.m2)))


def _by(standardizer: Standardizer, scale: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Scale by columns, or all values by one."""
    standardizer.to(x.device)
    features = standardizer.scale_.numel()
    return scale(x.reshape(-1, features)).reshape(x.shape)


class Imputed:
    """A forward pre-hook: the column's mean for what is not finite in the first argument."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put the mean where a value is NaN or infinite."""
        x = args[0]
        return (torch.where(torch.isfinite(x), x, self.mean.to(x)), *args[1:])


class Far(Imputed):
    """The same for values that lie further than a limit from it."""

    def __init__(self, middle: Tensor, limit: Tensor) -> None:
        super().__init__(middle)
        self.limit = limit

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put the middle where a value is far from it."""
        x, middle = args[0], self.mean.to(args[0])
        return (torch.where((x - middle).abs() <= self.limit.to(x), x, middle), *args[1:])


class LossOf:
    """A loss of changed outputs and targets."""

    def __init__(self, loss: Callable[..., Any], change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.loss, self.change = loss, change

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        """The loss of what was changed."""
        return self.loss(*self.change(outputs, targets))


def standardize_inputs(moments: Moments) -> Remedy:
    """Subtract the inputs' mean and divide by their deviation, a column (or all values together) at a time."""
    columns = moments.mean.numel() > 1

    def change(program: Program) -> None:
        program.model.register_forward_pre_hook(Standardized(moments))

    code = "standardizer = lh.Standardizer().fit(x_train)  # also for validation data\nx = standardizer(x)"
    whole = f"x = (x - {float(moments.mean.mean()):.4g}) / {float(moments.std().mean()):.4g}  # also validation data"
    which = "each column" if columns else "all values together"
    return Remedy(f"inputs standardized ({which})", code if columns else whole, change)


def finite_inputs(mean: Tensor) -> Remedy:
    """Put the mean of a column in the place of its values that are not finite."""
    mean = mean.float()

    def change(program: Program) -> None:
        program.model.register_forward_pre_hook(Imputed(mean))

    return Remedy("means for values that are not finite", "x = torch.where(torch.isfinite(x), x, x_mean)", change)


def nothing_far(middle: Tensor, limit: Tensor) -> Remedy:
    """Put the median of a column in the place of values that are no measurements."""
    middle, limit = middle.float(), limit.float()

    def change(program: Program) -> None:
        program.model.register_forward_pre_hook(Far(middle, limit))

    code = "x = torch.where((x - x_median).abs() <= limit, x, x_median)"
    return Remedy("medians for values that are no measurements", code, change)


def finite_targets() -> Remedy:
    """Leave the rows out of the loss whose targets are not finite."""

    def change(program: Program) -> None:
        program.loss = LossOf(program.loss, _finite_rows)

    code = "rows = torch.isfinite(y)\nloss = criterion(outputs[rows], y[rows])"
    return Remedy("rows without a finite target left out", code, change)


def _finite_rows(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.isfinite(targets).flatten(1).all(1) if targets.ndim > 1 else torch.isfinite(targets)
    return outputs[rows], targets[rows]


def validation_like_training(mean: float, std: float, val_mean: float, val_std: float) -> Remedy:
    """Bring validation inputs to the mean and deviation of the training inputs."""
    factor = val_std / std
    hook = Standardized(moments_of(val_mean - mean * factor, factor), in_training=False)

    def change(program: Program) -> None:
        program.model.register_forward_pre_hook(hook)

    code = f"# one preparation for both; or: x_val = (x_val - {val_mean:.4g}) / {factor:.4g} + {mean:.4g}"
    return Remedy("validation inputs brought to the training scale", code, change)


def targets_like_validation(mean: float, std: float, val_mean: float, val_std: float) -> Remedy:
    """Bring training targets, for the loss, to the mean and deviation of the validation targets, at a scale of 1.

    Both outputs and targets are standardized for the loss; answers are in the validation targets' units.
    """

    def change(program: Program) -> None:
        program.model.register_forward_hook(Unstandardized(moments_of(val_mean, val_std)))
        program.loss = LossOf(program.loss, lambda o, t: ((o - val_mean) / val_std, (t - mean) / std))

    code = f"# one unit for both; or: y_train = (y_train - {mean:.4g}) / {std / val_std:.4g} + {val_mean:.4g}"
    return Remedy("training targets brought to the validation scale", code, change)


def standardize_targets(moments: Moments) -> Remedy:
    """Let the loss see standardized targets, and give answers in the targets' units."""
    standardizer = Standardizer.from_moments(_flat(moments))

    def change(program: Program) -> None:
        program.model.register_forward_hook(Unstandardized(moments))
        program.loss = LossOf(
            program.loss,
            lambda o, t: (_by(standardizer, standardizer.forward, o), _by(standardizer, standardizer.forward, t)),
        )

    code = "standardizer = lh.Standardizer().fit(y_train)\nloss = criterion(outputs, standardizer(y))\n"
    code += "answer = standardizer.inverse(model(x))"
    return Remedy("targets standardized", code, change)


def targets_as_shares(low: float, high: float) -> Remedy:
    """Targets from 0 to 1, for the loss."""

    def change(program: Program) -> None:
        program.loss = LossOf(program.loss, lambda o, t: (o, (t - low) / (high - low)))

    code = f"y = (y - {low:g}) / {high - low:g}" if low else f"y = y / {high:g}"
    return Remedy("targets from 0 to 1", code, change)


def rows_like_their_neighbours(inputs: Tensor, labels: Tensor, size: int) -> Remedy:
    """Leave out the rows whose label is not that of most of their neighbours.

    Source: Wilson 1972, Asymptotic properties of nearest neighbor rules using edited data, section III.
    """

    def change(program: Program) -> None:
        rows = agreeing(inputs, labels)
        program.train = DataLoader(TensorDataset(inputs[rows], labels[rows]), batch_size=size, shuffle=True)

    code = "# look at the rows whose nearest neighbours have another label; without them:\nx, y = x[agree], y[agree]"
    return Remedy("rows left out whose neighbours have another label", code, change)


def batches(size: int | None, words: str) -> Remedy:
    """Another batch size, or the same one, in an order drawn anew each epoch."""

    def change(program: Program) -> None:
        loader = program.train.loader if isinstance(program.train, IndexedBatches) else program.train
        if not isinstance(loader, DataLoader) or loader.batch_size is None:
            raise ProgramError("the training batches do not come from a DataLoader that can be made anew")
        count = size or loader.batch_size
        new = DataLoader(
            loader.dataset,
            batch_size=count,
            shuffle=True,
            drop_last=len(loader.dataset) > 2 * count,  # type: ignore[arg-type]
            collate_fn=loader.collate_fn,
        )
        program.train = IndexedBatches(new) if isinstance(program.train, IndexedBatches) else new

    return Remedy(words, f"DataLoader(data, batch_size={size or '...'}, shuffle=True, drop_last=True)", change)
