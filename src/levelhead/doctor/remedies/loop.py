"""Remedies of the optimizer and of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from levelhead.doctor.evidence.evaluation import DROPPING, WithoutDropout
from levelhead.doctor.evidence.history import rate_of
from levelhead.doctor.evidence.structure import DROPOUT, loose_parts
from levelhead.doctor.evidence.weights import frozen_as_drawn
from levelhead.doctor.program import Program, standard_evaluate, standard_step
from levelhead.doctor.remedies import outside
from levelhead.doctor.remedies.base import Remedy
from levelhead.doctor.remedies.outside import Outside, Running


def learning_rate(factor: float, rates: Sequence[float]) -> Remedy:
    """Multiply all learning rates, and those that a schedule starts from."""

    def change(program: Program) -> None:
        for group in program.optimizer.param_groups:
            for name in ("lr", "initial_lr", "max_lr", "min_lr"):  # the others are OneCycleLR's
                if name in group:
                    group[name] = group[name] * factor
        for schedule in _schedules(program):
            if hasattr(schedule, "base_lrs"):
                schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]

    shown = ", ".join(f"{rate * factor:.3g}" for rate in dict.fromkeys(rates))
    return Remedy(
        f"learning rate x {factor:g}",
        f"lr = {shown}  # instead of {', '.join(f'{r:g}' for r in dict.fromkeys(rates))}",
        change,
        partial(outside.in_steps, "lr", partial(_scaled, factor)),
    )


def _scaled(factor: float, group: dict[str, Any]) -> Any:
    return factor * group["lr"]


def clipped() -> Remedy:
    """Clip the gradients of a script."""
    code = "nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()"
    return Remedy("gradients clipped to a norm of 1", code, outside=partial(outside.before_steps, _clip))


def _clip(optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)


def turned_round() -> Remedy:
    """Take the gradients of a script with the opposite sign."""
    code = "loss.backward()  # no minus in front of the loss, no maximize=True"
    return Remedy("gradients turned round", code, outside=partial(outside.before_steps, _turn))


def _turn(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad.neg_()


def _schedules(program: Program) -> Iterator[Any]:
    """The schedules of the learning rate that the program's own step can reach, and those inside of these."""
    held = list(program.reachable())
    while held:
        each = held.pop()
        if isinstance(each, LRScheduler | ReduceLROnPlateau):
            held += getattr(each, "_schedulers", [])
            yield each


def without_schedule() -> Remedy:
    """The rate that the optimizer is meant to have, throughout."""

    def change(program: Program) -> None:
        schedules = list(_schedules(program))
        for schedule in schedules:
            schedule.step = _nothing
        if not schedules:  # it is a part of the program's own step
            program.step = standard_step
        for group in program.optimizer.param_groups:
            group["lr"] = rate_of(group, group["lr"])

    return Remedy("one learning rate throughout", "# without scheduler.step()", change, _unscheduled)


def _unscheduled(run: Running) -> None:
    first: dict[int, float] = {}
    outside.in_steps("lr", lambda group: rate_of(group, first.setdefault(id(group), group["lr"])), run)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """In place of a schedule's step."""


def one_rate(rate: float) -> Remedy:
    """The same rate for all groups of parameters."""
    return set_in_optimizer("lr", rate, f"a rate of {rate:g} for all groups")


def set_in_optimizer(name: str, value: Any, words: str) -> Remedy:
    """Set an option of the optimizer in all groups that have it."""
    code = f"{name} = {value!r}  # in the optimizer"
    return Remedy(
        words,
        code,
        lambda program: [group.update({name: value}) for group in program.optimizer.param_groups if name in group],
        partial(outside.in_steps, name, partial(_instead, value)),
    )


def _instead(value: Any, _: dict[str, Any]) -> Any:
    return value


def _with(name: str, value: Any, words: str, code: str, script: Outside | None = None) -> Remedy:
    """Another part in the place of one of the program's."""
    return Remedy(words, code, lambda program: setattr(program, name, value), script)


def epochs(count: int) -> Remedy:
    """Train for another number of epochs."""
    return _with("epochs", count, f"{count} epochs", f"epochs = {count}")


