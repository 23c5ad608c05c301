"""Regularizers that act after each step of an optimizer, on the parameters that it has just moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levelhead.regularizers.selection import Owned, Where, choose, owned

#: What is done to some parameters: the parameters, the learning rate of their group, and the step, from 0.
Act = Callable[[list[Tensor], float, int], None]


class Attachment:
    """A regularizer at work on an optimizer; ``attach`` makes it.

    It acts after each step that moved the parameters, with the current learning rate of each parameter group, on the
    chosen parameters that have a gradient. It does nothing in a step that a ``GradScaler`` skips. The number of steps
    taken is kept in the optimizer's first parameter group, so that ``optimizer.state_dict()`` carries it, and a
    schedule goes on where it was.

    Args:
        optimizer: any of ``torch.optim.Optimizer``.
        act: what to do; see ``Act``.
        where: which of the optimizer's parameters; see ``select``.
        model: gives the parameters' names and modules; without it, names are known where the optimizer was made from
            ``model.named_parameters()``, and any parameter of two and more dimensions counts as a weight.
        name: of the regularizer.
        needs_rate: whether it needs a learning rate.
    """

    def __init__(
        self, optimizer: Optimizer, act: Act, where: Where, model: nn.Module | None, name: str, needs_rate: bool = True
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"a regularizer is attached to a torch.optim.Optimizer, got {type(optimizer).__name__}")
        self.optimizer, self.where, self.model = optimizer, where, model
        self._act, self._needs_rate = act, needs_rate
        for index, group in enumerate(optimizer.param_groups):
            if needs_rate and "lr" not in group:
                raise ValueError(f"{name} needs a learning rate, and parameter group {index} has no 'lr'")
        others = sum(str(key).startswith("levelhead.") for key in optimizer.param_groups[0])
        self._key = f"levelhead.{others}.{name}"
        optimizer.param_groups[0][self._key] = 0
        self._groups: list[list[nn.Parameter]] = []
        self._sizes: tuple[int, ...] = ()
        self._chosen()
        self._handle = optimizer.register_step_post_hook(self._after)

    @property
    def steps(self) -> int:
        """How often it has acted."""
        return int(self.optimizer.param_groups[0].get(self._key, 0))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What it acts on."""
        return [parameter for group in self._chosen() for parameter in group]

    def zeros(self) -> tuple[int, int]:
        """How many of the values that it acts on are exactly 0, and how many there are."""
        some = self.parameters
        return sum(p.numel() - int(p.count_nonzero()) for p in some), sum(p.numel() for p in some)

    def remove(self) -> None:
        """Take it off the optimizer."""
        self._handle.remove()
        self.optimizer.param_groups[0].pop(self._key, None)

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # A GradScaler calls fused optimizers even where it found an infinity, and tells them by this attribute.
        found = getattr(optimizer, "found_inf", None)
        if found is not None and bool(found):
            return
        step = self.steps
        for group, chosen in zip(optimizer.param_groups, self._chosen(), strict=True):
            moved: list[Tensor] = [parameter for parameter in chosen if parameter.grad is not None]
            if moved:
                self._act(moved, float(group["lr"]) if self._needs_rate else 0.0, step)
        optimizer.param_groups[0][self._key] = step + 1

    def _chosen(self) -> list[list[nn.Parameter]]:
        """The chosen parameters of each group, looked up again where parameters were added."""
        groups = self.optimizer.param_groups
        sizes = tuple(len(group["params"]) for group in groups)
        if sizes != self._sizes:
            taken = {id(parameter) for parameter in choose(self._listed(groups), self.where).values()}
            self._groups = [[p for p in group["params"] if id(p) in taken] for group in groups]
            self._sizes = sizes
        return self._groups

    def _listed(self, groups: Sequence[dict[str, Any]]) -> list[Owned]:
        if self.model is not None:
            held = {id(parameter) for group in groups for parameter in group["params"]}
            of_model = list(owned(self.model))
            if missing := held - {id(parameter) for _, parameter, _ in of_model}:
                raise ValueError(
                    f"{len(missing)} of the optimizer's parameters are not the model's; pass its own model"
                )
            return [entry for entry in of_model if id(entry[1]) in held]
        return [
            (name, parameter, None)
            for index, group in enumerate(groups)
            for name, parameter in zip(
                group.get("param_names", [f"{index}.{i}" for i in range(len(group["params"]))]),
                group["params"],
                strict=True,
            )
        ]
