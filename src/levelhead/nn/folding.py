"""Normalization for nothing at inference: folded into the layers beside it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from levelhead import graphs, kinds
from levelhead.nn import uses
from levelhead.nn.absorbing import CannotFold, absorb_after, absorb_before, affine_of
from levelhead.nn.extras import Fused
from levelhead.nn.freezing import unfreeze_norm
from levelhead.nn.recognition import take_apart
from levelhead.nn.standardizer import Standardizer
from levelhead.nn.trials import examples, outputs, wrong
from levelhead.ops import reference

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Folding(Generic[Model]):
    """What ``fold`` did.

    Args:
        model: the folded copy, in evaluation.
        folded: the name of the layer that took each normalization in, by the normalization's name.
        left: why each other normalization was left, by name.
        difference: the largest |folded - original| of the outputs on the given inputs; None without inputs.
    """

    model: Model
    folded: dict[str, str]
    left: dict[str, str]
    difference: float | None

    def __str__(self) -> str:
        """A line for each."""
        lines = [f"{name} folded into {into}" for name, into in self.folded.items()]
        lines += [f"{name} left: {why}" for name, why in self.left.items()]
        if self.difference is not None:
            lines.append(f"largest difference of an output: {self.difference:.1e}")
        return "\n".join(lines)


class Folded(nn.Module):
    """Stands where a normalization was: what that did behind the affine map, and a check of what it relied on.

    Args:
        activation: applied to the result, as the normalization did.
        ndim: how many dimensions the input must have; None where that does not matter.
    """

    def __init__(self, activation: str | None = None, ndim: int | None = None) -> None:
        super().__init__()
        self.activation, self.ndim = activation, ndim

    def forward(self, input: Tensor, residual: Tensor | None = None, *, activation: str | None = None) -> Tensor:
        """``activation(input + residual)``."""
        if self.ndim is not None and input.ndim != self.ndim:
            raise ValueError(
                f"the normalization here was folded for inputs of {self.ndim} dimensions, got {input.ndim}"
            )
        y = input if residual is None else input + residual
        return reference.ACTIVATIONS[activation or self.activation or ""].value(y)

    def extra_repr(self) -> str:
        """What is set."""
        return ", ".join(f"{name}={vars(self)[name]!r}" for name in ("activation", "ndim") if vars(self)[name])


def fold(model: Model, inputs: Any = None) -> Folding[Model]:
    r"""Fold every batch norm into the linear or convolution layer before it, or after it, and an input Standardizer.

    .. math:: s (W x + b) + t = (sW) x + (sb + t), \qquad W (s x + t) + b = (Ws) x + (b + Wt)

    with s = weight / √(var + ε), t = bias - s mean. The result is a copy in evaluation, with the same classes and
    names; the weights are calculated in float64 and rounded once, and a normalization that was folded is an
    ``nn.Identity``, or a ``Folded`` where it did more. Batch norms of all kinds and instance norms that track
    statistics are folded, with what levelhead's do behind the map (residual, activation); a Standardizer, whitening
    ones too, into the layer behind it, also through an ``nn.Flatten``.

    Which layers stand beside each other is found by tracing the code of the model, or where that cannot be traced,
    of its parts, in evaluation and with the defaults of its arguments. Only what is exact is folded: a layer whose
    result or parameters are used elsewhere, that is called twice, shared, parametrized or hooked is left; so is a shift
    before a convolution that pads with zeros, for the zeros would be shifted, too. A class is what its ``forward`` is:
    a subclass with one of its own is folded only where a trial shows that it is the norm and then its own parts.

    The result is then tried in float64, on the inputs given or on random ones of a shape that the model takes: what
    changes an output by more than rounding is left. Hooks are not called in it.

    Args:
        model: any module; it is not changed.
        inputs: an input, or a tuple of the arguments of ``forward``, to try it and to measure the difference on.

    Returns:
        The copy, what was folded into what, what was left and why, and the difference.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: there is nothing that could be folded, or the model cannot be copied.

    Source: Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
    inference", section 3.2 (folding batch norm).
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fold takes a torch.nn.Module, got {type(model).__name__}")
    try:
        new = copy.deepcopy(model)
    except Exception as error:  # of tensors that hooks make, as the old weight_norm and pruning do, or of fully_shard
        raise ValueError(
            f"{type(model).__name__} cannot be copied ({str(error).splitlines()[0]}): fold before fully_shard, and take"
            " off what makes its parameters, as by torch.nn.utils.remove_weight_norm or torch.nn.utils.prune.remove"
        ) from None
    new = unfreeze_norm(new.eval()).eval()
    norms = [name for name, module in new.named_modules() if isinstance(module, _NormBase | Standardizer)]
    if not norms:
        raise ValueError(f"{type(model).__name__} has no batch norm and no Standardizer to fold")
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    before = None if inputs is None else outputs(new, arguments)
    tries = [arguments] if inputs is not None else examples(new)
    folder = _Folder(new, wrong(new, tries, lambda twin, skipped: list(_Folder(twin, skipped).run().folded)))
    folder.run()
    left = {name: folder.left.get(name, "no call of it was found") for name in norms if name not in folder.folded}
    difference = None
    if before is not None:
        pairs = zip(before, outputs(new, arguments), strict=True)
        difference = max((float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()), default=0.0)
    return Folding(new, folder.folded, left, difference)


