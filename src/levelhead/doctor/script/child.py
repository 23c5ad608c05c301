"""Runs a script once, with one change, in a process of its own, which ends where enough updates were made."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from levelhead.doctor.evidence import Unchanged
from levelhead.doctor.evidence.backward import listen
from levelhead.doctor.evidence.evaluation import mixing_module
from levelhead.doctor.evidence.history import place_of
from levelhead.doctor.evidence.terms import penalties
from levelhead.doctor.evidence.weights import oversized
from levelhead.doctor.isolation import random_state_kept
from levelhead.doctor.program import first_tensor
from levelhead.doctor.remedies import Opposing, squashed
from levelhead.doctor.remedies.outside import Outside, wrap
from levelhead.doctor.rules.optimization import usual
from levelhead.doctor.rules.weights import DEAD
from levelhead.doctor.script.measure import Ran, measure, worsens
from levelhead.doctor.script.run import Script
from levelhead.doctor.script.sight import Sight
from levelhead.doctor.script.watched import seen
from levelhead.doctor.trials import PACED, affordable, now
from levelhead.doctor.watching import watch

#: How many times its share of the budget the unchanged run takes at most: four such runs take twice the budget.
LONGEST = 8
#: Updates between which nothing is measured in a run whose outcome alone counts.
NEVER = 2**30


@dataclass(frozen=True)
class Order:
    """What a child is to do.

    Args:
        script: what to run.
        changes: what is changed.
        seed: of a script that sets none, and added to those that it sets.
        steps: updates at most; ``seconds`` by the pace of the first ones, where the run is to find out how many.
        folder: the working directory, and the only place, besides caches, in which files may be written.
        out: where the result goes.
        threads: of PyTorch.
    """

    script: Script
    changes: Sequence[Outside]
    seed: int
    steps: int
    seconds: float
    folder: str
    out: str
    threads: int


def main(order: Order, said: str) -> None:
    """Do what the order says, in the process that was made for it; what the script prints goes to a file."""
    if hasattr(os, "setsid"):
        os.setsid()
    with Path(said).open("wb") as file, Path(os.devnull).open("rb") as nothing:
        for target, stream in enumerate((nothing, file, file)):
            os.dup2(stream.fileno(), target)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, "r" if i == 0 else "w", closefd=False) for i in range(3))
    os.chdir(order.folder)
    torch.set_num_threads(order.threads)
    os.environ |= {"TMPDIR": str(Path(said).parent), "TORCHDYNAMO_DISABLE": "1"}
    tempfile.tempdir = None
    _only_in(Path(order.folder), Path(order.out).parent)
    _seeded(order.seed)
    whole = not order.changes and not order.seed
    sight = Sight(Path.cwd(), every=16 if whole else NEVER)
    facts = _Facts(sight, whole)
    for change in order.changes:
        change(sight)
    limit = _Limit(sight, order, lambda: _end(sight, facts, limit, ""))
    error = ""
    with sight:
        register_optimizer_step_post_hook(limit.after)
        try:
            status = order.script.run()
            error = "" if not status else f"the script ends with exit status {status}"
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
        sight.ended = True
        _end(sight, facts, limit, error)


def _end(sight: Sight, facts: _Facts, limit: _Limit, error: str) -> None:
    """Write what was seen, and end at once: what the script would still do is not wanted."""
    sight.__exit__()
    main_watch = max(sight.watches, key=lambda each: each.history.steps, default=None)
    history = main_watch.history if main_watch is not None else None
    result = Ran(
        steps=history.steps if history is not None else 0,
        losses=list(history.losses) if history is not None else [],
        validation=list(history.validation) if history is not None else [],
        readings=[[*reading.where, reading.text, reading.values] for reading in sight.readings.values()],
        error=error,
        said=sight.said,
        facts=facts.found(),
        examinations=seen(sight) if facts.whole else [],
        seconds=now() - limit.began,
        setup=limit.paces[0] if limit.paces else 0.0,
        pace=median(limit.paces[1:] or [0.0]),
    )
    out = limit.order.out
    temporary = Path(out + ".part")
    temporary.write_bytes(
        pickle.dumps(_judged(result, main_watch) if main_watch is not None and facts.whole else result)
    )
    temporary.replace(out)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _judged(ran: Ran, watched: watch) -> Ran:
    """With what the rules suspect of the unchanged run, and a change of a script may prove."""
    judge = measure(ran)
    found = [f for each in reversed(ran.examinations) for f in reversed(each.findings)]
    watched.unchanged = replace(
        ran.facts,
        base=judge.of(ran),
        validated=judge.validated,
        worsened=worsens(ran),
        places={f.cause: f.where for f in found},
    )
    return replace(ran, facts=watched.unchanged, raised=watched.raised())


class _Limit:
    """Ends the run after the updates that were asked for, or that the seconds allow."""

    def __init__(self, sight: Sight, order: Order, end: Callable[[], None]) -> None:
        self.sight, self.order, self.end, self.steps = sight, order, end, order.steps
        self.paces: list[float] = []  # the first of which is the way to the first update
        self.began = self.clock = now()
        self.open = order.seconds > 0

    def after(self, *_: Any) -> None:
        """Of slow updates fewer say what one takes; of those that are too slow for an examination, two."""
        if len(self.paces) < 4 * PACED:
            self.paces.append(now() - self.clock)
            self.clock = now()
        if self.open:
            count, seconds = len(self.paces), self.order.seconds
            taken = self.clock - self.began - self.paces[0]
            if count == 4 * PACED or (count >= PACED and taken > seconds):
                self.open = False
                self.steps = affordable(self.steps, median(self.paces[1:]), seconds, 1.0)
            elif count > 1 and self.clock - self.began > LONGEST * seconds:
                self.steps = 0
        elif self.order.seconds > 0 and now() - self.began - self.paces[0] > LONGEST / 2 * self.order.seconds:
            self.steps = 0  # what it does between the updates takes longer than they do
        done = max((each.history.steps for each in self.sight.watches), default=0)
        if done >= self.steps:
            self.end()


class _Facts:
    """What the unchanged run (``whole``: all of it is asked) shows, by which the changes are chosen."""

    def __init__(self, sight: Sight, whole: bool) -> None:
        self.sight, self.whole = sight, whole
        self.inputs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        self.targets: list[Tensor] = []
        self.named: set[str] = set()
        sight.compared.append(self._compared)
        sight.opened.append(self._opened)
        self.squashed = self.penalized = self.opposing = self.sampled = sight.ended = False
        self.terms = Opposing(sight)
        self.oversized: list[str] = []
        self.last: tuple[Tensor, Tensor] | None = None
        listen(self._heard)
        _before(torch, "normal", self.draw)
        _before(torch.distributions.Normal, "sample", self.draw)
        for owner in (torch, Tensor, F):
            for name in ("sigmoid", "softmax"):
                _before(owner, name, self.squash)

    def squash(self, x: Any, *_: Any, **__: Any) -> None:
        """Is a squashed value squashed again?"""
        self.squashed = self.squashed or squashed(x)

    def draw(self, *args: Any, **_: Any) -> None:
        """Is a sample drawn from what asks for gradients, which do not pass through it?"""
        given = (getattr(a, "loc", a) for a in args)
        self.sampled = self.sampled or any(isinstance(a, Tensor) and a.requires_grad for a in given)

    def _heard(self, loss: Tensor) -> None:
        """Has the loss a penalty beside what compares with targets, or a term that pulls the other way?"""
        if self.whole and not self.penalized and not any(each.history.steps for each in self.sight.watches):
            self.penalized = bool(penalties(loss.grad_fn))
        if self.whole and not self.opposing:
            self.opposing = bool(self.terms.of(loss))

    def _compared(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if torch.is_grad_enabled() and len(args) > 1 and isinstance(args[1], Tensor):
            self.named.add(name)
            if len(self.targets) < 64:
                self.targets.append(args[1].detach().clone())
            self.last = args[0].detach(), args[1].detach()
        return args

    def _opened(self, opened: Any, args: Any) -> None:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            x = first_tensor(args or kwargs, floating=True)
            kept = self.inputs[torch.is_grad_enabled()]
            if x is not None and x.numel() > 1 and len(kept) < 64:
                kept.append((float(x.detach().mean()), float(x.detach().std())))

        self.oversized += [name.rpartition(".")[0] for name in oversized(opened.model)]
        if opened.entries == [opened.model] and self.whole:
            self.sight.paused = True
            opened.mixing = _mixing(opened.model, args)
            self.sight.paused = False
        for entry in opened.entries:
            entry.register_forward_pre_hook(hook, with_kwargs=True)

    @property
    def floor(self) -> float | None:
        """The loss of the best constant answer, where one function of PyTorch is the loss."""
        if len(self.named) != 1 or not self.targets:
            return None
        (name,) = self.named
        values = torch.cat([target.flatten() for target in self.targets])
        if name == "cross_entropy" and not values.is_floating_point():
            share = values[values >= 0].bincount().double() / max(1, int((values >= 0).sum()))
            return float(-(share * share.clamp_min(1e-12).log()).sum())
        if name == "mse_loss":
            return float(values.double().var(correction=0))
        return None

    @property
    def commonest(self) -> float | None:
        """The share of the commonest class among whole-numbered targets."""
        values = [target.flatten() for target in self.targets if not target.is_floating_point()]
        if not values or len(values) < len(self.targets):
            return None
        return float(torch.cat(values).unique(return_counts=True)[1].max() / sum(map(len, values)))

    @property
    def spread(self) -> float:
        """The variance of the last outputs over rows, by that of their targets; 1 where they are not alike."""
        if self.last is None or self.last[0].shape != self.last[1].shape or len(self.last[0]) < 2:
            return 1.0
        ours, theirs = (float(each.double().var(0).mean()) for each in self.last)
        return ours / theirs if theirs else 1.0

    def found(self) -> Unchanged:
        """All of them as plain data."""
        groups = [g for each in self.sight.watches for o in each.optimizers for g in o.param_groups]
        rates = [float(g["lr"]) for g in groups if "lr" in g]
        return Unchanged(
            inputs=tuple(_middle(self.inputs[grad]) for grad in (True, False)),
            floor=self.floor,
            commonest=self.commonest,
            penalized=self.penalized,
            opposing=self.opposing,
            sampled=self.sampled,
            oversized=self.oversized,
            dropping=self.sight.dropping > 0,
            spread=self.spread,
            losses=sorted(self.named),
            rates=rates,
            ended=self.sight.ended,
            usual=any(usual(o, rates) for each in self.sight.watches[:1] for o in each.optimizers[:1]),
            alternating=self.sight.alternating,
            twice=self.squashed or any(each.history.twice for each in self.sight.watches),
            layers=_sizes(self.sight),
            dead=_dead(self.sight),
        )


def _mixing(model: nn.Module, args: Any) -> str | None:
    """Asked of a copy: the model, its statistics and all random numbers stay as they are."""
    try:
        with random_state_kept():
            return mixing_module(copy.deepcopy(model), args)
    except Exception:
        return None  # it cannot be copied, or takes something else than rows


def _sizes(sight: Sight) -> list[tuple[str, float]]:
    """The deviation of each layer's output in the first update."""
    measured = [each.history.measured[0] for each in sight.watches[:1] if each.history.measured]
    return [(name, layer.std) for m in measured for name, layer in m.layers.items() if not name.startswith("input of ")]


