"""Remedies of the data and the loss: scales, batches, and what the loss compares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.weak import WeakTensorKeyDictionary

from levelhead.doctor.evidence.backward import listen
from levelhead.doctor.evidence.data import moments_of
from levelhead.doctor.evidence.structure import name_of, through_views
from levelhead.doctor.evidence.tables import agreeing
from levelhead.doctor.evidence.terms import opposing, penalties, terms
from levelhead.doctor.isolation import IndexedBatches
from levelhead.doctor.program import Program, ProgramError, hits, one_hot
from levelhead.doctor.remedies import outside
from levelhead.doctor.remedies.base import Remedy
from levelhead.doctor.remedies.network import exchange
from levelhead.doctor.remedies.outside import Outside, Running
from levelhead.moments import Moments
from levelhead.nn import Standardizer

Scale = Callable[[Tensor], Tensor]
#: PyTorch's losses of quantities.
QUANTITIES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
#: Those whose first argument is the answer, the second what it should be.
COMPARING = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", *QUANTITIES)
#: Deviations from the mean beyond which an input is cut that is standardized by a first batch.
FAR = 10.0


def _in_front(
    change: Callable[[nn.Module, Tensor], Tensor], words: str, code: str, script: Outside | None = None
) -> Remedy:
    """Change the model's first argument, whether in training or in evaluation the function decides."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(module, args[0]), *args[1:])

    return Remedy(words, code, lambda program: program.model.register_forward_pre_hook(hook), script)


def _compared(
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], words: str, code: str, script: Outside | None = None
) -> Remedy:
    """Let the loss see changed outputs and targets."""
    return Remedy(words, code, lambda program: setattr(program, "loss", LossOf(program.loss, change)), script)


