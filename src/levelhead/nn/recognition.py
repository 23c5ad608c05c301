"""Norms of other libraries, known by what they calculate: each is tried on data, its name says nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from itertools import permutations, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.module import _has_any_global_hook

from levelhead import kinds, ops
from levelhead.evaluation import HOOKS, unheard
from levelhead.nn.extras import is_traced, recorded
from levelhead.ops import spec


class Formula(NamedTuple):
    """What a module was seen to calculate.

    Args:
        op: "layer_norm" or "rms_norm".
        weight: the name of the scale; empty where there is none.
        offset: whether the scale is 1 + weight.
        bias: the name of the shift; empty where there is none.
        eps: the name of the attribute, or the number itself.
        dim: over which dimension: -1, or 1 of (N, C, L) and (N, C, H, W).
        packs: whether the result is contiguous there, as our operators' are, whatever the layout of the input; what
            comes behind may be several times as fast in one layout as in the other.
        dtypes: for which types, of input, parameters and result alike, that holds.
        ndims: and for how many dimensions.
    """

    op: str
    weight: str
    offset: bool
    bias: str
    eps: str | float
    dim: int
    packs: bool = False
    dtypes: tuple[torch.dtype, ...] = ()
    ndims: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As ``rms_norm, 1 + weight, dimension 1``."""
        parts = [self.op, "1 + weight" if self.offset else "", "dimension 1" if self.dim == 1 else ""]
        return ", ".join(part for part in parts if part)

    def arguments(self, module: nn.Module) -> tuple[Tensor | None, Tensor | None, float]:
        """Scale, shift and ε as the module has them now."""
        weight: Any = getattr(module, self.weight) if self.weight else None
        eps: Any = getattr(module, self.eps) if isinstance(self.eps, str) else self.eps
        return 1 + weight if self.offset else weight, getattr(module, self.bias) if self.bias else None, eps

    def reference(self, module: nn.Module, x: Tensor) -> Tensor:
        """The result, in the types of input and parameters."""
        weight, bias, eps = self.arguments(module)
        x = x.movedim(self.dim, -1)
        x = x - x.mean(-1, keepdim=True) if self.op == "layer_norm" else x
        y = x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        y = y if weight is None else y * weight
        return (y if bias is None else y + bias).movedim(-1, self.dim)


