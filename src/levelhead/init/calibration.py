"""Weights that give every layer's output the same variance on real data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from levelhead.init.running import Batch, named_layers, positions, run
from levelhead.weights import derived


@dataclass(frozen=True)
class Calibrated:
    """What was done to one layer: the variance of its output before and after, and the factor on its weights."""

    layer: str
    before: float
    after: float
    factor: float


def calibrate_(
    model: nn.Module, batch: Batch, *, variance: float = 1.0, tolerance: float = 0.01, passes: int = 10
) -> list[Calibrated]:
    r"""Scale each layer's weights until its output has unit variance on a batch.

    .. math:: W \leftarrow W / \sqrt{Var(Wx + b)}

    Layer by layer, in the order in which they run: each is scaled while the batch goes through, and what comes behind
    sees its new output, so that one pass does the work of one pass a layer; a second pass verifies every layer, and
    more follow where one is not within the tolerance (it runs twice, or its bias varies). Linear maps and convolutions,
    and attention's four projections: query, key, value and output. Only weights change, and only by a factor:
    directions are those that were drawn, so draw them first (``initialize_(model, "orthogonal")`` is the paper's).

    Args:
        model: in any mode; noise is off, and normalizers take their statistics from the batch. Nothing but the
            weights is changed.
        batch: real inputs: a tensor, a tuple of arguments, or keywords; 100 rows and more give a variance to trust.
        variance: of every layer's output, over rows, units and positions together.
        tolerance: how far from it a layer may end, as a share.
        passes: at most.

    Returns:
        For each layer in its order, with attention's projections by name.

    Raises:
        ValueError: there is no layer, or its weight is parametrized; an output does not vary, or is not finite; a
            layer has not come within the tolerance.

    Source: Mishkin & Matas 2016, "All you need is a good init" (LSUV), algorithm 1.
    """
    if not 0 < variance < math.inf:
        raise ValueError(f"the variance must be above 0 and finite, got {variance}")
    layers = named_layers(model)
    if not layers:
        raise ValueError("the model has no linear map, convolution or attention to calibrate")
    for name, layer in layers.items():
        if any(derived(part) for part in layer.modules()):
            raise ValueError(
                f"the weight of layer {name!r} is calculated from others (a parametrization, or a hook), and cannot be "
                "scaled; calibrate before it is registered"
            )
    first: dict[str, float] = {}
    factors: dict[str, float] = {}
    for _ in range(max(passes, 1)):
        scaler = _Scaler(variance, tolerance)
        run(model, batch, [hook for name, layer in layers.items() for hook in scaler.hook(name, layer)])
        for name, seen in scaler.seen.items():
            first.setdefault(name, seen)
            factors[name] = factors.get(name, 1.0) * scaler.factors.get(name, 1.0)
        if not scaler.factors:
            return [Calibrated(name, first[name], scaler.seen[name], factors[name]) for name in scaler.seen]
    far = ", ".join(f"{name} ({value:.3g})" for name, value in scaler.seen.items() if name in scaler.factors)
    raise ValueError(
        f"after {passes} passes the variance of these outputs is not within {tolerance:g} of {variance:g}: {far}; "
        "a bias that varies by itself, or a layer that runs several times, cannot be met by a factor; set biases to 0, "
        "or raise the tolerance"
    )


class _Scaler:
    """Scales each layer that it is hooked to, once, when it runs."""

    def __init__(self, variance: float, tolerance: float) -> None:
        self.variance, self.tolerance = variance, tolerance
        self.seen: dict[str, float] = {}  # the variance of what each gave
        self.factors: dict[str, float] = {}  # of those that were not right

    def hook(self, name: str, layer: nn.Module) -> list[Any]:
        if isinstance(layer, nn.MultiheadAttention):
            before = layer.register_forward_pre_hook(
                lambda module, args, kwargs: self._inputs(name, module, args, kwargs), with_kwargs=True
            )
            return [before, layer.register_forward_hook(lambda module, _, out: self._attention(name, module, out))]
        return [layer.register_forward_hook(lambda module, _, out: self._layer(name, module, out))]

    def _factor(self, name: str, output: Tensor) -> float:
        """What to multiply the weights with; 1 for a layer that is right, or that has run before in this pass."""
        if name in self.seen:
            return 1.0
        if not output.numel():
            raise ValueError(f"the output of layer {name!r} is empty; give a batch with rows")
        found = float(output.detach().double().var(correction=0))
        if not 0 < found < float("inf"):
            why = "does not vary: its weights or its input are constant" if found == 0 else f"has the variance {found}"
            raise ValueError(f"the output of layer {name!r} {why}; draw the weights first, with initialize_(model)")
        self.seen[name] = found
        if abs(found / self.variance - 1) <= self.tolerance:
            return 1.0
        self.factors[name] = float((self.variance / found) ** 0.5)
        return self.factors[name]

    def _layer(self, name: str, layer: nn.Module, output: Tensor) -> Tensor:
        factor = self._factor(name, output)
        if factor == 1.0:
            return output
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        weight.mul_(factor)
        shift = bias.reshape(-1, *[1] * positions(layer)) if isinstance(bias, Tensor) else 0.0
        return (output - shift) * factor + shift

    def _inputs(self, name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Scale query's, key's and value's projections before the attention runs."""
        assert isinstance(layer, nn.MultiheadAttention)
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        biases = [None] * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
        for part, weight, bias in zip(("query", "key", "value"), projections(layer), biases, strict=True):
            factor = self._factor(f"{name}.{part}", F.linear(given[part], weight, bias))
            weight.mul_(factor)

    def _attention(self, name: str, layer: nn.Module, output: Any) -> Any:
        assert isinstance(layer, nn.MultiheadAttention)
        mixed = output[0] if isinstance(output, tuple) else output
        scaled = self._layer(f"{name}.output", layer.out_proj, mixed)
        return (scaled, *output[1:]) if isinstance(output, tuple) else scaled


def projections(layer: nn.MultiheadAttention) -> list[Tensor]:
    """The weights of query, key and value; views of one parameter where there is one."""
    if layer._qkv_same_embed_dim:
        return list(layer.in_proj_weight.detach().chunk(3))
    return [layer.q_proj_weight.detach(), layer.k_proj_weight.detach(), layer.v_proj_weight.detach()]
