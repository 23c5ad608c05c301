"""Dropout of elements and of channels."""

from __future__ import annotations

from torch import Tensor, nn

from levelhead import ops
from levelhead.nn.extras import Unscripted, is_foreign, recorded


class Dropout(Unscripted, nn.Dropout):
    """Dropout of elements: ``torch.nn.Dropout``, with nothing stored for the backward pass; see ``ops.dropout``."""

    def forward(self, input: Tensor) -> Tensor:
        """``ops.dropout(input, p, training)``."""
        if is_foreign(input):
            return recorded(self, input)
        return ops.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(Unscripted, nn.Dropout1d):
    """Dropout of channels: ``torch.nn.Dropout1d``; see ``ops.dropout1d``."""

    def forward(self, input: Tensor) -> Tensor:
        """``ops.dropout1d(input, p, training)``."""
        if is_foreign(input):
            return recorded(self, input)
        return ops.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(Unscripted, nn.Dropout2d):
    """Dropout of channels: ``torch.nn.Dropout2d``; see ``ops.dropout2d``."""

    def forward(self, input: Tensor) -> Tensor:
        """``ops.dropout2d(input, p, training)``."""
        if is_foreign(input):
            return recorded(self, input)
        return ops.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(Unscripted, nn.Dropout3d):
    """Dropout of channels: ``torch.nn.Dropout3d``; see ``ops.dropout3d``."""

    def forward(self, input: Tensor) -> Tensor:
        """``ops.dropout3d(input, p, training)``."""
        if is_foreign(input):
            return recorded(self, input)
        return ops.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(Unscripted, nn.AlphaDropout):
    """Dropout for self-normalizing networks: ``torch.nn.AlphaDropout``; see ``ops.alpha_dropout``."""

    def forward(self, input: Tensor) -> Tensor:
        """``ops.alpha_dropout(input, p, training)``."""
        if is_foreign(input):
            return recorded(self, input)
        return ops.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(Unscripted, nn.FeatureAlphaDropout):
    """Alpha dropout of channels: ``torch.nn.FeatureAlphaDropout``; see ``ops.feature_alpha_dropout``."""

    def forward(self, input: Tensor) -> Tensor:
        """``ops.feature_alpha_dropout(input, p, training)``."""
        if is_foreign(input):
            return recorded(self, input)
        return ops.feature_alpha_dropout(input, self.p, self.training)
