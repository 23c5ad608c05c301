"""Where a script that runs is changed from outside: at calls of its modules, at losses, and around its steps.

What a remedy does there goes to another process, so that it is made of functions and classes of modules alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from levelhead.doctor.program import mapped


class Running(Protocol):
    """A script that runs: what is called when a module is first called that is trained, and at each loss."""

    opened: list[Callable[[Any, Any], object]]
    compared: list[Callable[[str, tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]]
    said: list[str]

    def untrained(self) -> list[tuple[str, Tensor]]:
        """Parameters with gradients that no optimizer has."""
        ...


Outside = Callable[[Running], None]


def on_model(act: Callable[[nn.Module], object], run: Running) -> None:
    """Do something to a model when it is first called."""
    run.opened.append(lambda seen, args: act(seen.model))


def in_front(change: Callable[[nn.Module, Tensor], Tensor], run: Running) -> None:
    """Change the inputs of each trained module."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return mapped((args, kwargs), lambda x: change(module, x) if x.is_floating_point() and x.ndim > 1 else x)

    def opened(seen: Any, args: Any) -> None:
        for entry in seen.entries:
            entry.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)

    run.opened.append(opened)


def compared(change: Callable[[str, tuple[Any, ...]], tuple[Any, ...]], run: Running) -> None:
    """Change the outputs and targets that PyTorch's loss functions are given: name and arguments to arguments."""

    def with_targets(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        return change(name, args) if len(args) > 1 and isinstance(args[1], Tensor) else args

    run.compared.append(with_targets)


def before_steps(act: Callable[[torch.optim.Optimizer], object], _: Running) -> None:
    """Do something to each optimizer before each of its steps."""

    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        act(optimizer)

    register_optimizer_step_pre_hook(hook)


def after_steps(act: Callable[[torch.optim.Optimizer], object], _: Running) -> None:
    """Do something to each optimizer after each of its steps."""

    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        act(optimizer)

    register_optimizer_step_post_hook(hook)


def in_steps(name: str, change: Callable[[dict[str, Any]], Any], run: Running) -> None:
    """Change an option of each optimizer's groups for the time of a step: a group to its value; schedules see none."""
    kept: list[list[Any]] = []

    def before(optimizer: torch.optim.Optimizer) -> None:
        kept.append([group.get(name) for group in optimizer.param_groups])
        for group in optimizer.param_groups:
            if group.get(name) is not None:
                group[name] = change(group)

    def after(optimizer: torch.optim.Optimizer) -> None:
        for group, value in zip(optimizer.param_groups, kept.pop(), strict=False):
            if value is not None:
                group[name] = value

    before_steps(before, run)
    after_steps(after, run)


def in_mode(grad: bool, mode: bool, run: Running) -> None:
    """Run the forward passes with gradients (or those without) in one mode."""
    kept: list[list[tuple[nn.Module, bool]]] = []

    def before(module: nn.Module, args: Any) -> None:
        kept.append([(m, m.training) for m in module.modules()])
        if torch.is_grad_enabled() is grad:
            for m in module.modules():
                m.training = mode

    def after(module: nn.Module, args: Any, output: Any) -> None:
        for m, training in kept.pop():
            m.training = training

    def opened(seen: Any, args: Any) -> None:
        for entry in seen.entries:
            before(entry, args)  # this call is under way
            entry.register_forward_pre_hook(before)
            entry.register_forward_hook(after, always_call=True)

    run.opened.append(opened)


def wrap(owner: Any, name: str, by: Callable[..., Any]) -> Callable[[], None]:
    """Have ``by(original, *args, **kwargs)`` called in place of an attribute; what comes back undoes it."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return by(original, *args, **kwargs)

    setattr(owner, name, wrapped)
    return functools.partial(setattr, owner, name, original)
