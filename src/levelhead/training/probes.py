"""What is measured inside the network while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from levelhead import kinds
from levelhead.evaluation import evaluation

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training.recipe import Recipe

#: Measures a copy of the network, in eval mode, which it may change: (network, recipe, data, step) -> values by name.
Observer = Callable[[nn.Module, "Recipe", "Dataset", int], Mapping[str, float | Sequence[float]]]

PERCENTILES = (15, 50, 85)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolution layers of a model by name, without the ``.layer`` that ``Hidden`` adds."""
    return {
        name.removesuffix(".layer"): module
        for name, module in model.named_modules()
        if isinstance(module, kinds.Affine)
    }


def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """The Euclidean norm of the loss' gradient with respect to the weights of each layer, from the latest backward."""
    return {
        name: layer.weight.grad.norm()
        for name, layer in layers(model).items()
        if isinstance(layer.weight, Tensor) and layer.weight.grad is not None
    }


@torch.no_grad()
def unit_input(model: nn.Module, rows: Tensor) -> Tensor | None:
    """The input of one hidden unit over fixed rows: figure 1 of Ioffe & Szegedy 2015.

    The unit is the first of the last hidden layer (the first channel, all its pixels, of a convnet), and its input is
    what the last activation module of the model is given: norm(Wx + b), or Wx + b where no normalization stands
    before the activation. Batch normalization takes its statistics from these rows, as it does from a batch while the
    network learns: the population's estimates lag behind in the first steps, and would show a drift that the
    learning network never sees. Nothing else is in training mode, and no buffer is changed.

    Args:
        model: the network, in eval mode.
        rows: the inputs, at least two.

    Returns:
        The values; None where there is no activation module, or a single row.
    """
    activation = next((m for m in reversed(list(model.modules())) if isinstance(m, kinds.Activation)), None)
    if activation is None or len(rows) < 2:
        return None
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    seen: list[Tensor] = []
    handle = activation.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    copies = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with evaluation(model, norms):
            functional_call(model, copies, (rows,))
    finally:
        handle.remove()
    # The unit is a column of (rows, units) and a channel of (rows, channels, height, width).
    return seen[-1].select(1 if seen[-1].ndim != 3 else 2, 0).flatten()


def percentiles(values: Tensor) -> dict[str, list[float]]:
    """``unit_input_p15``, ``_p50`` and ``_p85`` of (seeds, values), by the seed; NaN where a value is not finite."""
    at = torch.tensor([p / 100 for p in PERCENTILES], dtype=torch.float64, device=values.device)
    finite = values.isfinite().all(1)
    found = torch.quantile(values.double().where(finite[:, None], 0.0), at, dim=1).where(finite, torch.nan)
    return {f"unit_input_p{p}": by_seed for p, by_seed in zip(PERCENTILES, found.tolist(), strict=True)}
