"""The only user of torch.library: schemas, fake kernels, gradients; and the table of backends.

Two operators serve every normalizer, because all of them are one formula (see ``reference``):

- ``levelhead::normalize`` takes the statistics from ``x`` itself, over ``dims``, and returns them;
- ``levelhead::standardize`` is given them (batch and instance norm in eval mode).

Other files add theirs with ``register``.

Parameters come in a shape that broadcasts against ``x``; ``dims`` are not negative. An optional tensor that is absent
is None, an absent activation is "".
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor
from torch._subclasses.functional_tensor import FunctionalTensorMode
from torch.autograd import forward_ad

from levelhead.ops import cpu, reference, triton
from levelhead.ops.reference import Dims, Statistics

Backend = Literal["torch", "cpu", "triton", "reference"]

_KNOWN = ("reference", "cpu", "triton")


def backends() -> dict[str, str]:
    """What is present: by backend's name, ``"present"`` or why it is not.

    ``LEVELHEAD_BACKEND`` forces one of them; it is read once, at import.
    """
    return {
        "reference": "present",
        "cpu": "present" if cpu.PRESENT else cpu.ABSENT,
        "triton": triton.absent() or "present",
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


def exporting() -> bool:
    """Whether a program is recorded that is to run where levelhead is not installed: then PyTorch's operators are."""
    if FORCED is not None:
        return False
    # The older ONNX exporter traces; asked for first, since the question itself is slow.
    return torch.compiler.is_exporting() or (
        torch._C._get_tracing_state() is not None and torch.onnx.is_in_onnx_export()
    )


def backend_for(x: Tensor) -> Backend:
    """Which backend computes on ``x``: the table of dispatch. It does not look at the size.

    ==================================  ===========  =====================================================
    when                                 backend      why
    ==================================  ===========  =====================================================
    ``LEVELHEAD_BACKEND`` is set         that one     it never falls back silently
    exporting (torch.export, ONNX)       torch        the program runs where levelhead is not installed
    on the CPU, kernels compiled         cpu          as exact, and the fastest
    on a GPU, Triton present             triton       as exact, and the fastest
    everything else                      reference    exact at any offset and scale
    ==================================  ===========  =====================================================

    What the kernels cannot do goes to the reference, or is refused where they are forced.
    """
    if FORCED is not None:
        return FORCED
    if exporting():
        return "torch"
    if x.device.type == "cuda":
        if not triton.absent():
            return "triton"
        _say_once(triton.absent())
    elif x.device.type == "cpu":
        if cpu.PRESENT:
            return "cpu"
        _say_once(cpu.ABSENT)
    return "reference"


class Kernels(Protocol):
    """What the modules ``cpu`` and ``triton`` have alike; they return None for what they cannot serve."""

    normalize: Callable[..., tuple[Tensor, Tensor, Tensor] | None]
    standardize: Callable[..., Tensor | None]
    normalize_backward: Callable[..., tuple[Tensor | None, ...] | None]


def kernels_for(x: Tensor) -> Kernels:
    """The kernels to ask first: ``cpu`` or ``triton``."""
    if FORCED == "triton" or (FORCED is None and x.device.type == "cuda"):
        return triton
    return cpu


@functools.cache
def _say_once(why: str) -> None:
    warnings.warn(f"levelhead runs its slow reference: {why}", RuntimeWarning, stacklevel=4)


