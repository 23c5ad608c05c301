"""Sees what a running script trains: its optimizers as they are made, the modules that it calls, its losses.

PyTorch has hooks for calls and steps; where it has none (a new optimizer, a loss function, a number that is read from a
tensor) its own function is wrapped while a sight is open.
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

from levelhead.doctor.evidence import Seen
from levelhead.doctor.evidence.backward import listen
from levelhead.doctor.evidence.evaluation import DROPPING
from levelhead.doctor.evidence.terms import error_of, terms
from levelhead.doctor.evidence.watched import Compared
from levelhead.doctor.evidence.weights import as_drawn
from levelhead.doctor.findings import Finding
from levelhead.doctor.program import first_tensor
from levelhead.doctor.remedies.loss import COMPARING, mismatched
from levelhead.doctor.remedies.outside import wrap
from levelhead.doctor.script.parts import Parts, held, live, trained_by
from levelhead.doctor.script.rows import Rows
from levelhead.doctor.watching import watch

#: The loss functions of PyTorch; its modules call them.
LOSSES = tuple(n for n in dir(F) if n.endswith(("_loss", "cross_entropy", "_with_logits", "kl_div")) and n[0] != "_")
#: A script that makes its optimizers anew for ever is watched this many times.
WATCHES = 16


@dataclass
class Reading:
    """Numbers that the script read, at one place, from tensors of its evaluation.

    Args:
        where: file and line.
        text: the line.
        values: the mean of each evaluation, with the update that it came after.
    """

    where: tuple[str, int]
    text: str
    values: list[tuple[int, float]] = field(default_factory=list)
    open: list[float] = field(default_factory=list)


class Sight:
    """Watches everything that the script trains, from when it is entered on.

    Args:
        folder: where the user's own files are; numbers read in other files are not the script's.
        on_finding: called with each finding when it first appears.
        every: measure every so many steps.
    """

    def __init__(self, folder: Path, on_finding: Callable[[Finding], None] | None = None, every: int = 16) -> None:
        self.folder, self.on_finding, self.every = str(folder.resolve()), on_finding, every
        self.watches: list[watch] = []
        self.readings: dict[tuple[str, int], Reading] = {}
        self.compared: list[Callable[[str, tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]] = []
        self.opened: list[Callable[[watch, Any], object]] = []
        self.said: list[str] = []
        self.untrained_at_first: list[str] = []
        self._optimizers: list[weakref.ref[torch.optim.Optimizer]] = []
        self._undo: list[Callable[[], None]] = []
        self._handle: Any = None
        self._foreign: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._validating: list[tuple[float, int]] = []
        self._before = 0
        self.dropping = 0
        self.mismatch = ""
        self._asked: tuple[int, int] = 0, 0
        self._repeated = self._drawn = False
        self._differences: dict[Any, tuple[Tensor, Tensor]] = {}
        self._before_all: Any = WeakTensorKeyDictionary()
        self.alternating = False
        self._turns: list[watch] = []
        self._rows = {True: Rows(), False: Rows()}
        self.ended = True
        self.paused = False  # while a copy of a model is asked, which is none of the script's evaluations

    def __enter__(self) -> Self:
        for _, module in live():  # what has gradients already is none of this script's
            self._before_all.update({p: None for p in module.parameters() if p.grad is not None})
        self._wrap(torch.optim.Optimizer, "__init__", self._made)
        for name in LOSSES:
            self._wrap(F, name, functools.partial(self._compared, name))
        for function in DROPPING:
            self._wrap(F, function.__name__, self._drops)
        for name in ("__sub__", "__rsub__"):
            self._wrap(Tensor, name, self._differs)
        for name in ("item", "__float__"):
            self._wrap(Tensor, name, self._read)
        self._undo.append(listen(self._summed))  # from the start: a bound method is kept while its arguments run
        handle = register_optimizer_step_pre_hook(self._steps)
        self._undo.append(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()
        self._look(False)
        self._flush()
        for each in self.watches:
            each.close()

    def _wrap(self, owner: Any, name: str, by: Callable[..., Any]) -> None:
        def unless_compiling(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(*args, **kwargs)
            return by(original, *args, **kwargs)

        self._undo.append(wrap(owner, name, unless_compiling))

    # Optimizers and the modules that they train.

    def _made(self, original: Callable[..., None], optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        self._optimizers.append(weakref.ref(optimizer))
        self._foreign.clear()
        self._look(True)

    def _look(self, on: bool) -> None:
        """The hook on every call costs; it is there while an optimizer waits for its module."""
        if on and self._handle is None:
            self._handle = register_module_forward_pre_hook(self._called)
        elif not on and self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _waiting(self) -> list[torch.optim.Optimizer]:
        return [optimizer for ref in self._optimizers if (optimizer := ref()) is not None]

    def _called(self, module: nn.Module, args: Any) -> None:
        if not torch.is_grad_enabled() or module in self._foreign:
            return
        waiting = self._waiting()
        own = {id(p) for p in module.parameters()}
        for optimizer in [o for o in waiting if held(o).keys() & own]:
            if optimizer in self._waiting():
                self._open(optimizer, module)
                self._enters(args)
                for each in self.opened:
                    each(self.watches[-1], args)
                self.watches[-1].batch(args)  # the hook of the watch comes too late for this call
        self._foreign.add(module)

    def _steps(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        self._flush()
        given = next((value for value in (*args[1:], *kwargs.values()) if callable(value)), None)
        if given is None:
            self._arrived(optimizer)
            return None
        closure = self._then(optimizer, given)
        changed = [closure if value is given else value for value in args]
        return tuple(changed), {name: closure if value is given else value for name, value in kwargs.items()}

    def _arrived(self, optimizer: torch.optim.Optimizer) -> list[watch]:
        """Gradients are there: of parameters that no module was called with, too, and of some that nobody trains."""
        if optimizer in self._waiting():
            self._open(optimizer, None)
        watches = [each for each in self.watches if optimizer in each.optimizers]
        if watches and watches[-1:] != self._turns[-1:]:
            self.alternating = self.alternating or watches[-1] in self._turns
            self._turns.append(watches[-1])
        if watches and watches[0].history.steps == 1 and not self.untrained_at_first:
            left = self.untrained()
            self.untrained_at_first = [name for name, _ in left]
            self._drawn = any(as_drawn(p) for _, p in left)
        return watches

    def _then(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The closure of a step, after whose first call the gradients are measured."""
        unmeasured = [optimizer]

        @functools.wraps(closure)
        def closed(*args: Any, **kwargs: Any) -> Any:
            result = closure(*args, **kwargs)
            while unmeasured:
                for each in self._arrived(unmeasured.pop()):
                    each.before_step()
            return result

        return closed

    def _open(self, optimizer: torch.optim.Optimizer, called: nn.Module | None) -> None:
        """Watch what this optimizer trains, together with the others that train the same."""
        root = trained_by([optimizer], called)
        inside = {id(p) for p in root.parameters()}
        together = [o for o in self._waiting() if o is optimizer or held(o).keys() <= inside]
        self._optimizers = [ref for ref in self._optimizers if ref() is not None and ref() not in together]
        self._look(bool(self._optimizers))
        if len(self.watches) >= WATCHES:
            return
        opened = watch(root, together, every=self.every, on_finding=self.on_finding)
        if called is not None and called is not root:
            opened.entries = list(root.children()) if isinstance(root, Parts) else [called]

        def enters(
            module: nn.Module, args: Any, kwargs: Any
        ) -> None:  # no method: a copy of a model would copy all this
            self._enters(args or kwargs)

        for entry in opened.entries:
            entry.register_forward_pre_hook(enters, with_kwargs=True)
        opened.__enter__()
        self.watches.append(opened)

    def untrained(self) -> list[tuple[str, Tensor]]:
        """Parameters with gradients that no optimizer has, under the script's names."""
        everywhere = [*self._waiting(), *(o for each in self.watches for o in each.optimizers)]
        has = {i for optimizer in everywhere for i in held(optimizer)}
        models = [("", self.watches[0].model)] if len(self.watches) == 1 else []
        found: dict[int, tuple[str, Tensor]] = {}
        for prefix, module in [*models, *live()]:
            for name, p in module.named_parameters(prefix):
                if p.grad is not None and id(p) not in has and p not in self._before_all:
                    found.setdefault(id(p), (name, p))
        return list(found.values())

    # Losses, and what is read in evaluations.

    def _compared(self, name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        for change in self.compared:
            args = change(name, args, kwargs)
        if torch.is_grad_enabled() and len(args) > 1:
            self._differ(*args[:2])
        if name in COMPARING and not self.paused:
            self._compares(original, args, kwargs)
        result = original(*args, **kwargs)
        if isinstance(result, Tensor) and result.numel() == 1 and not torch.is_grad_enabled() and not self.paused:
            rows = len(args[0]) if args and isinstance(args[0], Tensor) and args[0].ndim else 1
            share = rows if kwargs.get("reduction") == "sum" else 1
            self._validating.append((float(result.detach()) / share, rows))
        return result

    def _compares(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the first comparisons of a training, and rows of it and of evaluations with what they should give."""
        given = {**dict(zip(("input", "target"), args, strict=False)), **kwargs}
        outputs, targets = given.pop("input", None), given.pop("target", None)
        if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
            return
        self._rows[torch.is_grad_enabled()].compare(targets)
        if outputs.requires_grad:
            self._first(Compared(functools.partial(_ask, original, args[2:], given), outputs, targets, outputs.grad_fn))

    def _first(self, seen: Compared) -> None:
        for each in self.watches:
            if each.history.steps == 0:
                each.compared.append(replace(seen, outputs=seen.outputs.detach(), targets=seen.targets.detach()))

    def _summed(self, loss: Tensor) -> None:
        """Errors that a script computes by hand, of which the first backward pass begins, are comparisons, too."""
        for term in terms(loss.grad_fn) if self._differences else ():
            found = error_of(term, self._differences)
            if found is not None:
                outputs, targets = self._differences[found[0]]
                self._rows[True].compare(targets)
                self._first(Compared(functools.partial(_error, found[1]), outputs, targets, outputs.grad_fn))
        self._differences.clear()

    def _differs(self, original: Callable[..., Any], a: Any, b: Any) -> Any:
        result = original(a, b)
        if torch.is_grad_enabled():
            self._differ(a, b)
            known = isinstance(b, Tensor) and a.requires_grad is not b.requires_grad
            if known and self.watches and self.watches[-1].history.steps == 0:
                self._differences[result.grad_fn] = (a, b) if a.requires_grad else (b, a)
        return result

    def _differ(self, a: Any, b: Any) -> None:
        """Are two tensors broadcast against each other?"""
        if not self.mismatch and mismatched(a, b) and a.data_ptr() != b.data_ptr():  # nor each with each of one tensor
            self.mismatch = f"{list(a.shape)} and {list(b.shape)}"

    def _drops(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count dropout as a function that is on while the models are in eval mode."""
        on = kwargs.get("training", args[2] if len(args) > 2 else True)
        rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        if on and rate > 0 and not torch.is_grad_enabled() and not self.paused and self.watches:
            self.dropping += not any(each.model.training for each in self.watches)
        return original(*args, **kwargs)

    def _enters(self, inputs: Any) -> None:
        if self.paused:
            return
        x = self._rows[torch.is_grad_enabled()].entered = first_tensor(inputs)
        if not torch.is_grad_enabled():  # one batch asked several times at a time is an average over draws
            asked = id(x), max((each.history.steps for each in self.watches), default=0)
            self._asked, self._repeated = asked, self._repeated or asked == self._asked

    def seen(self) -> Seen:
        """What was seen beside the models; rows of a script that trains one model."""
        train, val = (self._rows[grad].data() if len(self.watches) == 1 else None for grad in (True, False))
        dropping = 0 if self._repeated else self.dropping
        return Seen(self.mismatch, tuple(self.untrained_at_first), self._drawn, dropping, train, val, self.ended)

    def _read(self, original: Callable[..., Any], tensor: Tensor) -> Any:
        value = original(tensor)
        if not isinstance(value, int | float) or self.paused:
            return value
        if torch.is_grad_enabled() and (tensor.requires_grad or self._passes() == self._before):
            return value  # of the training; what an evaluation has handed back is read with gradients on
        frame = sys._getframe(3)
        file = frame.f_code.co_filename
        if not file.startswith(self.folder):
            return value
        where = (file, frame.f_lineno)
        if where not in self.readings:
            self.readings[where] = Reading(where, _line(file, frame.f_lineno))
        self.readings[where].open.append(float(value))
        return value

    def _passes(self) -> int:
        """Passes of the watched modules without gradients, so far."""
        return sum(each.history.eval_evaluations + each.history.training_evaluations for each in self.watches)

    def _flush(self) -> None:
        """An evaluation has ended: training goes on."""
        self._before = self._passes()
        step = max((each.history.steps for each in self.watches), default=0)
        for reading in self.readings.values():
            if reading.open:
                reading.values.append((step, sum(reading.open) / len(reading.open)))
                reading.open = []
        seen, self._validating = self._validating, []
        rows = sum(count for _, count in seen)
        evaluated = [w for w in self.watches if w.history.eval_evaluations + w.history.training_evaluations]
        total = sum(value * count for value, count in seen)
        if rows and len(evaluated) == 1 and math.isfinite(total):
            evaluated[0].validation(total / rows)


def _error(squared: bool, outputs: Tensor, targets: Tensor) -> Tensor:
    error = outputs - targets
    return (error.square() if squared else error.abs()).mean()


def _ask(loss: Callable[..., Any], args: Any, kwargs: Any, outputs: Tensor, targets: Tensor) -> Any:
    return loss(outputs, targets, *args, **kwargs)


@functools.cache
def _line(file: str, number: int) -> str:
    try:
        return Path(file).read_text(errors="replace").splitlines()[number - 1].strip()
    except (OSError, IndexError):
        return ""
