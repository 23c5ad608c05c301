"""The only user of torch.library: schemas, fake kernels, gradients; and the table of backends.

Two operators serve every normalizer, because all of them are one formula (see ``reference``):

- ``levelhead::normalize`` takes the statistics from ``x`` itself, over ``dims``, and returns them;
- ``levelhead::standardize`` is given them (batch and instance norm in eval mode).

Parameters come in a shape that broadcasts against ``x``; ``dims`` are not negative. An optional tensor that is absent
is None, an absent activation is "".
"""

from __future__ import annotations

import functools
import os
import warnings
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from levelhead.ops import cpu, reference
from levelhead.ops.reference import Dims, Statistics

Backend = Literal["torch", "cpu", "reference"]

#: The most elements for which a call costs more than the work, so that PyTorch's own kernel is the fastest.
SMALL = 2**16

_KNOWN = ("reference", "cpu", "triton")


def backends() -> dict[str, str]:
    """What is present: by backend's name, ``"present"`` or why it is not.

    ``LEVELHEAD_BACKEND`` forces one of them; it is read once, at import.
    """
    return {
        "reference": "present",
        "cpu": "present" if cpu.PRESENT else cpu.ABSENT,
        "triton": "not part of this version",
    }


def _forced_backend() -> Backend | None:
    name = os.environ.get("LEVELHEAD_BACKEND")
    if not name:
        return None
    if name not in _KNOWN:
        raise ValueError(f"LEVELHEAD_BACKEND={name!r} is not a backend; choose one of {', '.join(_KNOWN)}")
    if backends()[name] != "present":
        raise RuntimeError(f"LEVELHEAD_BACKEND={name} cannot be served: {backends()[name]}; unset it, or use reference")
    return cast(Backend, name)


FORCED = _forced_backend()


def backend_for(x: Tensor) -> Backend:
    """Which backend computes on ``x``: the table of dispatch.

    ==================================  ===========  =====================================================
    when                                 backend      why
    ==================================  ===========  =====================================================
    ``LEVELHEAD_BACKEND`` is set         that one     it never falls back silently
    exporting (torch.export, ONNX)       torch        the program runs where levelhead is not installed
    at most ``SMALL`` elements           torch        the call costs more than the work
    on the CPU, kernels compiled         cpu          as exact, and the fastest
    everything else                      reference    exact at any offset and scale
    ==================================  ===========  =====================================================

    What the kernels cannot do (``cpu.serves``) goes to the reference, or is refused where they are forced.
    """
    if FORCED is not None:
        return FORCED
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return "torch"
    if x.numel() <= SMALL:
        return "torch"
    if x.device.type != "cpu":
        return "reference"
    if cpu.PRESENT:
        return "cpu"
    _say_once(cpu.ABSENT)
    return "reference"


@functools.cache
def _say_once(why: str) -> None:
    warnings.warn(f"levelhead runs its slow reference: {why}", RuntimeWarning, stacklevel=4)


def _served_by_cpu(x: Tensor, dims: Dims | None, weight: Tensor | None, bias: Tensor | None, *given: Tensor) -> bool:
    """Whether the compiled kernels do this call."""
    if FORCED == "reference":
        return False
    if cpu.serves(x, dims, weight, bias, *given):
        return True
    if FORCED == "cpu" and x.numel():  # an empty tensor has no work in it
        raise RuntimeError(
            f"LEVELHEAD_BACKEND=cpu cannot serve a {x.dtype} of shape {tuple(x.shape)} on {x.device}, normalized over"
            f" dimensions {dims}; unset it, or use reference"
        )
    return False