def _is_leaf(module: nn.Module) -> bool:
    own = type(module).__module__.startswith("levelhead.") and not isinstance(module, nn.Sequential)
    return own or isinstance(module, kinds.Norm | kinds.Affine)


def _graphs(module: nn.Module, prefix: str, why: dict[str, str]) -> Iterator[tuple[str, fx.Graph, set[int]]]:
    """The graph of a module's code, or where it cannot be traced, those of its parts; and the tensors that it reads."""
    reason = ""
    if not isinstance(module, nn.ModuleList | nn.ModuleDict) and list(module.children()):
        try:
            graph, read = graphs.graph(module, _is_leaf)
        except graphs.Untraceable as error:
            reason = f"the code of {prefix[:-1] or 'the model'} cannot be traced ({error})"
        else:
            through = [m for m in module.modules() if uses.reads_all(type(m))]  # which the tracer does not see
            yield prefix, graph, read | {id(t) for m in through for t in (*m.parameters(), *m.buffers())}
            return
        if uses.reads_any(type(module)):
            for name, child in module.named_modules():
                if isinstance(child, _NormBase | Standardizer):
                    why[prefix + name] = f"{reason} and may read its parameters"
            return
    for name, child in module.named_children():
        if reason and isinstance(child, _NormBase | Standardizer):
            why[prefix + name] = reason
        yield from _graphs(child, f"{prefix}{name}.", why)


class _Neighbour(NamedTuple):
    name: str
    layer: Any
    flat: bool  # whether an nn.Flatten stands between


