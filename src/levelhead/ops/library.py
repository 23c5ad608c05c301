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
from typing import Any, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch._subclasses.functional_tensor import FunctionalTensorMode
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from levelhead.ops import cpu, reference, spec, triton
from levelhead.ops.spec import Norm

_Maybe = Tensor | None
# Bound once: on cold caches each name on the way to a function costs as much as the function.
_modes, _tracing_state = torch._C._len_torch_dispatch_stack, torch._C._get_tracing_state
_transforms: Callable[[], bool] = torch._C._are_functorch_transforms_active
Backend = Literal["torch", "cpu", "triton", "reference"]

_KNOWN = ("reference", "cpu", "triton")
_MOST = 4096  # plans that are kept


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


@functools.cache
def _say_once(why: str) -> None:
    warnings.warn(f"levelhead runs its slow reference: {why}", RuntimeWarning, stacklevel=4)


class Plan(Protocol):
    """How a norm is calculated on tensors of one shape, layout and type."""

    @property
    def norm(self) -> Norm:
        """What is calculated."""

    @property
    def forward(self) -> Callable[..., tuple[Tensor, Tensor]]:
        """See ``cpu.Plan``."""

    @property
    def backward(self) -> Callable[..., tuple[_Maybe, ...]]:
        """See ``cpu.Plan``."""


class _Reference(NamedTuple):
    norm: Norm

    def forward(
        self,
        x: Tensor,
        weight: _Maybe,
        bias: _Maybe,
        residual: _Maybe,
        stats: _Maybe = None,
        overwrite: bool = False,
    ) -> tuple[Tensor, Tensor]:
        if stats is None:
            stats = reference.statistics(x, self.norm)[:2]
        y = spec.back(reference.forward(x, weight, bias, residual, self.norm, stats), x, self.norm)
        return y.clone() if y._is_view() else y, stats  # a view, nobody may change in place

    def backward(
        self, dy: Tensor, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, stats: Tensor
    ) -> tuple[_Maybe, ...]:
        dx, *others = reference.backward(dy, x, weight, bias, residual, self.norm, stats)
        return (spec.back(dx, x, self.norm), *others)


def kernels(x: Tensor, norm: Norm) -> Plan | None:
    """The plan of the compiled or the Triton kernels; None where they cannot serve, said once or refused if forced.

    An empty tensor has no work in it.
    """
    if FORCED == "reference":
        return None
    found: Plan | None = triton.plan(x, norm) if uses_triton(x) else cpu.plan(x, norm)
    if found is None and FORCED is None:
        backend_for(x)
    elif found is None and x.numel():
        raise RuntimeError(
            f"LEVELHEAD_BACKEND={FORCED} cannot serve a {x.dtype} of shape {tuple(x.shape)} on {x.device} with {norm};"
            " unset it, or use reference"
        )
    return found


def plan(x: Tensor, norm: Norm) -> Plan:
    """The plan by the backend for ``x``; autograd does not see what it does."""
    return kernels(x, norm) or _Reference(norm)


_KNOWN_PLANS: dict[tuple[Any, ...], Plan] = {}


def known(x: Tensor, norm_of: Callable[..., Norm], *options: Any) -> Plan:
    """The plan of the norm ``norm_of(spec.form(x), *options)``, made once for calls that are alike; where ``eager``."""
    key = (norm_of, options, x.shape, x.stride(), x.dtype, x.device, torch.get_num_threads(), FORCED)
    found = _KNOWN_PLANS.get(key)
    if found is None:
        if len(_KNOWN_PLANS) >= _MOST:
            _KNOWN_PLANS.clear()
        found = _KNOWN_PLANS[key] = plan(x, norm_of(spec.form(x), *options))
    return found


def uses_triton(x: Tensor) -> bool:
    """Whether the kernels to ask are Triton's, not the compiled ones."""
    return FORCED == "triton" or (FORCED is None and x.is_cuda)


