"""Turning a model's layers into levelhead's."""

from __future__ import annotations

import contextlib
import copyreg
import logging
import re
import types
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from levelhead import kinds
from levelhead.nn import fusion, rewriting, source, uses
from levelhead.nn.recognition import Formula, Parts, Recognised, recognise
from levelhead.nn.rewriting import Names
from levelhead.nn.source import Unreadable

Model = TypeVar("Model", bound=nn.Module)

#: What a class is made from, beside the original: the callees of its methods, a class of ours, what it calculates;
#: None where it is a sequence.
_How = Names | type | Formula | Parts | None

_log = logging.getLogger("levelhead.convert")


def convert(model: Model) -> Model:
    """Replace every normalization and dropout layer of a model by levelhead's, in place, and fuse what goes with them.

    ``activation(norm(x) + residual)`` and ``norm(residual + dropout(x))`` become one call, in ``nn.Sequential``, in the
    methods of the model's own classes and in PyTorch's layers of a transformer; ``explain`` says where. Parameters,
    buffers, hooks, modes and the names in the state_dict stay what they are, and so do references to a module from
    elsewhere: each keeps its identity and takes another class, a subclass of its own or of its namesake. A norm of
    another library (Llama's RMSNorm, T5's LayerNorm) is taken for what it calculates in a trial on random data. Lazy
    modules are converted once they have their shapes.

    Args:
        model: any module; one that is itself a normalization layer is converted too.

    Returns:
        The same object.

    Raises:
        TypeError: ``model`` is not a module.

    Example:
        >>> convert(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))[1].__class__.__module__
        'levelhead.nn.batch'
    """
    changes = _changes(model)
    for _, module, change in changes:
        if change.kind is not None:
            module.__class__ = change.kind
    report = _explained(changes)
    for name, text in {**report.fused, **report.left}.items():
        _log.info("%s: %s", name or _original(type(model)).__name__, text)
    if not (report.replaced or report.recognised or report.fused):
        _log.warning("%s: nothing was converted; print(levelhead.nn.explain(model)) says why", type(model).__name__)
    return model


@dataclass(frozen=True, slots=True)
class Explanation:
    """What ``convert`` does to a model, or has done, by the names of its modules.

    Args:
        replaced: the norms and dropouts that take a class of ours, and which.
        recognised: the norms of other libraries that a trial on data showed to be one of ours, and which.
        fused: what becomes one call, as ``"self.bn1 + self.relu, self.bn2 + add + self.relu"``, by the module in whose
            code it stands.
        left: why a norm, or the code of a module that has norms, stays as it is.
    """

    replaced: dict[str, str]
    recognised: dict[str, str]
    fused: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        """The counts, and a line for what is fused and for what is left."""
        heads = []
        for what in ("replaced", "recognised"):
            count = Counter(getattr(self, what).values())
            kinds_ = ", ".join(f"{kind} {n}" for kind, n in sorted(count.items()))
            heads.append(f"{what} {count.total()}" + (f" ({kinds_})" if kinds_ else ""))
        calls = sum(len(text.split(", ")) for text in self.fused.values())
        lines = ["; ".join([*heads, f"fused {calls}", f"left {len(self.left)}"])]
        lines += [f"{name or 'the model'}: {text}" for name, text in self.fused.items()]
        return "\n".join(lines + [f"{name or 'the model'} left: {why}" for name, why in self.left.items()])


def explain(model: nn.Module) -> Explanation:
    """What ``convert`` does to a model, or has done: replaced, recognised, fused, left and why.

    Args:
        model: a module, converted or not; it is not changed.

    Raises:
        TypeError: ``model`` is not a module.

    Example:
        >>> print(explain(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())))
        replaced 1 (BatchNorm1d 1); recognised 0; fused 1; left 0
        the model: 1 + relu
    """
    return _explained(_changes(model))


