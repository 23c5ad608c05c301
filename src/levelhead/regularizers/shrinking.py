"""Weight decay at each step of any optimizer, in the optimizer's own pass over the memory where it has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from levelhead.regularizers.attachment import HELD, Act, Attachment, groups_of, skipped
from levelhead.regularizers.selection import Where


class Shrinking(Attachment):
    r"""The shrink :math:`w \leftarrow (1 - \alpha\lambda) w` at the beginning of each step, as ``AdamW`` has it.

    The gradient is that of the weights before the shrink: :math:`w \leftarrow (1 - \alpha\lambda) w - step`. For
    ``AdamW`` itself nothing is added to the work: while the step runs, λ is added to its ``weight_decay``, for the
    chosen parameters alone.

    Args:
        optimizer: any of ``torch.optim.Optimizer``.
        act: the shrink.
        strength: λ by the step; checked against the learning rate.
        where: as ``Attachment``; so are ``model`` and ``name``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        act: Act,
        strength: Callable[[int, float], float],
        where: Where,
        model: nn.Module | None,
        name: str,
    ) -> None:
        super().__init__(optimizer, act, where, model, name)
        self._strength = strength
        self._own = type(optimizer) is torch.optim.AdamW
        self._handles.append(optimizer.register_step_pre_hook(self._before))

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        held = getattr(optimizer, HELD, None)
        if held is not None and held[1] is self:  # the step before was interrupted
            _give_back(optimizer)
        if skipped(optimizer):
            return
        # A closure makes the gradients only within the step.
        closure = len(args) > 1 or kwargs.get("closure") is not None
        self._on_all(
            lambda one: (
                not (self._own and one.direct)
                and any(p.requires_grad and (closure or p.grad is not None) for p in one.parameters.values())
            )
        )
        if self._own:  # last: what is refused must leave no trace
            self._split(optimizer)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        _give_back(optimizer)
        if not skipped(optimizer):
            self._count()

    def _split(self, optimizer: Optimizer) -> None:
        """Parameter groups for one step: the chosen parameters apart, with more decay."""
        taken = {id(p) for group in self._chosen() for one in group if one.direct for p in one.parameters.values()}
        groups = []
        for group in optimizer.param_groups:
            chosen = [p for p in group["params"] if id(p) in taken]
            rest = [p for p in group["params"] if id(p) not in taken]
            more = self._strength(self.steps, float(group["lr"])) if chosen else 0.0
            groups += [{**group, "params": chosen, "weight_decay": group["weight_decay"] + more}] if chosen else []
            groups += [{**group, "params": rest}] if rest else []
        if getattr(optimizer, HELD, None) is None:
            setattr(optimizer, HELD, (groups_of(optimizer), self))
        optimizer.param_groups = groups


def _give_back(optimizer: Optimizer) -> None:
    held = getattr(optimizer, HELD, None)
    if held is not None:
        optimizer.param_groups = held[0]
        setattr(optimizer, HELD, None)