def _dead(sight: Sight) -> str:
    """The first layer half of whose units no row turns on in the first update."""
    measured = [each.history.measured[0] for each in sight.watches[:1] if each.history.measured]
    return next((place_of(n) for m in measured for n, layer in m.layers.items() if layer.idle >= DEAD), "")


def _middle(pairs: list[tuple[float, float]]) -> tuple[float, float] | None:
    mean, std = (sum(p[i] for p in pairs) / max(1, len(pairs)) for i in (0, 1))
    return (mean, max(std, 1e-12)) if pairs else None


def _before(owner: Any, name: str, look: Callable[..., None]) -> None:
    """Look at the arguments of a function while gradients are on."""

    def looking(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            look(*args, **kwargs)
        return original(*args, **kwargs)

    wrap(owner, name, looking)


def _seeded(shift: int) -> None:
    """Seed what the script does not seed; and add the shift to the seeds that it sets."""

    def seed(original: Callable[..., Any], value: Any = 0, *args: Any, **kwargs: Any) -> Any:
        return original(value + shift if isinstance(value, int) else value, *args, **kwargs)

    for owner, name in ((random, "seed"), (np.random, "seed"), (torch, "manual_seed")):
        wrap(owner, name, seed)
        getattr(owner, name)(0)


def _only_in(*folders: Path) -> None:
    """Refuse to write, rename or remove files outside of these folders, caches and devices."""
    kept = (*folders, Path(tempfile.gettempdir()), Path("/dev"), Path("/proc"))
    allowed = tuple(str(path.resolve()) for path in kept)
    home = str(Path.home())

    def check(path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        hidden = real.startswith(home) and "/." in real[len(home) :]
        if not real.startswith(allowed) and not hidden and "__pycache__" not in real:
            raise PermissionError(
                f"the script writes {real}, outside of its working directory; an examination does not"
            )

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if (
            (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"))
            or (event == "open" and args[1] is None and args[2] & (os.O_WRONLY | os.O_RDWR))
            or event in ("os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
        ):
            check(args[0])
        elif event == "os.rename":
            check(args[0])
            check(args[1])

    sys.addaudithook(audit)

    def saved(save: Callable[..., None], obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        check(f if isinstance(f, str | os.PathLike) else "/dev/null")
        save(obj, f, *args, **kwargs)

    wrap(torch, "save", saved)
