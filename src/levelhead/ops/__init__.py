r"""The operations, with the signatures of ``torch.nn.functional``.

Keyword-only extras everywhere: ``activation`` is applied to the result, ``residual`` is added to it before the
activation, so that ``y = activation(norm(x) + residual)``. With ``mask`` only the values count where it is True; the
others have no influence, NaN included, and come out as zero with zero gradient. Arguments are checked once, here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import wrap
from torch.nn import functional as F

from levelhead.ops import cpu, inplace, library, masked, nested, reference, spec
from levelhead.ops import cpu_moments as cpu_moments  # gives Moments its kernel
from levelhead.ops.dropouts import (
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    dropout_add,
    dropout_add_layer_norm,
    dropout_add_rms_norm,
    feature_alpha_dropout,
)
from levelhead.ops.library import backends
from levelhead.ops.masked import Normalized
from levelhead.ops.spec import check_activation

__all__ = [
    "Normalized",
    "alpha_dropout",
    "backends",
    "batch_norm",
    "check_activation",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "dropout_add_layer_norm",
    "dropout_add_rms_norm",
    "feature_alpha_dropout",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "normalize_batch",
    "rms_norm",
]

# torch.fx records a call of these as one node: what they ask of a tensor, a tracer's stand-in cannot answer.
for _name in __all__:
    if _name not in ("Normalized", "backends", "check_activation"):
        wrap(_name)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    unbiased: bool = True,
    memory: str | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Normalize each channel over the batch and all positions.

    .. math:: y = a\Big(\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} w + b + r\Big)

    In training μ and σ² (biased) are the batch's and the running estimates move towards them,
    ``running = (1 - momentum) * running + momentum * batch``; in evaluation they are the running estimates.

    Args:
        input: (N, C) or (N, C, ...), floating point.
        running_mean: (C,), updated in place in training; None to keep no estimate.
        running_var: (C,), in squared units of ``input``; both or neither.
        weight: (C,) or None for 1.
        bias: (C,) or None for 0.
        training: whether to use the batch's statistics.
        momentum: the weight of the new batch in the running estimates.
        eps: added to the variance.
        activation: a name from ``ops.reference.ACTIVATIONS``, applied last.
        residual: of the shape of ``input``, added before the activation.
        unbiased: whether ``running_var`` keeps σ² n/(n-1), as PyTorch does, or σ² itself, as ONNX does.
        memory: "inplace" keeps the result alone for the backward pass, and lets it take the place of ``input`` in
            memory where that is an intermediate result, so use ``input`` no more; see ``ops.inplace``.
        mask: boolean, broadcastable to ``input``; True counts. The counts may differ by channel: one without any value
            comes out as zero, and its running estimates stay.

    Returns:
        A tensor of the shape, type and memory format of ``input``.

    Raises:
        ValueError: fewer than two values a channel in training, one running estimate without the other, or a mask
            that cannot be broadcast to ``input``.
        ValueError: ``memory="inplace"`` with an activation without an inverse, with a residual or with a mask.
        TypeError: the mask is not boolean.
        RuntimeError: a parameter is not of shape (C,), or no running estimates in evaluation.

    Source: Ioffe & Szegedy 2015, "Batch Normalization", algorithms 1 and 2.
    """
    if memory is not None:
        inplace.check(memory, check_activation(activation), residual, mask, input)
    if mask is not None and training:
        _check_running(running_mean, running_var)
        found = normalize_batch(input, weight, bias, eps, activation=activation, residual=residual, mask=mask)
        masked.check_counts(found.counts)
        if running_mean is not None and running_var is not None:
            spec.over_channels(
                spec.form(input), *_options("batch", 0, eps, None, None, None, running_mean, running_var)
            )
            masked.track(running_mean, running_var, found, momentum, unbiased)
        return found.y
    if residual is not None and _composed(input, residual):
        estimates = (running_mean, running_var)
        y = batch_norm(input, *estimates, weight, bias, training, momentum, eps, unbiased=unbiased, mask=mask)
        return _finish(y, residual, activation, mask)
    direct = library.eager(input, residual)
    plain = mask is None and isinstance(momentum, float | int) and (unbiased or not training or running_mean is None)
    if plain and not direct and library.exporting():
        y = F.batch_norm(input, running_mean, running_var, weight, bias, training, float(momentum), eps)
        return _finish(y, residual, activation)

    over: Literal["batch", "given"] = "batch" if training else "given"
    options = _options(over, 0, eps, activation, weight, bias, running_mean, running_var)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "running_mean and running_var must be defined in evaluation mode; train first, or pass training=True"
            )
        given = torch.stack([running_mean, running_var])
        if memory is not None:
            return inplace.normalize(input, weight, bias, spec.over_channels(spec.form(input), *options), given)[0]
        if mask is not None:
            mask = masked.check(mask, input)
            input = reference.clean(input, mask)
            residual = None if residual is None else reference.clean(residual, mask)
        return reference.clean(_over_channels(direct, input, weight, bias, residual, given, options)[0], mask)
    _check_running(running_mean, running_var)
    values = input.numel() // input.shape[1] if input.shape[1] else 0
    if values == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {tuple(input.shape)}: its"
            " variance says nothing; use a larger batch, or drop the last one"
        )
    if eps <= 0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if memory is not None:
        y, stats = inplace.normalize(input, weight, bias, spec.over_channels(spec.form(input), *options))
    else:
        y, stats = _over_channels(direct, input, weight, bias, residual, None, options)
    if running_mean is not None and running_var is not None and values:
        _track(running_mean, running_var, stats, values, momentum, unbiased, direct)
    return y


