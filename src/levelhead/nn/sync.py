"""Batch normalization over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from levelhead import ops
from levelhead.nn import masks
from levelhead.nn.batch import _Batch
from levelhead.nn.extras import is_foreign, recorded


class SyncBatchNorm(_Batch):
    """Batch normalization of (N, C, ...) over the batches of all processes: ``torch.nn.SyncBatchNorm``, on CPUs too.

    In training the statistics are those of the concatenated batch, from one collective each way: count, mean and M2
    gathered and merged (``Moments``), and in the backward pass the two sums that go through them. Batches may differ in
    size, and be empty. Where there is one process or no process group, and in evaluation, it is plain batch norm.
    Every process of the group must make the same calls, the backward passes included.

    Constructor and state_dict are those of ``torch.nn.SyncBatchNorm``, but it is no subclass of it: on a CPU
    ``DistributedDataParallel`` refuses every model that holds one.

    Args:
        num_features: the number of channels C; this and the next four as ``torch.nn.SyncBatchNorm``.
        eps: added to the variance.
        momentum: the weight of a new batch in the running estimates; None keeps the cumulative average.
        affine: whether there are weight and bias.
        track_running_stats: whether running estimates are kept.
        process_group: who shares; None is all processes.
        **extras: device, dtype and bias as ``torch.nn.SyncBatchNorm``, and the extras of ``BatchNorm1d``.

    Source: Ioffe & Szegedy 2015 (batch norm); Chan, Golub & LeVeque 1979, eq. 2.1 (the merge).
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: dist.ProcessGroup | None = None,
        device: Any = None,
        dtype: Any = None,
        **extras: Any,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, **extras)
        self.process_group = process_group

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
        if not (self.training and self._group()):
            return super().forward(input, residual, activation=activation, mask=mask, lengths=lengths)
        self._check_input_dim(input)
        mask = masks.resolve(input, mask, lengths, -1)
        return self._forward_by_policy(input, residual, activation or self.activation, mask)

    def _normalize(self, input: Tensor, extras: dict[str, Any]) -> ops.Normalized | None:
        group = self._group()
        if not group:
            return super()._normalize(input, extras)
        return self._checked(ops.normalize_batch(input, self.weight, self.bias, self.eps, group=group, **extras))

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2D input (got {input.ndim}D input)")
        if input.shape[1] == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    def _group(self) -> str:
        """The name of the group to share with; "" where there is nobody."""
        if not (dist.is_available() and dist.is_initialized()):
            return ""
        group = cast(dist.ProcessGroup, dist.group.WORLD if self.process_group is None else self.process_group)
        return group.group_name if dist.get_world_size(group) > 1 else ""

    @classmethod
    def convert_sync_batchnorm(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """Make the batch norms of a model, PyTorch's and levelhead's, synchronized ones, in place.

        Each keeps its identity, and with it parameters, buffers, hooks and extras, and takes this class.

        Args:
            module: a model, or a batch norm itself.
            process_group: who shares; None is all processes.

        Returns:
            The same object.

        Raises:
            ValueError: a lazy batch norm does not know its channels yet.
        """
        for name, child in module.named_modules():
            if isinstance(child, LazyModuleMixin) and isinstance(child, _BatchNorm):
                raise ValueError(f"the lazy batch norm {name!r} has no channels yet: run the model once before")
            if isinstance(child, _BatchNorm):
                child.__class__ = cls
                child.process_group = process_group
        return module