class LossOf:
    """A loss of changed outputs and targets."""

    def __init__(self, loss: Callable[..., Any], change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.loss, self.change = loss, change

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        """The loss of what was changed."""
        return self.loss(*self.change(outputs, targets))


def _scales(moments: Moments) -> tuple[Scale, Scale]:
    """To mean 0 and deviation 1 and back, by columns, or all values by one."""
    count = moments.count.expand_as(moments.mean)
    flat = Moments(*(value.reshape(-1) for value in (count, moments.mean, moments.m2)))
    standardizer = Standardizer.from_moments(flat)

    def by(scale: Scale) -> Scale:
        def scaled(x: Tensor) -> Tensor:
            standardizer.to(x.device)
            return scale(x.reshape(-1, flat.mean.numel())).reshape(x.shape)

        return scaled

    return by(standardizer.forward), by(standardizer.inverse)


def standardize_inputs(moments: Moments) -> Remedy:
    """Subtract the inputs' mean and divide by their deviation, a column (or all values together) at a time."""
    scale, _ = _scales(moments)
    columns = moments.mean.numel() > 1
    code = "standardizer = lh.Standardizer().fit(x_train)  # also for validation data\nx = standardizer(x)"
    whole = f"x = (x - {float(moments.mean.mean()):.4g}) / {float(moments.std().mean()):.4g}  # also validation data"
    which = "each column" if columns else "all values together"
    return _in_front(lambda _, x: scale(x), f"inputs standardized ({which})", code if columns else whole)


def inputs_standardized() -> Remedy:
    """Standardize a script's inputs by its first batch, a column at a time."""
    code = "standardizer = lh.Standardizer().fit(x_train)  # also for validation data\nx = standardizer(x)"
    return Remedy("inputs standardized in front of the model", code, outside=_standardized)


def _standardized(run: Running) -> None:
    known: dict[tuple[int, int], Standardizer] = {}

    def change(module: nn.Module, x: Tensor) -> Tensor:
        key = id(module), x.ndim
        if key not in known:
            known[key] = Standardizer(dim=1 if x.ndim in (2, 4) else x.ndim - 1).fit(x.detach())
        scaled: Tensor = known[key](x)
        return scaled.clamp(-FAR, FAR).to(x.dtype)  # a column that hardly varies in the first batch may later

    outside.in_front(change, run)


def one_batch() -> Remedy:
    """Give a script's updates the inputs and targets of the first: what cannot fit these learns nothing at all."""
    return Remedy("one batch, over and over", "batch = next(iter(loader))", outside=_one_batch)


def _one_batch(run: Running) -> None:
    kept: dict[Any, Any] = {}

    def first(key: Any, value: Tensor) -> Tensor:
        known = kept.setdefault(key, value.detach())
        return known if torch.is_grad_enabled() and known.shape == value.shape else value

    outside.compared(lambda name, args: (args[0], first(name, args[1]), *args[2:]), run)
    outside.in_front(lambda module, x: first((id(module), x.ndim), x), run)


def permuted() -> Remedy:
    """Deal a script's targets out among the rows anew in each batch of the training."""
    code = "y = y[torch.randperm(len(y))]"
    return Remedy("targets dealt out at random", code, outside=partial(outside.compared, _permute))


def _permute(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if not torch.is_grad_enabled() or not args[1].ndim:
        return args
    return args[0], args[1][torch.randperm(len(args[1]))], *args[2:]


def finite_inputs(mean: Tensor) -> Remedy:
    """Put the mean of a column in the place of its values that are not finite."""
    return _in_front(
        lambda _, x: torch.where(torch.isfinite(x), x, mean.to(x)),
        "means for values that are not finite",
        "x = torch.where(torch.isfinite(x), x, x_mean)",
    )


def nothing_far(middle: Tensor, limit: Tensor) -> Remedy:
    """Put the median of a column in the place of values that are no measurements."""
    return _in_front(
        lambda _, x: torch.where((x - middle.to(x)).abs() <= limit.to(x), x, middle.to(x)),
        "medians for values that are no measurements",
        "x = torch.where((x - x_median).abs() <= limit, x, x_median)",
    )


def finite_targets() -> Remedy:
    """Leave the rows out of the loss whose targets are not finite."""
    code = "rows = torch.isfinite(y)\nloss = criterion(outputs[rows], y[rows])"
    return _compared(_finite_rows, "rows without a finite target left out", code)


def _finite_rows(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.isfinite(targets).flatten(1).all(1) if targets.ndim > 1 else torch.isfinite(targets)
    return outputs[rows], targets[rows]


def validation_like_training(mean: float, std: float, val_mean: float, val_std: float) -> Remedy:
    """Bring validation inputs to the mean and deviation of the training inputs."""
    factor = val_std / std
    scale, _ = _scales(moments_of(val_mean - mean * factor, factor))
    code = f"# one preparation for both; or: x_val = (x_val - {val_mean:.4g}) / {factor:.4g} + {mean:.4g}"
    words = "validation inputs brought to the training scale"
    return _in_front(lambda module, x: x if module.training else scale(x), words, code, _validated_alike)


def _validated_alike(run: Running) -> None:
    """Inputs of an evaluation are given the mean and deviation of the last ones of the training."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def change(module: nn.Module, x: Tensor) -> Tensor:
        mean, std = x.detach().mean(), x.detach().std().clamp_min(1e-12)
        if torch.is_grad_enabled():
            seen[id(module)] = mean, std
            return x
        if id(module) not in seen:
            return x
        return (x - mean) / std * seen[id(module)][1] + seen[id(module)][0]

    outside.in_front(change, run)


def _answers_in(
    units: Moments, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], words: str, code: str
) -> Remedy:
    """Give answers in these units, and let the loss see changed ones."""
    _, back = _scales(units)
    compared = _compared(change, words, code)

    def both(program: Program) -> None:
        program.model.register_forward_hook(lambda module, args, outputs: back(outputs))
        compared.change(program)

    return Remedy(words, code, both)


def targets_like_validation(mean: float, std: float, val_mean: float, val_std: float) -> Remedy:
    """Bring training targets, for the loss, to the mean and deviation of the validation targets, at a scale of 1.

    Both outputs and targets are standardized for the loss; answers are in the validation targets' units.
    """
    code = f"# one unit for both; or: y_train = (y_train - {mean:.4g}) / {std / val_std:.4g} + {val_mean:.4g}"
    return _answers_in(
        moments_of(val_mean, val_std),
        lambda o, t: ((o - val_mean) / val_std, (t - mean) / std),
        "training targets brought to the validation scale",
        code,
    )


def standardize_targets(moments: Moments) -> Remedy:
    """Let the loss see standardized targets, and give answers in the targets' units."""
    scale, _ = _scales(moments)
    code = "standardizer = lh.Standardizer().fit(y_train)\nloss = criterion(outputs, standardizer(y))\n"
    code += "answer = standardizer.inverse(model(x))"
    return _answers_in(moments, lambda o, t: (scale(o), scale(t)), "targets standardized", code)


def targets_standardized() -> Remedy:
    """Read a script's outputs in units of its targets: model and gradients need not have their scale."""
    code = "standardizer = lh.Standardizer().fit(y_train)\nloss = criterion(outputs, standardizer(y))"
    return Remedy("outputs read in units of the targets", code, outside=_in_units_of_targets)


def _in_units_of_targets(run: Running) -> None:
    scale: list[tuple[Tensor, Tensor]] = []

    def change(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if name not in QUANTITIES or not args[1].is_floating_point():
            return args
        if not scale:
            scale.append((args[1].detach().mean(), args[1].detach().std().clamp_min(1e-12)))
        (mean, std), answers = scale[0], args[0]
        if answers.requires_grad:
            answers = answers.view_as(answers)
            answers.register_hook(lambda gradient: gradient / std ** (2 if name == "mse_loss" else 1))
        return answers * std + mean, *args[1:]

    outside.compared(change, run)


def targets_as_shares(low: float, high: float) -> Remedy:
    """Targets from 0 to 1, for the loss."""
    code = f"y = (y - {low:g}) / {high - low:g}" if low else f"y = y / {high:g}"
    return _compared(lambda o, t: (o, (t - low) / (high - low)), "targets from 0 to 1", code)


def aligned_loss() -> Remedy:
    """Give the outputs the targets' shape before the loss."""
    code = "loss = criterion(outputs.reshape(targets.shape), targets)"
    return _compared(lambda o, t: (o.reshape(t.shape), t), "outputs in the targets' shape", code, _in_shape)


def _in_shape(run: Running) -> None:
    """Targets take the outputs' shape, in loss functions and in differences."""

    def change(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0], args[1].reshape(args[0].shape), *args[2:]) if mismatched(*args[:2]) else args

    outside.compared(change, run)
    for name in ("__sub__", "__rsub__"):
        outside.wrap(Tensor, name, lambda original, a, b: original(a, b.reshape(a.shape) if mismatched(a, b) else b))


def mismatched(a: Any, b: Any) -> bool:
    """Whether two tensors of as many values would be broadcast to more."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape == b.shape:
        return False
    return a.numel() == b.numel() > 1 and a.squeeze().shape == b.squeeze().shape and a.ndim != b.ndim


def squashed(x: Any) -> bool:
    """Whether a tensor is what a softmax or sigmoid has given."""
    return isinstance(x, Tensor) and name_of(through_views(x.grad_fn)) in ("Softmax", "Sigmoid")


def squashed_once() -> Remedy:
    """Give a script's loss that squashes its inputs those of the first squashing; a sigmoid of a sigmoid is one."""
    return Remedy("the second softmax or sigmoid out", "# no softmax or sigmoid in front of the loss", outside=_once)


def _once(run: Running) -> None:
    given: Any = WeakTensorKeyDictionary()

    def keep(original: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if x in given:
            return x
        result = original(x, *args, **kwargs)
        given[result] = x
        return result

    for owner in (torch, Tensor, F):
        for name in ("sigmoid", "softmax"):
            outside.wrap(owner, name, keep)

    def change(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        squashing = name in ("cross_entropy", "binary_cross_entropy_with_logits")
        return (given[args[0]], *args[1:]) if squashing and args[0] in given else args

    outside.compared(change, run)


def penalty_lightened() -> Remedy:
    """A ten-thousandth of what a script's loss adds to its comparison: a sum beside a mean may be so large."""
    code = "loss = comparison + 1e-4 * penalty  # or both as sums, or as means, over the same rows and elements"
    return Remedy("a ten-thousandth of the loss's penalty", code, outside=_lightened)


def _lightened(_: Running) -> None:
    def lighten(loss: Tensor) -> None:
        for term in penalties(loss.grad_fn):
            term.register_prehook(lambda gradients: tuple(1e-4 * g for g in gradients))

    listen(lighten)


def term_turned() -> Remedy:
    """Take the terms of a script's loss that pull against its comparison with targets with the other sign."""
    words, code = "the sign of a term that pulls against the others turned", "loss = comparison - term"
    return Remedy(words, code, outside=_turned)


def _turned(run: Running) -> None:
    against = Opposing(run)

    def turn(loss: Tensor) -> None:
        for term in [terms(loss.grad_fn)[i] for i in against.of(loss)]:
            term.register_prehook(lambda gradients: tuple(-g for g in gradients))

    listen(turn)


class Opposing:
    """Which terms of a script's loss pull against its comparison with targets, asked once of a sum of so many terms."""

    def __init__(self, run: Running) -> None:
        self.found: dict[int, list[int]] = {}
        self.outputs: Tensor | None = None
        run.compared.append(self._see)

    def _see(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if name in COMPARING and args and isinstance(args[0], Tensor) and args[0].grad_fn is not None:
            self.outputs = args[0]
        return args

    def of(self, loss: Tensor) -> list[int]:
        """Their places among the terms of this loss."""
        count, outputs, self.outputs = len(terms(loss.grad_fn)), self.outputs, None
        if count not in self.found and outputs is not None:
            try:
                self.found[count] = opposing(loss, outputs)
            except RuntimeError:  # what was compared is not in this loss's graph
                self.found[count] = []
        return self.found.get(count, [])


def of_logarithms() -> Remedy:
    """Give the loss the logarithms of outputs that are positive."""
    code = "loss = criterion(outputs.log(), targets)"
    return _compared(lambda o, t: (o.clamp_min(1e-6).log(), t), "logarithms of the outputs", code)


def other_loss(loss: Callable[..., Any], words: str, code: str) -> Remedy:
    """Another loss; of a script, in the place of an error of quantities."""
    return Remedy(words, code, lambda program: setattr(program, "loss", loss), partial(_compared_by, loss))


def _compared_by(loss: Callable[..., Any], _: Running) -> None:
    def changed(original: Callable[..., Any], outputs: Tensor, targets: Tensor, *args: Any, **kwargs: Any) -> Any:
        trains = torch.is_grad_enabled() and outputs.requires_grad
        return loss(outputs, targets) if trains else original(outputs, targets, *args, **kwargs)

    given = {name: getattr(F, name) for name in QUANTITIES}
    for name, function in given.items():
        if function is not loss:
            outside.wrap(F, name, changed)


class Times:
    """A loss times a number."""

    def __init__(self, loss: Callable[..., Any], factor: float) -> None:
        self.loss, self.factor = loss, factor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The loss, multiplied."""
        return self.factor * self.loss(*args, **kwargs)


def times(factor: float, words: str, code: str) -> Remedy:
    """The same loss times a number."""
    return Remedy(words, code, lambda program: setattr(program, "loss", Times(program.loss, factor)))


def outputs_for_classes(last: str, classes: int) -> Remedy:
    """An output for each class and cross-entropy, where one output was to hit the class's number."""

    def change(program: Program) -> None:
        old: Any = program.model.get_submodule(last)
        exchange(program, last, nn.Linear(old.in_features, classes, old.bias is not None))
        program.loss, program.score, program.evaluate = _numbered_cross_entropy, _numbered_accuracy, None

    code = f"# {last}: nn.Linear(..., {classes})\ncriterion = nn.CrossEntropyLoss()  # answer: outputs.argmax(1)"
    return Remedy(f"{classes} outputs and cross-entropy", code, change)


def _numbered_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets.flatten().long())


def _numbered_accuracy(model: nn.Module, loader: Any) -> float:
    return hits(model, loader, lambda outputs: outputs.argmax(1))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with class numbers or one-hot rows."""
    return F.cross_entropy(outputs, one_hot(outputs, targets))


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of yes and no, with outputs as scores and targets of any type and as many."""
    return F.binary_cross_entropy_with_logits(outputs.reshape(targets.shape), targets.to(outputs))


def log_of_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """The negative log of the target's probability, for outputs that are probabilities."""
    return F.nll_loss(outputs.clamp_min(1e-9).log(), one_hot(outputs, targets))


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
        count, rows = size or loader.batch_size, len(loader.dataset)  # type: ignore[arg-type]
        new = DataLoader(loader.dataset, count, True, collate_fn=loader.collate_fn, drop_last=rows > 2 * count)
        program.train = IndexedBatches(new) if isinstance(program.train, IndexedBatches) else new

    return Remedy(words, f"DataLoader(data, batch_size={size or '...'}, shuffle=True, drop_last=True)", change)
