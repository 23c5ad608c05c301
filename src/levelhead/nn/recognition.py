"""Norms of other libraries, known by what they calculate: each is tried on data, its name says nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import permutations, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from levelhead import kinds, ops


class Formula(NamedTuple):
    """What a module was seen to calculate.

    Args:
        op: "layer_norm" or "rms_norm".
        weight: the name of the scale; empty where there is none.
        offset: whether the scale is 1 + weight.
        bias: the name of the shift; empty where there is none.
        eps: the name of the attribute, or the number itself.
        dim: over which dimension: -1, or 1 of (N, C, H, W).
        dtypes: for which types, of input, parameters and result alike, that holds.
    """

    op: str
    weight: str
    offset: bool
    bias: str
    eps: str | float
    dim: int
    dtypes: tuple[torch.dtype, ...] = ()

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


class Recognised(nn.Module):
    """A mixin that calculates a class's ``formula`` by our operator; its own ``forward`` does what was not tried."""

    formula: Formula

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the class it is mixed into."""
        x = args[0] if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) else None
        dim = self.formula.dim
        rows = x if x is None or dim == -1 or x.ndim != 4 else x.movedim(1, -1)
        found = None if rows is None or (dim == 1 and rows.ndim != 4) else self.as_rows(rows)
        if rows is None or found is None:
            return super().forward(*args, **kwargs)
        shape, weight, bias, eps, center = found
        y = ops.layer_norm(rows, shape, weight, bias, eps) if center else ops.rms_norm(rows, shape, weight, eps)
        return y if dim == -1 else y.movedim(-1, 1)

    def as_rows(self, x: Tensor) -> tuple[tuple[int, ...], Tensor | None, Tensor | None, float, bool] | None:
        """Shape, scale, shift, ε and whether it centres, for rows such as these; None where that was not tried."""
        formula = self.formula
        weight, bias, eps = formula.arguments(self)
        if x.dtype not in formula.dtypes or torch.is_autocast_enabled(x.device.type):
            return None
        if x.ndim < 2 or (weight is not None and weight.dtype != x.dtype):
            return None
        return tuple(x.shape[-1:]), weight, bias, eps, formula.op == "layer_norm"


def recognise(module: nn.Module, known: dict[Any, Formula | None]) -> Formula | None:
    """The formula of a module that is a norm of another library's; None of all others.

    Args:
        module: it is not changed.
        known: what was found of modules that were built alike; it is added to.
    """
    if not _may_be(module):
        return None
    plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | tuple)}
    shapes = tuple((name, tuple(p.shape)) for name, p in module.named_parameters())
    key = (type(module), repr(sorted(plain.items(), key=lambda item: item[0])), shapes)
    if key not in known:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            known[key] = _tried(module)
    return known[key]


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
        twin = copy.deepcopy(module).cpu().double()
    except Exception:  # whatever a stranger's module says to being copied
        return None
    names = [name for name, _ in twin.named_parameters()]
    width = next((p.numel() for p in twin.parameters()), _width(twin))
    for parameter in twin.parameters():
        nn.init.normal_(parameter)
    for formula in _candidates(twin, names):
        shape = (3, 5, width) if formula.dim == -1 else (2, width, 3, 4)
        if _agrees(twin, formula, shape, torch.float32):
            # 1 + weight is rounded here, in the narrow types to few digits
            others = (torch.float64,) if formula.offset else tuple(_TOLERANCE)[1:]
            dtypes = tuple(t for t in others if _agrees(twin, formula, shape, t))
            return formula._replace(dtypes=(torch.float32, *dtypes))
    return None


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
        x = (torch.randn(shape) * scale + scale / 2).to(dtype).requires_grad_()
        wide = x.detach().double().requires_grad_()
        try:
            y = module.train(mode)(x)
            if not isinstance(y, Tensor) or y.dtype != dtype or y.shape != x.shape:
                return False
            weights = torch.randn(shape).to(dtype)
            expected = formula.reference(exact, wide)
            found = [y, *torch.autograd.grad(y, [x, *module.parameters()], weights)]
            right = [expected, *torch.autograd.grad(expected, [wide, *exact.parameters()], weights.double())]
        except Exception:  # a module that takes no such input is none
            return False
        for i, (value, truth) in enumerate(zip(found, right, strict=True)):
            share = _TOLERANCE[dtype] * (1 if i == 0 else 20)  # gradients are sums of a few products, cancelling
            a, b = value.detach().double(), truth.detach()
            if not float((a - b).abs().max()) <= share * float(b.abs().max()):
                return False
    return True
