"""Passes over batches that measure what normalization layers see, and leave no trace in the model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from levelhead.evaluation import undisturbed
from levelhead.moments import Moments
from levelhead.nn import masks
from levelhead.nn.drift import Drift

Forward = Callable[[nn.Module, Any], object]
Hook = Callable[["Layer", Any, Any], None]

#: Calls whose moments are kept apart before they are merged: a merge of many costs hardly more than one of two.
_PENDING = 64
#: The rows of what is merged: all values; the means of the calls; their variances.
_VALUES, _MEANS, _VARIANCES = range(3)


class _TooFew(BaseException):
    """A batch has one value a channel. Not an ``Exception``, which the model might catch."""


class _Enough(BaseException):
    """What is behind the layer at hand need not be calculated."""


class Layer:
    """One layer: its estimates, and the moments of what it sees."""

    def __init__(self, name: str, module: _NormBase) -> None:
        assert module.running_mean is not None
        assert module.running_var is not None
        self.name, self.module = name, module
        self.mean, self.var = module.running_mean, module.running_var
        self.old = (self.mean.double().clone(), self.var.double().clone())
        self.instances = isinstance(module, _InstanceNorm)
        self.correction = int(getattr(module, "unbiased", True))
        self.skips = getattr(getattr(module, "policy", None), "on_nonfinite", None) == "skip"
        self.calls = self.most = 0  # in a forward pass: so far, and in the one with the most
        self.staged: list[Moments] = []  # of the batch at hand
        self._pending: list[tuple[int, Moments]] = []
        self._none = Moments.empty((3, len(self.mean)), self.mean.device)
        self.here = self.total = self._none  # of this rank since the last merge; of all

    @property
    def reached(self) -> bool:
        """Whether any value was seen, on any rank."""
        return bool((self.total.count > 0).any())

    def of_total(self, row: int) -> Moments:
        """All values, the means or the variances."""
        return Moments(self.total.count.expand(self.total.shape)[row], self.total.mean[row], self.total.m2[row])

    def moments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Moments, int]:
        """Of one input, (1, channels) or (instances, channels), and how many values the poorest of them has."""
        x: Tensor = args[0] if args else kwargs["input"]
        mask = masks.resolve(x, kwargs.get("mask"), kwargs.get("lengths"), -1)
        if self.instances and x.ndim == self.module._get_no_batch_dim():  # type: ignore[operator]
            x = x.unsqueeze(0)
        axes = tuple(range(2, x.ndim)) if self.instances else (0, *range(2, x.ndim))
        found = Moments.of(x, axes, mask)
        shape = (-1, x.shape[1])
        rows = Moments(*(part.expand(found.shape).reshape(shape) for part in (found.count, found.mean, found.m2)))
        return rows, math.prod(x.shape[d] for d in axes) if mask is None else int(rows.count.min())

    def use(self, mean: Tensor, var: Tensor) -> None:
        """Normalize by these until ``restore``."""
        buffers = self.module._buffers  # assigning to the module would cost more than a small layer
        buffers["running_mean"], buffers["running_var"] = mean.to(self.mean.dtype), var.to(self.var.dtype)
        if not self.module.track_running_stats:
            self.module.track_running_stats = True

    def use_batch(self, found: Moments) -> None:
        """Normalize by the batch whose moments these are, an instance norm by each instance."""
        if self.instances:
            self.module.running_mean = self.module.running_var = None
            self.module.track_running_stats = False
        else:
            self.use(found.mean[0], found.var()[0])

    def restore(self) -> None:
        """The estimates as they were."""
        self.module.running_mean, self.module.running_var = self.mean, self.var
        self.module.track_running_stats = True

    def commit(self, batch: int) -> None:
        """Count in what the batch has brought."""
        self._pending += [(batch, part) for part in self.staged]
        self.staged = []
        if len(self._pending) >= _PENDING:
            self.flush()

    def flush(self) -> None:
        """Merge what is pending.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        if not self._pending:
            return
        batches = [batch for batch, part in self._pending for _ in range(len(part.mean))]
        parts = [part for _, part in self._pending]
        rows = Moments(*(torch.cat([getattr(part, field) for part in parts]) for field in ("count", "mean", "m2")))
        self._pending = []
        bad = ((rows.count > 0) & ~(rows.mean.isfinite() & rows.m2.isfinite())).any(1)
        if bool(bad.any()):
            if not self.skips:
                raise ValueError(
                    f"batch {batches[int(bad.nonzero()[0])]} (counted from 0) brings NaN or infinite values to the"
                    f" layer {self.name!r}; leave it out, or see what makes them"
                )
            rows = Moments(rows.count[~bad], rows.mean[~bad], rows.m2[~bad])
        if len(rows.mean):
            means = Moments.of(rows.mean, 0, rows.count > 0)
            variances = Moments.of(rows.var(self.correction), 0, rows.count > 1)
            found = Moments.stack([rows.reduce(0), means, variances])
            self.here = found if self.here is self._none else self.here + found

    def merge(self, other: Moments) -> None:
        """Add to the total what all ranks have seen since the last time."""
        if other is not self._none:
            self.total = other if self.total is self._none else self.total + other
        self.here = self._none

    def result(self, method: str) -> tuple[Tensor, Tensor]:
        """Mean and variance by the method.

        Raises:
            ValueError: a channel has no variance.
        """
        values = self.of_total(_VALUES)
        if method == "averaged":
            mean, var = self.of_total(_MEANS).mean, self.of_total(_VARIANCES).mean
        else:
            mean, var = values.mean, values.var(self.correction)
        few = (values.count < 2) | ~var.isfinite()
        if bool(few.any()):
            channel = int(few.nonzero()[0])
            count = int(values.count[channel])
            alone = ", no two of them in one batch" if count > 1 else ""
            raise ValueError(
                f"the layer {self.name!r} saw {count} values in channel {channel}{alone}: they have no variance; give"
                " more batches, or larger ones"
            )
        return mean, var

    def drift(self, new: tuple[Tensor, Tensor]) -> Drift:
        """How far the old estimates are from the new."""
        return Drift.of(self.name, type(self.module).__name__, self.old, new, self.of_total(_VALUES))

    @torch.no_grad()
    def set(self, new: tuple[Tensor, Tensor]) -> None:
        """Write the new estimates; what else a layer keeps of past batches is forgotten."""
        self.module.reset_running_stats()
        self.mean.copy_(new[0])
        self.var.copy_(new[1])
        if self.module.num_batches_tracked is not None and not self.instances:
            self.module.num_batches_tracked.fill_(int(self.of_total(_MEANS).count.max()))


