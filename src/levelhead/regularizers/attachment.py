"""Regularizers that act after each step of an optimizer, on the parameters that it has just moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levelhead.regularizers.selection import Where, choose
from levelhead.weights import Weight, weights

#: What is done to some parameters: the parameters, the learning rate of their group, and the step, from 0.
Act = Callable[[list[Tensor], float, int], None]
#: The attribute of an optimizer that holds its own parameter groups while a step runs with others.
HELD = "_levelhead_groups"


def groups_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The optimizer's parameter groups as the user made them; see ``shrinking``."""
    held = getattr(optimizer, HELD, None)
    groups: list[dict[str, Any]] = optimizer.param_groups if held is None else held[0]
    return groups


def skipped(optimizer: Optimizer) -> bool:
    """Whether a GradScaler has this step skipped: it calls fused optimizers even so, and tells them by an attribute."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


class Attachment:
    """A regularizer at work on an optimizer; ``attach`` makes it.

    It acts after each step (``L2``: at its beginning), with the current learning rate of each parameter group, on the
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
        counted: called with the number of steps after each, and after a state was loaded.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        act: Act,
        where: Where,
        model: nn.Module | None,
        name: str,
        needs_rate: bool = True,
        counted: Callable[[int], None] | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"a regularizer is attached to a torch.optim.Optimizer, got {type(optimizer).__name__}")
        self.optimizer, self.where, self.model = optimizer, where, model
        self._act, self._needs_rate, self._counted = act, needs_rate, counted
        for index, group in enumerate(optimizer.param_groups):
            if needs_rate and "lr" not in group:
                raise ValueError(f"{name} needs a learning rate, and parameter group {index} has no 'lr'")
        others = sum(str(key).startswith("levelhead.") for key in optimizer.param_groups[0])
        self._key = f"levelhead.{others}.{name}"
        optimizer.param_groups[0][self._key] = 0
        self._name = name
        self._groups: list[list[Weight]] = []
        self._sizes: tuple[int, ...] = ()
        self._chosen()
        self._handles = [optimizer.register_step_post_hook(self._after)]
        if counted is not None:
            self._handles.append(optimizer.register_load_state_dict_post_hook(lambda _: counted(self.steps)))

    @property
    def steps(self) -> int:
        """How often it has acted."""
        return int(groups_of(self.optimizer)[0].get(self._key, 0))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What it acts on."""
        return [parameter for group in self._chosen() for one in group for parameter in one.parameters.values()]

    @torch.no_grad()
    def zeros(self) -> tuple[int, int]:
        """How many of the values that it acts on are exactly 0, and how many there are."""
        some = [one.value() for group in self._chosen() for one in group]
        return sum(p.numel() - int(p.count_nonzero()) for p in some), sum(p.numel() for p in some)

    def remove(self) -> None:
        """Take it off the optimizer."""
        for handle in self._handles:
            handle.remove()
        groups_of(self.optimizer)[0].pop(self._key, None)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not skipped(optimizer):
            self._on_all(lambda one: any(parameter.grad is not None for parameter in one.parameters.values()))
            self._count()

    @torch.no_grad()
    def _on_all(self, moves: Callable[[Weight], bool]) -> None:
        """Act on the chosen weights of each group that the step moves."""
        for group, chosen in zip(groups_of(self.optimizer), self._chosen(), strict=True):
            rate, steps = float(group["lr"]) if self._needs_rate else 0.0, self.steps
            moved = [one for one in chosen if moves(one)]
            if direct := [one.units() for one in moved if one.direct]:
                self._act(direct, rate, steps)
            for one in moved:
                if not one.direct:
                    one.change_(lambda units, rate=rate, steps=steps: self._act([units], rate, steps), self._name)  # type: ignore[misc]

    def _count(self) -> None:
        groups_of(self.optimizer)[0][self._key] = self.steps + 1
        if self._counted is not None:
            self._counted(self.steps)

    def _chosen(self) -> list[list[Weight]]:
        """What was chosen in each group, looked up again where parameters were added."""
        groups = groups_of(self.optimizer)
        sizes = tuple(len(group["params"]) for group in groups)
        if sizes != self._sizes:
            place = {id(parameter): index for index, group in enumerate(groups) for parameter in group["params"]}
            self._groups = [[] for _ in groups]
            for one in choose(self._listed(groups, set(place)), self.where):
                self._groups[next(place[id(p)] for p in one.parameters.values() if id(p) in place)].append(one)
            self._sizes = sizes
        return self._groups

    def _listed(self, groups: Sequence[dict[str, Any]], held: set[int]) -> list[Weight]:
        if self.model is not None:
            of_model = list(weights(self.model))
            if missing := held - {id(parameter) for one in of_model for parameter in one.parameters.values()}:
                raise ValueError(
                    f"{len(missing)} of the optimizer's parameters are not the model's; pass its own model"
                )
            return [one for one in of_model if any(id(parameter) in held for parameter in one.parameters.values())]
        listed = []
        for index, group in enumerate(groups):
            names = group.get("param_names", [f"{index}.{i}" for i in range(len(group["params"]))])
            listed += [Weight(name, {name: p}) for name, p in zip(names, group["params"], strict=True)]
        if of := next((one.name for one in listed if ".parametrizations." in f".{one.name}"), None):
            raise ValueError(f"a weight is calculated from {of!r} and others; pass model=..., which says how")
        return listed
