"""Normalization within each example: layer, RMS and group norm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from levelhead import ops
from levelhead.nn import masks
from levelhead.nn.extras import Fused, is_foreign, recorded


class LayerNorm(Fused, nn.LayerNorm):
    """Normalization over the last dimensions: ``torch.nn.LayerNorm`` with extras; see ``ops.layer_norm``.

    ``forward`` takes ``mask``, boolean and broadcastable to the input, True where a value counts; or ``lengths``, (N,),
    of the sequences in an input (N, L, ...).

    Args:
        *args: as ``torch.nn.LayerNorm``.
        activation: applied to the result: a name of ``ops.reference.ACTIVATIONS``.
        **kwargs: as ``torch.nn.LayerNorm``.
    """

    def forward(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        *,
        activation: str | None = None,
        mask: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """``activation(layer_norm(input) + residual)``."""
        if is_foreign(input):
            return recorded(self, input, residual, activation=activation, mask=mask, lengths=lengths)
        return ops.layer_norm(
            input,
            self.normalized_shape,
            self.weight,
            self.bias,
            self.eps,
            activation=activation or self.activation,
            residual=residual,
            mask=mask if lengths is None else masks.resolve(input, mask, lengths, 1),
        )


class RMSNorm(Fused, nn.RMSNorm):
    """Division by the root mean square: ``torch.nn.RMSNorm`` with the extras of ``LayerNorm``; see ``ops.rms_norm``."""

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        *,
        activation: str | None = None,
        mask: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """``activation(rms_norm(x) + residual)``."""
        if is_foreign(x):
            return recorded(self, x, residual, activation=activation, mask=mask, lengths=lengths)
        return ops.rms_norm(
            x,
            self.normalized_shape,
            self.weight,
            self.eps,
            activation=activation or self.activation,
            residual=residual,
            mask=mask if lengths is None else masks.resolve(x, mask, lengths, 1),
        )


class GroupNorm(Fused, nn.GroupNorm):
    """Normalization over groups of channels: ``torch.nn.GroupNorm`` with the extras of ``LayerNorm``.

    ``lengths`` are along the last axis.
    """

    def forward(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        *,
        activation: str | None = None,
        mask: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """``activation(group_norm(input) + residual)``; see ``ops.group_norm``."""
        if is_foreign(input):
            return recorded(self, input, residual, activation=activation, mask=mask, lengths=lengths)
        return ops.group_norm(
            input,
            self.num_groups,
            self.weight,
            self.bias,
            self.eps,
            activation=activation or self.activation,
            residual=residual,
            mask=mask if lengths is None else masks.resolve(input, mask, lengths, -1),
        )
