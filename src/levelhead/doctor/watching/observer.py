"""``levelhead.watch``: sees the user's own training loop through hooks, and measures every 16th step."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from levelhead.doctor.charts import of_history
from levelhead.doctor.evidence import Seen
from levelhead.doctor.evidence.backward import listen
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loop import Call
from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.evidence.structure import equal_rows, squashed_twice
from levelhead.doctor.evidence.watched import Compared, Watched
from levelhead.doctor.findings import Examination, Finding, Stage
from levelhead.doctor.program import ProgramError, first_tensor
from levelhead.doctor.rules import Suspicion, suspicions
from levelhead.doctor.watching.judging import judge
from levelhead.doctor.watching.probe import Figures, Probe
from levelhead.records import environment

#: The first steps that are measured, besides every 16th: most faults show in them.
EARLY = frozenset((0, 1, 2, 4, 8))
EVERY = 16
#: After so many measured steps at one distance the distance doubles, up to so many times the first one.
ROUND, WIDEST = 4, 8
#: Updates after which units that began equal must differ.
SEPARATED = 10


class watch:
    """Watches a training loop from outside and judges it; the model, the optimizer and the loop stay as they are.

    Each step costs a few hooks; every 16th at first (and five of the first), later every 128th, is measured: outputs of
    all modules, gradients, weights and their changes, read from the device in one transfer. Losses are those that
    ``backward()`` is called on. On leaving, every hook is taken off.

    Args:
        model: what the loop calls; a compiled or wrapped model as it is called.
        optimizer: one, or several, over (some of) the model's parameters.
        every: measure every so many steps; after four times as many, every second of these, and so on to every eighth.
        on_finding: called with each finding when it first appears, while the loop runs.

    Raises:
        ProgramError: an argument is not what it should be.

    Example:
        ::

            with lh.watch(model, optimizer) as watch:
                ...  # the loop, unchanged
            print(watch)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer],
        *,
        every: int = EVERY,
        on_finding: Callable[[Finding], None] | None = None,
    ) -> None:
        self.model, self.optimizers = _checked_model(model), _checked(optimizer)
        if every < 1:
            raise ProgramError(f"every must be at least 1, got {every}: it is the distance of the measured steps")
        self.history = History()
        self._every, self._spacing, self._on_finding = every, every, on_finding
        self._told: set[tuple[str, str]] = set()
        self._modules = {name: module for name, module in model.named_modules() if name}
        self._modules = self._modules or {"": model}
        self._hooked = not _compiled(model)
        self._first = list(model.parameters())
        self._names = {id(p): name for name, p in model.named_parameters()}
        groups = [group for each in self.optimizers for group in each.param_groups]
        held = {id(p): p for group in groups for p in group["params"]}
        self._parameters = {self._names.get(i, f"parameter {n}"): p for n, (i, p) in enumerate(held.items())}
        self._handles: list[Any] = []
        self._probe: Probe | None = None
        self._armed: list[Any] = []
        self._stop_listening: Callable[[], None] | None = None
        self._sentinel: Tensor | None = None
        self._listening: Any = None
        self._last: tuple[Tensor, int] | None = None
        self._asked: bool | None = None
        self._arrivals = 0
        self._pending: list[float | Tensor] = []
        self._heard: float | Tensor | None = None
        self._inputs: Any = None
        self._outputs: Any = None
        self._looked = False
        self.entries: list[nn.Module] = [model]
        self.mixing: str | None = None
        self.script: Seen | None = None
        self.compared: list[Compared] = []
        self._task = ""
        self._losses: list[tuple[int, float]] = []
        self._on_cpu = all(p.is_cpu for p in model.parameters())
        self._explicit = False
        self._unread = Figures()
        self._batch_seen = False
        self._started = self._seconds = 0.0
        self.error: Exception | None = None
        self.structure: list[Suspicion] | None = None
        self.reached: set[str] = set()
        self.modes: dict[str, set[bool]] = {}

    # The loop's own words.

    def loss(self, loss: Tensor | float) -> None:
        """Tell the loss of this step, where ``backward()`` is called on another one (scaled, or by ``autograd``)."""
        self._explicit = True
        value = _value(loss)
        self._look(value)
        self._pending.append(value)

    def validation(self, loss: float) -> None:
        """Tell a validation loss (lower is better), so that overfitting is seen."""
        self.history.validation.append(self.history.steps, float(loss))

    # What it says.

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the steps so far show, the most probable cause first."""
        self._read()
        return judge(self._evidence([]), self.structure or [])

    def _evidence(self, calls: list[Call]) -> Watched:
        known = frozenset(map(id, self._first))
        seen = Watched.of(self.model, self.optimizers, self.history, calls, self.modes, self.reached, known)
        seen.mixed = self.mixing
        seen.loss = LossKind("", self._task, False)
        seen.script = self.script
        if self.script is not None and self.script.train is not None:
            seen.train, seen.val = replace(self.script.train, inputs=seen.train.inputs), self.script.val
        return seen

    def examination(self) -> Examination:
        """The findings with charts and notes, as ``levelhead.examine`` gives them."""
        history = self.history
        findings = self.findings
        seconds = (time.perf_counter() if self._handles else self._seconds) - self._started
        notes = ["watched, not examined: no remedy was tried, so faults that only a trial can prove are not listed"]
        if not self._hooked:
            notes.append("the model is compiled: its modules were not measured one by one")
        if self.error is not None:
            notes.append(f"the watch ended after {history.steps} updates by an error of its own: {self.error}")
        if not history.steps:
            notes.append("no step of the optimizer was seen: is it the one that the loop uses?")
        elif not len(history.losses):
            notes.append("no loss was seen: tell it with watch.loss(loss)")
        measured = {
            "steps": history.steps,
            "measured steps": len(history.measured),
            "first loss": history.first_loss,
            "last loss": history.losses.values[-1] if len(history.losses) else math.nan,
        }
        stage = Stage("watch", seconds, f"{history.steps} updates seen, {len(history.measured)} of them measured")
        watched = f"{history.steps} updates, {len(history.measured)} of them measured"
        return Examination(
            findings, (stage,), (), of_history(history), measured, tuple(notes), environment(), seconds, watched=watched
        )

    def __str__(self) -> str:
        return str(self.examination())

    @property
    def open(self) -> bool:
        """Whether the hooks are on."""
        return bool(self._handles)

    # The hooks.

    def __enter__(self) -> Self:
        if self._handles:
            raise ProgramError("this watch is already open; make a second one for another loop")
        add = self._handles.append
        for entry in self.entries:
            add(entry.register_forward_hook(self._safe(self._forward), with_kwargs=True))
        add(self.optimizers[-1].register_step_post_hook(self._safe(self._after_step)))
        self._stop_listening = listen(self._safe(self._backward))
        self._started = time.perf_counter()
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take every hook off; what was seen is kept."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None
        self._disarm()
        for handle in (*self._handles, *([self._listening] if self._listening is not None else [])):
            handle.remove()
        self._handles = []
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        self._sentinel = self._last = self._listening = self._heard = self._inputs = self._outputs = None
        self._seconds = time.perf_counter()
        self._read()

    def _safe(self, hook: Callable[..., None]) -> Callable[..., None]:
        """The hook, whose errors end the watch and not the loop."""

        def safely(*args: Any, **kwargs: Any) -> None:
            if self.error is not None:
                return
            try:
                hook(*args, **kwargs)
            except Exception as error:
                self.error = error
                warnings.warn(f"levelhead stops watching: {type(error).__name__}: {error}", stacklevel=2)

        return safely

    def _arm(self) -> None:
        structure = self.structure is None and self._hooked
        self._probe = Probe(self._modules, self._parameters, structure, self._hooked, self._safe)
        before = self._safe(self._before_step)
        self._armed = [optimizer.register_step_pre_hook(before) for optimizer in self.optimizers]

    def _disarm(self) -> None:
        while self._armed:
            self._armed.pop().remove()

    def _forward(self, module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
        if not torch.is_grad_enabled():
            if module.training:
                self.history.training_evaluations += 1
            else:
                self.history.eval_evaluations += 1
            return
        self._outputs = outputs
        self.batch(args or kwargs)

    def batch(self, inputs: Any) -> None:
        """See the inputs of a step; the hook on the model calls it, and integrations whose loop calls a part of it."""
        if self._batch_seen:
            return
        self._batch_seen, self._inputs = True, inputs
        if self._probe is None and self._on_cpu:
            return  # they are looked at if this step's loss is not finite
        x = first_tensor(inputs, floating=True)
        if x is None or not x.numel():
            return
        if not x.is_cpu:  # NaN and infinity stay in a sum; that of half precision would overflow without them
            total = x.detach().sum(dtype=torch.float32 if x.dtype == torch.float16 else None)
            self._unread.add(("input", self.history.steps), total)
        if self._probe is not None:
            self._probe.batch(x, len(x) if x.ndim else 1)

    def _backward(self, tensor: Tensor) -> None:
        if self._explicit or tensor.numel() != 1:
            return
        self._heard = heard = _value(tensor)
        if not isinstance(heard, float) or not math.isfinite(heard):
            self._look(heard)
        if self.history.steps == 0:
            self.history.twice = squashed_twice(tensor.grad_fn)

    def _look(self, loss: float | Tensor) -> None:
        """Of the first loss that is not finite: were the model's outputs, and so the weights before it?"""
        if isinstance(loss, Tensor) or math.isfinite(loss) or self.history.loss_lost_at >= 0 or self._looked:
            return
        self._looked = True
        outputs = first_tensor(self._outputs, floating=True)
        nan = math.isnan(loss) or self.history.steps == 0  # large but finite outputs may have an infinite loss
        self.history.finite_when_lost = nan and outputs is not None and bool(torch.isfinite(outputs).all())

    def _arrives(self, _: Tensor) -> None:
        """The sentinel's gradient arrives after a measured step: was that step's cleared before?"""
        if self._sentinel is None or self._last is None or self._asked is False:
            return
        # A gradient that is never cleared stays one tensor, whose version each arrival raises by 1.
        held, (last, version) = self._sentinel.grad, self._last
        self._asked = held is last and held._version == version + self._arrivals
        self._arrivals += 1

    def _before_step(self, _: Any, args: Any, kwargs: Any) -> None:
        if self._probe is None:
            return
        if not any(map(callable, (*args[1:], *kwargs.values()))):  # a closure has its backward pass still before it
            self.before_step()

    def before_step(self) -> None:
        """Measure the gradients; the hook on the optimizer calls it, and integrations whose step has a closure."""
        if self._probe is not None:
            self.reached |= self._probe.gradients()

    def _after_step(self, *_: Any) -> None:
        history, step = self.history, self.history.steps
        if self._pending:
            self._heard = sum(self._pending) / len(self._pending)
            self._pending = []
        if self._heard is not None:
            self._add_loss(step, self._heard)
            self._heard = None
        if self._asked is not None:
            history.uncleared += self._asked
            history.cleared += not self._asked
        if self._listening is not None:
            self._listening.remove()
            self._listening = None
        self._outputs = None
        if self.model.training:
            history.training_steps += 1
            history.eval_since = -1
        else:
            history.eval_steps += 1
            history.eval_since = step if history.eval_since < 0 else history.eval_since
        history.steps += 1
        self._asked, self._arrivals, self._batch_seen = None, 0, False
        if self._probe is not None:
            self._measured(self._probe, step)
            self._probe = None
            self._disarm()
            self._listen()
        if history.steps in EARLY or history.steps % self._spacing == 0:
            self._arm()
            if history.steps == ROUND * self._spacing < ROUND * WIDEST * self._every:
                self._spacing *= 2

    def _add_loss(self, step: int, loss: float | Tensor) -> None:
        """Keep the loss of a step until the figures are read."""
        if isinstance(loss, Tensor):
            self._unread.add(("loss", step), loss)
            return
        self._losses.append((step, loss))
        if math.isfinite(loss) or self.history.input_lost_at >= 0:
            return
        x = first_tensor(self._inputs, floating=True)
        if x is not None and not bool(torch.isfinite(x).all()):
            self.history.input_lost_at = step

    def _measured(self, probe: Probe, step: int) -> None:
        if not self.reached:  # of a closure, too, which has its backward pass inside of the step
            self.reached = {name for name, p in self._parameters.items() if p.grad is not None}
        self.history.add(probe.finish(step))
        for name, mode in probe.modes.items():
            self.modes.setdefault(name, set()).add(mode)
        if probe.calls:
            known = {(s.cause, s.where) for s in suspicions(self._evidence([]))}
            raised: dict[tuple[str, str], Suspicion] = {}
            for each in (*self.compared, None):
                seen = self._evidence(probe.calls)
                if each is not None:
                    seen.compare(each)
                    self._task = self._task or seen.loss.task
                for suspicion in suspicions(seen):
                    raised.setdefault((suspicion.cause, suspicion.where), suspicion)
            self.structure, self.compared = [s for key, s in raised.items() if key not in known], []
        if step == 0 or (self.history.same_units and step <= SEPARATED + self._every):
            same = {n for n, p in self._parameters.items() if p.ndim > 1 and len(p) > 1 and equal_rows(p)}
            if step == 0:
                self.history.same_units = same
            elif step >= SEPARATED:
                self.history.same_units &= same
        self._read()
        if self._on_finding is not None and (step & (step - 1) == 0 or self.history.loss_lost_at >= 0):
            for finding in self.findings:
                if (finding.cause, finding.where) not in self._told:
                    self._told.add((finding.cause, finding.where))
                    self._on_finding(finding)

    def _listen(self) -> None:
        """Ask in the next step whether the gradients are cleared; one, the smallest, stands for all of them."""
        if self._sentinel is None:
            held = [p for p in self._parameters.values() if p.grad is not None and p.requires_grad]
            self._sentinel = min((p for p in held if not p.grad.is_sparse), key=lambda p: p.numel(), default=None)
        if self._sentinel is not None and self._sentinel.grad is not None:
            self._last = (self._sentinel.grad, self._sentinel.grad._version)
            self._listening = self._sentinel.register_hook(self._safe(self._arrives))

    def _read(self) -> None:
        """Bring the figures over that have gathered since the last measured step."""
        for step, loss in self._losses:
            self.history.add_loss(step, loss)
        self._losses = []
        for (what, step), value in self._unread.read().items():
            if what == "loss":
                self.history.add_loss(step, value)
            elif not math.isfinite(value) and self.history.input_lost_at < 0:
                self.history.input_lost_at = step


