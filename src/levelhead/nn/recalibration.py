"""True running statistics for a model that is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.lazy import LazyModuleMixin

from levelhead.nn.drift import Recalibration
from levelhead.nn.freezing import is_frozen, is_tracking
from levelhead.nn.measuring import Forward, Layer, Passes, Ranks, measuring

Group = dist.ProcessGroup | Literal["alone"] | None


def recalibrate(
    model: nn.Module,
    batches: Iterable[Any],
    method: Literal["pooled", "averaged"] = "pooled",
    *,
    forward: Forward | None = None,
    sequential: bool = False,
    frozen: bool = False,
    group: Group = None,
) -> Recalibration:
    r"""Set every batch norm's running statistics to those of a population, in place.

    ``pooled``: the mean and variance of all values that the layer sees over all batches, ``Moments`` merged in float64,
    exact for batches of any size. ``averaged``: the mean of the batches' means and of their unbiased variances,
    algorithm 2 of the paper, which weighs batches alike and leaves out the variance between them.

    .. math:: \text{averaged:}\quad E[x] = E_B[\mu_B], \quad \text{Var}[x] = \tfrac{m}{m-1} E_B[\sigma_B^2]

    The layers before one are normalized by each batch's own statistics, as in training (``sequential=False``, one pass
    over the batches), or by their own corrected ones, as in evaluation afterwards (``sequential=True``, a pass a layer
    and one more; a layer that is called again within a forward pass normalizes by the batch while it is measured). All
    else is in evaluation. A batch with one value a channel runs under the pooled statistics of the others.

    Works with all ``torch.nn`` batch norms, synchronized ones included, instance norms that track statistics
    (``averaged`` takes each instance as a batch), subclasses of these, and layers that are called several times; a mask
    that is passed to the layer is heeded. The variance that is kept is the unbiased one, unless the layer has
    ``unbiased=False``; ``num_batches_tracked`` becomes the number of calls. On any error the model is as it was.

    Args:
        model: any module; a wrapper for parallel training is taken off.
        batches: what ``forward`` takes; with ``sequential`` something that can be read again and again.
        method: ``pooled`` or ``averaged``.
        forward: called as ``forward(model, batch)``; by default the model is called with the batch, or with its first
            element where that is a tuple or list, moved to the device of the model.
        sequential: see above.
        frozen: whether layers that ``freeze_norm`` froze are set, too; else they run as they are.
        group: the ranks that take part, each with its own batches: every rank gets those of all batches. All by
            default, wherever ``torch.distributed`` is initialized, and then all must call; ``"alone"``: this process.

    Returns:
        How far the old statistics were from the true ones, per layer, in standard errors; ``print`` shows a table.

    Raises:
        ValueError: no batches, no layer to set, an unknown method, NaN or infinite values, fewer than two values a
            channel in all.
        TypeError: ``batches`` is a single tensor or, with ``sequential``, can be read only once.
        RuntimeError: another rank failed.

    Source: Ioffe & Szegedy 2015, "Batch Normalization", algorithm 2; Wu & Johnson 2021, "Rethinking 'Batch' in
    BatchNorm", section 3 (pooled statistics, called PreciseBN).
    """
    _check(model, batches, method, sequential)
    while isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        model = model.module
    layers, untouched = _layers(model, frozen)
    ranks = Ranks(None if group == "alone" else group, alone=group == "alone", device=layers[0].mean.device)
    passes = Passes(model, layers, forward or _call, ranks)
    with measuring(model, layers):
        count = passes.one_by_one(batches, method) if sequential else passes.at_once(batches)
        if not count:
            raise ValueError("batches is empty: there is nothing to take statistics of")
        new = {layer.name: layer.result(method) for layer in layers if layer.reached}
        if not new:
            raise ValueError(
                "the forward pass reached no layer with running statistics, or every batch has one value a channel;"
                " check forward, use larger batches, or sequential=True"
            )
    drifts = []
    for layer in layers:
        if layer.name in new:
            drifts.append(layer.drift(new[layer.name]))
            layer.set(new[layer.name])
        else:
            untouched[layer.name] = "the forward pass did not reach it"
    return Recalibration(method, sequential, count, tuple(drifts), untouched)


def _check(model: nn.Module, batches: Any, method: str, sequential: bool) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"recalibrate takes a torch.nn.Module, got {type(model).__name__}")
    if method not in ("pooled", "averaged"):
        raise ValueError(f"method must be 'pooled' or 'averaged', got {method!r}")
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        kind = f"one {type(batches).__name__}"
        raise TypeError(f"batches must give one batch after another, got {kind}; try [batch], or a DataLoader")
    if sequential and iter(batches) is batches:
        raise TypeError(
            f"sequential=True reads the batches once a layer, and a {type(batches).__name__} can be read only once;"
            " give a list or a DataLoader"
        )


def _layers(model: nn.Module, frozen: bool) -> tuple[list[Layer], dict[str, str]]:
    """What is to be set, and why the other candidates are not."""
    layers, untouched = [], {}
    for name, module in model.named_modules():
        if not isinstance(module, _NormBase):
            continue
        if isinstance(module, LazyModuleMixin):
            raise ValueError(f"the lazy layer {name!r} does not know its channels yet; run the model once before")
        if not is_tracking(module):
            if isinstance(module, _BatchNorm):
                untouched[name] = "it keeps no running statistics"
        elif is_frozen(module) and not frozen:
            untouched[name] = "frozen"
        else:
            layers.append(Layer(name, module))
    if not layers:
        others = "; ".join(f"{name!r}: {why}" for name, why in untouched.items())
        raise ValueError(
            f"{type(model).__name__} has no batch norm to recalibrate" + (f" ({others})" if others else "")
        )
    return layers, untouched


def _call(model: nn.Module, batch: Any) -> object:
    if isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    if isinstance(batch, Mapping):
        raise TypeError(
            f"a batch is a {type(batch).__name__} with the keys {', '.join(map(str, batch))}: say how the model takes"
            " it, forward=lambda model, batch: model(...)"
        )
    tensor = next(model.parameters(), None)
    return model(batch if tensor is None or not isinstance(batch, Tensor) else batch.to(tensor.device))
