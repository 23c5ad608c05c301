"""Norms of other libraries, known by what they calculate: each is tried on data, its name says nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import permutations, product
from typing import Any, NamedTuple, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.module import _has_any_global_hook

from levelhead import kinds, ops
from levelhead.evaluation import HOOKS, unheard
from levelhead.nn.extras import is_foreign, recorded
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
    packs: bool = True
    dtypes: tuple[torch.dtype, ...] = ()
    ndims: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As ``rms_norm, 1 + weight, dimension 1``."""
        parts = [self.op, "1 + weight" if self.offset else "", "dimension 1" if self.dim == 1 else ""]
        return ", ".join(part for part in parts if part)

    def rows(self, module: nn.Module, x: Tensor) -> tuple[tuple[int, ...], Tensor | None, Tensor | None, float, bool]:
        """Shape, scale, shift and ε as the module has them now, and whether it centres."""
        weight: Any = getattr(module, self.weight) if self.weight else None
        bias: Any = getattr(module, self.bias) if self.bias else None
        eps: Any = getattr(module, self.eps) if isinstance(self.eps, str) else self.eps
        return (x.shape[self.dim],), 1 + weight if self.offset else weight, bias, eps, self.op == "layer_norm"

    def calculate(self, module: nn.Module, x: Tensor) -> Tensor:
        """The result by our operator."""
        shape, weight, bias, eps, center = self.rows(module, x)
        rows = x if self.dim == -1 else x.movedim(1, -1)
        y = ops.layer_norm(rows, shape, weight, bias, eps) if center else ops.rms_norm(rows, shape, weight, eps)
        y = y if self.dim == -1 else y.movedim(-1, 1)
        return y if self.packs else spec.like(y, x)


class Parts(NamedTuple):
    """What a class with a norm for a base was seen to calculate: the norm, and behind it parts of its own.

    Args:
        ours: the class that takes the place of the norm.
        names: the parts, in their order.
        activation: what is behind the norm where there are no parts; empty where there is nothing.
        dtypes: for which types that holds, as in a ``Formula``.
        ndims: and for how many dimensions.
    """

    ours: Any
    names: tuple[str, ...]
    activation: str
    dtypes: tuple[torch.dtype, ...] = ()
    ndims: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As ``BatchNorm2d, then drop, act``."""
        behind = ", ".join(self.names) or self.activation
        return str(self.ours.__name__) + (f", then {behind}" if behind else "")

    def calculate(self, module: nn.Module, x: Tensor) -> Any:
        """The result by our norm, which ``module`` is an instance of, with the activation in it if it knows that."""
        behind = [module.get_submodule(name) for name in self.names]
        behind = [part for part in behind if type(part) is not nn.Identity or is_hooked(part)]
        alone = len(behind) == 1 and not is_hooked(behind[0])
        name = kinds.activation(behind[0]) if alone else self.activation or None
        if name is not None:
            return self.ours.forward(module, x, activation=name)
        y = self.ours.forward(module, x)
        for part in behind:
            y = part(y)
        return y


_Seen = TypeVar("_Seen", Formula, Parts)


class Recognised(nn.Module):
    """A mixin that does by ours what was ``seen`` of the ``original`` class, which itself does what was not tried."""

    seen: Formula | Parts
    original: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the class it is mixed into."""
        x = args[0] if len(args) == 1 and not kwargs else None
        if isinstance(x, Proxy):
            return recorded(self, x)
        return self.seen.calculate(self, x) if self.serves(x) else self.original.forward(self, *args, **kwargs)

    def serves(self, x: Any) -> TypeGuard[Tensor]:
        """Whether input and parameters are as some that were tried, of one type, and nothing changes it on the way."""
        if is_foreign(x) or x.ndim not in self.seen.ndims:
            return False
        for parameter in self._parameters.values():
            if parameter is not None and parameter.dtype != x.dtype:
                return False
        device = x.device.type
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        return x.dtype in self.seen.dtypes and not autocast


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody listens to the module's calls, or has put another forward in its place."""
    own = module.__dict__
    return any(map(own.get, HOOKS)) or "forward" in own or bool(_has_any_global_hook())


