"""Remedies of the optimizer and of the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from levelhead.doctor.program import Program, standard_step
from levelhead.doctor.remedies.base import Remedy


def learning_rate(factor: float, rates: Sequence[float]) -> Remedy:
    """Multiply all learning rates."""

    def change(program: Program) -> None:
        for group in program.optimizer.param_groups:
            group["lr"] = group["lr"] * factor
            if "initial_lr" in group:
                group["initial_lr"] = group["initial_lr"] * factor

    shown = ", ".join(f"{rate * factor:.3g}" for rate in dict.fromkeys(rates))
    return Remedy(
        f"learning rate x {factor:g}",
        f"lr = {shown}  # instead of {', '.join(f'{r:g}' for r in dict.fromkeys(rates))}",
        change,
    )


def epochs(count: int) -> Remedy:
    """Train for another number of epochs."""

    def change(program: Program) -> None:
        program.epochs = count

    return Remedy(f"{count} epochs", f"epochs = {count}", change)


def set_in_optimizer(name: str, value: Any, words: str) -> Remedy:
    """Set an option of the optimizer in all groups."""

    def change(program: Program) -> None:
        for group in program.optimizer.param_groups:
            if name in group:
                group[name] = value

    return Remedy(words, f"{name} = {value!r}  # in the optimizer", change)


def all_parameters() -> Remedy:
    """Give the optimizer what it lacks, and let everything be trained."""

    def change(program: Program) -> None:
        held = {id(p) for group in program.optimizer.param_groups for p in group["params"]}
        for parameter in program.model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        missing = [p for p in program.model.parameters() if id(p) not in held]
        if missing:
            program.optimizer.add_param_group({"params": missing})

    return Remedy("all parameters given to the optimizer", "optimizer = Optimizer(model.parameters(), ...)", change)


class Before:
    """A step with something done before it."""

    def __init__(self, step: Callable[..., Any] | None, action: Callable[[Program], object]) -> None:
        self.step, self.action = step or standard_step, action

    def __call__(self, program: Program, batch: Any) -> Any:
        """Do the action, then the step."""
        self.action(program)
        return self.step(program, batch)


def before_step(action: Callable[[Program], object], words: str, code: str) -> Remedy:
    """Do something before each step of the program."""

    def change(program: Program) -> None:
        program.step = Before(program.step, action)

    return Remedy(words, code, change)


def standard_loop() -> Remedy:
    """The standard update in place of the program's own."""

    def change(program: Program) -> None:
        program.step = standard_step

    code = "model.train()\noptimizer.zero_grad()\ncriterion(model(inputs), targets).backward()\noptimizer.step()"
    return Remedy("the standard update", code, change)


def standard_evaluation() -> Remedy:
    """The standard evaluation in place of the program's own."""

    def change(program: Program) -> None:
        program.evaluate = None

    return Remedy("evaluated in eval mode", "model.eval()\nwith torch.no_grad():\n    outputs = model(inputs)", change)