def _as_tried(module: nn.Module, x: Tensor, dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether input and parameters are of one type that was tried, and nothing changes it on the way."""
    for parameter in module._parameters.values():
        if parameter is not None and parameter.dtype != x.dtype:
            return False
    return x.dtype in dtypes and not torch.is_autocast_enabled(x.device.type)


class Recognised(nn.Module):
    """A mixin that calculates a class's ``formula`` by our operator; its own ``forward`` does what was not tried."""

    formula: Formula

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the class it is mixed into."""
        x = args[0] if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) else None
        dim = self.formula.dim
        found = None if x is None or is_traced(x) else self.as_rows(x)
        if x is None or found is None:
            return super().forward(*args, **kwargs)
        rows = x if dim == -1 else x.movedim(1, -1)
        shape, weight, bias, eps, center = found
        y = ops.layer_norm(rows, shape, weight, bias, eps) if center else ops.rms_norm(rows, shape, weight, eps)
        y = y if dim == -1 else y.movedim(-1, 1)
        return y if self.formula.packs else spec.like(y, x)

    def as_rows(self, x: Tensor) -> tuple[tuple[int, ...], Tensor | None, Tensor | None, float, bool] | None:
        """Shape, scale, shift, ε and whether it centres, for such an input; None where that was not tried."""
        formula = self.formula
        if x.ndim not in formula.ndims or not _as_tried(self, x, formula.dtypes):
            return None
        return (x.shape[formula.dim],), *formula.arguments(self), formula.op == "layer_norm"


class Parts(NamedTuple):
    """What a class with a norm for a base was seen to calculate: the norm, and behind it parts of its own.

    Args:
        ours: the class that takes the place of the norm.
        names: the parts, in their order.
        activation: what is behind the norm where there are no parts; empty where there is nothing.
        ndims: for how many dimensions that holds.
        dtypes: and for which types, as in a ``Formula``.
    """

    ours: Any
    names: tuple[str, ...]
    activation: str
    ndims: tuple[int, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()

    def __str__(self) -> str:
        """As ``BatchNorm2d, then drop, act``."""
        behind = ", ".join(self.names) or self.activation
        return str(self.ours.__name__) + (f", then {behind}" if behind else "")


class TakenApart(nn.Module):
    """A mixin that runs our norm, and then the ``parts`` that were seen; what was not tried does ``original``."""

    parts: Parts
    original: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the class it is mixed into."""
        x = args[0] if len(args) == 1 and not kwargs else None
        if isinstance(x, Proxy):
            return recorded(self, x)
        known = isinstance(x, Tensor) and not is_traced(x) and x.ndim in self.parts.ndims
        if x is None or not known or not _as_tried(self, x, self.parts.dtypes):
            return self.original.forward(self, *args, **kwargs)
        return _behind(self, self.parts, x)


def _behind(module: Any, parts: Parts, x: Tensor) -> Any:
    behind = [module.get_submodule(name) for name in parts.names]
    behind = [part for part in behind if type(part) is not nn.Identity or is_hooked(part)]
    alone = len(behind) == 1 and not is_hooked(behind[0])
    name = kinds.activation(behind[0]) if alone else parts.activation or None
    if name is not None:
        return parts.ours.forward(module, x, activation=name)
    y = parts.ours.forward(module, x)
    for part in behind:
        y = part(y)
    return y


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody listens to the module's calls, or has put another forward in its place."""
    own = module.__dict__
    return any(map(own.get, HOOKS)) or "forward" in own or bool(_has_any_global_hook())


def _twin(module: nn.Module) -> Any:
    """A copy for a trial, to which nobody listens."""
    with unheard(module):
        return copy.deepcopy(module).cpu()


def recognise(module: nn.Module, known: dict[Any, Any]) -> Formula | Parts | None:
    """What a module calculates that is a norm of another library's; None of all others.

    Args:
        module: it is not changed.
        known: what was found of modules that were built alike; it is added to.
    """
    base, alone = kinds.intended(module), _may_be(module)
    if not alone and (base is None or base.family is not kinds.Norm or kinds.of(module) is not None):
        return None
    own = {k: v for k, v in vars(module).items() if k not in _ANY}
    settings = {k: repr(v) if isinstance(v, bool | int | float | str | tuple | list) else id(v) for k, v in own.items()}
    shapes = tuple((name, tuple(p.shape)) for name, p in module.named_parameters())
    key = (type(module), frozenset(settings.items()), shapes, repr([*module.children()]))
    if key not in known:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            known[key] = _tried(module) if alone else None
            known[key] = known[key] or _apart(module, known)
    return known[key]  # type: ignore[no-any-return]


_ANY = vars(nn.Module()).keys()  # what every module has


def _apart(module: nn.Module, known: dict[Any, Any]) -> Parts | None:
    """As ``take_apart``; a class that was taken apart is only looked at in float32 for another number of channels."""
    like = (type(module), repr([type(child) for child in module.children()]))
    found = known.get(like)
    if found is not None and _dimensions(module, found, torch.float32, (True, False)) >= set(found.ndims):
        return found  # type: ignore[no-any-return]
    known[like] = take_apart(module, (True, False))
    return known[like]  # type: ignore[no-any-return]


def take_apart(module: nn.Module, modes: tuple[bool, ...]) -> Parts | None:
    """The norm and the parts behind it that a class with a norm for a base calculates; None where it does not.

    Args:
        module: it is not changed.
        modes: in training, in evaluation, or in both.
    """
    base = kinds.intended(module)
    if base is None or base.ours is None or "forward" in vars(module):
        return None
    names = tuple(name for name, _ in module.named_children())
    behind = [""] if names else ["", *(kinds.activation(kind.base()) or "" for kind in kinds.every(kinds.Activation))]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for activation in dict.fromkeys(behind):
            parts = Parts(base.ours, names, activation)
            found = {dtype: _dimensions(module, parts, dtype, modes) for dtype in _TOLERANCE}
            ndims = found[torch.float64] & found[torch.float32]
            if ndims:
                dtypes = tuple(dtype for dtype, tried in found.items() if tried >= ndims)
                return parts._replace(ndims=tuple(ndims), dtypes=dtypes)
    return None


class _Mark(nn.Module):
    """Stands where an identity was, to see whether that is called."""

    def forward(self, x: Tensor) -> Tensor:
        """The input, doubled."""
        return 2 * x


def _dimensions(module: nn.Module, parts: Parts, dtype: torch.dtype, modes: tuple[bool, ...]) -> set[int]:
    """For how many dimensions results, gradients and buffers are those of our norm with the parts behind it."""
    try:
        theirs = _twin(module).to(dtype)
        for name in parts.names:
            if type(theirs.get_submodule(name)) is nn.Identity:
                theirs.set_submodule(name, _Mark())
        for parameter in theirs.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5)
        if getattr(theirs, "running_mean", None) is not None:
            nn.init.uniform_(theirs.running_mean, -1, 1)
        ours = copy.deepcopy(theirs)
        ours.__class__ = type("Tried", (parts.ours, type(module)), {})
    except Exception:  # whatever a stranger's module says to being copied
        return set()
    tried: dict[int, bool] = {}
    for shape, mode in product(_shapes(theirs), modes):
        x = (torch.randn(shape) * 2 + 1).to(dtype).requires_grad_()
        weights = torch.randn(shape).to(dtype)
        try:
            found = _results(theirs, theirs.train(mode), x, weights)
            right = _results(partial(_behind, ours, parts), ours.train(mode), x, weights)
        except Exception:  # of another number of dimensions
            tried[x.ndim] = False
            ours.load_state_dict(theirs.state_dict())  # which one of the two may have advanced
            continue
        wide = dtype.itemsize > 2  # in 16 bits, a gradient at an activation's corner is one or the other
        pairs = list(zip(found, right, strict=True))[: None if wide else 1]
        if not all(a.dtype == b.dtype and _close(a, b, 20 * _TOLERANCE[dtype]) for a, b in pairs):
            return set()
        tried.setdefault(x.ndim, True)
    return {ndim for ndim, same in tried.items() if same}


