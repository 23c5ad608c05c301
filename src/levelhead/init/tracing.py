"""What follows each layer of a model: found from the calculation itself, not from the order of the modules."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from levelhead import graphs, kinds
from levelhead.init.running import named_layers
from levelhead.weights import LAYERS

Elementwise = Callable[[Tensor], Tensor]

_ACTIVATIONS = {
    *("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "celu", "silu", "gelu", "sigmoid"),
    *("sigmoid_", "tanh", "tanh_", "softplus", "hardtanh", "hardswish", "hardsigmoid", "mish", "softsign", "sin"),
    *("logsigmoid", "tanhshrink", "square", "abs", "exp"),
}
#: Functions and methods that hand the same values on, or means and maxima of them.
_TRANSPARENT = {
    *("view", "reshape", "flatten", "transpose", "permute", "contiguous", "squeeze", "unsqueeze", "movedim", "clone"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "pad", "to", "float", "half", "type_as"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d", "boolean_dispatch", "mean", "interpolate"),
    *("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm", "unflatten"),
}
_TRANSPARENT_MODULES = (
    *(kinds.Norm, kinds.Dropout, nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample, nn.ZeroPad2d),
    *(nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
)
_ADDS = {operator.add, operator.iadd, torch.add, "add", "add_"}


@dataclass
class Traced:
    """What was found in a model.

    Attributes:
        activations: by layer, its name and the function; a layer that is missing has none.
        ends: the last module with a weight of each residual branch, by name.
        additions: how many residual additions there are.
        failure: why the model could not be traced; empty where it was.
    """

    activations: dict[str, tuple[str, Elementwise]] = field(default_factory=dict)
    ends: dict[str, nn.Module] = field(default_factory=dict)
    additions: int = 0
    failure: str = ""


def trace(model: nn.Module) -> Traced:
    """Trace a model by ``torch.fx``, and take PyTorch's transformer layers as what they are known to be.

    Where tracing fails, the activation of a layer is the module that stands behind it in the order of the modules,
    and residual branches are not known.
    """
    found = Traced()
    # Before tracing, in which no module can be called on numbers.
    known = (kinds.Norm, *LAYERS, nn.MultiheadAttention)
    leaves = {m for m in model.modules() if isinstance(m, known) or _kind(m)} - {model}
    # PyTorch's own has no layers but in its parts.
    whole = type(model).__module__.startswith("torch.nn.") and not isinstance(model, nn.Sequential)
    try:
        graph = fx.Graph() if whole else graphs.graph(model, leaves.__contains__)[0]
    except graphs.Untraceable as error:
        found.failure = str(error)
        _by_order(model, found)
    else:
        _by_graph(model, graph, found)
    for prefix, module in model.named_modules():
        if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            _transformer(prefix, module, found)
    return found


def _by_graph(model: nn.Module, graph: fx.Graph, found: Traced) -> None:
    modules = dict(model.named_modules())
    layers = named_layers(model)
    behind: dict[fx.Node, set[fx.Node]] = {}  # every node that a value was made from
    for node in graph.nodes:
        behind[node] = {n for parent in node.all_input_nodes for n in ({parent} | behind[parent])}
    for node in graph.nodes:
        if node.op == "call_module" and node.target in layers:
            activation = _following(node, modules)
            if activation is not None:
                found.activations.setdefault(str(node.target), activation)
        if _is_add(node):
            a, b = node.all_input_nodes
            branch = _branch(a, b, behind, layers)
            if branch is not None:
                found.additions += 1
                end = _end(branch, modules)
                if end is not None:
                    found.ends[end] = modules[end]


def _is_add(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and node.target in _ADDS and len(node.all_input_nodes) == 2


def _branch(
    a: fx.Node, b: fx.Node, behind: dict[fx.Node, set[fx.Node]], layers: dict[str, nn.Module]
) -> fx.Node | None:
    """Which of two summands is the branch: the one with more layers since they parted; None if neither is."""
    if b in behind[a]:
        return a
    if a in behind[b]:
        return b
    if not behind[a] & behind[b]:
        return None
    own = [sum(n.target in layers for n in (behind[x] | {x}) - behind[y]) for x, y in ((a, b), (b, a))]
    return None if own[0] == own[1] else a if own[0] > own[1] else b


def _end(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """The module with a weight that a summand comes from, through what is transparent."""
    while node.all_input_nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if module is not None and isinstance(
            getattr(module, "weight", getattr(module, "out_proj", None)), Tensor | nn.Module
        ):
            return str(node.target)
        if not (_is_transparent(node, modules) or node.target is operator.getitem):
            return None
        node = node.all_input_nodes[0]
    return None


def _following(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, Elementwise] | None:
    """The first activation that a layer's output comes to, through what is transparent."""
    for user in node.users:
        activation = _activation(user, modules)
        if activation is None and _is_transparent(user, modules):
            activation = _following(user, modules)
        if activation is not None:
            return activation
    return None


def _activation(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, Elementwise] | None:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if _kind(module) == "activation":
            return type(module).__name__, _function(module)
        return None
    name = _name(node)
    if name not in _ACTIVATIONS or any(isinstance(value, fx.Node) for value in (*node.args[1:], *node.kwargs.values())):
        return None
    target, rest, kwargs = node.target, node.args[1:], {k: v for k, v in node.kwargs.items() if k != "inplace"}
    if callable(target):
        return name, lambda z: target(z, *rest, **kwargs)
    return name, lambda z: getattr(z.clone(), name)(*rest, **kwargs)


def _is_transparent(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, _TRANSPARENT_MODULES) or _kind(module) == "identity"
    return node.op in ("call_function", "call_method") and _name(node) in _TRANSPARENT


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _function(module: nn.Module) -> Elementwise:
    own = copy.deepcopy(module).cpu().double().eval()
    return lambda z: own(z.clone())


def _kind(module: nn.Module) -> str:
    """``activation``: a function of each element by itself; ``identity``: nothing, in evaluation; else empty."""
    if isinstance(module, (nn.MultiheadAttention, kinds.Norm)) or any(True for _ in module.children()):
        return ""
    z = torch.linspace(-2, 2, 8, dtype=torch.float64, device="cpu")
    try:
        with torch.no_grad():
            function = _function(module)
            whole, half = function(z), function(z[::2])
            if whole.shape != z.shape or not torch.equal(whole[::2], half):
                return ""
            return "identity" if torch.equal(whole, z) else "activation"
    except Exception:  # whatever a module says to one row of eight numbers: it is neither
        return ""


def _by_order(model: nn.Module, found: Traced) -> None:
    layers, last = named_layers(model), ""
    for name, module in model.named_modules():
        if name in layers:
            last = name
        elif last and _kind(module) == "activation":
            found.activations[last] = (type(module).__name__, _function(module))
            last = ""


def _transformer(prefix: str, layer: Any, found: Traced) -> None:
    """PyTorch's own layers: attention, then linear, activation, linear; a residual addition around each."""
    dot = f"{prefix}." if prefix else ""
    function = layer.activation
    name = getattr(function, "__name__", type(function).__name__)
    found.activations[f"{dot}linear1"] = (name, _function(function) if isinstance(function, nn.Module) else function)
    for part in ("linear2", "self_attn", "multihead_attn"):
        if hasattr(layer, part):
            found.ends[f"{dot}{part}"] = getattr(layer, part)
            found.additions += 1