def unconvert(model: Model) -> Model:
    """Give every module that ``convert`` changed the class back that it had, in place; a layer of ours its namesake's.

    For tools that know classes by their exact type (quantization, privacy, ``convert_sync_batchnorm``).

    Args:
        model: any module.

    Returns:
        The same object.

    Raises:
        ValueError: a layer has extras that its namesake does not know, as ``activation="relu"``, or another tool, as
            ``fully_shard``, has made a class of ours its own.
    """
    new: list[tuple[nn.Module, type[nn.Module]]] = []
    for name, module in model.named_modules():
        cls, kind = type(module), kinds.of(module)
        if (tool := _tool(module)) and _is_converted(module):
            raise ValueError(f"{name or 'the model'}: {tool} has made its class; unconvert the model before it")
        if kind is not None and cls is kind.ours:
            extras = [k for k, v in vars(module).items() if k != "forward" and getattr(cls, k, v) != v]
            if extras:
                shown = ", ".join(f"{k}={vars(module)[k]!r}" for k in extras)
                raise ValueError(
                    f"{name or 'the model'}: torch.nn.{kind.base.__name__} knows no {shown}; take it off first"
                )
            new.append((module, kind.base))
        elif _original(cls) is not cls:
            new.append((module, _original(cls)))
    for module, cls in new:
        module.__class__ = cls
    return model


class _Change(NamedTuple):
    """The class that a module is to take, None for its own, and what there is to say about it."""

    kind: type[nn.Module] | None
    text: str = ""
    list: str = "fused"  # the list of an Explanation that it stands in


def _explained(changes: list[tuple[str, nn.Module, _Change]]) -> Explanation:
    lists: dict[str, dict[str, str]] = {each: {} for each in ("replaced", "recognised", "fused", "left")}
    for name, _, change in changes:
        if change.text:
            lists[change.list][name] = change.text
    return Explanation(**lists)


def _changes(model: nn.Module) -> list[tuple[str, nn.Module, _Change]]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert takes a torch.nn.Module, got {type(model).__name__}")
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    known: dict[Any, Any] = {}
    changes = [(name, module, _change(module, places, known)) for name, module in model.named_modules()]
    return [(name, module, _possible(module, change)) for name, module, change in changes]


def _possible(module: nn.Module, change: _Change) -> _Change:
    """The change, but of a class that another tool derived and expects to find."""
    tool = _tool(module)
    if not tool:
        return change
    if _is_converted(module):
        return change._replace(kind=None)
    held = change.text or any(isinstance(child, kinds.Norm) for child in module.children())
    return _Change(None, f"{tool} has made its class; convert the model before it" if held else "", "left")


def _tool(module: nn.Module) -> str:
    """What has derived the class of a module, beside us."""
    if parametrize.is_parametrized(module):
        return "torch.nn.utils.parametrize"
    return "fully_shard" if any(base.__name__ == "FSDPModule" for base in type(module).__mro__) else ""


def _is_converted(module: nn.Module) -> bool:
    """Whether a module has a class of ours, or one that was derived from it."""
    kind = kinds.intended(module)
    ours = None if kind is None else kind.ours
    return hasattr(module, _ORIGIN) or (ours is not None and isinstance(module, ours))


def _change(module: nn.Module, places: Counter[int], known: dict[Any, Any]) -> _Change:
    normal = isinstance(module, kinds.Norm)
    if isinstance(module, torch.jit.ScriptModule):
        return _Change(None, "it is scripted" if normal else "", "left")
    replacement = _replacement(module)
    if replacement is not None:
        return _Change(replacement, kinds.intended(module).ours.__name__, "replaced")  # type: ignore[union-attr]
    seen = module.seen if isinstance(module, Recognised) else recognise(module, known)
    if seen is not None:
        return _Change(_fused_class(_original(type(module)), seen)[0], str(seen), "recognised")
    if normal or ("norm" in type(module).__name__.lower() and not list(module.children())):
        return _Change(None, f"{type(module).__name__} calculates no norm that is known", "left")
    return _fused(module, places)


def _replacement(module: Any) -> Any:
    """The class of ours for a norm or a dropout; of a subclass without a ``forward`` of its own, one of both."""
    kind, cls = kinds.intended(module), type(module)
    if kind is None or kind.ours is None or not isinstance(module, nn.Module):
        return None
    if cls.forward is kind.ours.forward:
        return cls
    if kinds.of(module) is None:
        return None
    return kind.ours if cls is kind.base else _fused_class(cls, kind.ours)[0]


def _fused(module: nn.Module, places: Counter[int]) -> _Change:
    kind = _original(type(module))
    if isinstance(module, nn.Sequential) and getattr(kind, "forward", None) is nn.Sequential.forward:
        return _fused_sequential(module, kind)
    if kind.__module__.split(".")[0] in {"torch", "levelhead"} and kind not in uses.READ:
        return _Change(None)
    try:
        names = _names(module, kind, places)
        if names is None:
            return _Change(None)
        if "forward" in module.__dict__:
            raise Unreadable("forward was exchanged on the module itself")
        new, found = _fused_class(kind, names)
    except Unreadable as reason:
        return _Change(None, f"module by module: {reason}", "left")
    return _Change(new, ", ".join(found)) if found else _Change(None)


