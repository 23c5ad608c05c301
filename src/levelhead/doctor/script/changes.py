"""Changes that are made to a script from outside, one in each run: each would remove one cause.

None of them touches the script: they act on what hooks hand over, on the groups of optimizers, and on the arguments of
loss functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from levelhead.doctor.evidence.structure import DROPOUT, name_of, penalties, through_views
from levelhead.doctor.isolation import random_state_kept
from levelhead.doctor.program import mapped
from levelhead.doctor.remedies.network import LetThrough
from levelhead.doctor.script.rows import QUANTITIES
from levelhead.doctor.script.sight import Sight
from levelhead.doctor.script.wrapping import wrap
from levelhead.doctor.watching import watch
from levelhead.doctor.watching.backward import listen
from levelhead.init import calibrate_, initialize_
from levelhead.nn import Standardizer

#: Deviations from the mean beyond which a standardized input is cut.
FAR = 10.0

Install = Callable[[Sight, str], None]


@dataclass(frozen=True)
class Change:
    """One change.

    Args:
        cause: what it would remove.
        where: where that is, unless what was seen tells it better.
        words: what is changed.
        install: makes it, before the script runs; it is given what the unchanged run said of the place.
        generic: whether nothing but its outcome speaks for the cause.
        fits: whether the training loss must fall with it, too.
    """

    cause: str
    where: str
    words: str
    install: Install
    generic: bool = False
    fits: bool = False


def _around_steps(enter: Callable[[dict[str, Any]], Any], leave: Callable[[dict[str, Any], Any], None]) -> None:
    """Change each group of each optimizer for the time of a step; schedules see it as it was."""
    kept: list[Any] = []

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        kept.append([enter(group) for group in optimizer.param_groups])

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group, value in zip(optimizer.param_groups, kept.pop(), strict=False):
            leave(group, value)

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)


def _opened(act: Callable[[Sight, str, watch, Any], None]) -> Install:
    """Do something when a module is first called that is trained."""
    return lambda sight, where: sight.opened.append(functools.partial(act, sight, where))


def _compared(act: Callable[[str, tuple[Any, ...]], tuple[Any, ...]]) -> Install:
    """Change the outputs and targets that PyTorch's loss functions are given."""

    def change(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        return act(name, args) if len(args) > 1 and isinstance(args[1], Tensor) else args

    return lambda sight, _: sight.compared.append(change)


def _set(name: str, change: Callable[[Any], Any]) -> Install:
    def enter(group: dict[str, Any]) -> Any:
        value = group.get(name)
        if value is not None:
            group[name] = change(value)
        return value

    def leave(group: dict[str, Any], value: Any) -> None:
        if value is not None:
            group[name] = value

    return lambda sight, _: _around_steps(enter, leave)


def _cleared(sight: Sight, _: str) -> None:
    register_optimizer_step_post_hook(lambda optimizer, *_: optimizer.zero_grad())


def _clipped(sight: Sight, _: str) -> None:
    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)

    register_optimizer_step_pre_hook(clip)


def _one_batch(sight: Sight, _: str) -> None:
    """Every update has the inputs and the targets of the first one: what cannot fit these learns nothing at all."""
    kept: dict[Any, Any] = {}

    def first(key: Any, value: Tensor) -> Tensor:
        known = kept.setdefault(key, value.detach())
        return known if torch.is_grad_enabled() and known.shape == value.shape else value

    _compared(lambda name, args: (args[0], first(name, args[1]), *args[2:]))(sight, _)
    _in_front(sight, lambda module, x: first((id(module), x.ndim), x))


