"""The terms of a loss: which of them compare with no target, and which pull answers the other way than the rest."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from levelhead.doctor.evidence.structure import VIEWS, ancestors, name_of, shape_of, variables

#: Nodes of PyTorch's losses, which compare with targets.
_COMPARING = (
    *("MseLoss", "NllLoss", "NllLoss2D", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits"),
    *("L1Loss", "SmoothL1Loss", "HuberLoss", "KlDiv", "SoftMarginLoss", "CtcLoss"),
)
#: The cosine of two terms' gradients from which on one undoes what the other one does.
AGAINST = -0.5


def terms(node: Any) -> list[Any]:
    """The nodes whose values a loss adds up."""
    found, queue = [], [node]
    while queue:
        each = queue.pop()
        if name_of(each) in ("Add", "Sub") and shape_of(each) == ():
            queue += [n for n, _ in each.next_functions if n is not None]
        elif each is not None:
            found.append(each)
    return found


#: Nodes between a difference and the loss that is made of it.
_AVERAGING = ("Mean", "Sum", "Div", "Mul", "Pow", "Abs", "Neg", "Sqrt")


def error_of(term: Any, differences: Container[Any]) -> tuple[Any, bool] | None:
    """The difference, of some, whose mean or sum of squares (true) or absolute values a term is."""
    squared = False
    while term is not None and term not in differences:
        parents = {n for n, _ in term.next_functions if n is not None}
        if len(parents) != 1 or name_of(term) not in (*_AVERAGING, *VIEWS):
            return None
        squared = (
            squared or name_of(term) == "Pow" or (name_of(term) == "Mul" and term.next_functions[1][0] is not None)
        )
        (term,) = parents
    return None if term is None else (term, squared)


def penalties(node: Any) -> list[Any]:
    """The terms of a sum that compare with no target and hang on some of the parameters of the others alone.

    The divergence of a variational autoencoder is one: it hangs on the encoder, and the reconstruction on all.
    """
    found = terms(node)
    hangs = [variables(term) for term in found]
    return [term for term, mine in zip(found, hangs, strict=True) if mine < set().union(*hangs) and not _compares(term)]


def opposing(loss: Tensor, outputs: Tensor) -> list[int]:
    """The terms, by their place in ``terms``, that pull the outputs the other way than what compares with targets.

    Args:
        loss: the sum, whose graph is kept.
        outputs: what a loss of PyTorch compares with targets, in the graph.
    """
    parts = terms(loss.grad_fn)
    compared = [i for i, part in enumerate(parts) if _compares(part)]
    if len(parts) < 2 or len(compared) != 1:
        return []
    pulls = [_pull(loss, outputs, [p for k, p in enumerate(parts) if k != i]) for i in range(len(parts))]
    right = pulls[compared[0]]
    return [
        i
        for i, pull in enumerate(pulls)
        if i != compared[0] and float(F.cosine_similarity(pull, right, dim=0)) < AGAINST
    ]


def _compares(term: Any) -> bool:
    return any(name_of(n) in _COMPARING for n in ancestors(term))


def _pull(loss: Tensor, outputs: Tensor, others: list[Any]) -> Tensor:
    """The gradient of the outputs without these terms."""
    handles = [term.register_prehook(lambda given: tuple(g if g is None else 0 * g for g in given)) for term in others]
    try:
        (gradient,) = torch.autograd.grad(loss, outputs, retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return torch.zeros(1) if gradient is None else gradient.detach().flatten().double()
