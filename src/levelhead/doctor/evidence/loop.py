"""Watches a few updates of a copy: modes, gradients as they arrive, what the optimizer gets and what it changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor.evidence.calls import Call, Calls
from levelhead.doctor.evidence.probe import Probe
from levelhead.doctor.program import Program


@dataclass
class LossCall:
    """One call of the program's loss."""

    outputs: Any
    targets: Any
    value: float
    attached: bool
    node: Any


@dataclass
class Update:
    """One step of the optimizer, in scalar products.

    Args:
        arrived: norm of the gradients that this step's backward passes brought.
        held: norm of the gradient that the optimizer got.
        cleared: share of ``held`` that is not a multiple of what arrived: 0 where gradients were cleared.
        kept: share that is not the last gradient plus a multiple of what arrived: 0 where they were not.
        descent: cosine between what the optimizer got and the gradient of the loss: 1 is descent, -1 ascent.
        move: cosine between the change of the parameters and what the optimizer got: negative is descent.
        piled: the parameters whose own gradient is the last one plus what arrived.
    """

    arrived: float
    held: float
    cleared: float
    kept: float
    descent: float
    move: float
    piled: frozenset[str] = frozenset()


@dataclass
class Loop:
    """What a few updates showed.

    Args:
        calls: the modules without children that ran in the first update, in order.
        losses: calls of the program's loss in the first update.
        returned: what each step returned.
        updates: the optimizer's steps.
        modes: of each module that ran with gradients on: the modes it was in.
        reached: parameters that a backward pass arrived at; gradients: those where it was not zero.
        executed: modules that ran with gradients on; ran: those that ran at all.
        frozen: parameters that needed no gradient at some time.
        error: what the program raised; failed_at: in which batch, from 1.
        first_norms: norm of each parameter's gradient at the first step of the optimizer.
    """

    calls: list[Call] = field(default_factory=list)
    losses: list[LossCall] = field(default_factory=list)
    returned: list[float] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    modes: dict[str, set[bool]] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    gradients: set[str] = field(default_factory=set)
    executed: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    error: Exception | None = None
    failed_at: int = 0
    first_norms: dict[str, float] = field(default_factory=dict)