def _results(forward: Any, module: nn.Module, x: Tensor, weights: Tensor) -> list[Tensor]:
    """What a module gives, the gradients of that, and the module's state afterwards."""
    torch.manual_seed(0)
    y = forward(x)
    gradients = torch.autograd.grad(y, [x, *module.parameters()], weights, allow_unused=True)
    return [y.detach(), *(x.new_zeros(()) if g is None else g for g in gradients), *module.state_dict().values()]


def _close(a: Tensor, b: Tensor, share: float) -> bool:
    """Whether two differ by at most a share of the largest value."""
    return float((a.double() - b.double()).abs().max()) <= share * float(b.double().abs().max())


def _shapes(module: Any) -> list[tuple[int, ...]]:
    if hasattr(module, "normalized_shape"):
        return [(3, *module.normalized_shape), (2, 3, *module.normalized_shape)]
    channels = module.num_features if hasattr(module, "num_features") else module.num_channels
    return [(3, channels, *[4] * more) for more in range(4)]


def _may_be(module: nn.Module) -> bool:
    cls = type(module)
    if (
        cls.__module__.split(".")[0] in {"torch", "levelhead"}
        or kinds.of(module) is not None
        or "forward" in vars(module)
    ):
        return False
    parameters = list(module.parameters())
    if any(True for _ in module.children()) or any(True for _ in module.buffers()) or len(parameters) > 2:
        return False
    if not parameters:
        return "norm" in cls.__name__.lower()
    one = parameters[0]
    return all(type(p) is nn.Parameter and p.ndim == 1 and p.shape == one.shape and not p.is_meta for p in parameters)


