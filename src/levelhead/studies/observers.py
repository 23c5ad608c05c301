"""What studies measure inside a network: functions of (a copy of the network, recipe, data, step)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from levelhead.training.initialization import ACTIVATIONS
from levelhead.training.objectives import loss_function
from levelhead.training.probes import layers

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe

#: Training rows that gradients and activations are measured on.
ROWS = 250
#: Units of a layer that are followed one by one.
UNITS = 8
_ACTIVATIONS = tuple(ACTIVATIONS.values())


def batch(data: Dataset, count: int = ROWS) -> tuple[Tensor, Tensor]:
    """Fixed training rows, evenly spaced, with their targets."""
    index = torch.linspace(0, len(data.train) - 1, min(len(data.train), count)).long()
    return data.train.inputs[index], data.train.targets[index]


def weights(model: nn.Module) -> list[Tensor]:
    """The weights of the linear and convolution layers, first to last."""
    return [layer.weight for layer in layers(model).values() if isinstance(layer.weight, Tensor)]


def loss_of(model: nn.Module, recipe: Recipe, data: Dataset) -> Tensor:
    """The loss of the fixed rows."""
    x, y = batch(data)
    return loss_function(recipe, data)(model(x), y)


def variances(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    """Before training, the variance of each hidden layer's sums: ``variance/i`` over n Var(w) E[x²] of layer i.

    ``centred/i`` is over n Var(w) Var(x), which is the same where the layer's inputs have no mean.
    """
    if step:
        return {}
    x = batch(data)[0].flatten(1)
    with _inputs(model) as sums, torch.no_grad():
        model(batch(data)[0])
    found = {}
    for i, (out, weight, below) in enumerate(
        zip(sums, weights(model), [x, *_outputs(model, batch(data)[0])], strict=False), start=1
    ):
        gain = weight.shape[1] * weight.detach().var()
        found[f"variance/{i}"] = float(out.var() / (gain * below.square().mean()))
        found[f"centred/{i}"] = float(out.var() / (gain * below.var()))
    return found


def saturation(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    """``saturated``: the share of sigmoid outputs below 0.05 or above 0.95, over all hidden layers, as in training.

    There the derivative is below a fifth of its largest.
    """
    model.train()
    shares = [float(((out < 0.05) | (out > 0.95)).float().mean()) for out in _outputs(model, batch(data)[0])]
    return {"saturated": sum(shares) / len(shares)}


def drift(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    """``shift``, ``turn``; ``deviation/i`` of hidden layer i; ``mean/i/j``, ``spread/i/j`` of eight units of it.

    The latter are of a unit's inputs, its weighted sums, over rows. ``deviation`` is how far they are from the unit
    Gaussian, the divergence KL(N(mean, spread²) ‖ N(0, 1)) in nats, mean over units.
    ``shift`` is how much a plain gradient step on the layers below a layer changes the gradient of that layer,
    relative to it, mean over layers; ``turn`` one less the cosine between the two (Santurkar et al. 2018, "How does
    batch normalization help optimization?", definition 2.1).
    """
    model.train()
    seen: dict[str, float] = {}
    with _inputs(model) as inputs, torch.no_grad():
        model(batch(data)[0])
    for i, sums in enumerate(inputs, start=1):
        means, spreads = sums.double().mean(0), sums.double().std(0)
        apart = (spreads.square() + means.square() - 1) / 2 - spreads.clamp_min(1e-12).log()
        seen[f"deviation/{i}"] = float(apart.mean())
        for j in range(min(UNITS, len(means))):
            seen |= {f"mean/{i}/{j}": float(means[j]), f"spread/{i}/{j}": float(spreads[j])}
    before = _gradients(model, recipe, data)
    moved = weights(model)
    changes, turns = [], []
    with torch.no_grad():
        for i, gradient in enumerate(before[:-1]):
            moved[i] -= recipe.learning_rate * gradient
            with torch.enable_grad():
                after = _gradients(model, recipe, data)[i + 1]
            changes.append(float((after - before[i + 1]).norm() / before[i + 1].norm()))
            turns.append(1 - float(torch.cosine_similarity(after.flatten(), before[i + 1].flatten(), 0)))
    return {**seen, "shift": sum(changes) / len(changes), "turn": sum(turns) / len(turns)}


def landscape(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    r"""Along the gradient, at 8 lengths of 0.5 to 4 learning rates (Santurkar et al. 2018, section 3.1).

    ``variation``: the range of the loss; ``unpredicted``: the largest :math:`|g(w - \eta g) - g(w)|`; ``smoothness``:
    the largest of it over the way, :math:`|g(w - \eta g) - g(w)| / |\eta g|`.
    """
    model.train()
    start = [weight.detach().clone() for weight in weights(model)]
    first = _gradients(model, recipe, data)
    length = _norm(first)
    losses, changes, slopes = [], [], []
    for eta in torch.linspace(0.5, 4, 8).mul(recipe.learning_rate).tolist():
        with torch.no_grad():
            for weight, origin, gradient in zip(weights(model), start, first, strict=True):
                weight.copy_(origin - eta * gradient)
        loss = loss_of(model, recipe, data)
        change = _norm([a - b for a, b in zip(torch.autograd.grad(loss, weights(model)), first, strict=True)])
        losses.append(float(loss.detach()))
        changes.append(change)
        slopes.append(change / (eta * length))
    return {"variation": max(losses) - min(losses), "unpredicted": max(changes), "smoothness": max(slopes)}


def flow(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    """``gradient/i``: the norm of the loss's gradient in each layer's weights, and ``decay``, by which it differs.

    ``decay`` is the decades from the last hidden layer's gradient to the first's, either way: 0 is an even flow.
    """
    model.train()
    norms = [float(gradient.norm()) for gradient in _gradients(model, recipe, data)]
    last, first = norms[-2], norms[0]
    decay = abs(math.log10(last / first)) if first > 0 and last > 0 else math.nan
    return {"decay": decay} | {f"gradient/{i}": norm for i, norm in enumerate(norms, start=1)}


def size(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float | Sequence[float]]:
    """``weight_norm``, and ``zeros``, the share of weights that are exactly 0; of a network of one input, the response.

    ``response`` is the output at 101 places from -1 to 1, ``steepness`` its largest slope, and ``roughness`` its mean
    absolute second derivative.
    """
    flat = torch.cat([weight.detach().flatten() for weight in weights(model)])
    found: dict[str, float | Sequence[float]] = {
        "weight_norm": float(flat.norm()),
        "zeros": float((flat == 0).float().mean()),
    }
    if data.input_shape == (1,):
        with torch.no_grad():
            y = model(torch.linspace(-1, 1, 101)[:, None]).flatten().double()
        found["response"] = y.tolist()
        found["steepness"] = float(y.diff().abs().max() / 0.02)
        found["roughness"] = float(y.diff(n=2).abs().mean() / 0.02**2)
    return found


@contextmanager
def _inputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """The inputs of the activation modules, in the order in which they are called."""
    seen: list[Tensor] = []
    found = [module for module in model.modules() if isinstance(module, _ACTIVATIONS)]
    handles = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach())) for m in found]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs of the activation modules."""
    with _inputs(model) as inputs:
        model(x)
    found = [module for module in model.modules() if isinstance(module, _ACTIVATIONS)]
    return [copy.copy(module)(z) for module, z in zip(found, inputs, strict=True)]


def _gradients(model: nn.Module, recipe: Recipe, data: Dataset) -> list[Tensor]:
    """The loss's gradient in the weights of each layer."""
    return list(torch.autograd.grad(loss_of(model, recipe, data), weights(model)))


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))
