"""Batch normalization."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from levelhead import ops
from levelhead.nn.extras import Tracked


class _Batch(Tracked, _BatchNorm):
    memory: str | None = None

    def __init__(self, *args: Any, memory: str | None = None, **kwargs: Any) -> None:
        ops.inplace.check(memory, ops.check_activation(kwargs.get("activation")))
        super().__init__(*args, **kwargs)
        if memory is not None:
            self.memory = memory

    def extra_repr(self) -> str:
        """The namesake's arguments and the extras that are set."""
        return super().extra_repr() + ("" if self.memory is None else f", memory={self.memory!r}")

    def forward(self, input: Tensor, residual: Tensor | None = None, *, activation: str | None = None) -> Tensor:
        """``activation(batch_norm(input) + residual)``; see the class."""
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        keeps = self.track_running_stats or not self.training  # else: buffers that are there, not to be updated
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = _cumulative(self.num_batches_tracked)
        return ops.batch_norm(
            input,
            self.running_mean if keeps else None,
            self.running_var if keeps else None,
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


def _cumulative(batches: Tensor) -> float | Tensor:
    """The momentum that makes the running estimate the mean of all batches; a tensor where a graph is traced."""
    return 1.0 / batches if torch.compiler.is_compiling() else 1.0 / float(batches)


class BatchNorm1d(_Batch, nn.BatchNorm1d):
    """Batch normalization of (N, C) or (N, C, L): ``torch.nn.BatchNorm1d`` with extras; see ``ops.batch_norm``.

    Args:
        *args: as ``torch.nn.BatchNorm1d``; ``momentum=None`` keeps the cumulative average.
        activation: applied to the result: relu, leaky_relu, elu, silu, gelu, gelu_tanh, sigmoid or tanh.
        unbiased: whether ``running_var`` keeps the unbiased variance, as PyTorch, or the biased one, as ONNX.
        memory: "inplace" keeps the output alone for the backward pass, in the input's place; see ``ops.batch_norm``.
        **kwargs: as ``torch.nn.BatchNorm1d``.
    """


class BatchNorm2d(_Batch, nn.BatchNorm2d):
    """Batch normalization of (N, C, H, W): ``torch.nn.BatchNorm2d`` with the extras of ``BatchNorm1d``."""


class BatchNorm3d(_Batch, nn.BatchNorm3d):
    """Batch normalization of (N, C, D, H, W): ``torch.nn.BatchNorm3d`` with the extras of ``BatchNorm1d``."""