def all_parameters() -> Remedy:
    """Give the optimizer what it lacks, and let everything be trained; what lies in plain lists is registered."""

    def change(program: Program) -> None:
        for path, parts in list(loose_parts(program.model)):
            owner, _, name = path.rpartition(".")
            module = program.model.get_submodule(owner)
            if isinstance(parts, Tensor):
                setattr(module, name, nn.Parameter(parts.detach()))
            else:
                module.add_module(f"{name}_registered", nn.ModuleList(parts))
        held = {id(p) for group in program.optimizer.param_groups for p in group["params"]}
        for parameter in program.model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        missing = [p for p in program.model.parameters() if id(p) not in held]
        if missing:
            program.optimizer.add_param_group({"params": missing})

    code = "# nn.ModuleList(...) in place of a list, nn.Parameter(...) of a tensor\n"
    code += "optimizer = Optimizer(model.parameters(), ...)"
    return Remedy("all parameters given to the optimizer", code, change, _all_given)


#: Steps of an optimizer before which it is asked what lacks one: it takes a look at all that lives.
ASKED = 4


def _all_given(run: Running) -> None:
    """Parameters with gradients, or frozen as they were drawn, join their model's optimizer; others the first."""
    first: list[tuple[torch.optim.Optimizer, set[int]]] = []
    asked: list[int] = []

    def opened(seen: Any, args: Any) -> None:
        for name in frozen_as_drawn(seen.model):
            seen.model.get_submodule(name).requires_grad_(True)
        first.append((seen.optimizers[0], {id(p) for p in seen.model.parameters()}))

    def join(optimizer: torch.optim.Optimizer) -> None:
        if not first:
            first.append((optimizer, set()))
        for i in [i for i, (each, _) in enumerate(first) if each is optimizer and asked.count(i) < ASKED]:
            asked.append(i)
            left = [p for _, p in run.untrained() if i == 0 or id(p) in first[i][1]]
            if left:
                optimizer.add_param_group({"params": left})

    run.opened.append(opened)
    outside.before_steps(join, run)


class Before:
    """A step with something done before it."""

    def __init__(self, step: Callable[..., Any] | None, action: Callable[[Program], object]) -> None:
        self.step, self.action = step or standard_step, action

    def __call__(self, program: Program, batch: Any) -> Any:
        """Do the action, then the step."""
        self.action(program)
        return self.step(program, batch)


def _before_step(action: Callable[[Program], object], words: str, code: str, script: Outside) -> Remedy:
    """Do something before each step of the program."""
    return Remedy(words, code, lambda program: setattr(program, "step", Before(program.step, action)), script)


def cleared() -> Remedy:
    """Clear the gradients between updates."""
    code, clear = "optimizer.zero_grad()  # before backward()", partial(outside.after_steps, _clear)
    return _before_step(lambda program: _clear(program.optimizer), "gradients cleared", code, clear)


def _clear(optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()


def train_mode() -> Remedy:
    """Update in training mode."""
    code, train = "model.train()  # before each update", partial(outside.in_mode, True, True)
    return _before_step(lambda program: program.model.train(), "train mode", code, train)


def standard_loop() -> Remedy:
    """The standard update in place of the program's own."""
    code = "model.train()\noptimizer.zero_grad()\ncriterion(model(inputs), targets).backward()\noptimizer.step()"
    return _with("step", standard_step, "the standard update", code)


class WithoutDropoutInEvaluation:
    """An evaluation during which dropout drops nothing."""

    def __init__(self, evaluate: Callable[..., Any] | None) -> None:
        self.evaluate = evaluate or standard_evaluate

    def __call__(self, program: Program) -> Any:
        """Evaluate."""
        rates = {module: module.p for module in program.model.modules() if isinstance(module, DROPOUT)}
        try:
            for module in rates:
                module.p = 0.0
            with WithoutDropout():
                return self.evaluate(program)
        finally:
            for module, rate in rates.items():
                module.p = rate


def without_dropout() -> Remedy:
    """Evaluate without dropout, module or function."""
    words, code = "no dropout during evaluation", "model.eval()  # and F.dropout(x, p, training=self.training)"
    wrap = WithoutDropoutInEvaluation
    return Remedy(words, code, lambda program: setattr(program, "evaluate", wrap(program.evaluate)))


def standard_evaluation() -> Remedy:
    """The standard evaluation in place of the program's own."""
    code = "model.eval()\nwith torch.no_grad():\n    outputs = model(inputs)"
    return _with("evaluate", None, "evaluated in eval mode", code, _in_eval_mode)


def _in_eval_mode(run: Running) -> None:
    """Without the dropouts that are called as functions, too."""
    outside.in_mode(False, False, run)

    def changed(
        original: Callable[..., Tensor], x: Tensor, p: float = 0.5, training: bool = True, *rest: Any
    ) -> Tensor:
        return original(x, p, training and torch.is_grad_enabled(), *rest)

    for function in DROPPING:
        outside.wrap(F, function.__name__, changed)
