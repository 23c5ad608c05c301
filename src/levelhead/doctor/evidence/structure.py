"""Reads the graph of a forward pass: which modules follow each other, the last activation, and how the signal fares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from levelhead import kinds
from levelhead.doctor.evidence.calls import Call

#: Layers that multiply by weights.
LINEAR = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)
BATCH_NORM = (nn.modules.batchnorm._BatchNorm,)
NORM = (kinds.Norm,)
DROPOUT = (kinds.Dropout,)

#: Nodes of autograd that rearrange values and compute nothing.
VIEWS = (
    "View",
    "UnsafeView",
    "ReshapeAlias",
    "Permute",
    "Transpose",
    "T",
    "Squeeze",
    "Unsqueeze",
    "Alias",
    "Clone",
    "ToCopy",
    "Select",
    "Slice",
    "Expand",
    "AsStrided",
    "Split",
    "Unbind",
)
#: The last activations that are known, by their node.
_ACTIVATIONS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Relu": "relu",
    "LogSigmoid": "log_sigmoid",
    "Softplus": "softplus",
    "Hardtanh": "hardtanh",
    "Hardsigmoid": "hardsigmoid",
    "Clamp": "clamp",
    "ClampMin": "clamp",
}
#: What an activation can give.
RANGES = {
    "softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "relu": (0.0, float("inf")),
    "softplus": (0.0, float("inf")),
    "log_softmax": (-float("inf"), 0.0),
    "log_sigmoid": (-float("inf"), 0.0),
}


@dataclass(frozen=True)
class Output:
    """What is done to the outputs last.

    Args:
        activation: its name, empty where none is known.
        where: the module that does it; the last module that ran, where a function does.
        module: whether a module does it, which can be replaced.
        range: what it can give, where that is known.
    """

    activation: str
    where: str
    module: bool
    range: tuple[float, float] | None = None


def name_of(node: Any) -> str:
    """The operation of a node of autograd: ``Relu`` of ``ReluBackward0``."""
    return type(node).__name__.split("Backward")[0].lstrip("_") if node is not None else ""


def through_views(node: Any) -> Any:
    """The node that computed the values, rearrangements skipped."""
    while node is not None and name_of(node) in VIEWS and node.next_functions:
        node = node.next_functions[0][0]
    return node


def variables(node: Any) -> set[Tensor]:
    """The leaves that a node's value was computed from, as far as they ask for gradients."""
    return {n.variable for n in ancestors(node) if hasattr(n, "variable")}


def ancestors(node: Any, limit: int = 5000) -> Iterator[Any]:
    """The nodes that a node's value was computed from, itself included."""
    seen: set[Any] = set()
    queue = [node]
    while queue and len(seen) < limit:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        queue += [parent for parent, _ in node.next_functions]


def pairs(calls: list[Call]) -> list[tuple[Call, Call]]:
    """The modules that take another one's output as it is, or rearranged: (producer, consumer)."""
    made: dict[Any, Call] = {}
    found = []
    for call in calls:
        producer = made.get(through_views(call.input_node)) if call.input_node is not None else None
        if producer is not None:
            found.append((producer, call))
        if call.output_node is not None:
            made[through_views(call.output_node)] = call  # a module that only passes on stands for the values, too
    return found


def skipping(calls: list[Call], kinds: tuple[type, ...]) -> list[tuple[Call, Call]]:
    """``pairs``, with modules of these kinds left out of the chains."""
    before = {id(consumer): producer for producer, consumer in pairs(calls)}
    found = []
    for call in calls:
        producer = before.get(id(call))
        while producer is not None and isinstance(producer.module, kinds):
            producer = before.get(id(producer))
        if producer is not None and not isinstance(call.module, kinds):
            found.append((producer, call))
    return found


def output(node: Any, calls: list[Call]) -> Output:
    """The last activation on the way to the loss."""
    node = through_views(node)
    activation = _ACTIVATIONS.get(name_of(node), "")
    if activation in ("softmax", "log_softmax") and len(shape_of(node)) > 1 and _dimension(node) == 0:
        activation = ""  # over the rows: no shares of classes
    makers = [call for call in calls if through_views(call.output_node) is node and node is not None]
    makers = [call for call in makers if not isinstance(call.module, nn.Flatten | nn.Identity)] or makers
    inside = bool(makers) and through_views(makers[0].input_node) is not node
    where = makers[0].name if makers else (calls[-1].name if calls else "")
    simple = inside and next(makers[0].module.parameters(), None) is None
    return Output(activation, where, bool(activation) and simple, _range(activation, node))


def _range(activation: str, node: Any) -> tuple[float, float] | None:
    """What the last activation can give; a clamp's ends are in its node."""
    if activation != "clamp":
        return RANGES.get(activation)
    low, high = getattr(node, "_saved_min", None), getattr(node, "_saved_max", None)
    return (-float("inf") if low is None else float(low)), (float("inf") if high is None else float(high))


def squashed_twice(node: Any, limit: int = 40) -> str:
    """The softmax or sigmoid in a loss's graph that is applied to what one has given already; empty if none."""
    for n in ancestors(node, limit):
        kind = {"LogSoftmax": "softmax", "BinaryCrossEntropyWithLogits": "sigmoid"}.get(name_of(n), "")
        given = through_views(n.next_functions[0][0]) if kind else None
        if name_of(given) == "Sigmoid" or (name_of(given) == "Softmax" and _dimension(given) > 0):
            return kind
    return ""