@contextlib.contextmanager
def measuring(model: nn.Module, layers: list[Layer]) -> Iterator[None]:
    """The model undisturbed; afterwards the layers' estimates are as before."""
    try:
        with undisturbed(model):
            yield
    finally:
        for layer in layers:
            layer.restore()


class Ranks:
    """The processes that measure together."""

    def __init__(self, group: dist.ProcessGroup | None, *, alone: bool, device: torch.device) -> None:
        together = not alone and dist.is_available() and dist.is_initialized()
        self.group, self.device = group, device
        self.size = dist.get_world_size(group) if together else 1

    def gather(self, values: list[int]) -> list[list[int]]:
        """The values of every rank."""
        if self.size == 1:
            return [values]
        mine = torch.tensor(values, device=self.device)
        all_ = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(all_, mine, group=self.group)
        return [each.tolist() for each in all_]

    def together(self, work: Callable[[], int], layers: list[Layer]) -> int:
        """Do the work on each rank, merge what the layers saw, and sum up the results; all raise where one does."""
        error: Exception | None = None
        done = 0
        try:
            done = work()
        except Exception as raised:
            error = raised
        told = self.gather([int(error is not None), done])
        if error is not None:
            raise error
        failed = [rank for rank, (bad, _) in enumerate(told) if bad]
        if failed:
            raise RuntimeError(f"recalibration failed on rank {failed[0]} of the group; its own error says why")
        for layer in layers:
            layer.merge(layer.here if self.size == 1 else layer.here.all_reduce(self.group))
        return sum(count for _, count in told)


