"""Drawing the weights of a model."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.parameter import is_lazy

from levelhead import kinds
from levelhead.init.gains import gain
from levelhead.init.running import named_layers
from levelhead.init.tracing import trace

SCHEMES = ("xavier", "he", "lecun", "orthogonal")


@dataclass(frozen=True)
class Drawn:
    """How one layer was drawn: what follows it, the gain for that, and the factor of a residual branch's end."""

    layer: str
    activation: str
    gain: float
    branch: float = 1.0


@torch.no_grad()
def initialize_(model: nn.Module, scheme: str = "he", *, generator: torch.Generator | None = None) -> list[Drawn]:
    r"""Draw all weights anew, each with the gain of the activation that follows it.

    With n inputs and m outputs of a layer, and the gain :math:`g = 1/\sqrt{E[\sigma(z)^2]}` of the activation σ that
    its output really goes to, through norms, dropout, pooling and reshaping (1 where none follows):

    - ``xavier``: normal, of deviation :math:`g\sqrt{2/(n+m)}`; ``he``: :math:`g/\sqrt n`;
    - ``lecun``: :math:`1/\sqrt n`, without a gain; ``orthogonal``: orthonormal rows or columns, times g.

    Biases are 0; norms begin as their constructors make them. Query, key and value are three matrices, each by itself,
    and so are the gates of recurrent layers (their recurrent weights are orthogonal). Embeddings stay. The last weight
    of each residual branch, be it a layer's or the scale of a norm behind it, is divided by the root of the number of
    residual additions.

    What follows is found by tracing the calculation; where a model cannot be traced, by the order of its modules, with
    a warning.

    Args:
        model: with layers of PyTorch's kinds: linear, convolution (transposed too), attention, recurrent.
        scheme: one of ``SCHEMES``.
        generator: of the device of the weights; PyTorch's default one if None.

    Returns:
        For each layer what was taken to follow it.

    Raises:
        ValueError: the scheme is not known, there is no layer, or a weight has no shape yet.

    Source: Glorot & Bengio 2010, equation 12; He et al. 2015, section 2.2; LeCun et al. 1998, "Efficient backprop",
    section 4.6; Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning"; residual branches: Radford
    et al. 2019, "Language models are unsupervised multitask learners", section 2.3.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
    layers = named_layers(model)
    recurrent = {name: m for name, m in model.named_modules() if isinstance(m, nn.RNNBase)}
    if not layers and not recurrent:
        raise ValueError("the model has no linear map, convolution, attention or recurrent layer to initialize")
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(f"parameter {name!r} has no shape yet; run the model once on a batch first")
    found = trace(model)
    if found.failure:
        warnings.warn(
            f"the model cannot be traced ({found.failure}); activations are taken from the order of the modules, and "
            "residual branches are not scaled",
            stacklevel=3,  # the caller, behind no_grad
        )
    for norm in model.modules():
        if isinstance(norm, kinds.Norm):
            norm.reset_parameters()
    factor = 1 / math.sqrt(max(found.additions, 1))
    drawn = []
    for name, layer in layers.items():
        activation, function = found.activations.get(name, ("linear", None))
        g = 1.0 if function is None or scheme == "lecun" else gain(function)
        _layer(layer, scheme, g, generator)
        drawn.append(Drawn(name, activation, g, factor if name in found.ends else 1.0))
    for name, layer in recurrent.items():
        _recurrent(layer, scheme, generator)
        drawn.append(Drawn(name, "its own gates", 1.0))
    for end in found.ends.values():
        part = end.out_proj if isinstance(end, nn.MultiheadAttention) else end
        if isinstance(part.weight, Tensor):
            part.weight.mul_(factor)
    return drawn


def _layer(layer: nn.Module, scheme: str, g: float, generator: torch.Generator | None) -> None:
    if isinstance(layer, nn.MultiheadAttention):
        same = layer._qkv_same_embed_dim
        inputs = (
            layer.in_proj_weight.chunk(3) if same else [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
        )
        for weight in (*inputs, layer.out_proj.weight):
            _matrix(weight, scheme, 1.0, generator)
        biases: list[object] = [layer.in_proj_bias, layer.out_proj.bias, layer.bias_k, layer.bias_v]
    else:
        assert isinstance(layer.weight, Tensor)
        ins, outs = fans(layer)
        _draw(layer.weight, scheme, g, ins, outs, generator)
        biases = [layer.bias]
    for bias in biases:
        if isinstance(bias, Tensor):
            bias.zero_()


def fans(layer: nn.Module) -> tuple[float, float]:
    """How many inputs an output of a linear map or convolution is made from, and how many outputs an input goes to."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return weight[0].numel(), weight.numel() / math.prod(weight.shape[1:])
    places, strides = math.prod(layer.kernel_size), math.prod(layer.stride)
    ins, outs = layer.in_channels / layer.groups * places, layer.out_channels / layer.groups * places
    # Of a transposed convolution's kernel, an output sees one place in each stride; of a plain one's, an input does.
    return (ins / strides, outs) if layer.transposed else (ins, outs)


def _matrix(weight: Tensor, scheme: str, g: float, generator: torch.Generator | None) -> None:
    _draw(weight, scheme, g, weight.shape[1], weight.shape[0], generator)


def _draw(weight: Tensor, scheme: str, g: float, ins: float, outs: float, generator: torch.Generator | None) -> None:
    match scheme:
        case "xavier":
            init.normal_(weight, std=g * math.sqrt(2 / (ins + outs)), generator=generator)
        case "he" | "lecun":
            init.normal_(weight, std=g / math.sqrt(ins), generator=generator)
        case "orthogonal":
            init.orthogonal_(weight, gain=g, generator=generator)


def _recurrent(layer: nn.RNNBase, scheme: str, generator: torch.Generator | None) -> None:
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):
            parameter.zero_()
            continue
        for gate in parameter.split(layer.hidden_size if "_hr" not in name else len(parameter)):
            _matrix(gate, "orthogonal" if "_hh" in name else scheme, 1.0, generator)