def _fall_back(x: Tensor, dims: Dims | None) -> None:
    """Before the reference: says once that there are no kernels, or refuses what forced ones did not serve.

    An empty tensor has no work in it.
    """
    if FORCED is None:
        backend_for(x)
    elif x.numel():
        raise RuntimeError(
            f"LEVELHEAD_BACKEND={FORCED} cannot serve a {x.dtype} of shape {tuple(x.shape)} on {x.device}, normalized"
            f" over dimensions {dims}; unset it, or use reference"
        )


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
    if transformed():
        stats = reference.statistics(x, dims, center)
        return reference.forward(x, stats, weight, bias, residual, eps, activation), *stats
    if plain(x) and (residual is None or plain(residual)):
        if not differentiated(x, weight, bias, residual):
            return _normalize(x, weight, bias, residual, dims, eps, activation, center)
        output = _direct(x, weight, bias, residual, dims, eps, activation, center)
        return cast(tuple[Tensor, Tensor, Tensor], output)
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
    if transformed():
        stats = Statistics(reference.widen(mean), reference.widen(var))
        return reference.forward(x, stats, weight, bias, residual, eps, activation)
    if plain(x) and (residual is None or plain(residual)):
        if not differentiated(x, weight, bias, residual):
            return _standardize(x, mean, var, weight, bias, residual, eps, activation)
        given = _direct_given(x, mean, var, weight, bias, residual, eps, activation)
        return cast(Tensor, given)
    result: Tensor = torch.ops.levelhead.standardize(x, mean, var, weight, bias, residual, eps, activation)
    return result


def transformed() -> bool:
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
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    if FORCED != "reference":
        kernels = kernels_for(x)
        served = kernels.normalize(x, weight, bias, residual, dims, eps, activation, center, overwrite)
        if served is not None:
            return served
        _fall_back(x, dims)
    stats = reference.statistics(x, dims, center)
    return reference.forward(x, stats, weight, bias, residual, eps, activation), *stats


def _standardize(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    eps: float,
    activation: str,
    overwrite: bool = False,
) -> Tensor:
    if FORCED != "reference":
        kernels = kernels_for(x)
        served = kernels.standardize(x, mean, var, weight, bias, residual, eps, activation, overwrite)
        if served is not None:
            return served
        _fall_back(x, None)
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
    gradients = _backward(dy, x, mean, var, weight, bias, residual, eps, activation, dims, center)
    return tuple(x.new_empty(0) if gradient is None else gradient for gradient in gradients)


def _backward(
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
) -> tuple[_Maybe, ...]:
    if FORCED != "reference":
        served = kernels_for(x).normalize_backward(
            dy, x, mean, var, weight, bias, residual, eps, activation, dims, center
        )
        if served is not None:
            return served
        _fall_back(x, dims)
    stats = Statistics(reference.widen(mean), reference.widen(var))
    return reference.backward(dy, x, stats, weight, bias, residual, eps, activation, dims, center)


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
    _keep(ctx, x, output[1], output[2], weight, bias, residual)


