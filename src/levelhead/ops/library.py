"""The only user of torch.library: schemas, fake kernels, gradients; and the table of backends.

Two operators serve every normalizer, because all of them are one formula (see ``reference``):

- ``levelhead::normalize`` takes the statistics from ``x`` itself and returns them;
- ``levelhead::standardize`` is given them (batch and instance norm in eval mode).

Other files add theirs with ``register``. What a ``Norm`` says comes as the last arguments, one by one.
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

from levelhead.ops import cpu, reference, spec, triton
from levelhead.ops.spec import Norm

_Maybe = Tensor | None
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

    forward: Callable[..., tuple[Tensor, Tensor] | None]
    backward: Callable[..., tuple[_Maybe, ...] | None]


def kernels_for(x: Tensor) -> Kernels:
    """The kernels to ask first: ``cpu`` or ``triton``."""
    if FORCED == "triton" or (FORCED is None and x.is_cuda):
        return triton
    return cpu


@functools.cache
def _say_once(why: str) -> None:
    warnings.warn(f"levelhead runs its slow reference: {why}", RuntimeWarning, stacklevel=4)


def _fall_back(x: Tensor, norm: Norm) -> None:
    """Before the reference: says once that there are no kernels, or refuses what forced ones did not serve.

    An empty tensor has no work in it.
    """
    if FORCED is None:
        backend_for(x)
    elif x.numel():
        raise RuntimeError(
            f"LEVELHEAD_BACKEND={FORCED} cannot serve a {x.dtype} of shape {tuple(x.shape)} on {x.device} with {norm};"
            " unset it, or use reference"
        )


def forward(
    x: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    norm: Norm,
    stats: _Maybe = None,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor]:
    """The result and the statistics, by the backend for ``x``; autograd does not see it."""
    if FORCED != "reference":
        served = kernels_for(x).forward(x, weight, bias, residual, norm, stats, overwrite)
        if served is not None:
            return served
        _fall_back(x, norm)
    if stats is None:
        stats = reference.statistics(x, norm)[:2]
    return spec.back(reference.forward(x, weight, bias, residual, norm, stats), x, norm), stats


def backward(
    dy: Tensor, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, stats: Tensor
) -> tuple[_Maybe, ...]:
    """The gradients of x, weight, bias and residual, None for what is None, by the backend for ``x``."""
    if FORCED != "reference":
        served = kernels_for(x).backward(dy, x, weight, bias, residual, norm, stats)
        if served is not None:
            return served
        _fall_back(x, norm)
    dx, *others = reference.backward(dy, x, weight, bias, residual, norm, stats)
    return (spec.back(dx, x, norm), *others)


def normalize(
    x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, stats: _Maybe = None
) -> tuple[Tensor, Tensor]:
    """Normalize ``x`` by its own statistics, or by those given, which are constants to the gradient.

    Returns the result, and mean and biased variance, stacked, each of ``norm.shape``.
    """
    if eager(x, residual):  # without torch.library's machinery, which costs more than a small input's work
        if not differentiated(x, weight, bias, residual):
            return forward(x, weight, bias, residual, norm, stats)
        held = [] if stats is None else [stats]
        y = _apply(x, weight, bias, residual, norm, held)
        return y, held[0]
    if transformed():
        if stats is None:
            stats = reference.statistics(x, norm)[:2]
        return reference.forward(x, weight, bias, residual, norm, stats), stats
    if stats is not None:
        return torch.ops.levelhead.standardize(x, stats, weight, bias, residual, *norm), stats
    y, stats = torch.ops.levelhead.normalize(x, weight, bias, residual, *norm)
    return y, cast(Tensor, stats)


def transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which see through plain PyTorch only."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def eager(x: Tensor, residual: _Maybe = None) -> bool:
    """Whether plain tensors are calculated with at once: nothing compiles, traces, transforms or wraps."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in _PLAIN
        and (residual is None or (type(residual) in _PLAIN and not residual.is_neg()))
        and not x.is_neg()  # the dispatcher negates the values that the kernels read
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._get_tracing_state() is None
        and not transformed()
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


