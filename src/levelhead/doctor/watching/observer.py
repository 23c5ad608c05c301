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
from levelhead.doctor.evidence import Seen, Unchanged
from levelhead.doctor.evidence.backward import listen
from levelhead.doctor.evidence.calls import Call, Calls
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.evidence.probe import Probe
from levelhead.doctor.evidence.structure import equal_rows
from levelhead.doctor.evidence.watched import Compared, Watched
from levelhead.doctor.findings import Examination, Finding, Stage
from levelhead.doctor.program import ProgramError, first_tensor
from levelhead.doctor.rules import RULES, Suspicion, suspicions
from levelhead.doctor.watching.clearing import Clearing
from levelhead.doctor.watching.judging import judge
from levelhead.doctor.watching.losses import Losses
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
        self._hooked = not _compiled(model)
        working = {n: m for n, m in model.named_modules() if n and _works(m)} or {"": model}
        self._modules = working if self._hooked else {}
        self._first = list(model.parameters())
        self._names = {id(p): name for name, p in model.named_parameters()}
        groups = [group for each in self.optimizers for group in each.param_groups]
        held = {id(p): p for group in groups for p in group["params"]}
        self._parameters = {self._names.get(i, f"parameter {n}"): p for n, (i, p) in enumerate(held.items())}
        self._handles: list[Any] = []
        self._probe: Probe | None = None
        self._calls: Calls | None = None
        self._armed: list[Any] = []
        self._stop_listening: Callable[[], None] = lambda: None
        self._clearing = Clearing(self._safe)
        self._losses = Losses(self.history)
        self.entries: list[nn.Module] = [model]
        self.mixing: str | None = None
        self.script: Seen | None = None
        self.unchanged: Unchanged | None = None
        self.compared: list[Compared] = []
        self._task = ""
        self._on_cpu = all(p.is_cpu for p in model.parameters())
        self._batch_seen = False
        self._started = self._seconds = 0.0
        self.error: Exception | None = None
        self.structure: list[Suspicion] | None = None
        self.reached: set[str] = set()
        self.modes: dict[str, set[bool]] = {}

    # The loop's own words.

    def loss(self, loss: Tensor | float) -> None:
        """Tell the loss of this step, where ``backward()`` is called on another one (scaled, or by ``autograd``)."""
        self._losses.tell(loss)

    def validation(self, loss: float) -> None:
        """Tell a validation loss (lower is better), so that overfitting is seen."""
        self.history.validation.append(self.history.steps, float(loss))

    # What it says.

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the steps so far show, the most probable cause first."""
        self._losses.read()
        return judge(self._evidence([]), self.structure or [])

    def raised(self) -> list[Suspicion]:
        """What the steps so far speak for, and a change of a script may prove."""
        seen = self._evidence([])
        found = [s for rule in RULES.values() for check in rule.checks if not rule.last for s in check(seen)]
        found += self.structure or []
        cures = [(s, tuple(r for r in s.remedies if r.outside is not None)) for s in found]
        return [replace(s, remedies=cure, certain=False) for s, cure in cures if cure]

    def _evidence(self, calls: list[Call]) -> Watched:
        known = frozenset(map(id, self._first))
        seen = Watched.of(self.model, self.optimizers, self.history, calls, self.modes, self.reached, known)
        seen.mixed = self.mixing
        seen.loss = LossKind("", self._task, False)
        seen.script, seen.unchanged = self.script, self.unchanged
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
        self._stop_listening = listen(self._safe(self._losses.hear))
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
        if self._calls is not None:
            self._calls.close()
        self._disarm()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._stop_listening()
        self._clearing.told()
        self._losses.inputs = self._losses.outputs = self._losses.heard = None
        self._seconds = time.perf_counter()
        self._losses.read()

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
        if self.structure is None and self._calls is None:
            self._calls = Calls(self._modules, False, self._safe)
        self._probe = Probe(self._modules, self._parameters, self._safe)
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
        self._losses.outputs = outputs
        self.batch(args or kwargs)

    def batch(self, inputs: Any) -> None:
        """See the inputs of a step; the hook on the model calls it, and integrations whose loop calls a part of it."""
        if self._batch_seen:
            return
        self._batch_seen, self._losses.inputs = True, inputs
        if self._probe is None and self._on_cpu:
            return  # they are looked at if this step's loss is not finite
        x = first_tensor(inputs, floating=True)
        if x is None or not x.numel():
            return
        if not x.is_cpu:
            self._losses.enters(x)
        if self._probe is not None:
            self._probe.batch(x, len(x) if x.ndim else 1)

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
        self._losses.end()
        if (kept := self._clearing.told()) is not None:
            history.uncleared += kept
            history.cleared += not kept
        if self.model.training:
            history.training_steps += 1
            history.eval_since = -1
        else:
            history.eval_steps += 1
            history.eval_since = step if history.eval_since < 0 else history.eval_since
        history.steps += 1
        self._batch_seen = False
        if self._probe is not None:
            self._measured(self._probe, step)
            self._probe = None
            self._disarm()
            self._clearing.ask(self._parameters.values())
        if history.steps in EARLY or history.steps % self._spacing == 0:
            self._arm()
            if history.steps == ROUND * self._spacing < ROUND * WIDEST * self._every:
                self._spacing *= 2

    def _measured(self, probe: Probe, step: int) -> None:
        if not self.reached:  # of a closure, too, which has its backward pass inside of the step
            self.reached = {name for name, p in self._parameters.items() if p.grad is not None}
        rates = [float(group["lr"]) for each in self.optimizers for group in each.param_groups if "lr" in group]
        self.history.add(replace(probe.finish(step), rate=max(rates, default=math.nan)))
        for name, mode in probe.modes.items():
            self.modes.setdefault(name, set()).add(mode)
        if self._calls is not None and self._calls.found:
            self.structure = self._judged(self._calls.found)
            self._calls.close()
            self._calls, self.compared = None, []
        if step == 0 or (self.history.same_units and step <= SEPARATED + self._every):
            same = {n for n, p in self._parameters.items() if p.ndim > 1 and len(p) > 1 and equal_rows(p)}
            if step == 0:
                self.history.same_units = same
            elif step >= SEPARATED:
                self.history.same_units &= same
        self._losses.read()
        if self._on_finding is not None and (step & (step - 1) == 0 or self.history.loss_lost_at >= 0):
            for finding in self.findings:
                if (finding.cause, finding.where) not in self._told:
                    self._told.add((finding.cause, finding.where))
                    self._on_finding(finding)

    def _judged(self, calls: list[Call]) -> list[Suspicion]:
        """What the modules' order, and what a script's losses compare, raise besides the rest."""
        known = {(s.cause, s.where) for s in suspicions(self._evidence([]))}
        raised: dict[tuple[str, str], Suspicion] = {}
        for each in (*self.compared, None):
            seen = self._evidence(calls)
            if each is not None:
                seen.compare(each)
                self._task = self._task or seen.loss.task
            for suspicion in suspicions(seen):
                raised.setdefault((suspicion.cause, suspicion.where), suspicion)
        return [s for key, s in raised.items() if key not in known]


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


def _works(module: nn.Module) -> bool:
    """Whether a module does something itself: it holds no others, or parameters of its own."""
    return next(module.children(), None) is None or bool(module._parameters)


def _compiled(model: nn.Module) -> bool:
    if isinstance(model, torch.jit.ScriptModule):
        return True
    return any(
        type(m).__name__ == "OptimizedModule" or getattr(m, "_compiled_call_impl", None) is not None
        for m in model.modules()
    )
