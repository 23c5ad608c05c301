"""Tables of rows compared: two of one population or not, column by column; and rows with their neighbours' labels."""

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


def relation(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[float, int, float, float] | None:
    """The column whose correlation with the targets is most unlike in two tables, by Fisher's z (Fisher 1921).

    Returns:
        The difference in its standard deviations, the column, and its correlation in either table; None for other
        shapes, or too few rows.
    """
    if any(x.ndim != 2 or y.numel() != len(y) or len(y) < 60 for x, y in (a, b)) or a[0].shape[1] != b[0].shape[1]:
        return None
    ours, theirs = (_correlations(x.double(), y.double().reshape(-1, 1)) for x, y in (a, b))
    far = (ours.atanh() - theirs.atanh()).abs() / math.sqrt(1 / (len(a[1]) - 3) + 1 / (len(b[1]) - 3))
    i = int(far.nan_to_num(nan=0.0, posinf=0.0).argmax())
    return float(far[i]), i, float(ours[i]), float(theirs[i])


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(0), y - y.mean(0)
    return (x * y).sum(0) / (x.square().sum(0) * y.square().sum(0)).sqrt()


#: Rows that are compared with each other; a matrix of this size squared is held.
ROWS = 1000
NEIGHBOURS = 5


def agreement(inputs: Tensor, labels: Tensor, seed: int = 0) -> tuple[float, float, float] | None:
    """How often a row's label is the commonest of its five nearest neighbours' (Cover & Hart 1967).

    Rows of whole numbers are compared as counts of symbols, once whatever their column and once with it; the better
    one counts.

    Args:
        inputs: rows of any shape.
        labels: one whole number a row.
        seed: of the choice of rows, where there are many, and of the permutation.

    Returns:
        The share, the share with the labels permuted, and the standard error; None where there are fewer than 60
        rows, or labels that are not one number a row.
    """
    if labels.ndim != 1 or len(inputs) != len(labels) or len(inputs) < 60:
        return None
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    chosen = order[:ROWS].to(inputs.device)
    x, y = inputs[chosen].flatten(1), labels[chosen].long()
    y = y.unique(return_inverse=True)[1]
    permuted = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed + 1)).to(y.device)]
    forms = [_scaled(x)] if inputs.is_floating_point() else [_symbols(x), _symbols(x + _columns(x))]
    share, chance = max(tuple(_share(form, each) for each in (y, permuted)) for form in forms)
    return share, chance, math.sqrt(max(share * (1 - share), 0.01) / len(y))


def agreeing(inputs: Tensor, labels: Tensor) -> Tensor:
    """Which rows have the label that is the commonest among their neighbours (Wilson 1972, section III)."""
    x = inputs.flatten(1)
    return _votes(_scaled(x) if inputs.is_floating_point() else _symbols(x), labels) == labels


def _share(x: Tensor, labels: Tensor) -> float:
    return float((_votes(x, labels) == labels).double().mean())


def _votes(x: Tensor, labels: Tensor) -> Tensor:
    distances = torch.cdist(x, x)
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(min(NEIGHBOURS, len(x) - 1), largest=False).indices
    return torch.mode(labels[nearest], dim=1).values


def _scaled(x: Tensor) -> Tensor:
    x = torch.nan_to_num(x.double(), nan=0.0, posinf=0.0, neginf=0.0)
    std = x.std(0)
    # Columns that hardly vary are not blown up: their deviation counts as a tenth of the typical one at least.
    return (x - x.mean(0)) / std.clamp_min(0.1 * float(std.median()) + 1e-12)


def _symbols(x: Tensor) -> Tensor:
    """How often each symbol is in a row, a rare one for more (Salton & Buckley 1988), scaled to length 1."""
    values = x.unique(return_inverse=True)[1]
    counts = torch.zeros(len(x), int(values.max()) + 1, dtype=torch.float64, device=x.device)
    counts.scatter_add_(1, values, torch.ones_like(values, dtype=counts.dtype))
    weighted: Tensor = counts.log1p() * (len(x) / (counts > 0).sum(0)).log()
    length = weighted.square().sum(1, keepdim=True).sqrt()
    return weighted / length.clamp_min(1e-12)


def _columns(x: Tensor) -> Tensor:
    """Added to whole numbers, it makes those of each column symbols of their own, as in a table."""
    return torch.arange(x.shape[1], device=x.device) * (int(x.max()) - int(x.min()) + 1)