#: Nodes that hand on the shares of a softmax, each from one place to one place, or leave some of them out.
_HANDING_ON = (*VIEWS, "Mul", "NativeDropout", "MaskedFill")


def misplaced_softmax(node: Any) -> Any:
    """The softmax whose shares are summed up over a dimension in which they do not add up to 1; None if there is none.

    Seen where its values are the first factor of a matrix product. Where it goes over a single value, its shares are
    all 1; that counts unless a softmax of as many dimensions goes over more.
    """
    every = [n for n in ancestors(node) if name_of(n) == "Softmax"]
    longer = {len(shape_of(n)) for n in every if shape_of(n)[_dimension(n)] > 1}
    for n in every:
        if shape_of(n)[_dimension(n)] == 1 and len(shape_of(n)) > 2 and len(shape_of(n)) not in longer:
            return n
    for product in (n for n in ancestors(node) if every and name_of(n) in ("Bmm", "Mm")):
        chain, n = [], product.next_functions[0][0]
        while name_of(n) in _HANDING_ON and n.next_functions:
            chain.append(n)
            n = n.next_functions[0][0]
        if name_of(n) == "Softmax":
            shape, dim = shape_of(n), _dimension(n)
            for each in reversed(chain):
                dim, shape = _moved(each, shape, dim), shape_of(each)
            if 0 <= dim < len(shape) - 1:
                return n
    return None


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of what a node gave."""
    return tuple(node._input_metadata[0].shape)


def _dimension(node: Any) -> int:
    dim: int = node._saved_dim
    return (dim - 2**64 if dim >= 2**63 else dim) % len(shape_of(node))


def _moved(node: Any, shape: tuple[int, ...], dim: int) -> int:
    """Where a node that rearranges puts a dimension; -1 where that cannot be told."""
    name, new, count = name_of(node), shape_of(node), len(shape)
    if dim < 0:
        return dim
    if name == "Permute":
        return [d % count for d in node._saved_dims].index(dim)
    if name in ("Transpose", "T"):
        ends = (node._saved_dim0 % 2**64, node._saved_dim1 % 2**64) if name == "Transpose" else (0, 1)
        one, two = ((d - 2**64 if d >= 2**63 else d) % count for d in ends)
        return {one: two, two: one}.get(dim, dim)
    if new == shape:
        return dim
    behind = math.prod(shape[dim + 1 :])
    places = [j for j in range(len(new)) if new[j] == shape[dim] and math.prod(new[j + 1 :]) == behind]
    if len(places) != 1 and len(new) > 1 and new[-1] == shape[-1] and dim < count - 1:
        return 0  # merged into the dimensions of the batch
    return places[0] if len(places) == 1 else -1


def hidden(calls: list[Call], last: Output) -> list[Call]:
    """The modules that ran, without the one that makes the outputs."""
    return [call for call in calls if call.name != last.where]


def rectified_nodes(node: Any) -> Iterator[Any]:
    """The nodes whose values go into a ReLU, module or function."""
    for n in ancestors(node):
        if name_of(n) == "Relu":
            yield through_views(n.next_functions[0][0])


def loose_parts(model: nn.Module) -> Iterator[tuple[str, list[nn.Module] | Tensor]]:
    """Modules in plain lists and dictionaries, and plain tensors that ask for gradients: no parameters of the model.

    Each with its path.
    """
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_"):
                continue
            name = f"{path}.{attribute}" if path else attribute
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            parts = [item for item in items if isinstance(item, nn.Module)]
            if parts:
                yield name, parts
            elif isinstance(value, Tensor) and value.is_leaf and value.requires_grad:
                yield name, value


def loose_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The parameters in these, by path; those that the model has in another place as well are none."""
    known = {id(p) for p in model.parameters()}
    found: dict[str, Tensor] = {}
    for name, parts in loose_parts(model):
        if isinstance(parts, Tensor):
            found[name] = parts
            continue
        for i, part in enumerate(parts):
            found |= {f"{name}[{i}].{inner}": p for inner, p in part.named_parameters() if id(p) not in known}
    return found


def rows_of(x: Tensor) -> Tensor:
    """The values of a layer as rows of units: [N, C, ...] becomes [N x ..., C]; [N, T, F] becomes [N x T, F]."""
    if x.ndim >= 4:
        return x.transpose(1, -1).flatten(0, -2)
    return x.flatten(0, -2) if x.ndim > 1 else x.reshape(-1, 1)


def equal_rows(weight: Tensor) -> bool:
    """Whether all units of a layer have the same weights."""
    rows = weight.detach().flatten(1)
    return bool((rows == rows[:1]).all())


def drift(layers: Sequence[Call]) -> float:
    """Deviation over rows of the last hidden layer's output, by that of the first's."""
    signals = [
        rows_of(c.output.double()).std(0).mean().item()
        for c in layers[:-1]
        if c.output is not None and len(c.output) > 1
    ]
    return signals[-1] / signals[0] if len(signals) > 1 and signals[0] else 1.0


def dead_units(calls: list[Call], node: Any, last: Output) -> dict[str, float]:
    """The share of units that are 0 for every row: of each ReLU, or of the layer in front of one that is a function."""
    called = {through_views(c.input_node) for c in calls if isinstance(c.module, nn.ReLU)}
    rectified = set(rectified_nodes(node)) - called
    found: dict[str, float] = {}
    for call in hidden(calls, last):
        if call.output is None or len(call.output) < 8:
            continue
        if isinstance(call.module, nn.ReLU) or through_views(call.output_node) in rectified:
            found[call.name] = float((rows_of(call.output) <= 0).all(0).double().mean())
    return found