class Recorded:
    """A loss that tells of its calls; what else it has is the loss's own."""

    def __init__(self, loss: Callable[..., Any], tell: Callable[[tuple[Any, ...], Any], None]) -> None:
        self._loss, self._tell = loss, tell

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the loss, and tell of it."""
        value = self._loss(*args, **kwargs)
        self._tell(args, value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loss, name)


def measure(twin: Program, batches: Iterable[Any]) -> Loop:
    """Update a copy with these batches, and watch; the copy is used up.

    An error of the program is kept in ``error``, with the number of the batch (from 1) in ``failed_at``.
    """
    watcher = _Watcher(twin)
    try:
        for number, batch in enumerate(batches, start=1):
            watcher.first = number == 1
            watcher.found.failed_at = number
            watcher.found.returned.append(twin.update(batch))
            watcher.calls.close()  # of the first update
    except Exception as error:
        watcher.found.error = error
    else:
        watcher.found.failed_at = 0
    finally:
        watcher.close()
    return watcher.found


class _Watcher:
    def __init__(self, twin: Program) -> None:
        leaves = {name: module for name, module in twin.model.named_modules() if not any(module.children())}
        self.calls = Calls(leaves, keep=True)
        self.found = Loop(calls=self.calls.found)
        self.first, self.asking = True, False
        self.names: dict[Tensor, str] = {p: name for name, p in twin.model.named_parameters()}
        self.parameters: list[Tensor] = []  # those that have asked for gradients so far
        self.arrived: dict[Tensor, Tensor] = {}
        self.of_loss: dict[Tensor, Tensor] = {}
        self.last: dict[Tensor, Tensor] = {}
        self.got: dict[Tensor, Tensor] = {}
        self.trained = [p for group in twin.optimizer.param_groups for p in group["params"]]
        self.probe = self._armed()
        self.handles: list[Any] = []
        self._thawed()
        self.handles += [twin.optimizer.register_step_pre_hook(self._before)]
        self.handles += [twin.optimizer.register_step_post_hook(self._after)]
        for name, module in twin.model.named_modules():
            self.handles.append(module.register_forward_pre_hook(self._mode(name)))
        twin.loss = Recorded(twin.loss, self._loss)

    def close(self) -> None:
        self.calls.close()
        for handle in self.handles:
            handle.remove()

    def _thawed(self) -> None:
        """Hear of the gradients of what asks for them now: a program may freeze and thaw as it goes."""
        known = set(map(id, self.parameters))
        for parameter, name in self.names.items():
            if not parameter.requires_grad:
                self.found.frozen.add(name)
            elif id(parameter) not in known:
                self.parameters.append(parameter)
                self.handles.append(parameter.register_hook(self._arrives(parameter)))

    def _arrives(self, parameter: Tensor) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            if self.asking:
                return
            gradient = _dense(gradient)
            self.arrived[parameter] = gradient + self.arrived.get(parameter, 0)
            self.found.reached.add(self.names[parameter])
            if bool((gradient != 0).any()):
                self.found.gradients.add(self.names[parameter])

        return hook

    def _mode(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self.found.ran.add(name)
            self._thawed()
            if torch.is_grad_enabled():
                self.found.modes.setdefault(name, set()).add(module.training)
                self.found.executed.add(name)

        return hook

    def _loss(self, args: tuple[Any, ...], value: Any) -> None:
        attached = isinstance(value, Tensor) and value.requires_grad
        number = float(value.detach().mean()) if isinstance(value, Tensor) and value.numel() else math.nan
        outputs = args[0] if args else None
        if self.first and len(self.found.losses) < 4:
            node = outputs.grad_fn if isinstance(outputs, Tensor) else None
            kept = [a.detach().clone() if isinstance(a, Tensor) else a for a in args[:2]] + [None, None]
            self.found.losses.append(LossCall(kept[0], kept[1], number, attached, node))
        if attached and value.numel() == 1:
            self.asking = True  # our own backward pass runs the parameters' hooks too
            asked = [p for p in self.parameters if p.requires_grad]
            gradients = torch.autograd.grad(value, asked, retain_graph=True, allow_unused=True) if asked else ()
            self.asking = False
            for parameter, gradient in zip(asked, gradients, strict=True):
                if gradient is not None:
                    self.of_loss[parameter] = _dense(gradient) + self.of_loss.get(parameter, 0)

    def _armed(self) -> Probe:
        return Probe({}, {self.names.get(p, f"parameter {i}"): p for i, p in enumerate(self.trained)})

    def _before(self, *_: Any) -> None:
        self.probe.gradients()
        self.got = {p: _dense(p.grad).clone() for p in self.trained if p.grad is not None}

    def _after(self, *_: Any) -> None:
        got, arrived = self.got, {p: g for p, g in self.arrived.items() if p in self.got}
        rest = {p: g - self.last[p] for p, g in got.items() if p in self.last}
        held = _dot(got, got) ** 0.5
        measured, self.probe = self.probe.finish(len(self.found.updates)), self._armed()
        if not self.found.first_norms:
            self.found.first_norms = {name: w.gradient for name, w in measured.weights.items()}
        self.found.updates.append(
            Update(
                arrived=_dot(arrived, arrived) ** 0.5,
                held=held,
                cleared=_residual(got, arrived),
                kept=_residual(rest, arrived) * (_dot(rest, rest) ** 0.5 / held if held else 0) if rest else math.nan,
                descent=_cosine(got, self.of_loss),
                move=measured.move,
                piled=frozenset(self.names[p] for p in got if p in self.names and self._piled(p)),
            )
        )
        self.last, self.arrived, self.of_loss = got, {}, {}

    def _piled(self, p: Tensor) -> bool:
        if p not in self.last or p not in self.arrived:
            return False
        got, arrived = {p: self.got[p]}, {p: self.arrived[p]}
        rest = {p: self.got[p] - self.last[p]}
        held = _dot(got, got) ** 0.5
        return bool(held) and piled(_residual(got, arrived), _residual(rest, arrived) * _dot(rest, rest) ** 0.5 / held)


def _dense(gradient: Tensor) -> Tensor:
    """A gradient as a plain tensor: an embedding's may be sparse."""
    return gradient.detach().to_dense() if gradient.layout != torch.strided else gradient.detach()


def piled(cleared: float, kept: float) -> bool:
    """Whether a gradient is the last one plus the batch's own.

    Gradients are reproduced up to rounding (1e-6); a hundredth leaves room for clipping by value.
    """
    return kept < 0.01 and cleared > 0.03


def _dot(a: dict[Tensor, Tensor], b: dict[Tensor, Tensor]) -> float:
    return sum(float((g.double() * b[p].double()).sum()) for p, g in a.items() if p in b)


def _cosine(a: dict[Tensor, Tensor], b: dict[Tensor, Tensor]) -> float:
    norms = (_dot(a, a) * _dot(b, b)) ** 0.5
    return _dot(a, b) / norms if norms and math.isfinite(norms) else math.nan


def _residual(a: dict[Tensor, Tensor], b: dict[Tensor, Tensor]) -> float:
    """The share of a's norm that no multiple of b explains."""
    cosine = _cosine(a, b)
    return math.sqrt(max(0.0, 1 - cosine**2)) if math.isfinite(cosine) else math.nan