class _Folder:
    """Folds in place, graph by graph."""

    def __init__(self, model: nn.Module, skipped: Mapping[str, str]) -> None:
        self.model, self.skipped = model, skipped
        self.folded: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
        self.owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))

    def run(self) -> _Folder:
        """Fold everything but what is to be skipped."""
        for prefix, graph, read in _graphs(self.model, "", self.left):
            self._go_over(prefix, graph, read)
        return self

    def _go_over(self, prefix: str, graph: fx.Graph, read: set[int]) -> None:
        self.prefix, self.read = prefix, read
        self.calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        for node in list(graph.nodes):
            module = self._module(node)
            if isinstance(module, _NormBase | Standardizer):
                name = prefix + node.target
                try:
                    self.folded[name] = self._fold(node, name, module)
                except CannotFold as reason:
                    self.left[name] = str(reason)

    def _fold(self, node: fx.Node, name: str, norm: Any) -> str:
        if name in self.skipped:
            raise CannotFold(self.skipped[name])
        self._check(name, norm, node)
        if isinstance(norm, Standardizer):
            if norm.mean_ is None:
                raise CannotFold("it has seen no data")
            return self._into_next(node, name, norm, *norm.affine())
        scale, shift = affine_of(norm)
        tail = [] if kinds.of(norm) is not None else _parts_behind(norm)
        extra = len(node.args) + len(node.kwargs) > 1
        try:
            previous = self._previous(node)
            if isinstance(norm, _InstanceNorm) and isinstance(previous.layer, nn.Linear):
                raise CannotFold("it normalizes another dimension than the layer before it gives")
            self._check_methods(previous.name, name)
            absorb_after(previous.layer, scale, shift)
        except CannotFold as reason:
            if extra or tail or getattr(norm, "activation", None):
                raise CannotFold(f"{reason}; behind it comes an activation or a residual") from None
            try:
                return self._into_next(node, name, norm, scale, shift)
            except CannotFold as another:
                raise CannotFold(f"{reason}; {another}") from None
        self._replace(name, norm, 2 if isinstance(previous.layer, nn.Linear) else None, extra, tail)
        return previous.name

    def _into_next(self, node: fx.Node, name: str, norm: Any, factor: Tensor, shift: Tensor) -> str:
        following = self._next(node)
        linear = isinstance(following.layer, nn.Linear)
        ndim: int | None = None  # what the input must have for the features of both to be the same dimension
        if isinstance(norm, Standardizer):
            if norm.dim not in (1, -1) or (norm.dim == -1 and (following.flat or not linear)):
                raise CannotFold(f"its features are in dimension {norm.dim}, those of the layer behind it are not")
            if norm.dim == 1 and not following.flat:
                ndim = following.layer.weight.ndim
        elif linear and not following.flat:
            if isinstance(norm, _InstanceNorm):
                raise CannotFold("it normalizes another dimension than the layer behind it takes")
            ndim = 2
        self._check_methods(following.name, name)
        absorb_before(following.layer, factor, shift)
        self._replace(name, norm, ndim)
        return following.name

    def _previous(self, node: fx.Node) -> _Neighbour:
        """The layer whose result only this node takes.

        Raises:
            CannotFold: there is none.
        """
        while True:
            given = node.args[0] if node.args else node.kwargs.get("input")
            if not isinstance(given, fx.Node):
                raise CannotFold("its input is a constant")
            node = given
            if len(node.users) > 1:
                raise CannotFold("what it normalizes is used elsewhere, too")
            if not self._does_nothing(node):
                return self._layer(node, "before", flat=False)

    def _next(self, node: fx.Node) -> _Neighbour:
        """The layer that alone takes this node's result.

        Raises:
            CannotFold: there is none.
        """
        flat = False
        while True:
            if len(node.users) != 1:
                raise CannotFold("its result is used more than once")
            (node,) = node.users
            module = self._module(node)
            if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
                flat = True
            elif not self._does_nothing(node):
                return self._layer(node, "behind", flat=flat)

    def _does_nothing(self, node: fx.Node) -> bool:
        module = self._module(node)
        if isinstance(module, Folded):
            return module.activation is None and len(node.args) + len(node.kwargs) == 1
        kind = kinds.of(module)
        return type(module) is nn.Identity or (kind is not None and kind.family is kinds.Dropout)

    def _layer(self, node: fx.Node, where: str, *, flat: bool) -> _Neighbour:
        module = self._module(node)
        if not isinstance(module, kinds.Affine) or (flat and not isinstance(module, nn.Linear)):
            raise CannotFold(f"no linear or convolution layer stands {where} it")
        name = f"{self.prefix}{node.target}"
        try:
            self._check(name, module, node)
            if kinds.of(module) is None:
                raise CannotFold(f"its class {type(module).__name__} calculates something of its own")
        except CannotFold as reason:
            raise CannotFold(f"{name}, {where} it: {reason}") from None
        return _Neighbour(name, module, flat)

    def _check(self, name: str, module: Any, node: fx.Node) -> None:
        """Whether the module does what its class says, once."""
        if self.calls[node.target] > 1 or self.places[id(module)] > 1:
            raise CannotFold("it is used more than once")
        if any(self.owners[id(parameter)] > 1 for parameter in module.parameters()):
            raise CannotFold("its parameters are shared")
        tensors = [*module.parameters(), *module.buffers()]
        if any(id(tensor) in self.read for tensor in tensors):
            raise CannotFold("its parameters are read elsewhere, too")
        odd = next((type(t.data).__name__ for t in tensors if type(t.data) is not Tensor), None)
        if odd is not None:
            raise CannotFold(f"its parameters are no plain tensors, but {odd}")
        if parametrize.is_parametrized(module) or isinstance(module, nn.modules.lazy.LazyModuleMixin):
            raise CannotFold("its parameters are made by something else")
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise CannotFold("it is hooked")
        if {"mask", "lengths"} & node.kwargs.keys():
            raise CannotFold("it is called with a mask")

    def _check_methods(self, layer: str, norm: str) -> None:
        """Whether no method beside ``forward`` calls one of the two by itself."""
        ancestor, parts = "", [layer.split("."), norm.split(".")]
        while parts[0][0] == parts[1][0]:
            ancestor = f"{ancestor}.{parts[0][0]}" if ancestor else parts[0][0]
            parts = [part[1:] for part in parts]
        kind = type(self.model.get_submodule(ancestor))
        method = uses.method_that_calls(kind, {part[0] for part in parts})
        if method is not None:
            raise CannotFold(f"{kind.__name__}.{method}, which forward does not call, uses one of the two")

    def _replace(
        self, name: str, norm: Any, ndim: int | None, extra: bool = False, tail: Sequence[nn.Module] = ()
    ) -> None:
        activation = norm.activation if isinstance(norm, Fused) else None
        plain = ndim is None and activation is None and not extra
        new: nn.Module = nn.Identity() if plain else Folded(activation, ndim)
        if tail:
            new = nn.Sequential(*([] if plain else [new]), *tail)
        self.model.set_submodule(name, new.eval())

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.model.get_submodule(f"{self.prefix}{node.target}") if node.op == "call_module" else None


def _parts_behind(norm: nn.Module) -> list[nn.Module]:
    """What a norm with a ``forward`` of its own does behind its map, where that is its own parts or an activation.

    Raises:
        CannotFold: it does something else.
    """
    found = take_apart(norm, (False,))
    if found is None:
        raise CannotFold(f"the forward of its class {type(norm).__name__} does something else than its map")
    parts = [norm.get_submodule(name) for name in found.names]
    named = next((kind.base() for kind in kinds.every(kinds.Activation) if kind.op == found.activation), None)
    return [part for part in parts if type(part) is not nn.Identity] + ([named] if named is not None else [])