def normalize(
    x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, stats: _Maybe = None
) -> tuple[Tensor, Tensor]:
    """Normalize ``x`` by its own statistics, or by those given, which are constants to the gradient.

    Returns the result, and mean and biased variance, stacked, each of ``norm.shape``.
    """
    if eager(x, residual):
        return direct(x, weight, bias, residual, plan(x, norm), stats)
    if transformed():
        if stats is None:
            stats = reference.statistics(x, norm)[:2]
        return reference.forward(x, weight, bias, residual, norm, stats), stats
    if stats is not None:
        return torch.ops.levelhead.standardize(x, stats, weight, bias, residual, *norm), stats
    y, stats = torch.ops.levelhead.normalize(x, weight, bias, residual, *norm)
    return y, cast(Tensor, stats)


def direct(
    x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, plan: Plan, stats: _Maybe = None
) -> tuple[Tensor, Tensor]:
    """``normalize`` where ``eager``, without torch.library's machinery, which costs more than a small input's work."""
    if not differentiated(x, weight, bias, residual):
        return plan.forward(x, weight, bias, residual, stats)
    held = [stats]
    return _apply(x, weight, bias, residual, plan, held), cast(Tensor, held[0])


def transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which see through plain PyTorch only."""
    return _transforms() or forward_ad._current_level >= 0


def eager(x: Tensor, residual: _Maybe = None) -> bool:
    """Whether plain tensors are calculated with at once: nothing compiles, traces, transforms or wraps."""
    return (
        not is_dynamo_compiling()
        and type(x) in _PLAIN
        and (residual is None or (type(residual) in _PLAIN and not residual.is_neg()))
        and not x.is_neg()  # the dispatcher negates the values that the kernels read
        and _modes() == 0
        and _tracing_state() is None
        and not _transforms()  # these two are ``transformed``, a frame less, forward and backward
        and forward_ad._current_level < 0
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
    """``held``: the statistics that are given or None, and then those that were used."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, plan: Plan, held: list[_Maybe]
    ) -> Tensor:
        y, stats = plan.forward(x, weight, bias, residual, held[0])
        held[0], ctx.plan, ctx.made_for = stats, plan, (x.stride(), x.dtype)
        _keep(ctx, x, weight, bias, residual, plan.norm, stats)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[_Maybe, ...]:
        return (*_gradients(ctx, gradients[0], eager(gradients[0])), None, None)


#: ``Function.apply`` less its question whether a transform of torch.func is at work: ``eager`` has answered it.
_apply: Callable[..., Any] = super(torch.autograd.Function, _Norm).apply


def _keep(ctx: Any, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, stats: Tensor) -> None:
    ctx.norm = norm
    ctx.added = residual is not None and norm.activation == ""  # then its gradient is dy, and nobody needs its value
    ctx.save_for_backward(x, weight, bias, None if ctx.added else residual, stats)


def _gradients(ctx: Any, dy: Tensor, plain: bool = False) -> tuple[_Maybe, ...]:
    """The gradients with respect to x, weight, bias and residual; differentiable where autograd asks for that."""
    x, weight, bias, residual, stats = ctx.saved_tensors
    norm: Norm = ctx.norm
    if torch.is_grad_enabled():  # create_graph=True: the same formula in plain PyTorch, statistics included
        stats = stats if norm.over == "given" else reference.statistics(x, norm)
        gradients: tuple[_Maybe, ...] = reference.backward(dy, x, weight, bias, residual, norm, stats)
    elif plain:
        # What hooks keep saved tensors in may give them back otherwise.
        kept = ctx.plan if ctx.made_for == (x.stride(), x.dtype) else plan(x, norm)
        gradients = kept.backward(dy, x, weight, bias, residual, stats)
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
    return plan(x, Norm(*norm)).forward(x, weight, bias, residual)


def _standardize(x: Tensor, stats: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *norm: Any) -> Tensor:
    return plan(x, Norm(*norm)).forward(x, weight, bias, residual, stats)[0]


# The backward pass as an operator of its own, so that a compiled graph holds one call.
def _normalize_backward(
    dy: Tensor, x: Tensor, stats: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *norm: Any
) -> tuple[Tensor, ...]:
    gradients = plan(x, Norm(*norm)).backward(dy, x, weight, bias, residual, stats)
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
        if traceable and uses_triton(tensors[0]):
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
