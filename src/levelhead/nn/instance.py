"""Instance normalization."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from levelhead import ops
from levelhead.nn import masks
from levelhead.nn.extras import Tracked, is_foreign, recorded
from levelhead.nn.policy import recomputed


class _Instance(Tracked, _InstanceNorm):
    def forward(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        *,
        activation: str | None = None,
        mask: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """``activation(instance_norm(input) + residual)``; see the class."""
        if is_foreign(input):
            return recorded(self, input, residual, activation=activation, mask=mask, lengths=lengths)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        single = input.ndim == self._get_no_batch_dim()  # type: ignore[no-untyped-call]  # one example, no batch
        channels = input.shape[0 if single else 1]
        if channels != self.num_features:
            message = f"the input {tuple(input.shape)} has {channels} channels, num_features is {self.num_features}"
            if self.affine:
                raise ValueError(message)
            warnings.warn(f"{message}; without affine it is not used", stacklevel=2)
        input = input.unsqueeze(0) if single else input
        again = self.running_mean is not None and self.training and recomputed()
        mean, var = self._estimates() if self.training else (self.running_mean, self.running_var)
        y = ops.instance_norm(
            input,
            mean,
            var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if again or self.momentum is None else self.momentum,
            self.eps,
            activation=activation or self.activation,
            residual=residual.unsqueeze(0) if single and residual is not None else residual,
            unbiased=self.unbiased,
            mask=mask if lengths is None else masks.resolve(input, mask, lengths, -1),
        )
        if self.training:
            self._kept(mean, var)
        return y.squeeze(0) if single else y


class InstanceNorm1d(_Instance, nn.InstanceNorm1d):
    """Instance normalization of (N, C, L) or (C, L): ``torch.nn.InstanceNorm1d`` with extras.

    See ``ops.instance_norm`` for the formula; ``forward`` takes ``mask`` or ``lengths`` as ``BatchNorm1d``.

    Args:
        *args: as ``torch.nn.InstanceNorm1d``.
        activation: applied to the result: a name of ``ops.reference.ACTIVATIONS``.
        unbiased: whether ``running_var`` keeps the unbiased variance, as PyTorch, or the biased one.
        **kwargs: as ``torch.nn.InstanceNorm1d``.
    """


class InstanceNorm2d(_Instance, nn.InstanceNorm2d):
    """Instance normalization of (N, C, H, W) or (C, H, W): ``torch.nn.InstanceNorm2d`` with the same extras."""


class InstanceNorm3d(_Instance, nn.InstanceNorm3d):
    """Instance normalization of (N, C, D, H, W) or (C, D, H, W): ``torch.nn.InstanceNorm3d`` with the same extras."""