class _Norm(torch.autograd.Function):
    """``held``: the statistics that are given, or a list to put those into that are taken."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, held: list[Tensor]
    ) -> Tensor:
        y, stats = forward(x, weight, bias, residual, norm, held[0] if held else None)
        if not held:
            held.append(stats)
        _keep(ctx, x, weight, bias, residual, norm, stats)
        return y.clone() if y._is_view() else y  # the reference may give one, which nobody may change in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[_Maybe, ...]:
        return (*_gradients(ctx, gradients[0], eager(gradients[0])), None, None)


#: ``Function.apply`` less its question whether a transform of torch.func is at work: ``eager`` has answered it.
_apply: Callable[..., Any] = super(torch.autograd.Function, _Norm).apply


def _keep(ctx: Any, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, stats: Tensor) -> None:
    ctx.norm = norm
    ctx.added = residual is not None and norm.activation == ""  # then its gradient is dy, and nobody needs its value
    ctx.save_for_backward(x, weight, bias, None if ctx.added else residual, stats)


def _gradients(ctx: Any, dy: Tensor, direct: bool = False) -> tuple[_Maybe, ...]:
    """The gradients with respect to x, weight, bias and residual; differentiable where autograd asks for that."""
    x, weight, bias, residual, stats = ctx.saved_tensors
    norm: Norm = ctx.norm
    if torch.is_grad_enabled():  # create_graph=True: the same formula in plain PyTorch, statistics included
        stats = stats if norm.over == "given" else reference.statistics(x, norm)
        gradients: tuple[_Maybe, ...] = reference.backward(dy, x, weight, bias, residual, norm, stats)
    elif direct:
        gradients = backward(dy, x, weight, bias, residual, norm, stats)
    else:
        gradients = torch.ops.levelhead.normalize_backward(dy, x, stats, weight, bias, residual, *norm)
        tensors = (x, weight, bias, residual)
        gradients = tuple(None if t is None else g for t, g in zip(tensors, gradients, strict=True))
    return (*gradients[:3], dy) if ctx.added else gradients


_library = torch.library.Library("levelhead", "DEF")
_PARAMETERS = "Tensor? weight, Tensor? bias, Tensor? residual"
#: The fields of a ``Norm``.
NORM = "str over, SymInt number, float eps, str activation, bool center, bool masked"


def _normalize(x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *norm: Any) -> tuple[Tensor, Tensor]:
    return forward(x, weight, bias, residual, Norm(*norm))


def _standardize(x: Tensor, stats: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *norm: Any) -> Tensor:
    return forward(x, weight, bias, residual, Norm(*norm), stats)[0]


# The backward pass as an operator of its own, so that a compiled graph holds one call.
def _normalize_backward(
    dy: Tensor, x: Tensor, stats: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *norm: Any
) -> tuple[Tensor, ...]:
    gradients = backward(dy, x, weight, bias, residual, Norm(*norm), stats)
    return tuple(x.new_empty(0) if gradient is None else gradient for gradient in gradients)


def _fake_normalize(x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *norm: Any) -> tuple[Tensor, Tensor]:
    given = Norm(*norm)
    return spec.result(x, given), reference.widen(x.new_empty(())).new_empty((2, *given.shape(x.shape)))


def _fake_backward(
    dy: Tensor, x: Tensor, stats: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *norm: Any
) -> tuple[Tensor, ...]:
    return empty_gradients(x, weight, bias, residual, Norm(*norm))


def empty_gradients(x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm) -> tuple[Tensor, ...]:
    """What the gradients of x, weight, bias and residual lie like; of no element for what is None."""
    others = (x.new_empty(0) if t is None else torch.empty_like(t) for t in (weight, bias, residual))
    return (spec.result(x, norm), *others)


def _save_normalize(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, residual, *norm = inputs
    _keep(ctx, x, weight, bias, residual, Norm(*norm), output[1])


def _save_standardize(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, stats, weight, bias, residual, *norm = inputs
    _keep(ctx, x, weight, bias, residual, Norm(*norm), stats)


def _normalize_gradients(ctx: Any, dy: Tensor, *_: _Maybe) -> tuple[_Maybe, ...]:
    return (*_gradients(ctx, dy), *[None] * len(Norm._fields))


def _standardize_gradients(ctx: Any, dy: Tensor) -> tuple[_Maybe, ...]:
    dx, *others = _gradients(ctx, dy)
    return (dx, None, *others, *[None] * len(Norm._fields))


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


register(
    "normalize",
    f"(Tensor x, {_PARAMETERS}, {NORM}) -> (Tensor y, Tensor stats)",
    _normalize,
    _fake_normalize,
    _normalize_gradients,
    _save_normalize,
    seen_through=True,
)
register(
    "standardize",
    f"(Tensor x, Tensor stats, {_PARAMETERS}, {NORM}) -> Tensor",
    _standardize,
    lambda x, *_: torch.empty_like(x),
    _standardize_gradients,
    _save_standardize,
    seen_through=True,
)
register(
    "normalize_backward",
    f"(Tensor dy, Tensor x, Tensor stats, {_PARAMETERS}, {NORM})"
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dresidual)",
    _normalize_backward,
    _fake_backward,
    seen_through=True,
)