def normalize_batch(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    mask: Tensor | None = None,
    group: str = "",
) -> Normalized:
    """``batch_norm`` in training, by the values that count, here and on the other processes of a group.

    Args:
        input: as in ``batch_norm``.
        weight: as in ``batch_norm``.
        bias: as in ``batch_norm``.
        eps: as in ``batch_norm``.
        activation: as in ``batch_norm``.
        residual: as in ``batch_norm``.
        mask: as in ``batch_norm``.
        group: the name of a process group, all of whose processes must call this; "" is this process alone.

    Returns:
        The result, the mean, the biased variance and the count of each channel, which may be 0 or 1.
    """
    if residual is not None and _composed(input, residual):
        found = normalize_batch(input, weight, bias, eps, mask=mask, group=group)
        return found._replace(y=_finish(found.y, residual, activation, mask))
    norm = spec.over_channels(spec.form(input), *_options("batch", 0, eps, activation, weight, bias))
    mask = None if mask is None else masked.check(mask, input)
    return masked.normalize(input, mask, weight, bias, residual, norm, group)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    unbiased: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    """Normalize each channel of each example over its positions.

    The formula is that of ``batch_norm`` with the statistics of one example; the running estimates move towards the
    mean over the batch of the examples' statistics.

    Args:
        input: (N, C, ...), floating point, with at least one dimension of positions.
        running_mean: (C,), as in ``batch_norm``.
        running_var: (C,), as in ``batch_norm``.
        weight: (C,) or None for 1.
        bias: (C,) or None for 0.
        use_input_stats: whether to use the examples' statistics rather than the running ones.
        momentum: the weight of the new batch in the running estimates.
        eps: added to the variance.
        activation: applied last.
        residual: of the shape of ``input``, added before the activation.
        unbiased: which variance ``running_var`` keeps.
        mask: as in ``batch_norm``; an example and channel without two values does not enter the running estimates.

    Returns:
        A tensor of the shape, type and memory format of ``input``.

    Raises:
        ValueError: a single position a channel with ``use_input_stats``.
        RuntimeError: a parameter is not of shape (C,), or no running estimates without ``use_input_stats``.

    Source: Ulyanov, Vedaldi & Lempitsky 2016, "Instance Normalization", eq. 6.
    """
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
        return batch_norm(
            input, running_mean, running_var, weight, bias, eps=eps, activation=activation, residual=residual, mask=mask
        )
    if residual is not None and _composed(input, residual):
        estimates = (running_mean, running_var)
        y = instance_norm(input, *estimates, weight, bias, True, momentum, eps, unbiased=unbiased, mask=mask)
        return _finish(y, residual, activation, mask)
    direct = library.eager(input, residual)
    plain = mask is None and isinstance(momentum, float | int) and (unbiased or running_mean is None)
    if plain and not direct and library.exporting():
        y = F.instance_norm(input, running_mean, running_var, weight, bias, True, float(momentum), eps)
        return _finish(y, residual, activation)

    values = math.prod(input.shape[2:])
    if values == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size {tuple(input.shape)}: the variance"
            " of one value says nothing; use batch or layer norm"
        )
    options = _options("group", input.shape[1], eps, activation, weight, bias, running_mean, running_var)
    _check_running(running_mean, running_var)
    if mask is not None:
        norm = spec.over_channels(spec.form(input), *options)
        found = masked.normalize(input, masked.check(mask, input), weight, bias, residual, norm)
        masked.check_counts(found.counts)
        if running_mean is not None and running_var is not None:
            masked.track(running_mean, running_var, found, momentum, unbiased)
        return found.y
    y, stats = _over_channels(direct, input, weight, bias, residual, None, options)
    if running_mean is not None and running_var is not None and input.numel():
        _track(running_mean, running_var, stats.mean(1), values, momentum, unbiased, direct)
    return y


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Normalize each example over its last dimensions.

    The formula is that of ``batch_norm`` with the statistics over the dimensions of ``normalized_shape``.

    Args:
        input: (..., *normalized_shape), floating point; dense, or nested with ``layout=torch.jagged``.
        normalized_shape: the sizes of the last dimensions.
        weight: of ``normalized_shape`` or None for 1.
        bias: of ``normalized_shape`` or None for 0.
        eps: added to the variance.
        activation: applied last.
        residual: of the shape of ``input``, added before the activation.
        mask: boolean, broadcastable to ``input``; True counts. An example of which nothing counts comes out as zero.

    Returns:
        A contiguous tensor of the shape and type of ``input``.

    Raises:
        RuntimeError: ``input`` does not end in ``normalized_shape``, or a parameter is not of that shape.

    Source: Ba, Kiros & Hinton 2016, "Layer Normalization", eq. 4.
    """
    return _row_norm(input, normalized_shape, weight, bias, eps, activation, residual, True, mask)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Divide each example by its root mean square over the last dimensions.

    .. math:: y = a\Big(\frac{x}{\sqrt{\mathrm{mean}(x^2) + \epsilon}} w + r\Big)

    Args:
        input: (..., *normalized_shape), floating point; dense, or nested with ``layout=torch.jagged``.
        normalized_shape: the sizes of the last dimensions.
        weight: of ``normalized_shape`` or None for 1.
        eps: added to the mean square; by default the machine epsilon of ``input``'s type (of float32 for 16 bits).
        activation: applied last.
        residual: of the shape of ``input``, added before the activation.
        mask: boolean, broadcastable to ``input``; True counts. An example of which nothing counts comes out as zero.

    Returns:
        A contiguous tensor of the shape and type of ``input``.

    Raises:
        RuntimeError: ``input`` does not end in ``normalized_shape``, or the weight is not of that shape.

    Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", eq. 4.
    """
    return _row_norm(input, normalized_shape, weight, None, eps, activation, residual, False, mask)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Normalize each example over groups of channels and all positions.

    The formula is that of ``batch_norm`` with the statistics over the C/num_groups channels of a group.

    Args:
        input: (N, C, ...), floating point.
        num_groups: how many groups; a divisor of C.
        weight: (C,) or None for 1.
        bias: (C,) or None for 0.
        eps: added to the variance.
        activation: applied last.
        residual: of the shape of ``input``, added before the activation.
        mask: boolean, broadcastable to ``input``; True counts. An example of which nothing counts comes out as zero.

    Returns:
        A tensor of the shape, type and memory format of ``input``.

    Raises:
        RuntimeError: C is not divisible, a parameter is not of shape (C,), or fewer than two dimensions.

    Source: Wu & He 2018, "Group Normalization", eq. 1, 2 and 7.
    """
    if residual is not None and _composed(input, residual):
        return _finish(group_norm(input, num_groups, weight, bias, eps, mask=mask), residual, activation, mask)
    wide = _autocast_to_float32(input) if input.is_cuda else input
    direct = wide is input and library.eager(input, residual)
    if mask is None and not direct and library.exporting():
        return _finish(F.group_norm(input, num_groups, weight, bias, eps), residual, activation)

    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions (N, C) for group_norm, got shape {tuple(input.shape)}")
    if num_groups < 1 or input.shape[1] % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape"
            f" {tuple(input.shape)} and num_groups={num_groups}"
        )
    options = _options("group", num_groups, eps, activation, weight, bias)
    if direct and mask is None:
        return _over_channels(True, input, weight, bias, residual, None, options)[0]
    norm = spec.over_channels(spec.form(input), *options)
    if mask is not None:
        return masked.normalize(wide, masked.check(mask, input), weight, bias, residual, norm).y
    return library.normalize(wide, weight, bias, residual, norm)[0]


def _row_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    activation: str | None,
    residual: Tensor | None,
    center: bool,
    mask: Tensor | None,
) -> Tensor:
    if input.is_nested:
        return nested.over_values(
            lambda x, r: _row_norm(x, normalized_shape, weight, bias, eps, activation, r, center, None),
            input,
            residual,
            normalized_shape,
            mask,
        )
    if residual is not None and _composed(input, residual):
        y = _row_norm(input, normalized_shape, weight, bias, eps, None, None, center, mask)
        return _finish(y, residual, activation, mask)
    shape = tuple(normalized_shape)
    wide = _autocast_to_float32(input) if input.is_cuda else input
    direct = wide is input and library.eager(input, residual)
    if mask is None and not direct and library.exporting():
        if center:
            y = F.layer_norm(input, shape, weight, bias, 1e-5 if eps is None else eps)
        else:
            y = F.rms_norm(input, shape, weight, eps)
        return _finish(y, residual, activation)

    options = (shape, eps, activation, center, spec.maybe_form(weight), spec.maybe_form(bias))
    if not center and weight is not None and weight.dtype != input.dtype:
        weight = weight.to(torch.promote_types(input.dtype, torch.float32))
    if direct and mask is None:
        return library.direct(input, weight, bias, residual, library.known(input, spec.over_last, *options))[0]
    norm = spec.over_last(spec.form(input), *options)
    if mask is not None:
        return masked.normalize(wide, masked.check(mask, input), weight, bias, residual, norm).y
    return library.normalize(wide, weight, bias, residual, norm)[0]


def _options(
    over: Literal["batch", "given", "group"], number: int, eps: float, activation: str | None, *others: Tensor | None
) -> tuple[Any, ...]:
    """What ``spec.over_channels`` takes besides the input; ``others`` are weight, bias and running estimates."""
    return over, number, eps, activation, *map(spec.maybe_form, others)


def _over_channels(
    direct: bool,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    stats: Tensor | None,
    options: tuple[Any, ...],
) -> tuple[Tensor, Tensor]:
    """``library.normalize``; ``direct`` is what ``library.eager`` answers."""
    if direct:
        return library.direct(x, weight, bias, residual, library.known(x, spec.over_channels, *options), stats)
    return library.normalize(x, weight, bias, residual, spec.over_channels(spec.form(x), *options), stats)


def _composed(input: Tensor, residual: Tensor) -> bool:
    """Whether the sum with the residual must be left to PyTorch: the types differ, as under autocast."""
    if residual.shape != input.shape:
        raise ValueError(
            f"the residual must have the shape of the input, {tuple(input.shape)}, but got {tuple(residual.shape)}"
        )
    return residual.dtype != input.dtype


def _finish(y: Tensor, residual: Tensor | None, activation: str | None, mask: Tensor | None = None) -> Tensor:
    """The residual and the activation in plain PyTorch, behind a kernel that does not know them."""
    value = reference.ACTIVATIONS[check_activation(activation)].value
    return reference.clean(value(y if residual is None else y + reference.clean(residual, mask)), mask)


def _autocast_to_float32(x: Tensor) -> Tensor:
    """Layer, RMS and group norm are on the list of operations that CUDA's autocast runs in float32."""
    return x.float() if torch.is_autocast_enabled("cuda") and x.dtype != torch.float64 else x


def _track(
    running_mean: Tensor,
    running_var: Tensor,
    stats: Tensor,
    values: int,
    momentum: float | Tensor,
    unbiased: bool,
    direct: bool,
) -> None:
    """Move the running estimates towards the batch's statistics, which were taken over ``values`` values."""
    correction = values / (values - 1) if unbiased else 1.0
    if direct and type(momentum) is float and cpu.track(running_mean, running_var, stats, momentum, correction):
        return
    for running, batch in ((running_mean, stats[0]), (running_var, stats[1] * correction)):
        reference.track(running, batch, momentum)


def _check_running(mean: Tensor | None, var: Tensor | None) -> None:
    if (mean is None) != (var is None):
        raise ValueError("running_mean and running_var must either both be None or neither be None")