class Passes:
    """Ways to go over the batches."""

    def __init__(self, model: nn.Module, layers: list[Layer], forward: Forward, ranks: Ranks) -> None:
        self.model, self.layers, self.forward, self.ranks = model, layers, forward, ranks

    def at_once(self, batches: Iterable[Any]) -> int:
        """One pass, each layer normalizing by the batch; returns the number of batches, of all ranks."""
        held: list[tuple[int, Any]] = []

        def late() -> int:
            for layer in self.layers if held else ():
                if layer.reached:
                    values = layer.of_total(_VALUES)
                    layer.use(values.mean, values.var())
            return self._walk(held, self.layers, _measured)

        count = self.ranks.together(
            partial(self._walk, enumerate(batches), self.layers, _by_the_batch, held), self.layers
        )
        if any(layer.reached for layer in self.layers):  # the same on every rank
            self.ranks.together(late, self.layers)
        return count

    def one_by_one(self, batches: Iterable[Any], method: str) -> int:
        """A pass that finds the order of the layers, and one for each; returns the number of batches, of all ranks."""
        order: list[Layer] = []

        def note(layer: Layer, args: Any, kwargs: Any) -> None:
            if layer not in order:
                order.append(layer)

        count = self.ranks.together(lambda: self._walk(enumerate(batches), self.layers, note), [])
        never = len(self.layers)
        seen = [[order.index(layer) if layer in order else never, layer.most] for layer in self.layers]
        told = torch.tensor(self.ranks.gather(list(chain(*seen))), device="cpu").view(-1, never, 2)
        places, most = told[:, :, 0].amin(0).tolist(), told[:, :, 1].amax(0).tolist()
        for place, again, layer in sorted(zip(places, most, self.layers, strict=True), key=lambda entry: entry[0]):
            if place < never:
                hook = _by_itself if again > 1 else _and_no_more
                self.ranks.together(partial(self._walk, enumerate(batches), [layer], hook), [layer])
                layer.use(*layer.result(method))
        return count

    def _walk(
        self,
        batches: Iterable[tuple[int, Any]],
        layers: list[Layer],
        hook: Hook,
        held: list[tuple[int, Any]] | None = None,
    ) -> int:
        """Run the batches with a hook before each call of a layer; returns how many there were."""
        count = 0
        with contextlib.ExitStack() as stack:
            for layer in layers:
                before = partial(_before, layer, hook)
                stack.callback(layer.module.register_forward_pre_hook(before, with_kwargs=True).remove)
            for number, batch in batches:
                count += 1
                for layer in layers:
                    layer.calls = 0
                try:
                    with contextlib.suppress(_Enough):
                        self.forward(self.model, batch)
                except _TooFew:
                    if held is None:
                        raise
                    held.append((number, batch))
                    for layer in layers:
                        layer.staged = []
                for layer in layers:
                    layer.commit(number)
        for layer in layers:
            layer.flush()
        return count


def _before(layer: Layer, hook: Hook, module: nn.Module, args: Any, kwargs: Any) -> None:
    layer.calls += 1
    layer.most = max(layer.most, layer.calls)
    hook(layer, args, kwargs)


def _measured(layer: Layer, args: Any, kwargs: Any) -> None:
    layer.staged.append(layer.moments(args, kwargs)[0])


def _by_the_batch(layer: Layer, args: Any, kwargs: Any) -> None:
    found, least = layer.moments(args, kwargs)
    if least == 0 and not bool(found.count.any()):  # an empty batch, or all of it masked
        return
    if least < 2:
        raise _TooFew
    layer.staged.append(found)
    layer.use_batch(found)


def _by_itself(layer: Layer, args: Any, kwargs: Any) -> None:
    found, least = layer.moments(args, kwargs)
    layer.staged.append(found)
    if least < 2:
        layer.restore()
    else:
        layer.use_batch(found)


def _and_no_more(layer: Layer, args: Any, kwargs: Any) -> None:
    _measured(layer, args, kwargs)
    raise _Enough
