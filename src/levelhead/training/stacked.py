"""The networks that a training loop trains at once: one of any kind, or MLPs of several seeds as one network.

Everywhere here the seeds stand in front: inputs (seeds, rows, ...), outputs (seeds, outputs, rows).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from levelhead import kinds
from levelhead import nn as lh
from levelhead.regularizers import select
from levelhead.training import probes
from levelhead.training.networks import Hidden
from levelhead.training.optimizers import optimizer as make_optimizer
from levelhead.training.optimizers import penalty, regularize
from levelhead.training.recipe import Recipe

#: Values that one turn of PyTorch's vector loops takes at most; what is left over is rounded otherwise.
_TURN = 64


def stackable(recipe: Recipe) -> bool:
    """Whether the seeds of a recipe can be trained as one network: those of MLPs, but for what acts on one network.

    That is a regularizer of its own after the step (``decoupled``, ``max_norm``), or a power iteration's memory.
    """
    acts = recipe.penalty_strength > 0 and recipe.penalty_form == "decoupled"
    return recipe.network == "mlp" and not acts and recipe.max_norm is None and recipe.penalty != "spectral"


class Single:
    """One network of any kind.

    Args:
        recipe: for the optimizer and the regularizers.
        network: on its device, in its final type.
        wrap: gives what is called in training for network and optimizer (``Fabric.setup``), and the optimizer.
        autocast: the context of calls outside of training.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        wrap: Callable[..., tuple[nn.Module, Any]],
        autocast: Callable[[], Any],
    ) -> None:
        self.networks = [network]
        optimizer = make_optimizer(recipe, network)
        self.training, self.optimizer = wrap(network, optimizer)
        self._penalty = regularize(recipe, network, optimizer)
        self._autocast = autocast

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs in training, through the wrapper that synchronizes processes."""
        out: Tensor = self.training(x[0])
        return out.T[None]

    def predict(self, x: Tensor) -> Tensor:
        """Outputs without that wrapper: the shares of the processes may differ in length."""
        with self._autocast():
            out: Tensor = self.networks[0](x[0])
        return (out.float() if out.dtype in (torch.float16, torch.bfloat16) else out).T[None]

    def train(self, mode: bool = True) -> None:
        """Into training or eval mode."""
        self.training.train(mode)

    def penalty(self) -> Tensor | None:
        """What is to be added to the loss."""
        return None if self._penalty is None else self._penalty()

    def tensors(self) -> list[Tensor]:
        """Parameters and buffers, each with the seeds in front."""
        network = self.networks[0]
        return [tensor.detach()[None] for tensor in (*network.parameters(), *network.buffers())]

    def current(self, seed: int) -> nn.Module:
        """The network of a seed, as it is now."""
        return self.networks[seed]

    def load(self) -> None:
        """Take on what ``networks`` hold."""

    def gradient_norms(self) -> dict[str, Tensor]:
        """See ``probes.gradient_norms``; (seeds,) each."""
        return {name: norm[None] for name, norm in probes.gradient_norms(self.networks[0]).items()}

    def unit_input(self, rows: Tensor) -> Tensor | None:
        """See ``probes.unit_input``; (seeds, values)."""
        with self._autocast():
            unit = probes.unit_input(self.networks[0], rows[0])
        return None if unit is None else unit[None]


class Stacked:
    """The networks of a ``stackable`` recipe at several seeds, as one whose tensors have the seeds in front.

    Each seed's numbers are the same bits whichever others are trained with it.

    Args:
        recipe: for the optimizer and the penalty.
        networks: of each seed, on their device, in their final type; they follow when ``current`` asks for them.
        generators: of each seed, for its noise.
    """

    def __init__(self, recipe: Recipe, networks: Sequence[nn.Module], generators: Sequence[torch.Generator]) -> None:
        self.networks, self.generators = list(networks), generators
        self._pairs: list[tuple[Tensor, list[Tensor]]] = []
        self.model = self._stack(self.networks, generators)
        of = {id(originals[0]): stacked for stacked, originals in self._pairs}
        self.optimizer = make_optimizer(recipe, networks[0], lambda parameter: of[id(parameter)])
        self._weights = {name: of[id(layer.weight)] for name, layer in probes.layers(networks[0]).items()}
        chosen = [of[id(parameter)] for parameter in select(networks[0]).values()]
        self._penalized = [
            # A unit is a row; a penalty that looks at whole matrices is given them one by one.
            part
            for w in chosen
            for part in (w.unbind() if recipe.penalty == "orthogonal" else [w.flatten(0, 1)])
        ]
        self._term = penalty(recipe)
        self._last = [m for m in self.model.modules() if isinstance(m, _Activation)][-1:]
        self._norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs in training or eval mode."""
        out: Tensor = self.model(x.flatten(2).transpose(1, 2))
        return out

    predict = __call__

    def train(self, mode: bool = True) -> None:
        """Into training or eval mode."""
        self.model.train(mode)

    def penalty(self) -> Tensor | None:
        """What is to be added to the sum of the seeds' losses."""
        return None if self._term is None else self._term(self._penalized)

    def tensors(self) -> list[Tensor]:
        """Parameters and buffers, each with the seeds in front."""
        return [stacked.detach().view(len(self.networks), -1) for stacked, _ in self._pairs]

    @torch.no_grad()
    def current(self, seed: int) -> nn.Module:
        """The network of a seed, as it is now, in the mode that this is in."""
        for tensor, (_, originals) in zip(self.tensors(), self._pairs, strict=True):
            originals[seed].copy_(tensor[seed].view_as(originals[seed]))
        return self.networks[seed].train(self.model.training)

    def load(self) -> None:
        """Take on what ``networks`` hold."""
        for tensor, (_, originals) in zip(self.tensors(), self._pairs, strict=True):
            tensor.copy_(torch.stack([original.detach().flatten() for original in originals]))

    def gradient_norms(self) -> dict[str, Tensor]:
        """The norm of the loss' gradient with respect to the weights of each layer; (seeds,) each."""
        return {n: w.grad.flatten(1).norm(dim=1) for n, w in self._weights.items() if w.grad is not None}

    @torch.no_grad()
    def unit_input(self, rows: Tensor) -> Tensor | None:
        """As ``probes.unit_input``: (seeds, values)."""
        if not self._last or rows.shape[1] < 2:
            return None
        seen: list[Tensor] = []
        handle = self._last[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            for norm in self._norms:
                norm.training, norm.keeps = True, False
            self(rows)
        finally:
            handle.remove()
            for norm in self._norms:
                norm.training, norm.keeps = False, True
        return seen[0][:, 0]

    def _stack(self, modules: Sequence[nn.Module], generators: Sequence[torch.Generator]) -> nn.Module:
        """The modules at one place of the networks as one."""
        first = modules[0]
        pair, column = partial(self._pair, modules), (len(modules), -1, 1)
        match first:
            case nn.Linear():
                return _Linear(pair("weight"), None if first.bias is None else pair("bias", column))
            case lh.BatchNorm1d():
                return _BatchNorm(first, *(pair(name, (-1,)) for name in _BATCH_NORM))
            case lh.LayerNorm() | lh.RMSNorm() | lh.GroupNorm():
                bias = None if isinstance(first, lh.RMSNorm) else pair("bias", column)
                return _RowNorm(first, pair("weight", column), bias)
            case nn.Dropout():
                return _Dropout(first.p, generators)
            case nn.Flatten() | nn.Identity():
                return nn.Identity()
            case nn.Sequential() | Hidden():
                whole = copy.copy(first)
                whole._modules = {
                    name: self._stack([module._modules[name] for module in modules], generators)  # type: ignore[misc]
                    for name in first._modules
                }
                return whole
            case _ if isinstance(first, kinds.Activation):
                return _Activation(first)
            case _:
                raise TypeError(f"{type(first).__name__} of several seeds cannot be one module")

    def _pair(self, modules: Sequence[nn.Module], name: str, shape: tuple[int, ...] = ()) -> Any:
        """A tensor of all modules as one; in a shape of its own, where the seeds stand in front all the same."""
        originals = [getattr(module, name) for module in modules]
        stacked = torch.stack([original.detach() for original in originals])
        stacked = stacked.reshape(shape) if shape else stacked
        stacked = nn.Parameter(stacked) if isinstance(originals[0], nn.Parameter) else stacked
        self._pairs.append((stacked, originals))
        return stacked


class _Linear(nn.Module):
    """Wx + b: (seeds, inputs, rows) to (seeds, outputs, rows)."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:  # an outer product, which the libraries round in several ways
            return self.weight * x if self.bias is None else self.weight * x + self.bias
        return self.weight.bmm(x) if self.bias is None else torch.baddbmm(self.bias, self.weight, x)


_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class _BatchNorm(nn.Module):
    """Batch normalization of each unit of each seed, in one call of PyTorch's own: ours costs more a call."""

    def __init__(
        self, like: lh.BatchNorm1d, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, batches: Tensor
    ) -> None:
        super().__init__()
        self.momentum, self.eps, self.keeps = like.momentum, like.eps, True
        self.weight, self.bias, self.mean, self.var, self.batches = weight, bias, mean, var, batches

    def forward(self, x: Tensor) -> Tensor:
        keeps = self.keeps or not self.training
        if self.training and keeps:
            self.batches += 1
        mean, var = (self.mean, self.var) if keeps else (None, None)
        units, momentum = x.reshape(1, -1, x.shape[2]), self.momentum or 0.0
        y = functional.batch_norm(units, mean, var, self.weight, self.bias, self.training, momentum, self.eps)
        return y.view_as(x)


class _RowNorm(nn.Module):
    """Layer, RMS or group normalization of each row of each seed."""

    def __init__(self, like: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.like, self.weight, self.bias = like, weight, bias

    def forward(self, x: Tensor) -> Tensor:
        rows, like = x.transpose(1, 2), self.like
        if isinstance(like, nn.LayerNorm):
            y = functional.layer_norm(rows, like.normalized_shape, eps=like.eps)
        elif isinstance(like, nn.RMSNorm):
            y = functional.rms_norm(rows, like.normalized_shape, eps=like.eps)
        else:
            assert isinstance(like, nn.GroupNorm)
            y = functional.group_norm(rows.flatten(0, 1), like.num_groups, eps=like.eps).view_as(rows)
        y = y.transpose(1, 2) * self.weight
        return y if self.bias is None else y + self.bias


class _Activation(nn.Module):
    """An activation; by the seed where the vector loops would round the end of a seed's values by its place."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function, self.exact = function, isinstance(function, nn.ReLU | nn.LeakyReLU)

    def forward(self, x: Tensor) -> Tensor:
        if self.exact or x[0].numel() % _TURN == 0:
            whole: Tensor = self.function(x)
            return whole
        return torch.stack([self.function(part) for part in x.unbind()])


class _Dropout(nn.Module):
    """Dropout with the noise of each seed from its own generator."""

    def __init__(self, p: float, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.p, self.generators = p, generators

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = torch.empty_like(x, memory_format=torch.contiguous_format)
        for part, generator in zip(noise, self.generators, strict=True):
            part.bernoulli_(1 - self.p, generator=generator)
        return x * noise.div_(1 - self.p)
