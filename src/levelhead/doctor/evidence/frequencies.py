"""Whether two tables of rows are drawn from one population, column by column."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Columns that are compared at most; of more than these, so many at equal distances.
COLUMNS = 256
BINS = 10
#: Categories with fewer values in both tables together are counted as one.
RARE = 10


def difference(a: Tensor, b: Tensor) -> tuple[float, int] | None:
    """Pearson's chi-square for two samples, summed over the columns, and the column that adds most.

    Whole numbers are categories; other values fall into ten classes of equal size of the first table.

    Args:
        a: (rows, ...), each row taken as a list of columns.
        b: (other rows, ...).

    Returns:
        The sum's distance from its expectation in standard deviations, and the column; None for other shapes.
    """
    if a.ndim < 2 or a.shape[1:] != b.shape[1:] or not a[0].numel():
        return None
    a, b = a.flatten(1), b.flatten(1)
    chosen = torch.linspace(0, a.shape[1] - 1, min(COLUMNS, a.shape[1]), device=a.device).long()
    if a.is_floating_point() != b.is_floating_point() or min(len(a), len(b)) < 100:
        return None
    total = freedom = 0.0
    worst, column = -math.inf, 0
    for i in chosen.tolist():
        x, y = a[:, i], b[:, i]
        if a.is_floating_point():
            inner = torch.linspace(0, 1, BINS + 1, dtype=torch.float64, device=x.device)[1:-1]
            edges = x.double().nan_to_num().quantile(inner).unique()
            x, y = torch.bucketize(x.double(), edges), torch.bucketize(y.double(), edges)
        chi, free = _chi_square(x, y)
        total, freedom = total + chi, freedom + free
        if free and (chi - free) / math.sqrt(2 * free) > worst:
            worst, column = (chi - free) / math.sqrt(2 * free), i
    return ((total - freedom) / math.sqrt(2 * freedom), column) if freedom else None


def _chi_square(x: Tensor, y: Tensor) -> tuple[float, float]:
    """The statistic and its degrees of freedom."""
    values = torch.cat([x, y]).unique(return_inverse=True)[1]
    count = int(values.max()) + 1
    ours, theirs = (torch.bincount(v, minlength=count).double() for v in (values[: len(x)], values[len(x) :]))
    rare = ours + theirs < RARE
    if bool(rare.any()):
        ours, theirs = (torch.cat([v[~rare], v[rare].sum().reshape(1)]) for v in (ours, theirs))
    ratio = math.sqrt(len(y) / len(x))
    terms = (ours * ratio - theirs / ratio).square() / (ours + theirs)
    return float(terms.sum()), float(len(ours) - 1)