def _value(loss: Tensor | float) -> float | Tensor:
    """A loss as a number; on an accelerator as it is, to be read later: reading it now would wait for the device."""
    if not isinstance(loss, Tensor):
        return float(loss)
    return loss.item() if loss.is_cpu else loss.detach().reshape(())


def _checked_model(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ProgramError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return model


def _checked(optimizer: Any) -> list[torch.optim.Optimizer]:
    """The optimizers themselves, without the wrappers of Fabric or Accelerate, whose steps run theirs."""
    found = []
    for each in [optimizer] if hasattr(optimizer, "param_groups") else list(optimizer):
        inner = each
        while isinstance(getattr(inner, "optimizer", None), torch.optim.Optimizer):
            inner = inner.optimizer
        if not isinstance(inner, torch.optim.Optimizer):
            raise ProgramError(f"optimizer must be a torch.optim.Optimizer (or several), got {type(inner).__name__}")
        found.append(inner)
    if not found:
        raise ProgramError("optimizer is an empty list; give the one that the loop steps")
    return found


def _compiled(model: nn.Module) -> bool:
    if isinstance(model, torch.jit.ScriptModule):
        return True
    return any(
        type(m).__name__ == "OptimizedModule" or getattr(m, "_compiled_call_impl", None) is not None
        for m in model.modules()
    )
