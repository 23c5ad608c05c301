"""A training program as its author wrote it, and the parts that stand in where the author gave none."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[..., Any]


class ProgramError(ValueError):
    """The program cannot be examined; the message names the mistake, the value seen and the repair."""


@dataclass
class Program:
    """A training program: what ``levelhead.examine`` is given.

    Args:
        model: any module.
        loss: ``loss(outputs, targets)``, a scalar.
        optimizer: over the model's parameters.
        train: yields ``(inputs, targets)``; anything that can be iterated over again and again. Inputs may be a
            tensor, a tuple (given to the model as arguments, or as one if it takes one) or a dictionary (as keyword
            arguments).
        val: the same, of validation data; where there is none, scores are taken on ``train``.
        epochs: passes over ``train``.
        score: ``score(model, loader)``, higher is better; by default accuracy where targets are classes, the
            coefficient of determination where they are quantities of the outputs' shape, else minus the loss.
        step: ``step(program, batch)`` does one update and returns the loss, where the program's own differs from
            train mode, clear, forward, backward, step.
        evaluate: ``evaluate(program)`` returns the validation score, where the program's own differs from eval mode
            and ``score(model, val)`` without gradients.
        extras: what else ``step`` and ``evaluate`` read from the program, by name (a scheduler, say).
        rebuild: the function that built it, where there is one: it stands in for copies of what cannot be copied.
    """

    model: nn.Module
    loss: Callable[..., Any]
    optimizer: torch.optim.Optimizer
    train: Iterable[Any]
    val: Iterable[Any] | None = None
    epochs: int = 1
    score: Callable[..., float] | None = None
    step: Step | None = None
    evaluate: Callable[..., float] | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    rebuild: Callable[[], Any] | None = field(default=None, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name != "extras" and name in self.__dict__.get("extras", ()):
            return self.extras[name]
        raise AttributeError(f"the program has no {name!r}")

    @classmethod
    def of(cls, source: Any) -> Program:
        """The program of any object with these attributes, or of a function without arguments that builds one.

        Raises:
            ProgramError: an attribute is missing or is not what it should be.
        """
        if callable(source) and not hasattr(source, "model") and not isinstance(source, nn.Module):
            made = cls.of(source())
            made.rebuild = source
            return made
        if isinstance(source, cls):
            return source.checked()
        missing = [name for name in ("model", "loss", "optimizer", "train") if not hasattr(source, name)]
        if missing:
            raise ProgramError(
                f"a {type(source).__name__} is no training program, it lacks {', '.join(missing)}; "
                "give levelhead.Program(model, loss, optimizer, train=loader, val=loader, epochs=...)"
            )
        names = {f.name for f in fields(cls)} - {"extras", "rebuild"}
        given = {name: getattr(source, name) for name in names if hasattr(source, name)}
        others = {name: value for name, value in getattr(source, "__dict__", {}).items() if name not in names}
        return cls(**given, extras=others).checked()

    def checked(self) -> Program:
        """The program itself.

        Raises:
            ProgramError: a part is not what it should be.
        """
        if not isinstance(self.model, nn.Module):
            raise ProgramError(f"model must be a torch.nn.Module, got {type(self.model).__name__}")
        if not callable(self.loss):
            raise ProgramError(f"loss must be a function of outputs and targets, got {type(self.loss).__name__}")
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise ProgramError(f"optimizer must be a torch.optim.Optimizer, got {type(self.optimizer).__name__}")
        for name in ("train", "val"):
            loader = getattr(self, name)
            if loader is None and name == "val":
                continue
            if not isinstance(loader, Iterable):
                raise ProgramError(f"{name} must yield batches, got {type(loader).__name__}; give a DataLoader")
            if isinstance(loader, Iterator):
                raise ProgramError(
                    f"{name} is a {type(loader).__name__}, which one pass uses up; give a DataLoader or a list"
                )
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise ProgramError(f"epochs must be a whole number of at least 1, got {self.epochs!r}")
        if any(nn.parameter.is_lazy(p) for p in self.model.parameters()):
            raise ProgramError("the model has lazy modules without shapes; run one batch through it first")
        if any(p.is_meta for p in self.model.parameters()):
            raise ProgramError("the model's parameters are on the meta device, without values; initialize them first")
        return self

    def update(self, batch: Any) -> float:
        """One update by the program's own step (or the standard one); the loss as a number."""
        with _not_ending("step"):
            value = (self.step or standard_step)(self, batch)
        return math.nan if value is None else float(value)

    def final_score(self) -> float:
        """The validation score by the program's own evaluation (or the standard one)."""
        with _not_ending("evaluation"):
            return float((self.evaluate or standard_evaluate)(self))

    def reachable(self) -> Iterator[Any]:
        """What the program's own step can reach: its extras, its closure, and the attributes of its object."""
        yield from self.extras.values()
        step = self.step
        yield from vars(getattr(step, "__self__", step)).values() if hasattr(step, "__dict__") else ()
        for cell in getattr(step, "__closure__", None) or ():
            with suppress(ValueError):  # an empty cell
                yield cell.cell_contents

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Its optimizer, and others that its step can reach (a second network's, say)."""
        others = [each for each in self.reachable() if isinstance(each, torch.optim.Optimizer)]
        return list({id(each): each for each in (self.optimizer, *others)}.values())


@contextmanager
def _not_ending(what: str) -> Iterator[None]:
    """A call of ``sys.exit`` is an error of the program, not the end of the examination."""
    try:
        yield
    except SystemExit as error:
        raise ProgramError(
            f"the program's {what} called sys.exit({error.code!r}), which ends it; return from the {what} instead"
        ) from error


def first_tensor(value: Any, floating: bool = False) -> Tensor | None:
    """The first tensor (of floating-point numbers) in nested tuples, lists and dictionaries."""
    return next((x for x in tensors(value) if x.is_floating_point() or not floating), None)


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from tensors(item)


def split(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch.

    Raises:
        ProgramError: the batch is not a pair.
    """
    if isinstance(batch, Mapping) or not isinstance(batch, list | tuple) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
        raise ProgramError(
            f"a batch must be a pair of inputs and targets, got a {type(batch).__name__}{size}; give step= (and "
            "evaluate=, which returns a score): def step(program, batch): program.optimizer.zero_grad(); loss = "
            "...batch...; loss.backward(); program.optimizer.step(); return loss.detach()"
        )
    return batch[0], batch[1]


def forward(model: nn.Module, inputs: Any) -> Any:
    """The model's outputs for a tensor, a tuple of arguments, or a dictionary of keyword arguments."""
    inputs = moved(inputs, model)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, list | tuple) and _takes(model, len(inputs)) else model(inputs)


def _takes(model: nn.Module, count: int) -> bool:
    """Whether the model takes so many arguments; a tuple is given as one to a model that takes fewer."""
    try:
        inspect.signature(model.forward).bind(*range(count))
    except TypeError:
        return False
    return True


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nested tuples, lists and dictionaries, with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, MutableMapping):
        twin = copy.copy(value)
        twin.update({name: mapped(item, change) for name, item in value.items()})
        return twin
    if isinstance(value, list | tuple):
        items = [mapped(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def moved(value: Any, model: nn.Module) -> Any:
    """The same on the device of the model."""
    first = next(model.parameters(), None)
    return value if first is None else mapped(value, lambda tensor: tensor.to(first.device))


def standard_step(program: Program, batch: Any) -> Tensor:
    """One ordinary update; returns the detached loss."""
    inputs, targets = split(batch)
    program.model.train()
    program.optimizer.zero_grad()
    loss = program.loss(forward(program.model, inputs), moved(targets, program.model))
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        seen = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ProgramError(f"the loss must be one number a batch, got {seen}; take its mean")
    loss.backward()
    program.optimizer.step()
    return loss.detach()


def standard_evaluate(program: Program) -> float:
    """The score on the validation data, in eval mode, without gradients."""
    program.model.eval()
    with torch.no_grad():
        loader = program.val if program.val is not None else program.train
        if program.score is not None:
            return float(program.score(program.model, loader))
        return default_score(program, loader)


def answers(model: nn.Module, loader: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Outputs and targets of each batch, on the device of the model."""
    for batch in loader:
        inputs, targets = split(batch)
        yield forward(model, inputs), moved(targets, model)


def default_score(program: Program, loader: Iterable[Any]) -> float:
    """Accuracy, coefficient of determination, or minus the mean loss, by what outputs and targets look like."""
    hits = rows = 0
    losses: list[float] = []
    pairs: list[tuple[Tensor, Tensor]] = []
    for outputs, targets in answers(program.model, loader):
        if are_classes(outputs, targets):
            hits += int((outputs.argmax(1) == targets).sum())
            rows += targets.numel()
        elif isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.numel() == targets.numel():
            pairs.append((outputs.flatten().double(), targets.flatten().double()))
        else:
            losses.append(float(program.loss(outputs, targets)))
    if rows:
        return hits / rows
    if losses or not pairs:
        return -sum(losses) / len(losses) if losses else math.nan
    p, y = (torch.cat(part) for part in zip(*pairs, strict=True))
    spread = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - p) ** 2).sum()) / spread if spread else -float(((y - p) ** 2).mean())


def hits(model: nn.Module, loader: Iterable[Any], answer: Callable[[Tensor], Tensor]) -> float:
    """The share of targets that ``answer(outputs)`` gives."""
    right = rows = 0
    for outputs, targets in answers(model, loader):
        right += int((answer(outputs) == targets.flatten()).sum())
        rows += targets.numel()
    return right / max(1, rows)


def one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Class numbers of one-hot rows; class numbers as they are."""
    return targets.argmax(1) if targets.shape == outputs.shape else targets


def are_classes(outputs: Any, targets: Any) -> bool:
    """Whether the targets are class numbers for the outputs' second dimension."""
    return (
        isinstance(outputs, Tensor)
        and isinstance(targets, Tensor)
        and not targets.is_floating_point()
        and outputs.is_floating_point()
        and outputs.ndim == targets.ndim + 1
        and outputs.shape[:1] + outputs.shape[2:] == targets.shape
        and outputs.shape[1] > 1
    )
