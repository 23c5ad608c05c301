"""Independent float64 oracles in NumPy: what the normalizers are, judged by nothing of the package.

The statistics are taken over whole groups of values, each laid out as one row; the backward pass multiplies by the
explicit Jacobian of one row, as the lectures write it, so it shares no formula with the package's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grouping:
    """Which values share their statistics: ``to_rows`` brings x to (groups, values), ``back`` undoes it."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    rows: int

    def to_rows(self, x: Array) -> Array:
        return x.transpose(self.order).reshape(self.rows, -1)

    def back(self, rows: Array) -> Array:
        moved = tuple(self.shape[axis] for axis in self.order)
        return rows.reshape(moved).transpose(np.argsort(self.order))


def grouping(kind: str, shape: tuple[int, ...], groups: int = 1) -> Grouping:
    """The groups of values of each normalizer; layer and RMS norm over the last dimension."""
    axes = tuple(range(len(shape)))
    if kind == "batch":
        return Grouping(shape, (1, 0, *axes[2:]), shape[1])
    if kind == "instance":
        return Grouping(shape, axes, shape[0] * shape[1])
    if kind == "group":
        return Grouping(shape, axes, shape[0] * groups)
    return Grouping(shape, axes, math.prod(shape[:-1]))


def normalize(x: Array, at: Grouping, eps: float, center: bool = True) -> Array:
    """(x - mean) / √(var + eps), or x / √(mean(x²) + eps)."""
    rows = at.to_rows(x)
    centred = rows - rows.mean(axis=1, keepdims=True) if center else rows
    return at.back(centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + eps))


def normalize_backward(dz: Array, x: Array, at: Grouping, eps: float, center: bool = True) -> Array:
    """Multiplies by the Jacobian of a row, δ_ij ρ - [center] ρ/n - c_i c_j ρ³/n, with c the (centred) row."""
    rows, upstream = at.to_rows(x), at.to_rows(dz)
    result = np.empty_like(rows)
    n = rows.shape[1]
    for i, row in enumerate(rows):
        c = row - row.mean() if center else row
        rho = 1 / np.sqrt((c * c).mean() + eps)
        jacobian = np.eye(n) * rho - np.outer(c, c) * rho**3 / n - (rho / n if center else 0)
        result[i] = upstream[i] @ jacobian
    return at.back(result)


def erf(u: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(u)


ACTIVATIONS = {
    None: lambda u: u,
    "relu": lambda u: np.where(u > 0, u, 0),
    "leaky_relu": lambda u: np.where(u > 0, u, 0.01 * u),
    "elu": lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))),
    "silu": lambda u: u / (1 + np.exp(-u)),
    "gelu": lambda u: 0.5 * u * (1 + erf(u / np.sqrt(2))),
    "gelu_tanh": lambda u: 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3))),
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "tanh": np.tanh,
    "relu6": lambda u: np.clip(u, 0, 6),
    "hardswish": lambda u: u * np.clip(u + 3, 0, 6) / 6,
}


def slope(name: str | None, u: Array, h: float = 1e-6) -> Array:
    """The derivative of an activation by a central difference; its error is about h² plus rounding / h: 1e-9."""
    f = ACTIVATIONS[name]
    return (f(u + h) - f(u - h)) / (2 * h)
