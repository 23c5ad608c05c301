"""What levelhead's modules have beyond their namesakes."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.batchnorm import _NormBase

from levelhead import kinds, ops
from levelhead.nn.freezing import Freezable
from levelhead.ops import reference


def is_foreign(x: Any) -> bool:
    """Whether what comes is no plain tensor.

    It is ``torch.fx``'s stand-in, of a class that says itself what an operator of PyTorch does (``DTensor``,
    ``MaskedTensor``), or no tensor at all.
    """
    kind = type(x)
    if kind is Tensor or kind is nn.Parameter:
        return False
    if not isinstance(x, Tensor) or kind.__module__.startswith(("torch._subclasses", "torch.nested")):
        return not isinstance(x, Tensor)  # the compiler's own, and those whose values we know
    function = getattr(kind.__torch_function__, "__func__", None)  # None: switched off
    inherited = function is None or function is Tensor.__torch_function__.__func__  # type: ignore[attr-defined]
    return not inherited or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def recorded(module: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """What becomes of a call with one: ``torch.fx`` records the module as one node, as it does with ``torch.nn``'s."""
    if not isinstance(args[0], Proxy):
        return _by_namesake(module, *args, **kwargs)
    tracer: Any = args[0].tracer
    return cast(Tensor, tracer.create_proxy("call_module", tracer.path_of_module(module), args, kwargs))


def _by_namesake(
    module: Any, x: Tensor, residual: Tensor | None = None, *, activation: str | None = None, **counted: Any
) -> Tensor:
    """A ``DTensor`` knows of PyTorch's operators how they are sharded, at every size; of ours it does not."""
    kept = module.training and (getattr(module, "policy", None) is not None or not getattr(module, "unbiased", True))
    if kept or any(value is not None for value in counted.values()):
        raise NotImplementedError(
            f"a {type(x).__name__} takes no mask=, lengths= or policy of running estimates here; pass plain tensors, as"
            " .to_local() gives of a DTensor"
        )
    kind = kinds.intended(module)
    assert kind is not None
    y: Tensor = kind.base.forward(module, x)
    y = y if residual is None else y + residual
    return reference.ACTIVATIONS[activation or getattr(module, "activation", None) or ""].value(y)


class Unscripted(nn.Module):
    """A mixin for every layer of ours."""

    def __prepare_scriptable__(self) -> nn.Module:
        raise NotImplementedError(
            f"torch.jit.script does not know levelhead's {type(self).__name__}; script PyTorch's layers:"
            " torch.jit.script(lh.nn.unconvert(copy.deepcopy(model)))"
        )


class Fused(Unscripted):
    """A mixin for ``y = activation(norm(x) + residual)``.

    The extras are class attributes, so that a module that was made by ``torch.nn``, or unpickled from an older
    version, has them too.
    """

    activation: str | None = None

    def __init__(self, *args: Any, activation: str | None = None, **kwargs: Any) -> None:
        ops.check_activation(activation)
        super().__init__(*args, **kwargs)
        if activation is not None:
            self.activation = activation

    def extra_repr(self) -> str:
        """The namesake's arguments and the extras that are set."""
        own = "" if self.activation is None else f", activation={self.activation!r}"
        return super().extra_repr() + own


class Tracked(Freezable, Fused, _NormBase):
    """A mixin for modules that keep running estimates: ``unbiased`` decides which variance they keep.

    Estimates in 16 bits stand still as soon as a step is less than half of their last digit (in bfloat16, batches of
    the constant 100 would end at 96). What each loses in rounding is kept beside it, in buffers that no state_dict
    holds.
    """

    unbiased: bool = True
    _mean_rest: Tensor
    _var_rest: Tensor

    def __init__(self, *args: Any, unbiased: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not unbiased:
            self.unbiased = unbiased

    def _estimates(self) -> tuple[Tensor | None, Tensor | None]:
        """The running estimates to update: themselves, or in float32 where they have 16 bits; see ``_kept``."""
        mean, var = self.running_mean, self.running_var
        if mean is None or var is None or mean.dtype.itemsize != 2:
            return mean, var
        if getattr(self, "_mean_rest", None) is None:
            if torch.compiler.is_compiling():  # a graph can hold no new buffers
                return mean, var
            self._forget_rests()
        return mean.float() + self._mean_rest, var.float() + self._var_rest

    @torch.no_grad()
    def _kept(self, mean: Tensor | None, var: Tensor | None) -> None:
        """Write what ``_estimates`` gave, updated, into the buffers."""
        if mean is self.running_mean or mean is None or var is None:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        for wide, narrow, rest in ((mean, self.running_mean, self._mean_rest), (var, self.running_var, self._var_rest)):
            narrow.copy_(wide)
            rest.copy_(wide - narrow.float())

    def _forget_rests(self) -> None:
        for name, estimate in (("_mean_rest", self.running_mean), ("_var_rest", self.running_var)):
            self.register_buffer(name, None if estimate is None else torch.zeros_like(estimate), persistent=False)

    def reset_running_stats(self) -> None:
        """Back to mean 0, variance 1 and nothing counted."""
        super().reset_running_stats()
        if getattr(self, "_mean_rest", None) is not None:
            self._forget_rests()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        count = prefix + "num_batches_tracked"
        metadata, strict = args[:2]
        refused = strict and metadata.get("version", 1) >= 2
        absent = prefix + "running_mean" in state_dict and count not in state_dict
        if self.num_batches_tracked is not None and absent and not refused:
            warnings.warn(
                f"the state_dict has no {count}, as those from before PyTorch 0.4.1: the layer keeps its count of"
                f" {int(self.num_batches_tracked)} batches",
                stacklevel=2,
            )
        if getattr(self, "_mean_rest", None) is not None:
            self._forget_rests()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """The namesake's arguments and the extras that are set."""
        return super().extra_repr() + ("" if self.unbiased else ", unbiased=False")
