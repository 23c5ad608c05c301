"""Remedies of the network: weights and layers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from levelhead.doctor.program import Program
from levelhead.doctor.remedies.base import Remedy
from levelhead.init import calibrate_


def replace(names: Sequence[str], new: Callable[[nn.Module], nn.Module], words: str, code: str) -> Remedy:
    """Put another module in the place of each of these."""

    def change(program: Program) -> None:
        for name in names:
            swap(program, name, new(program.model.get_submodule(name)))

    return Remedy(words, code, change)


def swap(program: Program, name: str, module: nn.Module) -> None:
    """Put a module in the place of another; its new parameters go to the optimizer's first group."""
    if not name:
        program.model = module
    else:
        parent, _, last = name.rpartition(".")
        setattr(program.model.get_submodule(parent), last, module)
    held = {id(p) for group in program.optimizer.param_groups for p in group["params"]}
    first = next((p for p in program.model.parameters() if id(p) in held), None)
    if first is not None:
        module.to(first.device)
    new = [p for p in module.parameters() if id(p) not in held]
    if new:
        program.optimizer.add_param_group({"params": new, "weight_decay": 0.0})


def exchange(program: Program, name: str, module: nn.Module) -> None:
    """Put a module in another's place; its parameters go to the optimizer's group of those that they replace."""
    old = program.model.get_submodule(name)
    gone = {id(p) for p in old.parameters()}
    swap_in = module.to(next(iter(old.parameters())).device) if gone else module
    for group in program.optimizer.param_groups:
        if any(id(p) in gone for p in group["params"]):
            group["params"] = [p for p in group["params"] if id(p) not in gone] + list(swap_in.parameters())
            break
    swap(program, name, swap_in)


def reset(names: Sequence[str]) -> Remedy:
    """Draw the weights of these layers as their own class does."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).reset_parameters()  # type: ignore[operator]

    code = "\n".join(f"model.get_submodule({name!r}).reset_parameters()" for name in names[:4])
    return Remedy("weights drawn at random", code, change)


def calibrate(names: Sequence[str], inputs: Any) -> Remedy:
    r"""Draw orthogonal weights, zero biases, and scale each layer on data to an output of deviation 1.

    Source: Mishkin & Matas 2016, All you need is a good init, algorithm 1 (``levelhead.init.calibrate_``).
    """

    def change(program: Program) -> None:
        for name in names:
            layer: Any = program.model.get_submodule(name)
            if layer.weight.numel() <= 1_000_000:
                nn.init.orthogonal_(layer.weight)
            else:  # a decomposition of a large matrix takes longer than training
                nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        last: Any = program.model.get_submodule(names[-1])
        drawn = last.weight.detach().clone()
        calibrate_(program.model, inputs, tolerance=0.1)
        if len(names) > 1:  # the outputs keep the scale that the loss expects of a new network
            last.weight.data.copy_(drawn)

    code = 'lh.init.initialize_(model, "orthogonal")\nlh.init.calibrate_(model, inputs)  # a batch'
    return Remedy("weights calibrated on data", code, change)


def followed_by(names: Sequence[str], new: Callable[[nn.Module], nn.Module], words: str, code: str) -> Remedy:
    """Put a module behind each of these."""

    def change(program: Program) -> None:
        for name in names:
            layer = program.model.get_submodule(name)
            swap(program, name, nn.Sequential(layer, new(layer)))

    return Remedy(words, code, change)


def dropout(names: Sequence[str], rate: float) -> Remedy:
    """Another rate in these dropouts."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).p = rate  # type: ignore[assignment]

    code = "\n".join(f"model.get_submodule({name!r}).p = {rate:g}" for name in names[:4])
    return Remedy(f"dropout {rate:g} in {', '.join(names[:4])}", code, change)


def moved_dropout(names: Sequence[str], last: str, rate: float) -> Remedy:
    """No dropout in these, one in front of the last layer instead."""

    def change(program: Program) -> None:
        dropout(names, 0.0)(program)
        swap(program, last, nn.Sequential(nn.Dropout(rate), program.model.get_submodule(last)))

    return Remedy("dropout behind the last batch normalization", f"nn.Dropout({rate:g})  # only before {last}", change)


def no_bias(names: Sequence[str]) -> Remedy:
    """Take the biases out of these layers."""

    def change(program: Program) -> None:
        for name in names:
            layer: Any = program.model.get_submodule(name)
            gone = layer.bias
            layer.bias = None
            for group in program.optimizer.param_groups:
                group["params"] = [p for p in group["params"] if p is not gone]

    return Remedy("no bias before the normalization", "bias=False  # " + ", ".join(names[:4]), change)


class Attached(TorchFunctionMode):
    """While it is entered, ``detach()`` gives the tensor itself, and gradients are not turned off."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function itself, unless it detaches."""
        if func in (Tensor.detach, torch.detach):
            return args[0]
        if func is torch._C._set_grad_enabled:
            args = (True,)
        return func(*args, **(kwargs or {}))


class LetThrough:
    """A module's forward with gradients on and nothing detached while it trains; as it was in evaluation."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.forward = module, module.forward
        self.__signature__ = inspect.signature(module.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        if not self.module.training:
            return self.forward(*args, **kwargs)
        with torch.enable_grad(), Attached():
            return self.forward(*args, **kwargs)


class StraightThrough:
    """A module's forward whose output passes the gradient on as if it were the input."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, x: Tensor) -> Tensor:
        """Run it."""
        y: Tensor = self.forward(x)
        return y.detach() + (x - x.detach())


def straight_through(name: str) -> Remedy:
    """Let a module that has no gradient pass on that of its output.

    Source: Bengio, Léonard & Courville 2013, Estimating or propagating gradients through stochastic neurons, section 3.
    """

    def change(program: Program) -> None:
        module = program.model.get_submodule(name)
        module.forward = StraightThrough(module.forward)

    return Remedy(f"gradients straight through {name}", f"y = {name}(x).detach() + (x - x.detach())", change)


def let_through() -> Remedy:
    """Let gradients through the whole model."""

    def change(program: Program) -> None:
        program.model.forward = LetThrough(program.model)

    return Remedy("gradients let through", "# no detach(), no torch.no_grad() in forward()", change)
