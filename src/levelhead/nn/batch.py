"""Batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from levelhead import ops
from levelhead.nn import masks
from levelhead.nn.extras import is_foreign, recorded
from levelhead.nn.policy import DEFAULT, Kept, StatePolicy, recomputed
from levelhead.ops.masked import check_counts


class _Batch(Kept):
    memory: str | None = None

    def __init__(
        self,
        *args: Any,
        statistics: Any = DEFAULT.statistics,
        on_nonfinite: Any = DEFAULT.on_nonfinite,
        batch_of_one: Any = DEFAULT.batch_of_one,
        accumulate: int = DEFAULT.accumulate,
        memory: str | None = None,
        **kwargs: Any,
    ) -> None:
        policy = StatePolicy(statistics, on_nonfinite, batch_of_one, accumulate)
        ops.inplace.check(memory, ops.check_activation(kwargs.get("activation")))
        super().__init__(*args, **kwargs)
        if policy != DEFAULT:
            self.policy, self.averages = policy, self.momentum is None
        if memory is not None:
            self.memory = memory

    def forward(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        *,
        activation: str | None = None,
        mask: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """``activation(batch_norm(input) + residual)``; see the class."""
        if is_foreign(input):
            return recorded(self, input, residual, activation=activation, mask=mask, lengths=lengths)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        if self.policy is not None or mask is not None or lengths is not None:
            mask = masks.resolve(input, mask, lengths, -1)
            return self._forward_by_policy(input, residual, activation or self.activation, mask)
        keeps = self.track_running_stats or not self.training  # else: buffers that are there, not to be updated
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            again = recomputed()  # then the same operations, since selective checkpointing counts them, to no effect
            self.num_batches_tracked.add_(0 if again else 1)
            if self.momentum is None:
                momentum = _cumulative(self.num_batches_tracked)
            if again:
                momentum = 0.0
        updates = keeps and self.training
        mean, var = self._estimates() if updates else (self.running_mean, self.running_var) if keeps else (None, None)
        y = ops.batch_norm(
            input,
            mean,
            var,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            momentum,
            self.eps,
            activation=activation or self.activation,
            residual=residual,
            unbiased=self.unbiased,
            memory=self.memory,
        )
        if updates:
            self._kept(mean, var)
        return y

    def _forward_by_policy(
        self, input: Tensor, residual: Tensor | None, activation: str | None, mask: Tensor | None
    ) -> Tensor:
        extras: dict[str, Any] = {"activation": activation, "residual": residual, "mask": mask}
        ops.inplace.check(self.memory, ops.check_activation(activation), residual, mask)
        found = self._normalize(input, extras) if self.training else None
        if found is None:
            training = self.running_mean is None and self.running_var is None
            estimates = (self.running_mean, self.running_var)
            parameters = (self.weight, self.bias)
            return ops.batch_norm(input, *estimates, *parameters, training, 0.0, self.eps, memory=self.memory, **extras)
        y, mean, var, count = found
        if self.track_running_stats and self.running_mean is not None:
            self.advance(mean.flatten(), var.flatten(), count.flatten(), self.unbiased)
        return y

    def _normalize(self, input: Tensor, extras: dict[str, Any]) -> ops.Normalized | None:
        """The result and the batch's statistics; None where the policy wants the running ones for a batch of one."""
        if extras["mask"] is not None:
            return self._checked(ops.normalize_batch(input, self.weight, self.bias, self.eps, **extras))
        values = input.numel() // max(input.shape[1], 1)
        if values == 1 and self._runs_alone():
            return None
        # With momentum 1 the running estimates become the batch's statistics, whatever kernel runs.
        wide = torch.promote_types(input.dtype, torch.float32) if self.running_mean is None else self.running_mean.dtype
        mean, var = torch.zeros((2, input.shape[1]), dtype=wide, device=input.device)
        parameters = (self.weight, self.bias)
        y = ops.batch_norm(input, mean, var, *parameters, True, 1.0, self.eps, memory=self.memory, **extras)
        count = torch.full_like(mean, values, dtype=torch.long)
        return ops.Normalized(y, mean, var * ((values - 1) / max(values, 1)), count)

    def _checked(self, found: ops.Normalized) -> ops.Normalized | None:
        if self._runs_alone() and int(found.counts.max()) == 1:
            return None
        check_counts(found.counts)
        return found

    def _runs_alone(self) -> bool:
        """Whether a batch of one is normalized by the running estimates."""
        return self.policy is not None and self.policy.batch_of_one == "running" and self.running_mean is not None

    def extra_repr(self) -> str:
        """The namesake's arguments and the extras that are set."""
        own = "" if self.memory is None else f", memory={self.memory!r}"
        return super().extra_repr() + ("" if self.policy is None else self.policy.changes()) + own


def _cumulative(batches: Tensor) -> float | Tensor:
    """The momentum that makes the running estimate the mean of all batches; a tensor where a graph is traced."""
    return 1.0 / batches if torch.compiler.is_compiling() else 1.0 / float(batches)


class BatchNorm1d(_Batch, nn.BatchNorm1d):
    """Batch normalization of (N, C) or (N, C, L): ``torch.nn.BatchNorm1d`` with extras; see ``ops.batch_norm``.

    ``forward`` takes ``mask``, boolean and broadcastable to the input, True where a value counts; or ``lengths``, (N,),
    of sequences along the last axis.

    Args:
        *args: as ``torch.nn.BatchNorm1d``; ``momentum=None`` keeps the cumulative average.
        activation: applied to the result: a name of ``ops.reference.ACTIVATIONS``.
        unbiased: whether ``running_var`` keeps the unbiased variance, as PyTorch, or the biased one, as ONNX.
        memory: "inplace" keeps the output alone for the backward pass, in the input's place; see ``ops.batch_norm``.
        statistics: how the running estimates follow the batches; this and the next three as in ``StatePolicy``, which
            the attribute ``policy`` holds (None where all are PyTorch's defaults).
        on_nonfinite: what a batch with NaN or infinite statistics does to them.
        batch_of_one: what a batch of one value a channel is normalized by.
        accumulate: how many batches make one update.
        **kwargs: as ``torch.nn.BatchNorm1d``.
    """


class BatchNorm2d(_Batch, nn.BatchNorm2d):
    """Batch normalization of (N, C, H, W): ``torch.nn.BatchNorm2d`` with the extras of ``BatchNorm1d``."""


class BatchNorm3d(_Batch, nn.BatchNorm3d):
    """Batch normalization of (N, C, D, H, W): ``torch.nn.BatchNorm3d`` with the extras of ``BatchNorm1d``."""