def _tried(module: nn.Module) -> Formula | None:
    try:
        twin = _twin(module).double()
    except Exception:  # whatever a stranger's module says to being copied
        return None
    names = [name for name, _ in twin.named_parameters()]
    width = next((p.numel() for p in twin.parameters()), _width(twin))
    for parameter in twin.parameters():
        nn.init.normal_(parameter)
    inputs: dict[int, list[tuple[int, ...]]] = {
        -1: [(3, 5, width), (3, width), (2, 3, 4, width), (2, 3, 1, 2, width)],
        1: [(2, width, 3, 4), (2, width, 5)],
    }
    seen = {dim: [_one(twin, torch.randn(shape).double()) for shape in shapes] for dim, shapes in inputs.items()}
    for formula in _candidates(twin, names):
        shapes = [tuple(x.shape) for x, y in seen[formula.dim] if _is_near(y, formula.reference(twin, x))]
        # most have none; rows alone may be those of a group norm, too
        shape = next((each for each in shapes if len(each) > 2), ())
        if shape and _agrees(twin, formula, shape, torch.float32):
            # 1 + weight is rounded here, in the narrow types to few digits
            others = (torch.float64,) if formula.offset else tuple(_TOLERANCE)[1:]
            dtypes = tuple(t for t in others if _agrees(twin, formula, shape, t))
            x = torch.randn(shape).double()
            _, y = _one(twin.double(), x if formula.dim == 1 else x.mT.contiguous().mT)
            packs = y is None or y.movedim(formula.dim, -1).is_contiguous()
            return formula._replace(packs=packs, dtypes=(torch.float32, *dtypes), ndims=tuple(map(len, shapes)))
    return None


@torch.no_grad()
def _one(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """An input, and what a module makes of it: a tensor of the same shape, or None."""
    try:
        y = module(x)
    except Exception:  # a module that takes no such input
        return x, None
    return x, y.double() if isinstance(y, Tensor) and y.shape == x.shape else None


def _is_near(y: Tensor | None, expected: Tensor) -> bool:
    return y is not None and torch.allclose(y, expected, rtol=1e-3, atol=1e-3)


def _width(module: Any) -> int:
    shape = getattr(module, "normalized_shape", 8)
    return int(shape[-1] if isinstance(shape, tuple | list) and shape else shape if isinstance(shape, int) else 8)


def _candidates(module: nn.Module, names: list[str]) -> Iterator[Formula]:
    small = [name for name, value in vars(module).items() if isinstance(value, float) and 0 < value < 0.1]
    pairs = [(a, b) for a, b in permutations([*names, ""], 2) if a and bool(b) == (len(names) == 2)] or [("", "")]
    numbers: tuple[str | float, ...] = (*small, 1e-5, 1e-6, 1e-8, 1e-12)
    for dim, (weight, bias), offset, eps in product((-1, 1), pairs, (False, True), numbers):
        for op in ("rms_norm", "layer_norm"):
            if (weight or not offset) and not (bias and op == "rms_norm"):
                yield Formula(op, weight, offset, bias, eps, dim)


#: How far a result may be off, as a share of its largest: some roundings of the type. In float64 a module may
#: calculate in float32.
_TOLERANCE = {torch.float32: 2e-6, torch.float64: 2e-6, torch.bfloat16: 2**-6, torch.float16: 2**-9}


def _agrees(twin: nn.Module, formula: Formula, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether results, their type and gradients are the formula's, for large inputs and for those where ε counts."""
    module = copy.deepcopy(twin).to(dtype)
    exact = copy.deepcopy(module).double()
    for scale, mode in ((1.0, True), (1e-3, False)):
        x, weights = (torch.randn(shape) * scale + scale / 2).to(dtype), torch.randn(shape).to(dtype)
        wide = x.double().requires_grad_()
        try:
            y, *found = _results(module.train(mode), module, x.requires_grad_(), weights)
            expected, *right = _results(partial(formula.reference, exact), exact, wide, weights.double())
        except Exception:  # a module that takes no such input is none
            return False
        if y.dtype != dtype or y.shape != x.shape or not _close(y, expected, _TOLERANCE[dtype]):
            return False
        # gradients are sums of a few products, cancelling
        if not all(_close(a, b, 20 * _TOLERANCE[dtype]) for a, b in zip(found, right, strict=True)):
            return False
    return True
