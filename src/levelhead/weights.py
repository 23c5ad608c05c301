"""The parameters of a model by their role, and its weights as the layers use them: their units, what they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from levelhead import kinds
from levelhead.evaluation import evaluation

#: Modules with one weight that multiplies their input.
LAYERS = (kinds.Affine, nn.Bilinear)
#: Names of learned scales and shifts in modules of other people.
_SCALES = ("gamma", "beta", "scale", "layer_scale", "lambda", "alpha", "gate")

_HOOKS: tuple[Any, ...] = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter of a model; or a tensor that a module calculates from parameters, and uses as if it were one.

    Args:
        name: of the tensor in the model, as ``0.weight``.
        parameters: by name: the one, or those that it is calculated from.
        module: what holds it, where that is known.
        source: what calculates it: the list of a parametrization, or the hook of ``weight_norm``, ``spectral_norm``
            or pruning; None of a parameter.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    module: nn.Module | None = None
    source: Any = None

    @property
    def key(self) -> str:
        """The tensor's name in its module."""
        return self.name.rpartition(".")[2]

    @property
    def direct(self) -> bool:
        """Whether ``units`` is the parameter itself, or a view of it."""
        return self.source is None and self._groups() < 2

    def value(self) -> Tensor:
        """The tensor that the layer uses, with its gradient."""
        if self.source is None:
            (parameter,) = self.parameters.values()
            return parameter
        source: Any = self.source
        if isinstance(source, prune.BasePruningMethod):
            value: Tensor = source.apply_mask(self.module)
        elif isinstance(source, _HOOKS):
            value = source.compute_weight(self.module, *([False] if isinstance(source, SpectralNorm) else []))
        else:
            with evaluation(source):  # spectral_norm would take a step of its power iteration
                value = source()
        return value

    def units(self) -> Tensor:
        """``value`` with the output units in dimension 0: a transposed convolution keeps them in 1, and by group."""
        return self._regrouped(self.value())

    @torch.no_grad()
    def change_(self, act: Callable[[Tensor], object], what: str) -> None:
        """Have a function change ``units`` in place, and the layer use the result.

        Args:
            act: what is done.
            what: the name of what is done, for the message.

        Raises:
            ValueError: the weight is calculated from others in a way that cannot give this result; nothing is changed.
        """
        old = self.units()
        if self.direct:
            act(old)
            return
        new = old.clone()
        act(new)
        if not torch.equal(new, old):
            self._assign(self._regrouped(new), what)

    @torch.no_grad()
    def fill_(self, draw: Callable[[Tensor], object], what: str) -> None:
        """Have a function fill ``value``, and the layer use the result; arguments and errors as ``change_``.

        Of a pruned tensor, what is left is larger by the root of what there was, so that the sum of squares stays.
        """
        if self.source is None:
            draw(self.value())
            return
        new = torch.empty_like(self.value(), memory_format=torch.contiguous_format)
        draw(new)
        if isinstance(self.source, prune.BasePruningMethod):
            mask = getattr(self.module, f"{self.key}_mask")
            new *= mask * (mask.numel() / mask.sum().clamp(min=1)).sqrt()
        self._assign(new, what)

    def _groups(self) -> int:
        """Of a transposed convolution's kernel; 0 of anything else."""
        if not isinstance(self.module, _ConvNd) or not self.module.transposed or self.key != "weight":
            return 0
        return self.module.groups

    def _regrouped(self, kernel: Tensor) -> Tensor:
        """Inputs and outputs exchanged, within each group, of a transposed convolution's kernel; its own inverse."""
        groups = self._groups()
        if groups < 2:
            return kernel.transpose(0, 1) if groups else kernel
        by_group: Tensor = kernel.unflatten(0, (groups, -1))
        return by_group.transpose(1, 2).flatten(0, 1)

    def _assign(self, value: Tensor, what: str) -> None:
        if self.source is None:
            self.value().copy_(value)
            return
        before = {name: tensor.clone() for name, tensor in self._state().items()}
        failure = ""
        try:
            self._invert(value.contiguous())
        except (RuntimeError, NotImplementedError, ValueError) as error:
            failure = f" ({error})"
        got = self.value()
        far = (got - value).abs().max() if value.numel() else torch.zeros(())
        if failure or not bool(far <= 1e-4 * value.abs().max() + 1e-12):  # not where it is NaN
            for name, tensor in self._state().items():
                tensor.copy_(before[name])
            raise ValueError(
                f"the tensor {self.name!r} is calculated from {', '.join(self.parameters)} by {self._by()}, which "
                f"cannot give the result of {what}{failure}; do it before that is registered, or leave the tensor out"
            )
        if isinstance(self.source, _HOOKS):
            setattr(self.module, self.key, got)  # else the hook does it in the next forward pass

    def _by(self) -> str:
        parts = self.source if isinstance(self.source, parametrize.ParametrizationList) else [self.source]
        return ", ".join(type(part).__name__.lstrip("_") for part in parts)

    def _state(self) -> dict[str, Tensor]:
        """Everything that an assignment may change."""
        holder = self.source if isinstance(self.source, nn.Module) else self.module
        assert holder is not None
        return {name: t.detach() for name, t in [*holder.named_parameters(), *holder.named_buffers()]}

    def _invert(self, value: Tensor) -> None:
        """Set what the tensor is calculated from."""
        source, originals = self.source, list(self.parameters.values())
        norm = source[0] if isinstance(source, parametrize.ParametrizationList) and len(source) == 1 else source
        if isinstance(norm, WeightNorm | _WeightNorm):
            g, v = originals
            length = torch.norm_except_dim(value, 2, norm.dim)
            g.copy_(length)
            v.copy_(value.where(length > 0, v))  # a unit of zeros keeps its direction
        elif isinstance(source, prune.BasePruningMethod):
            mask = getattr(self.module, f"{self.key}_mask").bool()
            originals[0].copy_(value.where(mask, originals[0]))
        elif isinstance(source, SpectralNorm):
            originals[0].copy_(value)
        else:
            source.right_inverse(value)