@torch.random.fork_rng(devices=[])
@torch.enable_grad()
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
        torch.manual_seed(0)
        known[key] = (_formula(module) if alone else None) or _apart(module, known)
    return known[key]  # type: ignore[no-any-return]


_ANY = vars(nn.Module()).keys()  # what every module has


def _apart(module: nn.Module, known: dict[Any, Any]) -> Parts | None:
    """As ``take_apart``; a class that was taken apart is only looked at in float32 for another number of channels."""
    like = (type(module), repr([type(child) for child in module.children()]))
    found = known.get(like)
    if found is not None and _dimensions(module, found, torch.float32, [(True, _SIZES[0])]) >= set(found.ndims):
        return found  # type: ignore[no-any-return]
    known[like] = take_apart(module, (True, False))
    return known[like]  # type: ignore[no-any-return]


@torch.random.fork_rng(devices=[])
@torch.enable_grad()
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
    tried = (_proved(module, Parts(base.ours, names, activation), modes) for activation in dict.fromkeys(behind))
    return next((parts for parts in tried if parts is not None), None)


def _formula(module: nn.Module) -> Formula | None:
    try:
        twin = _twin(module).double()
    except Exception:  # whatever a stranger's module says to being copied
        return None
    for parameter in twin.parameters():
        nn.init.normal_(parameter)
    # most give nothing of the kind; rows alone may be those of a group norm, too
    inputs = {dim: [_random(shape).double() for shape in _shapes(twin, dim) if len(shape) > 2] for dim in (-1, 1)}
    seen = {dim: [(x, y) for x in each for y in _given(twin, x)] for dim, each in inputs.items()}
    for formula in _candidates(twin):
        calculate = partial(formula.calculate, twin)
        if any(_close(near, y, 1e-3) for x, y in seen[formula.dim] for near in _given(calculate, x)):
            found = _proved(module, formula, (True, False))
            if found is not None and max(found.ndims) > 2:
                x = _random(_shapes(twin, found.dim)[0]).double()
                given = _given(twin, x if found.dim == 1 else x.mT.contiguous().mT)
                return found._replace(packs=all(y.movedim(found.dim, -1).is_contiguous() for y in given))
    return None


def _random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, device="cpu")  # where twins are, whatever the default


@torch.no_grad()
def _given(function: Any, x: Tensor) -> list[Tensor]:
    """What is made of an input, if that is a tensor of the same shape."""
    try:
        y = function(x)
    except Exception:  # it takes no such input
        return []
    return [y.double()] if isinstance(y, Tensor) and y.shape == x.shape else []


def _candidates(module: nn.Module) -> Iterator[Formula]:
    names = [name for name, _ in module.named_parameters()]
    small = [name for name, value in vars(module).items() if isinstance(value, float) and 0 < value < 0.1]
    pairs = [(a, b) for a, b in permutations([*names, ""], 2) if a and bool(b) == (len(names) == 2)] or [("", "")]
    numbers: tuple[str | float, ...] = (*small, 1e-5, 1e-6, 1e-8, 1e-12)
    for dim, (weight, bias), offset, eps in product((-1, 1), pairs, (False, True), numbers):
        for op in ("rms_norm", "layer_norm"):
            if (weight or not offset) and not (bias and op == "rms_norm"):
                yield Formula(op, weight, offset, bias, eps, dim)


_SIZES = (2.0, 1e-3)  # of inputs; in small ones ε counts
#: How far a result may be off, as a share of its largest: some roundings of the type. In float64 a module may
#: calculate in float32.
_TOLERANCE = {torch.float32: 2e-6, torch.float64: 2e-6, torch.bfloat16: 2**-6, torch.float16: 2**-9}


def _proved(module: nn.Module, seen: _Seen, modes: tuple[bool, ...]) -> _Seen | None:
    """What was seen of a module, with the types and numbers of dimensions for which trials bear it out, if any."""
    ndims = _dimensions(module, seen, torch.float32, product(modes, _SIZES))
    if not ndims:
        return None
    # 1 + weight is rounded here, in the narrow types to few digits
    rounded = isinstance(seen, Formula) and seen.offset
    others = [dtype for dtype in _TOLERANCE if dtype != torch.float32 and not (rounded and dtype.itemsize == 2)]
    served: list[torch.dtype] = [
        dtype for dtype in others if _dimensions(module, seen, dtype, [(modes[0], _SIZES[0])]) >= ndims
    ]
    return seen._replace(ndims=tuple(ndims), dtypes=(torch.float32, *served))


