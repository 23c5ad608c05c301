"""How batch normalization keeps its running estimates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import _disable_current_modes

from levelhead.moments import Moments
from levelhead.nn.extras import Tracked
from levelhead.ops import reference


@dataclass(frozen=True)
class StatePolicy:
    r"""What a batch in training does to the running estimates; the defaults are PyTorch's behaviour.

    Args:
        statistics: ``"exponential"``: running += momentum (batch - running), from 0 and 1 on. ``"cumulative"``: the
            mean of all batches, as ``momentum=None``. ``"debiased"``: exponential without the share of the 0 and 1 it
            starts from, the weight of batch t being m / (1 - (1 - m)^t). ``"population"``: training leaves the
            estimates alone; ``recalibrate`` sets them.
        on_nonfinite: a batch whose mean or variance is NaN or infinite ``"propagate"``s into the estimates, is
            ``"skip"``ped and counted in ``batches_skipped``, or ``"raise"``s.
        batch_of_one: a batch of one value a channel ``"raise"``s, or is normalized by the ``"running"`` estimates.
        accumulate: so many batches make one update, by their pooled mean and variance.

    Raises:
        ValueError: a value is none of these.

    Source: Kingma & Ba 2015, "Adam", section 3 (the correction of the bias); ``Moments`` (pooling).
    """

    statistics: Literal["exponential", "cumulative", "debiased", "population"] = "exponential"
    on_nonfinite: Literal["propagate", "skip", "raise"] = "propagate"
    batch_of_one: Literal["raise", "running"] = "raise"
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(StatePolicy).items():
            value, choices = getattr(self, name), get_args(hint)
            if choices and value not in choices:
                raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(choices)}")
        if not isinstance(self.accumulate, int) or self.accumulate < 1:
            raise ValueError(f"accumulate={self.accumulate!r} must be a whole number from 1 on: batches an update")

    def changes(self) -> str:
        """What differs from the defaults, as arguments."""
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return "".join(f", {f.name}={getattr(self, f.name)!r}" for f in changed)


DEFAULT = StatePolicy()

#: The number of the backward pass that this thread is in; -1 outside.
_backward_pass = torch._C._current_graph_task_id


def recomputed() -> bool:
    """Whether this forward pass is run again by activation checkpointing, which does so within a backward pass."""
    # As torch.utils.module_tracker tells backward from forward; the compiler, which cannot trace it, asks no further.
    return not is_dynamo_compiling() and _backward_pass() != -1


class Kept(Tracked, _BatchNorm):
    """A mixin for batch norm: its running estimates follow a policy."""

    policy: StatePolicy | None = None
    averages: bool = False  # whether it was made with momentum=None
    batches_skipped: int = 0
    _pending: Moments | None = None  # of the batches of an update that is not complete
    _pending_batches: int = 0

    def reset_running_stats(self) -> None:
        """Back to mean 0, variance 1 and nothing counted."""
        super().reset_running_stats()
        self.batches_skipped = 0
        self._pending, self._pending_batches = None, 0

    @torch.no_grad()
    def advance(self, mean: Tensor, var: Tensor, count: Tensor, unbiased: bool) -> None:
        """Bring a batch into the running estimates: its mean, biased variance and counts, one a channel.

        Raises:
            FloatingPointError: the policy says so, and a statistic is not finite.
        """
        if recomputed():
            return
        with _unseen():
            self._advance(Moments(count, mean, var * count), self.policy or DEFAULT, unbiased)

    def _advance(self, batch: Moments, policy: StatePolicy, unbiased: bool) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        keep = policy.on_nonfinite == "propagate" or self._finite(batch, policy)
        borrowed = self.momentum is None and not self.averages  # by PyTorch's update_bn: every batch counts, at once
        if policy.statistics == "population" and not borrowed:
            return
        if policy.accumulate > 1 and not borrowed:
            if keep:
                pending = self._pending
                batch = batch if pending is None else _to(pending, batch.mean.device) + batch
                self._pending = batch
            self._pending_batches += 1
            if self._pending_batches < policy.accumulate:
                return
            keep, batch = self._pending is not None, self._pending or batch
            self._pending, self._pending_batches = None, 0
        if not keep:
            return
        valid = batch.count > 1
        weight = self._weight(policy) * valid
        correction = (batch.count - int(unbiased)).clamp(min=1)
        estimates = self._estimates()
        for running, value in zip(estimates, (batch.mean, batch.m2 / correction), strict=True):
            assert running is not None
            reference.track(running, value.masked_fill(~valid, 0), weight)
        self._kept(*estimates)

    def _finite(self, batch: Moments, policy: StatePolicy) -> bool:
        bad = ((batch.count > 0) & ~(batch.mean.isfinite() & batch.m2.isfinite())).flatten().nonzero()
        if not len(bad):
            return True
        if policy.on_nonfinite == "raise":
            channel = int(bad[0])
            raise FloatingPointError(
                f"the batch's statistics of {len(bad)} of {self.num_features} channels are not finite (channel"
                f" {channel}: mean {float(batch.mean[channel])}); look at the input, or skip such batches by"
                " on_nonfinite='skip'"
            )
        self.batches_skipped += 1
        return False

    def _weight(self, policy: StatePolicy) -> Tensor:
        """Counts the update; the share that it gets in the running estimates."""
        assert self.running_mean is not None
        updates = torch.ones((), dtype=torch.long, device=self.running_mean.device)
        if self.num_batches_tracked is not None:
            updates = self.num_batches_tracked.add_(1)
        if policy.statistics == "cumulative" or self.momentum is None:
            return 1 / reference.widen(updates)
        momentum = reference.widen(torch.as_tensor(self.momentum, device=updates.device))
        if policy.statistics == "debiased":
            return momentum / -torch.expm1(updates * torch.log1p(-momentum))
        return momentum

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """PyTorch's keys, and more only while there is something to keep: skipped batches, an update in the making."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.batches_skipped:
            destination[prefix + "batches_skipped"] = torch.tensor(self.batches_skipped)
        if self._pending_batches:
            pending = self._pending or Moments.empty((self.num_features,))
            packed = torch.stack([pending.count.to(pending.mean).expand(pending.shape), pending.mean, pending.m2])
            destination[prefix + "pending"] = packed
            destination[prefix + "pending_batches"] = torch.tensor(self._pending_batches)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.policy is not None:
            self.batches_skipped = int(state_dict.pop(prefix + "batches_skipped", 0))
            self._pending_batches = int(state_dict.pop(prefix + "pending_batches", 0))
            packed = state_dict.pop(prefix + "pending", None)
            self._pending = None
            if packed is not None and bool((packed[0] > 0).any()):
                self._pending = Moments(packed[0].long(), packed[1].clone(), packed[2].clone())
        super()._load_from_state_dict(state_dict, prefix, *args)


def _to(moments: Moments, device: torch.device) -> Moments:
    return Moments(moments.count.to(device), moments.mean.to(device), moments.m2.to(device))


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    """Selective checkpointing counts operations; those on the state are not run again, so it must not see them."""
    if torch.compiler.is_compiling():
        yield
    else:
        with _disable_current_modes():
            yield
