"""Penalties on whole units and on whole matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from levelhead.regularizers.penalty import Penalty, as_matrix, unit_norms
from levelhead.regularizers.schedules import Schedule
from levelhead.regularizers.selection import Where


class GroupLasso(Penalty):
    r"""The norms of the units' weights, which makes whole units 0 when attached.

    .. math:: R(W) = \lambda \sum_g \sqrt{n_g}\, \|w_g\|_2 \qquad
        \text{attached: } w_g \leftarrow \max\!\left(1 - \frac{\alpha\lambda\sqrt{n_g}}{\|w_g\|_2}, 0\right) w_g

    with :math:`n_g` weights in group g.

    Args:
        strength: λ, at least 0; may follow the step.
        where: which parameters; see ``Penalty``.
        dim: the dimension that counts the groups: 0 for output units and channels, 1 for inputs; of a model's
            transposed convolutions too.

    Raises:
        ValueError: the strength is negative or not finite, or a weight has no such dimension.

    Source: Yuan & Lin 2006, "Model selection and estimation in regression with grouped variables", equation 2.1;
    the step: Parikh & Boyd 2014, "Proximal algorithms", section 6.5.4.
    """

    def __init__(self, strength: Schedule, where: Where = None, dim: int = 0) -> None:
        super().__init__(strength, where)
        self.dim = dim

    def term(self, weights: list[Tensor], *strengths: float) -> Tensor:
        """λ Σ √n ‖w_g‖."""
        norms = [unit_norms(weight, self.dim) for weight in weights]
        return strengths[0] * torch.stack([n.sum() * _root(w, n) for w, n in zip(weights, norms, strict=True)]).sum()

    def move_(self, weights: list[Tensor], rate: float, *strengths: float) -> None:
        """Soft thresholding of each unit's norm."""
        if rate * strengths[0] == 0:
            return
        for weight in weights:
            norms = unit_norms(weight, self.dim)
            weight.mul_((1 - rate * strengths[0] * _root(weight, norms) / norms).clamp_(min=0))


def _root(weight: Tensor, norms: Tensor) -> float:
    """√n of the groups that have these norms."""
    return math.sqrt(weight.numel() / max(norms.numel(), 1))


class Orthogonal(Penalty):
    r"""The distance of each weight from orthonormal rows, or columns where those are fewer.

    .. math:: R(W) = \lambda \sum_W \|W W^T - I\|_F^2

    A weight of more dimensions is read as (units, everything else). Attached, it takes a step of its own gradient,
    :math:`W \leftarrow W - 4\alpha\lambda (W W^T - I) W`. Arguments and errors as ``L1``.

    Source: Bansal et al. 2018, "Can we gain more from orthogonality regularizations in training deep networks?",
    equation 1 (SO).
    """

    def term(self, weights: list[Tensor], *strengths: float) -> Tensor:
        """λ Σ ‖WWᵀ - I‖²."""
        sums = []
        for weight in weights:
            matrix = as_matrix(weight)
            matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
            gram = matrix @ matrix.T
            sums.append((gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).square().sum())
        return strengths[0] * torch.stack(sums).sum()


class SpectralNorm(Penalty):
    r"""Half the square of each weight's largest singular value: how much a layer can stretch its input.

    .. math:: R(W) = \frac{\lambda}{2} \sum_W \sigma_{max}(W)^2

    A weight of more dimensions is read as (units, everything else). The singular vectors come from a power iteration
    that goes on from one call to the next; σ = uᵀWv is never too large. Attached, it takes a step of its own
    gradient, :math:`W \leftarrow W - \alpha\lambda\sigma u v^T`.

    Args:
        strength: λ, at least 0; may follow the step.
        where: which parameters; see ``Penalty``.
        iterations: of the power iteration, each call; the first one of a weight has 20 more.

    Raises:
        ValueError: the strength is negative or not finite.

    Source: Yoshida & Miyato 2017, "Spectral norm regularization for improving the generalizability of deep learning",
    section 3.2 and algorithm 1.
    """

    def __init__(self, strength: Schedule, where: Where = None, iterations: int = 2) -> None:
        super().__init__(strength, where)
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.iterations = iterations
        self._vectors = WeakTensorKeyDictionary()

    def term(self, weights: list[Tensor], *strengths: float) -> Tensor:
        """λ/2 Σ σ²."""
        return strengths[0] / 2 * torch.stack([self._largest(weight, weight) for weight in weights]).square().sum()

    def move_(self, weights: list[Tensor], rate: float, *strengths: float) -> None:
        """A step of the gradient; the singular vectors are kept by parameter."""
        with torch.enable_grad():
            copies = [weight.detach().requires_grad_() for weight in weights]
            norms = [self._largest(copy, weight) for copy, weight in zip(copies, weights, strict=True)]
            gradients = torch.autograd.grad(torch.stack(norms).square().sum() * (strengths[0] / 2), copies)
        torch._foreach_add_(weights, gradients, alpha=-rate)

    def _largest(self, weight: Tensor, key: Tensor) -> Tensor:
        matrix = as_matrix(weight)
        whole = key if key._base is None else key._base  # a view is made anew at each call
        kept, place = self._vectors.setdefault(whole, {}), (key.storage_offset(), key.shape, key.stride())
        with torch.no_grad():
            v, more = kept.get(place), 0
            if v is None:
                random = torch.Generator().manual_seed(0)
                v, more = torch.randn(matrix.shape[1], generator=random, device="cpu").to(matrix), 20
            u = matrix @ v
            for _ in range(self.iterations + more):
                u = torch.nn.functional.normalize(matrix @ v, dim=0)
                v = torch.nn.functional.normalize(matrix.T @ u, dim=0)
            if bool(v.any()):  # else the weight is 0, and there is no direction to keep
                kept[place] = v.clone()
        largest: Tensor = u @ matrix @ v
        return largest