def weights(model: nn.Module) -> Iterator[Weight]:
    """Every parameter of a model once, and those that a tensor is calculated from together, as that tensor."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for key in (*derived(module), *(key for key, _ in module.named_parameters(recurse=False))):
            one = weight_of(module, key, prefix)
            new = {id(parameter) for parameter in one.parameters.values()}
            if new and not new & seen:
                seen |= new
                yield one


def weight_of(module: nn.Module, key: str = "weight", prefix: str = "") -> Weight:
    """A module's tensor of one name, and what it is calculated from.

    Args:
        module: what holds it.
        key: its name there.
        prefix: the module's name in its model.
    """
    dot, source = f"{prefix}." if prefix else "", derived(module).get(key)
    own = dict(module.named_parameters(recurse=False))
    if source is None:
        names = [key]
    elif isinstance(source, parametrize.ParametrizationList):
        own = {f"parametrizations.{key}.{name}": parameter for name, parameter in source.named_parameters()}
        names = list(own)
    else:
        names = [name for end in ("_g", "_v", "_orig") if (name := key + end) in own]
    return Weight(dot + key, {dot + name: own[name] for name in names}, module, source)


def derived(module: nn.Module) -> dict[str, Any]:
    """By name, what calculates a module's tensors from others; see ``Weight.source``."""
    found: dict[str, Any] = {}
    if parametrize.is_parametrized(module):
        found |= dict(module.parametrizations.items())  # type: ignore[union-attr, operator]
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, _HOOKS):
            found[hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name] = hook
    return found


def is_weight(weight: Weight) -> bool:
    """Whether it multiplies inputs: it has two and more dimensions, is no normalizer's, and no scale or shift.

    The parameters of a registered kind are what it says; those of PyTorch's other layers are judged by their
    dimensions. In a module that is not known, a scale or shift is what is called so, or has three and more dimensions
    and only one that is longer than 1 (LayerScale's (C, 1, 1)).
    """
    kind = kinds.of(weight.module)
    if kind is not None and weight.key in kind.roles:
        return kind.roles[weight.key] == "weight"
    if any(map(is_lazy, weight.parameters.values())):
        return True
    module, shape = weight.module, weight.value().shape
    if len(shape) < 2 or isinstance(module, kinds.Norm):
        return False
    if module is None or isinstance(module, (*LAYERS, nn.RNNBase, nn.Embedding, nn.EmbeddingBag)):
        return True
    return weight.key not in _SCALES and not (len(shape) > 2 and sum(size > 1 for size in shape) <= 1)
