"""Which parameters a regularizer acts on."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

from levelhead import kinds

#: Modules whose parameters are a normalizer's scale and shift, of whatever shape.
NORMALIZERS = (kinds.Norm,)

_One: TypeAlias = str | type[nn.Module] | Callable[[str, nn.Parameter], bool]
#: None for the weights; a pattern of names (``"encoder.*.weight"``); a type of module; a function of name and
#: parameter; or several of these.
Where: TypeAlias = _One | Sequence[_One] | None

#: A parameter's name, the parameter, and the module that holds it, where that is known.
Owned: TypeAlias = tuple[str, nn.Parameter, nn.Module | None]


def select(model: nn.Module, where: Where = None) -> dict[str, nn.Parameter]:
    """The parameters of a model that a regularizer acts on, by name; a shared one once, under its first name.

    Args:
        model: whose parameters.
        where: None takes the weights: what has two and more dimensions and is no normalizer's, so neither biases nor
            scales. A text is a pattern of names as a shell has it (``*``, ``?``, ``[...]``; a star matches dots too).
            A type takes the weights of the modules of this type (all parameters, if it is a normalizer's). A function
            is asked with name and parameter. Of a sequence, any may choose.

    Raises:
        ValueError: something in ``where`` chooses nothing.
        TypeError: ``where`` is none of these.
    """
    return choose(list(owned(model)), where)


def owned(model: nn.Module) -> Iterator[Owned]:
    """Every parameter of a model once, with its name and the module that holds it."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{prefix}.{name}" if prefix else name, parameter, module


def choose(parameters: Sequence[Owned], where: Where) -> dict[str, nn.Parameter]:
    """As ``select``, from parameters that were listed before."""
    rules = list(where) if isinstance(where, Sequence) and not isinstance(where, str) else [where]
    taken: set[int] = set()
    for rule in rules:
        found = {id(parameter) for name, parameter, module in parameters if _fits(rule, name, parameter, module)}
        if not found:
            raise ValueError(_nothing(rule, [name for name, _, _ in parameters]))
        taken |= found
    chosen = {name: parameter for name, parameter, _ in parameters if id(parameter) in taken}
    for name, parameter in chosen.items():
        if is_lazy(parameter):
            raise ValueError(f"parameter {name!r} has no values yet; run the model once on a batch first")
    return chosen


def _fits(rule: _One | None, name: str, parameter: nn.Parameter, module: nn.Module | None) -> bool:
    if rule is None:
        return is_weight(parameter, module)
    if isinstance(rule, str):
        return fnmatchcase(name, rule)
    if isinstance(rule, type) and issubclass(rule, nn.Module):
        if module is None:
            raise ValueError(f"the modules of type {rule.__name__} are known from the model alone; pass model=...")
        return isinstance(module, rule) and (is_weight(parameter, module) or issubclass(rule, NORMALIZERS))
    if not isinstance(rule, type) and callable(rule):
        return bool(rule(name, parameter))
    raise TypeError(f"where must be a pattern, a type of module, a function, or several of them; got {rule!r}")


def is_weight(parameter: nn.Parameter, module: nn.Module | None) -> bool:
    """Whether a parameter is a weight: of two and more dimensions, and no normalizer's."""
    return is_lazy(parameter) or (parameter.ndim > 1 and not isinstance(module, NORMALIZERS))


def _nothing(rule: _One | None, names: Sequence[str]) -> str:
    listed = ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "") or "none"
    if isinstance(rule, str):
        close = difflib.get_close_matches(rule, names, 1, 0.4)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return f"no parameter's name matches {rule!r}{hint}; the names are {listed}"
    if isinstance(rule, type):
        return f"no module of type {rule.__name__} has a weight; the parameters are {listed}"
    what = "there is no weight of two or more dimensions" if rule is None else f"{rule!r} chooses no parameter"
    return f"{what}; the parameters are {listed}"
