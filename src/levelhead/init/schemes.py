"""Drawing the weights of a model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.parameter import is_lazy

from levelhead import kinds
from levelhead.init.gains import gain
from levelhead.init.running import named_layers
from levelhead.init.tracing import Traced, trace
from levelhead.weights import weight_of

#: Schemes that look at what follows a layer, and those that do not.
_TRACED, _BLIND = ("xavier", "he", "lecun", "orthogonal"), ("default", "zero", "small", "large")
SCHEMES = (*_TRACED, *_BLIND)


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
    - ``lecun``: :math:`1/\sqrt n`, without a gain; ``orthogonal``: orthonormal rows or columns, times g;
    - ``default``: what PyTorch's constructors do, uniform in :math:`\pm 1/\sqrt n`, and so are the biases; ``zero``;
      ``small``: normal, of deviation 0.01; ``large``: normal, of deviation 1. These look at nothing that follows.

    Biases are 0, and drawn after all weights; norms begin as their constructors make them. Query, key and value are
    three matrices, each by itself, and so are the gates of recurrent layers (their recurrent weights are orthogonal).
    Embeddings stay. The last weight of each residual branch, be it a layer's or the scale of a norm behind it, is
    divided by the root of the number of residual additions.

    A weight that is calculated from others (``weight_norm``, a parametrization) is what is drawn, and those are set to
    give it; of a pruned one, what is left is drawn, larger by the root of what there was.

    What follows is found by tracing the calculation; where a model cannot be traced, by the order of its modules, with
    a warning.

    Args:
        model: with layers of PyTorch's kinds: linear, convolution (transposed too), attention, recurrent.
        scheme: one of ``SCHEMES``.
        generator: of the device of the weights; PyTorch's default one if None.

    Returns:
        For each layer what was taken to follow it.

    Raises:
        ValueError: the scheme is not known, there is no layer, a weight has no shape yet, or it is calculated from
            others that cannot give it (``spectral_norm`` has its own norm, ``orthogonal`` none but 1).

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
    found = trace(model) if scheme in _TRACED else Traced()
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
    draw = _Draw(scheme, generator)
    drawn = []
    for name, layer in layers.items():
        activation, function = found.activations.get(name, ("linear", None))
        g = 1.0 if function is None or scheme == "lecun" else gain(function)
        draw.weights(name, layer, g)
        drawn.append(Drawn(name, activation, g, factor if name in found.ends else 1.0))
    for name, layer in recurrent.items():
        draw.recurrent(name, layer)
        drawn.append(Drawn(name, "its own gates", 1.0))
    for layer in (*layers.values(), *recurrent.values()):  # last, so that weights do not depend on them
        draw.biases(layer)
    for name, end in found.ends.items():
        part = end.out_proj if isinstance(end, nn.MultiheadAttention) else end
        weight_of(part, "weight", name).change_(lambda weight: weight.mul_(factor), "initialize_")
    return drawn


class _Draw:
    """A scheme at work on the tensors of layers."""

    def __init__(self, scheme: str, generator: torch.Generator | None) -> None:
        self.scheme, self.generator = scheme, generator

    def weights(self, name: str, layer: nn.Module, g: float) -> None:
        """The weights of a linear map, a convolution or attention."""
        if not isinstance(layer, nn.MultiheadAttention):
            self._fill(name, layer, "weight", lambda t: self._one(t, g, *fans(layer), _bound(layer)))
            return
        same = layer._qkv_same_embed_dim
        for key in ["in_proj_weight"] if same else ["q_proj_weight", "k_proj_weight", "v_proj_weight"]:
            self._fill(name, layer, key, lambda t: self._matrices(t, 3 if same else 1, math.sqrt(6 / sum(t.shape))))
        out = layer.out_proj
        self._fill(f"{name}.out_proj", out, "weight", lambda t: self._matrices(t, 1, _bound(out)))

    def recurrent(self, name: str, layer: nn.RNNBase) -> None:
        """The weights of each gate; those on the state are orthogonal."""
        bound = 1 / math.sqrt(layer.hidden_size)
        on_state = _Draw("orthogonal", self.generator) if self.scheme in _TRACED else self

        def draw(key: str, t: Tensor) -> None:
            gates = 1 if "_hr" in key else len(t) // layer.hidden_size
            (on_state if "_hh" in key else self)._matrices(t, gates, bound)

        for key in layer._flat_weights_names:
            if key.startswith("weight"):
                self._fill(name, layer, key, partial(draw, key))

    def biases(self, layer: nn.Module) -> None:
        """0, or what PyTorch's constructors do."""
        bound = 0.0
        if self.scheme == "default" and not isinstance(layer, nn.MultiheadAttention):
            bound = 1 / math.sqrt(layer.hidden_size) if isinstance(layer, nn.RNNBase) else _bound(layer)
        for part in (layer, layer.out_proj) if isinstance(layer, nn.MultiheadAttention) else (layer,):
            for key, bias in part.named_parameters(recurse=False):
                if key.startswith("bias") or key == "in_proj_bias":
                    init.uniform_(bias, -bound, bound, generator=self.generator) if bound else bias.zero_()

    def _fill(self, name: str, layer: nn.Module, key: str, draw: Callable[[Tensor], object]) -> None:
        weight_of(layer, key, name).fill_(draw, f"initialize_(model, {self.scheme!r})")

    def _matrices(self, weight: Tensor, count: int, bound: float) -> None:
        """Several matrices, one above the other."""
        for part in weight.chunk(count):
            self._one(part, 1.0, part.shape[1], part.shape[0], bound)

    def _one(self, weight: Tensor, g: float, ins: float, outs: float, bound: float) -> None:
        """One tensor, by the gain and the fans, or the bound of PyTorch's own draw."""
        if not weight.numel():
            return
        match self.scheme:
            case "xavier":
                init.normal_(weight, std=g * math.sqrt(2 / (ins + outs)), generator=self.generator)
            case "he" | "lecun":
                init.normal_(weight, std=g / math.sqrt(ins), generator=self.generator)
            case "orthogonal":
                # Not in half precision, which has no QR decomposition.
                wide = torch.empty_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
                weight.copy_(init.orthogonal_(wide, gain=g, generator=self.generator))
            case "default":
                init.uniform_(weight, -bound, bound, generator=self.generator)
            case "zero":
                init.zeros_(weight)
            case "small" | "large":
                init.normal_(weight, std=0.01 if self.scheme == "small" else 1.0, generator=self.generator)


def _bound(layer: nn.Module) -> float:
    """Of the uniform draw of PyTorch's linear maps and convolutions."""
    weight = weight_of(layer).value()
    return 1 / math.sqrt(max(1, weight.shape[1] if isinstance(layer, nn.Bilinear) else math.prod(weight.shape[1:])))


def fans(layer: nn.Module) -> tuple[float, float]:
    """How many inputs an output of a linear map or convolution is made from, and how many outputs an input goes to."""
    if not isinstance(layer, nn.modules.conv._ConvNd):
        shape = weight_of(layer).value().shape
        return math.prod(shape[1:]), shape[0]
    places, strides = math.prod(layer.kernel_size), math.prod(layer.stride)
    ins, outs = layer.in_channels / layer.groups * places, layer.out_channels / layer.groups * places
    # Of a transposed convolution's kernel, an output sees one place in each stride; of a plain one's, an input does.
    return (ins / strides, outs) if layer.transposed else (ins, outs)
