"""Whether what was said of a model's code is so: tried on data, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from levelhead import kinds
from levelhead.evaluation import unheard

#: How much outputs may differ, as a share of the largest: roundings of float64, summed over a deep model; and of the
#: types that a model holds on to.
_ROUNDING = {torch.float64: 1e-7, torch.float32: 1e-3}

Arguments = tuple[Any, ...]


@torch.no_grad()
def outputs(model: nn.Module, arguments: Arguments) -> list[Tensor]:
    """All tensors that a model returns, with the same chance each time; who listens with hooks does not hear of it."""
    with torch.random.fork_rng(devices=[]), unheard(model):
        torch.manual_seed(0)
        return [leaf for leaf in pytree.tree_leaves(model(*arguments)) if isinstance(leaf, Tensor)]


def examples(model: nn.Module) -> Iterator[Arguments]:
    """Random inputs that a model might take, told from its first layer; the caller sees whether it does."""
    layer: Any = next((m for m in model.modules() if isinstance(m, kinds.Norm | kinds.Affine)), None)
    channels = next((getattr(layer, n) for n in ("in_features", "in_channels", "num_features") if hasattr(layer, n)), 0)
    kind = kinds.intended(layer)
    digits = next((int(each) for each in (kind.base.__name__ if kind else "") if each.isdigit()), 0)
    generator = torch.Generator().manual_seed(0)
    if channels:
        for size in (16, 32, 64, 224) if digits else (1,):
            yield (torch.randn(2, channels, *[size] * digits, generator=generator, device="cpu"),)
        if digits == 1:
            yield (torch.randn(4, channels, generator=generator, device="cpu"),)


def wrong(
    model: nn.Module,
    tries: Iterator[Arguments] | list[Arguments],
    change: Callable[[Any, Mapping[str, str]], list[str]],
) -> dict[str, str]:
    """Which parts of a change alter what a model returns by more than rounding, and by how much.

    Args:
        model: it is not changed.
        tries: arguments to run it on; the first that it takes are used.
        change: changes the model it is given, but for the parts of these names; returns the names of the parts.
    """
    found = next((case for case in (_case(model, each) for each in tries) if case is not None), None)
    if found is None:
        return {}
    twin, arguments, before, rounding = found

    def by(skipped: Mapping[str, str]) -> tuple[list[str], float]:
        changed = copy.deepcopy(twin)
        names = change(changed, skipped)
        return names, _difference(before, changed, arguments)

    names, difference = by({})
    if difference <= rounding:
        return {}
    said = "folded, it would change an output by {:.1e} of the largest".format
    alone = {name: by({other: "" for other in names if other != name})[1] for name in names}
    bad = {name: said(share) for name, share in alone.items() if not share <= rounding}
    return bad if by(bad)[1] <= rounding else {name: said(difference) for name in names}


def _case(model: nn.Module, arguments: Arguments) -> tuple[nn.Module, Arguments, list[Tensor], float] | None:
    """A copy in float64, or as it is where it does not run there, its arguments and what it returns."""
    for dtype, rounding in _ROUNDING.items():
        try:
            twin = copy.deepcopy(model)
            given = pytree.tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, arguments)
            if dtype == torch.float64:
                return twin.double(), given, outputs(twin, given), rounding
            return twin, arguments, outputs(twin, arguments), rounding
        except Exception:  # whatever the model says to arguments of that type
            continue
    return None


def _difference(before: Sequence[Tensor], model: nn.Module, arguments: Arguments) -> float:
    """The largest |after - before|, as a share of the largest |before|."""
    try:
        after = outputs(model, arguments)
    except Exception:  # it ran before
        return float("inf")
    largest = 0.0
    for a, b in zip(before, after, strict=True):
        if a.numel():
            finite = a.double().nan_to_num(0, 0, 0)
            scale = max(float(finite.abs().max()), torch.finfo(torch.float32).tiny)
            gap = (b.double() - a.double()).nan_to_num(torch.inf)[~(a.isnan() & b.isnan()) & (a != b)]
            largest = max(largest, float(gap.abs().max()) / scale if gap.numel() else 0.0)
    return largest
