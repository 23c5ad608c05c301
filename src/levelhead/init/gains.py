"""What an activation does to the mean square of what goes through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from levelhead import kinds

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z,
    **{kind.op: kind.functions[0] for kind in kinds.every(kinds.Activation)},
    **{"selu": F.selu, "softplus": F.softplus, "hardtanh": F.hardtanh},
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


def gain(activation: str | Callable[[Tensor], Tensor]) -> float:
    r"""The factor on the weights at which an activation keeps its input's mean square.

    .. math:: g = 1/\sqrt{E[\sigma(z)^2]}, \quad z \sim N(0, 1)

    √2 for relu. ``linear`` has 1.

    Args:
        activation: its name, or the function itself, element by element.

    Raises:
        ValueError: the name is not known, or the activation is 0 almost everywhere.

    Source: He et al. 2015, "Delving deep into rectifiers", section 2.2, with any activation in place of relu.
    """
    if not isinstance(activation, str):
        return _gain(activation)
    if activation not in ACTIVATIONS:
        raise ValueError(f"no activation {activation!r}; known are {', '.join(ACTIVATIONS)}, or give the function")
    return 1.0 if activation == "linear" else _named(activation)


@lru_cache
def _named(name: str) -> float:
    return _gain(ACTIVATIONS[name])


@torch.no_grad()
def _gain(function: Callable[[Tensor], Tensor]) -> float:
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64, device="cpu")  # the kinks at 0 lie on the grid
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    square = float(torch.trapezoid(function(z).square() * density, z))
    if not 0 < square < math.inf:
        raise ValueError(f"the activation {function} has the mean square {square}, and so no gain")
    return 1 / math.sqrt(square)
