"""How a signal fares on its way through a network, before the first step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from levelhead.init.running import Batch, named_layers, positions, run
from levelhead.init.schemes import fans
from levelhead.terminal import listed
from levelhead.weights import LAYERS

#: A change of the mean square over the whole depth beyond which the signal counts as fading, or growing.
_FAR = 100.0
#: Values of a unit that are looked at for copies.
_VALUES = 256


@dataclass(frozen=True)
class Layer:
    """One layer in an audit.

    Args:
        name: of the module.
        variance: of its output, over rows, units and positions.
        varying: the share of it that is within units, so that it depends on the input.
        ratio: Var(out) / E[in²], as measured.
        expected: n·Var(w) (with E[w²] for Var(w)): the ratio that independent inputs would have.
        gain: the variance of its output over that of the first layer's input: the gain by depth.
        constant: units whose output is the same for every row and position.
        duplicated: units that are copies of another.
        units: how many it has.
    """

    name: str
    variance: float
    varying: float
    ratio: float
    expected: float
    gain: float
    constant: int
    duplicated: int
    units: int


@dataclass(frozen=True)
class Audit:
    """What ``audit`` found: the layers in the order in which they ran, and the verdict; ``str`` gives a table."""

    layers: tuple[Layer, ...]
    verdict: str

    def __str__(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.layers))
        titles = ("Var(out)", "varying", "ratio", "n·Var(w)", "gain", "constant", "copies", "units")
        head = f"{'layer':{width}} " + " ".join(f"{title:>9}" for title in titles)
        rows = [
            f"{x.name:{width}} {x.variance:9.3g} {x.varying:9.2g} {x.ratio:9.3g} {x.expected:9.3g} {x.gain:9.3g}"
            f" {x.constant:9} {x.duplicated:9} {x.units:9}"
            for x in self.layers
        ]
        return "\n".join([head, *rows, self.verdict])


def audit(model: nn.Module, batch: Batch) -> Audit:
    r"""Measure what each layer does to the variance of its input, against what its weights promise.

    For independent inputs and weights of mean 0, a layer of n inputs has

    .. math:: Var(out) = n \, Var(w) \, E[in^2]

    so that n·Var(w) = 1 keeps a signal's mean square, and what is not 1 is raised to the power of the depth.

    Args:
        model: in any mode; noise is off, normalizers take their statistics from the batch; nothing is changed.
        batch: real inputs: a tensor, a tuple of arguments, or keywords.

    Returns:
        A table, and a verdict in words. Attention is not taken apart here; its projections are in ``calibrate_``.

    Raises:
        ValueError: there is no layer, or an output is empty or not finite.

    Source: He et al. 2015, "Delving deep into rectifiers", equation 7; Glorot & Bengio 2010, equation 5.
    """
    layers = {name: layer for name, layer in named_layers(model).items() if isinstance(layer, LAYERS)}
    if not layers:
        raise ValueError("the model has no linear map or convolution to audit")
    seen: list[Layer] = []
    start: list[float] = []

    def look(name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if not output.numel() or not bool(output.isfinite().all()):
            raise ValueError(f"the output of layer {name!r} is {'not finite' if output.numel() else 'empty'}")
        square = float(args[0].double().square().mean())
        start.append(square)
        weight = module.weight
        assert isinstance(weight, Tensor)
        variance = float(output.double().var(correction=0))
        units = output.double().movedim(-1 - positions(module), 0).flatten(1)
        constant, duplicated = _units(units)
        seen.append(
            Layer(
                name,
                variance,
                float(units.var(1, correction=0).mean()) / variance if variance else 0.0,
                variance / square if square else math.nan,
                fans(module)[0] * float(weight.double().square().mean()),
                variance / start[0] if start[0] else math.nan,
                constant,
                duplicated,
                len(units),
            )
        )

    hooks = [
        layer.register_forward_hook(lambda module, args, output, name=name: look(name, module, args, output))
        for name, layer in layers.items()
    ]
    run(model, batch, hooks)
    return Audit(tuple(seen), _verdict(seen))


def _units(values: Tensor) -> tuple[int, int]:
    """How many units, (units, values), are constant, and how many more are copies of another."""
    spread = values.amax(1) - values.amin(1)
    # Rounding makes a sum of equal terms vary in its last digits.
    constant = spread <= 1e-6 * values.abs().amax(1)
    some = values[~constant][:, :: max(1, values.shape[1] // _VALUES)]
    return int(constant.sum()), len(some) - len(some.unique(dim=0)) if len(some) else 0


def _verdict(layers: list[Layer]) -> str:
    parts = []
    if dead := [x for x in layers if x.constant == x.units]:
        parts.append(
            f"the output of {_listed(dead)} does not vary: nothing of the input comes through (are the weights 0?); "
            "initialize_(model) draws them"
        )
    elif some := [x for x in layers if x.constant]:
        parts.append(f"{_listed(some)} {_has(some)} units that do not vary")
    if copies := [x for x in layers if x.duplicated]:
        parts.append(
            f"{_listed(copies)} {_has(copies)} units that are copies of another: their gradients are alike too, and "
            "they stay copies; initialize_(model) draws them apart"
        )
    alive = [x for x in layers if x.gain > 0]
    if len(alive) > 1 and not dead:
        first, last = alive[0], alive[-1]
        change = last.variance / first.variance
        each = change ** (1 / (len(alive) - 1))
        if not 1 / _FAR < change < _FAR:
            parts.append(
                f"the signal {'fades' if change < 1 else 'grows'}: from {first.name!r} to {last.name!r} its variance "
                f"changes by a factor of {change:.2g}, {each:.2g} a layer; calibrate_(model, batch) makes it 1"
            )
        elif last.varying < 1 / _FAR:
            parts.append(
                f"only {last.varying:.2g} of the variance of {last.name!r} depends on the input, the rest is biases: "
                "initialize_(model) makes them 0"
            )
    return "; ".join(parts) + "." if parts else f"the signal keeps its scale through {len(layers)} layers."


def _listed(layers: list[Layer]) -> str:
    return listed([repr(layer.name) for layer in layers], 3)


def _has(layers: list[Layer]) -> str:
    return "has" if len(layers) == 1 else "have"