def _fused_sequential(module: nn.Sequential, kind: type[nn.Module]) -> _Change:
    """A sequence is fused within, and where it ends in a norm or a dropout, with what follows the sequence."""
    entries = [(name, entry) for name, entry in module._modules.items() if type(entry) is not nn.Identity]
    found = [
        f"{name} + {fusion.activation_of(after)}"
        for (name, entry), (_, after) in pairwise(entries)
        if _ends_in_norm(entry) and fusion.activation_of(after)
    ]
    if not found and not (entries and (_ends_in_norm(entries[-1][1]) or _ends_in_dropout(entries[-1][1]))):
        return _Change(None)
    return _Change(_fused_class(kind, None)[0], ", ".join(found))


def _last(module: nn.Module | None) -> nn.Module | None:
    """The module whose result a module gives: the last one of a sequence."""
    while isinstance(module, nn.Sequential) and len(module):
        if _original(type(module)).forward is not nn.Sequential.forward:
            break
        module = module[-1]
    return module


def _ends_in_norm(module: nn.Module | None) -> bool:
    last = _last(module)
    return isinstance(last, kinds.Norm) and _replacement(last) is not None


def _ends_in_dropout(module: nn.Module | None) -> bool:
    kind = kinds.of(_last(module))
    return kind is not None and kind.base is nn.Dropout


def _methods(kind: type[nn.Module]) -> dict[str, types.FunctionType]:
    """The methods that may be rewritten."""
    found = uses.methods(kind).items()
    return {n: m for n, m in found if isinstance(m, types.FunctionType) and (n == "__call__" or n[:2] != "__")}


def _role(target: nn.Module | None, module: nn.Module, places: Counter[int]) -> str:
    """What a callee is to the rewriter, as in ``Names``; "" if nothing."""
    last = _last(target)
    if target is None or last is None:
        return ""
    if _ends_in_norm(target):
        if places[id(last)] > 1:  # under two names within the module, it might be called in between
            within = (each for _, each in module.named_modules(remove_duplicate=False))
            if sum(each is last for each in within) > 1:
                return ""
        return "chain" if _makes(target) else "row" if kinds.axes(target) == "row" else "norm"
    if isinstance(target, Recognised) and isinstance(target.seen, Formula):
        return "row"
    if isinstance(target, kinds.Activation) and kinds.of(target) is not None:
        return "activation"
    if _ends_in_dropout(target):
        return "dropout"
    return "nothing" if type(target) is nn.Identity else "maker" if _makes(target) else "part"


def _makes(target: nn.Module) -> bool:
    """Whether what a layer gives, or the norm at the end of a sequence takes, is a tensor that nobody else holds."""
    if isinstance(target, kinds.Affine):
        return True
    if not isinstance(target, nn.Sequential) or _last(target) is target:
        return False
    *before, last = [each for each in target if type(each) is not nn.Identity] or [target[0]]
    return _makes(last) or (_ends_in_norm(last) and bool(before) and _makes(before[-1]))


def _names(module: nn.Module, kind: type[nn.Module], places: Counter[int]) -> Names | None:
    """What the methods of a module call; None where they call no normalization and no dropout.

    Raises:
        Unreadable: the forward method of a module that holds a normalization cannot be read.
    """
    lists = {
        name
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList | nn.ModuleDict) and any(map(_ends_in_norm, child.modules()))
    }
    held = any(map(_ends_in_norm, module.children())) or bool(lists)
    trees = {}
    for name, method in _methods(kind).items():
        words = uses.named(method)
        if module._modules.keys().isdisjoint(words) and not {"F", "functional", "dropout"} & words:
            continue  # its source, of a file of thousands of lines maybe, need not be read
        try:
            trees[name] = source.read(method).tree
        except Unreadable:
            if name == "forward" and held:
                raise
    if held and not trees:
        raise Unreadable("its methods name none of its norms, or a decorator hides them, without functools.wraps")
    roles: dict[str, str] = {}
    for tree in trees.values():
        for text in rewriting.callees(tree):
            roles[text] = roles.get(text) or _role(_resolve(text, module), module, places)
            name = text.removeprefix("self.")
            if not roles[text] and vars(module).get(name) is None and not hasattr(kind, name):
                roles[text] = "part"  # that others of its class have
    dropouts = {text for text, role in roles.items() if role == "dropout"}
    last = {f"self.{n}" for n, tree in trees.items() if n != "forward" and rewriting.ends_in(tree, dropouts)}
    roles.update(dict.fromkeys(last, "method"))
    found = frozenset((text, role) for text, role in roles.items() if role)
    return Names(found, frozenset(lists)) if lists or not {role for _, role in found} <= {"part", "maker"} else None


