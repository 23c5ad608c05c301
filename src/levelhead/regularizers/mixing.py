"""Targets that are not certain, and batches whose rows are mixed with each other."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def smooth_labels(targets: Tensor, smoothing: float, classes: int | None = None) -> Tensor:
    r"""Targets as distributions that give a share of themselves to all classes alike.

    .. math:: q' = (1 - s) q + s / K

    Args:
        targets: class indices (rows, ...), or distributions (rows, classes, ...): floating point.
        smoothing: s, at least 0 and below 1.
        classes: K; needed for indices.

    Returns:
        (rows, classes, ...), as ``torch.nn.functional.cross_entropy`` takes distributions.

    Raises:
        ValueError: ``smoothing`` is out of range, or ``classes`` is missing, too small or not the distributions'.

    Source: Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"the smoothing must be at least 0 and below 1, got {smoothing}")
    shares = _distributions(targets, classes)
    if shares.ndim < 2:
        raise ValueError(f"distributions are (rows, classes, ...), got the shape {tuple(shares.shape)}")
    return shares * (1 - smoothing) + smoothing / shares.shape[1]


def mixup(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = 0.2,
    *,
    classes: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Each row mixed with another of the batch, inputs and targets alike.

    .. math:: \tilde x_i = \lambda x_i + (1 - \lambda) x_j, \quad \tilde y_i = \lambda y_i + (1 - \lambda) y_j,
        \qquad \lambda \sim Beta(\alpha, \alpha)

    with one λ a batch and j from a random permutation.

    Args:
        inputs: (rows, ...), floating point.
        targets: class indices (rows, ...), distributions (rows, classes, ...), or numbers (rows, ...).
        alpha: above 0; small values mix little.
        classes: how many; needed for indices.
        generator: on the CPU; PyTorch's default one if None.

    Returns:
        Inputs of the same shape, and targets: of indices, distributions (rows, classes, ...).

    Raises:
        ValueError: the batches are of unequal length, α is not above 0, or ``classes`` is missing or too small.

    Source: Zhang et al. 2018, "mixup: beyond empirical risk minimization", equation 1.
    """
    _check(inputs, targets, alpha)
    shares = _distributions(targets, classes)
    share, order = _draw(len(inputs), alpha, generator, inputs.device)
    return _mix(inputs, inputs[order], share), _mix(shares, shares[order], share)


def cutmix(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = 1.0,
    *,
    classes: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""A box of each image replaced by that of another, and the targets mixed by the share of the area.

    The box has sides of :math:`\sqrt{1 - \lambda}` of the image's, λ ~ Beta(α, α), and its centre anywhere; what
    sticks out is cut off, and the share of the targets is that of what is left. Signals (rows, channels, length) have
    an interval of the share 1 - λ. Targets with a value a position, as masks have, are cut like the inputs.

    Args:
        inputs: (rows, channels, length), (rows, channels, height, width) or more dimensions.
        targets: as for ``mixup``; with positions, as many as the inputs have.
        alpha: above 0.
        classes: how many; needed for indices.
        generator: on the CPU; PyTorch's default one if None.

    Returns:
        As ``mixup``.

    Raises:
        ValueError: as ``mixup``, or there are no positions to cut, or the targets have others.

    Source: Yun et al. 2019, "CutMix", section 3.1.
    """
    _check(inputs, targets, alpha)
    if inputs.ndim < 3:
        raise ValueError(
            f"cutmix needs positions (rows, channels, ...), got the shape {tuple(inputs.shape)}; use mixup"
        )
    shares = _distributions(targets, classes)
    sizes = inputs.shape[2:]
    if shares.ndim > 2 and shares.shape[2:] != sizes:
        raise ValueError(
            f"targets with positions must have those of the inputs, got {tuple(shares.shape[2:])} and {tuple(sizes)}"
        )
    share, order = _draw(len(inputs), alpha, generator, inputs.device)
    side = (1 - share) ** (1 / len(sizes))
    box: list[slice] = []
    for size, centre in zip(sizes, torch.rand(len(sizes), generator=generator, device="cpu").tolist(), strict=True):
        first = round(centre * size - side * size / 2)
        box.append(slice(max(0, first), max(0, min(size, first + round(side * size)))))
    mixed = inputs.clone()
    place = (slice(None), slice(None), *box)
    mixed[place] = inputs[order][place]
    if shares.ndim > 2:
        cut_shares = shares.clone()
        cut_shares[place] = shares[order][place]
        return mixed, cut_shares
    cut = math.prod(max(0, part.stop - part.start) / size for part, size in zip(box, sizes, strict=True))
    return mixed, _mix(shares, shares[order], 1 - cut)


def _check(inputs: Tensor, targets: Tensor, alpha: float) -> None:
    if len(inputs) != len(targets):
        raise ValueError(f"inputs and targets must have as many rows, got {len(inputs)} and {len(targets)}")
    if not inputs.is_floating_point():
        raise ValueError(f"inputs that are mixed must be floating point, got {inputs.dtype}; use inputs.float()")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be above 0 and finite, got {alpha}")


def _draw(rows: int, alpha: float, generator: torch.Generator | None, device: torch.device) -> tuple[float, Tensor]:
    """λ and the permutation."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))  # torch's Beta takes no generator
    return share, torch.randperm(rows, generator=generator, device="cpu").to(device)


def _mix(a: Tensor, b: Tensor, share: float) -> Tensor:
    return a * share + b * (1 - share)


def _distributions(targets: Tensor, classes: int | None) -> Tensor:
    """Class indices as zeros and ones in dimension 1; floating point targets as they are."""
    if targets.is_floating_point():
        if classes is not None and (targets.ndim < 2 or targets.shape[1] != classes):
            raise ValueError(f"classes = {classes}, and the distributions are of shape {tuple(targets.shape)}")
        return targets
    if classes is None:
        raise ValueError("class indices need classes=, the number of classes, to be mixed or smoothed")
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ValueError(
            f"classes = {classes}, and the targets reach from {int(targets.min())} to {int(targets.max())}"
        )
    ones = targets == 1
    if (
        targets.ndim > 1
        and targets.shape[1] == classes > 1
        and bool((ones.sum(1) == 1).all() & (ones == targets).all())
    ):
        raise ValueError(
            f"integers are class indices, and these, of shape {tuple(targets.shape)}, look like zeros and ones for "
            f"{classes} classes; use targets.float()"
        )
    return functional.one_hot(targets.long(), classes).movedim(-1, 1).to(torch.get_default_dtype())