class _Mark(nn.Module):
    """Stands where an identity was, to see whether that is called."""

    def forward(self, x: Tensor) -> Tensor:
        """The input, doubled."""
        return 2 * x


def _dimensions(
    module: nn.Module, seen: Formula | Parts, dtype: torch.dtype, settings: Iterable[tuple[bool, float]]
) -> set[int]:
    """For how many dimensions results, their type, gradients and buffers of a module are those of what was seen."""
    try:
        theirs = _twin(module).to(dtype)
        for name in seen.names if isinstance(seen, Parts) else ():
            if type(theirs.get_submodule(name)) is nn.Identity:
                theirs.set_submodule(name, _Mark())
        for parameter in theirs.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5)
        if getattr(theirs, "running_mean", None) is not None:
            nn.init.uniform_(theirs.running_mean, -1, 1)
        ours = copy.deepcopy(theirs)
        if isinstance(seen, Parts):
            ours.__class__ = type("Tried", (seen.ours, type(module)), {})
    except Exception:  # whatever a stranger's module says to being copied
        return set()
    differing: set[int] = set()
    same: set[int] = set()
    shapes = _shapes(theirs, seen.dim if isinstance(seen, Formula) else 0)
    for (mode, size), shape in product(settings, shapes):
        x = (_random(shape) * size + size / 2).to(dtype).requires_grad_()
        weights = _random(shape).to(dtype)
        try:
            found = _results(theirs, theirs.train(mode), x, weights)
            right = _results(partial(seen.calculate, ours), ours.train(mode), x, weights)
            wide = dtype.itemsize > 2  # in 16 bits, a gradient at an activation's corner is one or the other
            pairs = list(zip(found, right, strict=True))[: None if wide else 1]
            # gradients are sums of a few products, cancelling
            agree = all(_close(a, b, (20 if i else 2) * _TOLERANCE[dtype]) for i, (a, b) in enumerate(pairs))
        except Exception:  # of another number of dimensions
            agree = False
        (same if agree else differing).add(x.ndim)
        if not agree:
            ours.load_state_dict(theirs.state_dict())  # which one of the two may have advanced
    return same - differing


def _results(forward: Any, module: nn.Module, x: Tensor, weights: Tensor) -> list[Tensor]:
    """What a module gives, the gradients of that, and the module's state afterwards."""
    torch.manual_seed(0)
    y = forward(x)
    gradients = torch.autograd.grad(y, [x, *module.parameters()], weights, allow_unused=True)
    return [y.detach(), *(x.new_zeros(()) if g is None else g for g in gradients), *module.state_dict().values()]


@torch.no_grad()
def _close(a: Tensor, b: Tensor, share: float) -> bool:
    """Whether two are of one type and shape, and differ by at most a share of the largest value."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return float((a.double() - b.double()).abs().max()) <= share * float(b.double().abs().max())


def _shapes(module: Any, dim: int) -> list[tuple[int, ...]]:
    """Inputs for a norm over a dimension; 0: for one that says itself how many channels it takes."""
    if dim:
        width = next((p.numel() for p in module.parameters()), _width(module))
        rows = [(3, 5, width), (3, width), (2, 3, 4, width), (2, 3, 1, 2, width)]
        return rows if dim == -1 else [(2, width, 3, 4), (2, width, 5)]
    if hasattr(module, "normalized_shape"):
        return [(3, *module.normalized_shape), (2, 3, *module.normalized_shape)]
    channels = module.num_features if hasattr(module, "num_features") else module.num_channels
    return [(3, channels, *[4] * more) for more in range(4)]


def _width(module: Any) -> int:
    shape = getattr(module, "normalized_shape", 8)
    return int(shape[-1] if isinstance(shape, tuple | list) and shape else shape if isinstance(shape, int) else 8)


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


def _twin(module: nn.Module) -> Any:
    """A copy for a trial, to which nobody listens."""
    with unheard(module):
        return copy.deepcopy(module).cpu()