def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    dims: Dims,
    eps: float,
    activation: str,
    center: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize ``x`` by its own statistics over ``dims``; returns the result, the mean and the biased variance."""
    if _transformed():
        stats = reference.statistics(x, dims, center)
        return reference.forward(x, stats, weight, bias, residual, eps, activation), *stats
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.levelhead.normalize(
        x, weight, bias, residual, list(dims), eps, activation, center
    )
    return result


def standardize(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
) -> Tensor:
    """Normalize ``x`` by given statistics, which are constants to the gradient."""
    if _transformed():
        stats = Statistics(reference.widen(mean), reference.widen(var))
        return reference.forward(x, stats, weight, bias, residual, eps, activation)
    result: Tensor = torch.ops.levelhead.standardize(x, mean, var, weight, bias, residual, eps, activation)
    return result


def _transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which see through plain PyTorch only."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


_library = torch.library.Library("levelhead", "DEF")
_PARAMETERS = "Tensor? weight, Tensor? bias, Tensor? residual"
_library.define(
    f"normalize(Tensor x, {_PARAMETERS}, int[] dims, float eps, str activation, bool center)"
    " -> (Tensor y, Tensor mean, Tensor var)"
)
_library.define(f"standardize(Tensor x, Tensor mean, Tensor var, {_PARAMETERS}, float eps, str activation) -> Tensor")
# The backward pass as an operator of its own, so that a compiled graph holds one call. dims None: constant statistics.
_library.define(
    f"normalize_backward(Tensor dy, Tensor x, Tensor mean, Tensor var, {_PARAMETERS}, float eps, str activation,"
    " int[]? dims, bool center) -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dresidual)"
)

_Maybe = Tensor | None


def _normalize(
    x: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    dims: Dims,
    eps: float,
    activation: str,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if _served_by_cpu(x, dims, weight, bias):
        return cpu.normalize(x, weight, bias, residual, dims, eps, activation, center)
    stats = reference.statistics(x, dims, center)
    return reference.forward(x, stats, weight, bias, residual, eps, activation), *stats


def _standardize(
    x: Tensor, mean: Tensor, var: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, eps: float, activation: str
) -> Tensor:
    if _served_by_cpu(x, None, weight, bias, mean, var):
        return cpu.standardize(x, mean, var, weight, bias, residual, eps, activation)
    stats = Statistics(reference.widen(mean), reference.widen(var))
    return reference.forward(x, stats, weight, bias, residual, eps, activation)


def _normalize_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    eps: float,
    activation: str,
    dims: Dims | None,
    center: bool,
) -> tuple[Tensor, ...]:
    gradients: tuple[_Maybe, ...]
    if _served_by_cpu(x, dims, weight, bias, *([mean, var] if dims is None else [])):
        gradients = cpu.normalize_backward(
            dy, x, mean, var, weight, bias, residual, eps, activation, dims, center
        )
    else:
        stats = Statistics(reference.widen(mean), reference.widen(var))
        gradients = reference.backward(dy, x, stats, weight, bias, residual, eps, activation, dims, center)
    return tuple(x.new_empty(0) if gradient is None else gradient for gradient in gradients)


def _fake_normalize(
    x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, dims: Dims, *_: object
) -> tuple[Tensor, Tensor, Tensor]:
    mean = reference.widen(x.new_empty(())).new_empty(_reduced(x, dims))
    return torch.empty_like(x), mean, torch.empty_like(mean)


def _fake_backward(
    dy: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *_: object
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(0) if t is None else torch.empty_like(t) for t in (x, weight, bias, residual))


def _reduced(x: Tensor, dims: Dims) -> list[int]:
    axes = {d % x.ndim for d in dims}
    return [1 if axis in axes else size for axis, size in enumerate(x.shape)]


def _save_normalize(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, residual, ctx.dims, ctx.eps, ctx.activation, ctx.center = inputs
    ctx.save_for_backward(x, output[1], output[2], weight, bias, residual)


def _save_standardize(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, mean, var, weight, bias, residual, ctx.eps, ctx.activation = inputs
    ctx.dims, ctx.center = None, True
    ctx.save_for_backward(x, mean, var, weight, bias, residual)


def _gradients(ctx: Any, dy: Tensor) -> list[_Maybe]:
    """The gradients with respect to x, weight, bias and residual; differentiable where autograd asks for that."""
    x, mean, var, weight, bias, residual = ctx.saved_tensors
    tensors = (x, weight, bias, residual)
    if torch.is_grad_enabled():  # create_graph=True: the same formula in plain PyTorch, statistics included
        stats = Statistics(mean, var) if ctx.dims is None else reference.statistics(x, ctx.dims, ctx.center)
        stats = Statistics(reference.widen(stats.mean), reference.widen(stats.var))
        gradients: tuple[_Maybe, ...] = reference.backward(
            dy, x, stats, weight, bias, residual, ctx.eps, ctx.activation, ctx.dims, ctx.center
        )
    else:
        gradients = torch.ops.levelhead.normalize_backward(
            dy, x, mean, var, weight, bias, residual, ctx.eps, ctx.activation, ctx.dims, ctx.center
        )
    return [None if t is None else gradient for t, gradient in zip(tensors, gradients, strict=True)]


def _normalize_gradients(ctx: Any, dy: Tensor, *_: _Maybe) -> tuple[_Maybe, ...]:
    return (*_gradients(ctx, dy), None, None, None, None)


def _standardize_gradients(ctx: Any, dy: Tensor) -> tuple[_Maybe, ...]:
    dx, *parameters = _gradients(ctx, dy)
    return (dx, None, None, *parameters, None, None)


for _name, _kernel, _fake in (
    ("normalize", _normalize, _fake_normalize),
    ("standardize", _standardize, lambda x, *_: torch.empty_like(x)),
    ("normalize_backward", _normalize_backward, _fake_backward),
):
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"levelhead::{_name}", _fake, lib=_library)
for _name, _backward, _save in (
    ("normalize", _normalize_gradients, _save_normalize),
    ("standardize", _standardize_gradients, _save_standardize),
):
    torch.library.register_autograd(f"levelhead::{_name}", _backward, setup_context=_save, lib=_library)
