"""The activations that a recipe can name."""

from __future__ import annotations

from torch import nn

from levelhead import kinds

#: By name, those that the norms can apply themselves.
ACTIVATIONS: dict[str, type[nn.Module]] = {kind.op: kind.base for kind in kinds.every(kinds.Activation)}


def activation(name: str) -> nn.Module:
    """The activation module of a recipe's name for it."""
    return nn.GELU(approximate="tanh") if name == "gelu_tanh" else ACTIVATIONS[name]()