def _save_standardize(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, mean, var, weight, bias, residual, ctx.eps, ctx.activation = inputs
    ctx.dims, ctx.center = None, True
    _keep(ctx, x, mean, var, weight, bias, residual)


def _keep(ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe) -> None:
    ctx.added = residual is not None and ctx.activation == ""  # then its gradient is dy, and nobody needs its value
    ctx.save_for_backward(x, mean, var, weight, bias, None if ctx.added else residual)


def _gradients(ctx: Any, dy: Tensor, direct: bool = False) -> list[_Maybe]:
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
        kernel = _backward if direct and plain(dy) else torch.ops.levelhead.normalize_backward
        gradients = kernel(dy, x, mean, var, weight, bias, residual, ctx.eps, ctx.activation, ctx.dims, ctx.center)
    dx, dweight, dbias, dresidual = (None if t is None else g for t, g in zip(tensors, gradients, strict=True))
    return [dx, dweight, dbias, dy if ctx.added else dresidual]


class _Direct(torch.autograd.Function):
    """``levelhead::normalize`` without the machinery of torch.library, which costs more than a medium input's work."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        output = _normalize(*inputs)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        _save_normalize(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[_Maybe, ...]:
        (dy, *_) = gradients
        return (*((None,) * 4 if dy is None else _gradients(ctx, dy, direct=True)), None, None, None, None)


class _DirectGiven(torch.autograd.Function):
    """``levelhead::standardize`` in the same way."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _standardize(*inputs)
        _save_standardize(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[_Maybe, ...]:
        dx, *parameters = _gradients(ctx, gradients[0], direct=True)
        return (dx, None, None, *parameters, None, None)


#: ``Function.apply`` less its question whether a transform of torch.func is at work: ``transformed`` has answered it.
_direct: Callable[..., Any] = super(torch.autograd.Function, _Direct).apply
_direct_given: Callable[..., Any] = super(torch.autograd.Function, _DirectGiven).apply


def plain(x: Tensor) -> bool:
    """Whether this is eager execution on plain tensors: nothing compiles, traces or wraps."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in _PLAIN
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._get_tracing_state() is None
        and not x.is_neg()  # the dispatcher negates the values that the kernels read
    )


def differentiated(*tensors: _Maybe) -> bool:
    """Whether autograd must record what is done to these."""
    if not torch.is_grad_enabled():
        return False
    for t in tensors:  # noqa: SIM110 - `any` over a generator takes three times as long, and every call asks this
        if t is not None and t.requires_grad:
            return True
    return False


_PLAIN = (Tensor, torch.nn.Parameter)


def _normalize_gradients(ctx: Any, dy: Tensor, *_: _Maybe) -> tuple[_Maybe, ...]:
    return (*_gradients(ctx, dy), None, None, None, None)


def _standardize_gradients(ctx: Any, dy: Tensor) -> tuple[_Maybe, ...]:
    dx, *parameters = _gradients(ctx, dy)
    return (dx, None, None, *parameters, None, None)


def _see_through(name: str, kernel: Callable[..., Any]) -> None:
    """Let torch.compile trace the operator into the Triton kernels that it starts on a GPU, and plan them itself.

    This is what ``torch.library.triton_op`` does for an operator of its own, where ours have other kernels besides:
    while AOTAutograd makes tensors functional, the kernel is called on the traced tensors, and ``launch.start`` puts
    ``wrap_triton`` around what it starts. On other devices, with sizes that are not known yet, in the interpreter and
    in exported programs the operator stays one opaque call.
    """

    def trace(mode: Any, op: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        tensors = [t for t in args if isinstance(t, Tensor)]
        known = all(isinstance(size, int) for t in tensors for size in (*t.shape, *t.stride()))
        traceable = known and not triton.interpreted() and not torch.compiler.is_exporting()
        if traceable and kernels_for(tensors[0]) is triton:
            with mode:
                return kernel(*args, **(kwargs or {}))
        return mode.__torch_dispatch__(op, types, args, kwargs)

    torch.library.register_torch_dispatch(f"levelhead::{name}", FunctionalTensorMode, trace, lib=_library)


for _name, _kernel, _fake in (
    ("normalize", _normalize, _fake_normalize),
    ("standardize", _standardize, lambda x, *_: torch.empty_like(x)),
    ("normalize_backward", _normalize_backward, _fake_backward),
):
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"levelhead::{_name}", _fake, lib=_library)
    _see_through(_name, _kernel)
for _name, _formula, _setup in (
    ("normalize", _normalize_gradients, _save_normalize),
    ("standardize", _standardize_gradients, _save_standardize),
):
    torch.library.register_autograd(f"levelhead::{_name}", _formula, setup_context=_setup, lib=_library)


def register(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    gradients: Callable[..., Any] | None = None,
    save: Callable[..., None] | None = None,
    seen_through: bool = False,
) -> None:
    """Add the operator ``levelhead::name``: its schema, kernel, fake kernel and, if any, formula of the gradients.

    ``seen_through``: on a GPU torch.compile traces the kernel, which starts Triton's.
    """
    _library.define(name + schema)
    _library.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"levelhead::{name}", fake, lib=_library)
    if seen_through:
        _see_through(name, kernel)
    if gradients is not None:
        torch.library.register_autograd(f"levelhead::{name}", gradients, setup_context=save, lib=_library)
