"""Which parameters a regularizer acts on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

from levelhead import kinds
from levelhead.terminal import closest, listed
from levelhead.weights import Weight, is_weight, weights

_One: TypeAlias = str | type[nn.Module] | Callable[[str, Any], bool]
#: None for the weights; a pattern of names (``"encoder.*.weight"``); a type of module; a function of name and
#: parameter; or several of these.
Where: TypeAlias = _One | Sequence[_One] | None


def select(model: nn.Module, where: Where = None) -> dict[str, nn.Parameter]:
    """The parameters of a model that a regularizer acts on, by name; a shared one once, under its first name.

    Of a weight that is calculated from others (``weight_norm``, ``spectral_norm``, pruning, any parametrization) these
    are the others; it is chosen as a whole, by its own name.

    Args:
        model: whose parameters.
        where: None takes the weights: what has two and more dimensions and is neither a normalizer's nor another
            learned scale or shift. A text is a pattern of names as a shell has it (``*``, ``?``, ``[...]``; a star
            matches dots too). A type takes the weights of the modules of this type (all parameters, if it is a
            normalizer's). A function is asked with name and parameter. Of a sequence, any may choose.

    Raises:
        ValueError: something in ``where`` chooses nothing.
        TypeError: ``where`` is none of these.
    """
    return {name: p for chosen in choose(list(weights(model)), where) for name, p in chosen.parameters.items()}


def choose(known: Sequence[Weight], where: Where) -> list[Weight]:
    """As ``select``, from what was listed before."""
    rules = list(where) if isinstance(where, Sequence) and not isinstance(where, str) else [where]
    taken: set[int] = set()
    for rule in rules:
        found = {id(one) for one in known if _fits(rule, one)}
        if not found:
            raise ValueError(_nothing(rule, [one.name for one in known]))
        taken |= found
    chosen = [one for one in known if id(one) in taken]
    for one in chosen:
        if any(is_lazy(parameter) for parameter in one.parameters.values()):
            raise ValueError(f"parameter {one.name!r} has no values yet; run the model once on a batch first")
    return chosen


def _fits(rule: _One | None, one: Weight) -> bool:
    if rule is None:
        return is_weight(one)
    if isinstance(rule, str):
        return any(fnmatchcase(name, rule) for name in (one.name, *one.parameters))
    if isinstance(rule, type) and issubclass(rule, nn.Module):
        if one.module is None:
            raise ValueError(f"the modules of type {rule.__name__} are known from the model alone; pass model=...")
        return isinstance(one.module, rule) and (is_weight(one) or issubclass(rule, kinds.Norm))
    if not isinstance(rule, type) and callable(rule):
        return bool(rule(one.name, one.value()))
    raise TypeError(f"where must be a pattern, a type of module, a function, or several of them; got {rule!r}")


def _nothing(rule: _One | None, names: Sequence[str]) -> str:
    shown = listed(names, 8) or "none"
    if isinstance(rule, str):
        return f"no parameter's name matches {rule!r}{closest(rule, names)}; the names are {shown}"
    if isinstance(rule, type):
        return f"no module of type {rule.__name__} has a weight; the parameters are {shown}"
    what = "there is no weight of two or more dimensions" if rule is None else f"{rule!r} chooses no parameter"
    return f"{what}; the parameters are {shown}"
