"""How far running estimates were from the statistics that ``recalibrate`` found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from levelhead.moments import Moments


@dataclass(frozen=True, slots=True)
class Drift:
    """One layer: its old estimates against the true statistics, each figure that of its worst channel.

    Args:
        name: of the layer in the model.
        kind: its class.
        channels: how many it has.
        values: how many values a channel had, over all batches and ranks; the least of all channels under a mask.
        mean_shift: |old mean - true mean| in true standard deviations.
        mean_errors: the same in standard errors of the true mean, σ/√n.
        var_ratio: old variance / true variance, the one that is furthest from 1.
        var_errors: |old variance - true variance| in standard errors of the true variance, σ²√(2/(n-1)).

    The standard errors are those of n independent normal values; neighbouring positions of one image are not
    independent, so that for convolutions they are a lower bound.
    """

    name: str
    kind: str
    channels: int
    values: int
    mean_shift: float
    mean_errors: float
    var_ratio: float
    var_errors: float

    @classmethod
    def of(cls, name: str, kind: str, old: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor], seen: Moments) -> Drift:
        """The drift of a layer; old and true are mean and variance."""
        count = seen.count.expand(seen.shape).to(seen.mean)
        var = true[1]
        mean_shift = _quotient((old[0] - true[0]).abs(), var.sqrt(), 0)
        relative = _quotient((old[1] - var).abs(), var, 0)
        ratio = _quotient(old[1], var, 1)
        worst = int(ratio.log().abs().nan_to_num(0, math.inf, math.inf).argmax())
        return cls(
            name,
            kind,
            len(var),
            int(count.min()),
            float(mean_shift.max()),
            float((mean_shift * count.sqrt()).nan_to_num(0, math.inf).max()),
            float(ratio[worst]),
            float((relative * ((count - 1) / 2).sqrt()).nan_to_num(0, math.inf).max()),
        )


@dataclass(frozen=True, slots=True)
class Recalibration:
    """What ``recalibrate`` did.

    Args:
        method: ``pooled`` or ``averaged``.
        sequential: whether each layer was measured under the corrected statistics of those before it.
        batches: how many were read, over all ranks.
        layers: one a layer that was set, in the order of the model.
        untouched: the other normalization layers, and why each was left.
    """

    method: str
    sequential: bool
    batches: int
    layers: tuple[Drift, ...]
    untouched: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data (``records.write_json`` writes it)."""
        return asdict(self)

    def __str__(self) -> str:
        """A table."""
        rows = [("layer", "values", "mean off by", "standard errors", "old var / true", "standard errors")]
        for each in self.layers:
            mean = (f"{each.mean_shift:.3g} std", f"{each.mean_errors:.3g}")
            var = (f"{each.var_ratio:.4g}", f"{each.var_errors:.3g}")
            rows.append((each.name or "(model)", f"{each.values:,}", *mean, *var))
        first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
        how = ", layer by layer" if self.sequential else ""
        lines = [f"{len(self.layers)} layers set to the {self.method} statistics of {self.batches} batches{how}"]
        for name, *cells in rows:
            lines.append("  ".join([name.ljust(first), *map(str.rjust, cells, widths)]))
        return "\n".join([*lines, *(f"{name or '(model)'}: {why}" for name, why in self.untouched.items())])


def _quotient(a: Tensor, b: Tensor, of_zeros: float) -> Tensor:
    return (a / b).masked_fill((a == 0) & (b == 0), of_zeros)