def _ascended(sight: Sight, _: str) -> None:
    def turn(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.neg_()

    register_optimizer_step_pre_hook(turn)


def _all_trained(sight: Sight, _: str) -> None:
    """Parameters that get gradients, or are frozen beside trained ones, join the first optimizer."""

    def join(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer is sight.watches[0].optimizers[0] and (left := [p for _, p in sight.untrained()]):
            optimizer.add_param_group({"params": left})

    register_optimizer_step_pre_hook(join)


def _in_front(sight: Sight, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
    """Change the inputs of each trained module."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return mapped((args, kwargs), lambda x: function(module, x) if x.is_floating_point() and x.ndim > 1 else x)

    def opened(seen: watch, args: Any) -> None:
        for entry in seen.entries:
            entry.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)

    sight.opened.append(opened)


def _standardized(sight: Sight, _: str) -> None:
    known: dict[tuple[int, int], Standardizer] = {}

    def function(module: nn.Module, x: Tensor) -> Tensor:
        key = id(module), x.ndim
        if key not in known:
            known[key] = Standardizer(dim=1 if x.ndim in (2, 4) else x.ndim - 1).fit(x.detach())
        scaled: Tensor = known[key](x)
        return scaled.clamp(-FAR, FAR).to(x.dtype)  # a column that hardly varies in the first batch may later

    _in_front(sight, function)


def _validated_alike(sight: Sight, _: str) -> None:
    """Inputs of an evaluation are given the mean and deviation of those of the training."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def function(module: nn.Module, x: Tensor) -> Tensor:
        mean, std = x.detach().mean(), x.detach().std().clamp_min(1e-12)
        if torch.is_grad_enabled():
            seen[id(module)] = mean, std
            return x
        if id(module) not in seen:
            return x
        return (x - mean) / std * seen[id(module)][1] + seen[id(module)][0]

    _in_front(sight, function)


def _targets_standardized(sight: Sight, _: str) -> None:
    """The output is read in units of the targets: the model need not reach their scale."""
    scale: list[tuple[Tensor, Tensor]] = []

    def change(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if name not in QUANTITIES or not args[1].is_floating_point():
            return args
        if not scale:
            scale.append((args[1].detach().mean(), args[1].detach().std().clamp_min(1e-12)))
        return args[0] * scale[0][1] + scale[0][0], *args[1:]

    _compared(change)(sight, _)


@_opened
def _drawn_anew(sight: Sight, _: str, seen: watch, args: Any) -> None:
    with random_state_kept():
        initialize_(seen.model)
    if args and seen.entries == [seen.model] and all(isinstance(a, Tensor) for a in args):
        try:
            calibrate_(seen.model, args if len(args) > 1 else args[0])
        except ValueError as error:
            sight.said.append(str(error))


def _modes(grad: bool, mode: bool, kinds: tuple[type, ...] = (nn.Module,)) -> Install:
    """Run the forward passes with gradients (or those without) in one mode."""

    def install(sight: Sight, _: str) -> None:
        kept: list[Any] = []

        def before(module: nn.Module, args: Any) -> None:
            chosen = [m for m in module.modules() if isinstance(m, kinds)]
            kept.append([(m, m.training) for m in chosen])
            if torch.is_grad_enabled() is grad:
                for m in chosen:
                    m.training = mode

        def after(module: nn.Module, args: Any, output: Any) -> None:
            for m, training in kept.pop():
                m.training = training

        def opened(seen: watch, args: Any) -> None:
            for entry in seen.entries:
                before(entry, args)  # this call is under way
                entry.register_forward_pre_hook(before)
                entry.register_forward_hook(after, always_call=True)

        sight.opened.append(opened)

    return install


def _batch_statistics(sight: Sight, _: str) -> None:
    """Batch normalization takes the batch's statistics in evaluations, and learns nothing from them."""

    def changed(original: Callable[..., Tensor], x: Tensor, mean: Any, var: Any, *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled():
            return original(x, mean, var, *args, **kwargs)
        weight, bias = (*args, kwargs.get("weight"), kwargs.get("bias"))[:2]
        return original(x, None, None, weight, bias, True)

    wrap(F, "batch_norm", changed)


@_opened
def _without_dropout(sight: Sight, _: str, seen: watch, args: Any) -> None:
    for module in seen.model.modules():
        if isinstance(module, DROPOUT):
            module.p = 0.0


@_opened
def _bent(sight: Sight, where: str, seen: watch, args: Any) -> None:
    module = dict(seen.model.named_modules()).get(where)
    if module is not None:
        module.register_forward_hook(lambda module, args, output: F.relu(output))


def _in_shape(sight: Sight, _: str) -> None:
    """Targets take the outputs' shape, in loss functions and in differences."""

    def change(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0], args[1].reshape(args[0].shape), *args[2:]) if mismatched(*args[:2]) else args

    _compared(change)(sight, _)
    for name in ("__sub__", "__rsub__"):
        wrap(Tensor, name, lambda original, a, b: original(a, b.reshape(a.shape) if mismatched(a, b) else b))


def mismatched(a: Any, b: Any) -> bool:
    """Whether two tensors of as many values would be broadcast to more."""
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape == b.shape or a.numel() != b.numel() < 2:
        return False
    return a.numel() == b.numel() > 1 and a.squeeze().shape == b.squeeze().shape and a.ndim != b.ndim


SQUASHES = ("Softmax", "Sigmoid")


def squashed(x: Any) -> bool:
    """Whether a tensor is what a softmax or sigmoid has given."""
    return isinstance(x, Tensor) and name_of(through_views(x.grad_fn)) in SQUASHES


def _once(sight: Sight, _: str) -> None:
    """A loss that squashes its inputs is given those of the first squashing; a sigmoid of a sigmoid is one."""
    given: Any = torch.utils.weak.WeakTensorKeyDictionary()

    def keep(original: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if x in given:
            return x
        result = original(x, *args, **kwargs)
        given[result] = x
        return result

    for owner in (torch, Tensor, F):
        for name in ("sigmoid", "softmax"):
            wrap(owner, name, keep)

    def change(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        squashing = name in ("cross_entropy", "binary_cross_entropy_with_logits")
        return (given[args[0]], *args[1:]) if squashing and args[0] in given else args

    _compared(change)(sight, _)


@_opened
def _attached(sight: Sight, _: str, seen: watch, args: Any) -> None:
    seen.model.forward = LetThrough(seen.model)


@_compared
def _permuted(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Targets of the training are dealt out among the rows anew in each batch."""
    if not torch.is_grad_enabled() or not args[1].ndim:
        return args
    return args[0], args[1][torch.randperm(len(args[1]))], *args[2:]


def _lightened(sight: Sight, _: str) -> None:
    """A ten-thousandth of what the loss adds to its comparison with targets: a sum beside a mean may be so large."""

    def lighten(loss: Tensor) -> None:
        for term in penalties(loss.grad_fn):
            term.register_prehook(lambda gradients: tuple(1e-4 * g for g in gradients))

    listen(lighten)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda rate: rate * factor


CHANGES: dict[str, Change] = {
    "inputs": Change("inputs-not-normalized", "data", "inputs standardized in front of the model", _standardized),
    "validation": Change(
        "train-val-mismatch", "data", "validation inputs brought to the training's mean and deviation", _validated_alike
    ),
    "targets": Change("targets-not-normalized", "data", "outputs read in units of the targets", _targets_standardized),
    "clearing": Change("gradients-accumulate", "loop", "gradients cleared after each update", _cleared),
    "sign": Change("gradient-ascent", "loop", "gradients turned round", _ascended),
    "all": Change("parameters-not-trained", "optimizer", "all parameters in the optimizer", _all_trained),
    "training": Change("eval-mode-in-training", "loop", "updates in training mode", _modes(True, True)),
    "evaluation": Change("train-mode-in-eval", "loop", "evaluations in eval mode", _modes(False, False)),
    "statistics": Change(
        "stale-running-statistics", "loop", "evaluations with the batch's statistics", _batch_statistics
    ),
    "shape": Change("loss-broadcast", "loss", "targets in the outputs' shape", _in_shape),
    "once": Change("output-mismatch", "loss", "the second softmax or sigmoid out", _once),
    "attached": Change("loss-detached", "loss", "detach() and no_grad() out of the forward pass", _attached),
    "weights": Change("init-too-large", "loop", "weights drawn and calibrated by levelhead.init", _drawn_anew),
    "bends": Change("missing-nonlinearity", "loop", "a ReLU in between", _bent),
    "dropout": Change("dropout-too-strong", "loop", "without dropout", _without_dropout),
    "decay": Change("penalty-too-strong", "optimizer", "without weight decay", _set("weight_decay", lambda _: 0.0)),
    "penalty": Change("penalty-too-strong", "loss", "a ten-thousandth of the loss's penalty", _lightened),
    "clipped": Change("learning-rate-too-high", "optimizer", "gradients clipped to a norm of 1", _clipped, True, True),
    "one batch": Change("does-not-learn", "optimizer", "one batch, over and over", _one_batch),
    "permuted": Change("labels-corrupted", "data", "targets dealt out at random", _permuted),
}
#: How many times as high a rate each of these has, in words.
_RATES = {
    "rate / 10": (0.1, "a tenth of the learning rate"),
    "rate / 100": (0.01, "a hundredth of the rate"),
    "rate / 1000": (0.001, "a thousandth of the rate"),
    "rate x 10": (10.0, "ten times the learning rate"),
    "rate x 100": (100.0, "100 times the rate"),
    "rate x 1000": (1000.0, "1000 times the rate"),
}
RATES = {name: factor for name, (factor, _) in _RATES.items()}
CHANGES |= {
    name: Change(
        f"learning-rate-too-{'high' if f < 1 else 'low'}", "optimizer", words, _set("lr", _times(f)), True, True
    )
    for name, (f, words) in _RATES.items()
}