def _resolve(callee: str, module: nn.Module) -> nn.Module | None:
    """The submodule that an expression such as ``self.layers[0]`` stands for."""
    parts = re.fullmatch(r"self((?:\.\w+|\[(?:-?\d+|'\w+')\])+)", callee)
    found: Any = module
    for name, key in re.findall(r"\.(\w+)|\['?(-?\w+)'?\]", parts[1] if parts else ""):
        if not isinstance(found, nn.Module) or (
            key and not isinstance(found, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        ):
            return None
        found = found._modules.get(name or key)
    return found if parts else None


def _fused_class(kind: Any, names: _How) -> tuple[type[nn.Module], list[str]]:
    """The subclass with the fused methods (names None: of a sequence; a class of ours: one of both), what they fuse.

    Raises:
        Unreadable: no subclass can be made.
    """
    if isinstance(names, type):
        return _subclass(kind, names, (names, kind), ()), []
    if isinstance(names, Formula | Parts):
        ours = (names.ours,) if isinstance(names, Parts) else ()
        return _subclass(kind, names, (Recognised, *ours, kind), (("seen", names), ("original", kind))), []
    if names is None:
        bases = (fusion.FusedSequential,) if kind is nn.Sequential else (fusion.FusedSequential, kind)
        return _subclass(kind, names, bases, ()), []
    members: list[tuple[str, Any]] = []
    found: list[str] = []
    why: Unreadable | None = None
    words, methods = names.words(), {name[5:] for name, role in names.roles if role == "method"}
    for name, method in _methods(kind).items():
        if words.isdisjoint(uses.named(method)):
            continue
        try:
            rewritten = rewriting.rewrite(method, names)
            last = (fusion.DROPPING + name, rewriting.rewrite_last(method, names)) if name in methods else None
        except Unreadable as reason:  # that method stays as it is
            why = reason
            continue
        if rewritten is not None:
            members.append((name, rewritten[0]))
            found.extend(rewritten[1])
        if last is not None:
            members.append(last)
    if why is not None and not found:
        raise why
    return (_subclass(kind, names, (kind,), tuple(members)), found) if found else (kind, [])


@cache
def _subclass(kind: Any, names: Any, bases: Any, members: Any) -> type[nn.Module]:
    """One class for all modules of a kind, as PyTorch's compiler wants it."""
    prefix = "Fused" if names is None or isinstance(names, Names) else "Levelhead"
    own = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce_ex__": _reduce, _ORIGIN: (kind, names)}
    try:
        return types.new_class(f"{prefix}{kind.__name__}", bases, exec_body=lambda space: space.update(members, **own))
    except Exception as error:  # whatever the class's own __init_subclass__ or metaclass thinks of it
        raise Unreadable(f"no subclass can be made of it: {error}") from error


_ORIGIN = "_levelhead_origin"


def _original(kind: type[nn.Module]) -> type[nn.Module]:
    """The class that a fused one, or one that was derived from it since, was made from."""
    return getattr(kind, _ORIGIN, (kind,))[0]


def _reduce(self: nn.Module, protocol: Any) -> Any:
    """Pickles as the original class and the names, for no module holds the fused class."""
    fused: Any = next(base for base in type(self).__mro__ if _ORIGIN in vars(base))
    kind, names = getattr(fused, _ORIGIN)
    reduced = super(fused, self).__reduce_ex__(protocol)
    if not isinstance(reduced, tuple) or reduced[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return reduced
    return (_revive, (kind, names, *reduced[1][1:]), *reduced[2:])


def _revive(kind: type[nn.Module], names: _How, *args: Any) -> nn.Module:
    """An empty module of the fused class, or of the original where its source is not at hand."""
    with contextlib.suppress(Unreadable):
        kind = _fused_class(kind, names)[0]
    new: nn.Module = kind.__new__(kind, *args)
    return new
