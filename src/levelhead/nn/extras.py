"""What levelhead's modules have beyond their namesakes."""

from __future__ import annotations

from typing import Any

from torch import nn

from levelhead import ops
from levelhead.nn.freezing import Freezable


class Fused(nn.Module):
    """A mixin for ``y = activation(norm(x) + residual)``.

    The extras are class attributes, so that a module that was made by ``torch.nn``, or unpickled from an older
    version, has them too.
    """

    activation: str | None = None

    def __init__(self, *args: Any, activation: str | None = None, **kwargs: Any) -> None:
        ops.check_activation(activation)
        super().__init__(*args, **kwargs)
        if activation is not None:
            self.activation = activation

    def extra_repr(self) -> str:
        """The namesake's arguments and the extras that are set."""
        own = "" if self.activation is None else f", activation={self.activation!r}"
        return super().extra_repr() + own


class Tracked(Freezable, Fused):
    """A mixin for modules that keep running estimates: ``unbiased`` decides which variance they keep."""

    unbiased: bool = True

    def __init__(self, *args: Any, unbiased: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not unbiased:
            self.unbiased = unbiased

    def extra_repr(self) -> str:
        """The namesake's arguments and the extras that are set."""
        return super().extra_repr() + ("" if self.unbiased else ", unbiased=False")
