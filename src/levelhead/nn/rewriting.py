"""Finding ``activation(norm(x) + residual)`` in the source of a method, and having it calculated in one call.

The method stays as it was written: conditions, loops, ``self.training``, arguments and side effects. Only the calls of
the pattern are exchanged for those of ``fusion``, which look at the modules when they run:

    out = self.bn2(self.conv2(out))         out = defer(self.bn2, self.conv2(out))
    if self.shortcut is not None:           if self.shortcut is not None:
        x = self.shortcut(x)                    x = self.shortcut(x)
    out += x                                out = add_in_place(out, x)
    out = F.relu(out)                       out = activate("relu", F.relu, out)

A normalization is put off only where nothing can tell: its value has no other use, and nothing in between returns or
may change its input. The rest is left alone.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from levelhead import kinds
from levelhead.nn import fusion, residuals, source
from levelhead.nn.residuals import Droppers
from levelhead.nn.scope import (
    HELPERS,
    SCOPES,
    Scope,
    assigned,
    count,
    escapes,
    helper,
    is_result,
    may_precede,
    mentions,
)


class Names(NamedTuple):
    """Which callees of a class's methods are what, as they are written: ``self.bn1``, ``self.layers[0]``."""

    norms: frozenset[str]
    activations: frozenset[str]
    sequences: frozenset[str]  # those of the norms that are a sequence, which ends in one
    local_norms: bool  # whether a local variable may be one, as in ``for norm in self.norms``
    droppers: Droppers


class Rewritten(NamedTuple):
    """A method in its new form, and what was found in it: ``self.bn2 + add + relu``."""

    function: types.FunctionType
    found: tuple[str, ...]


def callees(tree: ast.FunctionDef) -> Iterator[ast.expr]:
    """What a method calls."""
    return (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))


def rewrite(function: types.FunctionType, names: Names) -> Rewritten | None:
    """The method with every pattern exchanged; None if it has none.

    Raises:
        Unreadable: as ``source.read``.
    """
    tree, found = _rewritten(function, names)
    return Rewritten(_function(tree, function), tuple(found)) if found else None


def rewrite_last(function: types.FunctionType, names: Names) -> types.FunctionType:
    """The method, which ends in a dropout, with every pattern exchanged and that dropout left to the caller."""
    tree, _ = _rewritten(function, names)
    residuals.put_off_last(tree)
    return _function(tree, function)


def _rewritten(function: types.FunctionType, names: Names) -> tuple[ast.FunctionDef, list[str]]:
    tree = source.read(function)
    rewriter = _Rewriter(tree, function, names)
    rewriter.body(tree.body)
    return tree, rewriter.found + residuals.rewrite(ast.fix_missing_locations(tree), function, names.droppers)


def _function(tree: ast.FunctionDef, function: types.FunctionType) -> types.FunctionType:
    """A function of another body that is like the original in all else."""
    code = source.compiled(ast.fix_missing_locations(tree), function, HELPERS)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    cells[HELPERS] = types.CellType(fusion)
    new = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, tuple(cells[v] for v in code.co_freevars)
    )
    new.__kwdefaults__, new.__doc__ = function.__kwdefaults__, function.__doc__
    new.__annotations__, new.__module__ = function.__annotations__, function.__module__
    return new


class _Site(NamedTuple):
    """A value that is put off: its new expression, the text of the callee, and whether nothing else holds the input."""

    node: ast.expr
    norm: str
    fresh: bool
    added: bool = False
    held: bool = False  # in a local variable, by an earlier statement


class _Rewriter(ast.NodeTransformer):
    """Exchanges the patterns of one method in place; ``found`` says which."""

    def __init__(self, tree: ast.FunctionDef, function: types.FunctionType, names: Names) -> None:
        self.names = names
        self.scope = Scope(tree, function)
        self.found: list[str] = []
        self.held: dict[str, _Site] = {}  # local variables whose value is put off, in the statement at hand
        self.fresh: set[str] = set()  # local variables that hold the result of a module, which nobody else has

    # Statements: a value is put off in one and used in a later one of the same body.

    def body(self, statements: list[ast.stmt], looped: bool = False) -> None:
        """Rewrites a list of statements, and those within them."""
        for i, statement in enumerate(statements):
            self.fresh = self.scope.fresh(statements, i, looped)
            if not self.scope.guarded:
                self._put_off(statements, i, looped)
            inner = isinstance(statement, ast.For | ast.While)
            for field, value in ast.iter_fields(statement):
                if field in {"body", "orelse", "finalbody"} and isinstance(statement, ast.stmt):
                    if not isinstance(statement, SCOPES):
                        self.body(value, looped or inner)
                elif field == "handlers":
                    for handler in value:
                        self.body(handler.body, looped)
                elif isinstance(value, ast.expr):
                    setattr(statement, field, self.visit(value))

    def _put_off(self, statements: list[ast.stmt], i: int, looped: bool) -> None:
        first = statements[i]
        name = assigned(first)
        if name is None or name not in self.scope.own or not isinstance(first, ast.Assign | ast.AnnAssign):
            return
        site = self._deferred(first.value) if first.value is not None else None
        if site is None:
            return
        start = name
        added: tuple[int, str, ast.expr] | None = None
        for j in range(i + 1, len(statements)):
            statement = statements[j]
            if not (mentions(statement, name) or mentions(statement, start)):
                if not site.fresh or escapes(statement) or site.norm in ast.unparse(statement):
                    return
                continue
            total = None if added else self._sum_of(statement, name, site)
            if total is not None:
                target = assigned(statement)
                if target is None or target not in self.scope.own:
                    return
                if target != name and not self.scope.dead_after(name, statement, looped):
                    return
                name, added, site = target, (j, target, total), site._replace(added=True)
                continue
            if not self._finished(statement, name, site, looped):
                return
            first.value = site.node
            if added is not None:
                place, target, total = added
                sum_ = ast.Assign([ast.Name(target, ast.Store())], total)
                statements[place] = ast.copy_location(sum_, statements[place])
            return

    def _sum_of(self, statement: ast.stmt, name: str, site: _Site) -> ast.expr | None:
        """The new value of a statement that does nothing but add to ``name``."""
        value = ast.Name(name, ast.Load())
        if isinstance(statement, ast.AugAssign):
            if not isinstance(statement.op, ast.Add) or assigned(statement) != name:
                return None
            if mentions(statement.value, name) or not may_precede(site.fresh, statement.value):
                return None
            return helper("add_in_place", value, statement.value)
        if isinstance(statement, ast.Assign) and count(statement.value, name) == 1:
            self.held = {name: site._replace(node=value, held=True)}
            total = self._sum(statement.value)
            self.held = {}
            return total.node if total is not None and total.held and total.added else None
        return None

    def _finished(self, statement: ast.stmt, name: str, site: _Site, looped: bool) -> bool:
        """Exchanges the activation in a statement that uses ``name`` once; False if it is none."""
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Return | ast.Expr | ast.AugAssign):
            return False
        if statement.value is None or count(statement.value, name) != 1:
            return False
        if isinstance(statement, ast.AugAssign) and mentions(statement.target, name):
            return False
        rebound = isinstance(statement, ast.Assign | ast.AnnAssign) and assigned(statement) == name
        if not (rebound or isinstance(statement, ast.Return) or self.scope.dead_after(name, statement, looped)):
            return False
        self.held, self.fresh = {name: site._replace(node=ast.Name(name, ast.Load()), held=True)}, set()
        used = any(self._uses_held(node) for node in ast.walk(statement.value))
        if used:
            statement.value = self.visit(statement.value)
        self.held = {}
        return used

    def _uses_held(self, node: ast.AST) -> bool:
        name, _, value = self._activation(node) if isinstance(node, ast.Call) else (None, None, None)
        site = None if name is None or value is None else self._sum(value)
        return site is not None and site.held

    # Expressions.

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """An activation of something that can be put off; else the calls within."""
        name, function, value = self._activation(node)
        if name is not None and value is not None:
            total = self._sum(value)
            if total is not None:
                label = ast.unparse(node.func) if name == _MODULE else name
                self.found.append(" + ".join([total.norm, *["add"] * total.added, label]))
                if function is None:
                    assert isinstance(node.func, ast.Attribute)
                    node = helper("call_method", ast.Constant(name), ast.Constant(node.func.attr), total.node)
                else:
                    known = ast.Constant(None if name == _MODULE else name)
                    arguments, keywords = node.args[1:], node.keywords
                    node = helper("activate", known, function, total.node, *arguments)
                    node.keywords = keywords
        self.generic_visit(node)
        return node

    def _activation(self, node: ast.Call) -> tuple[str | None, ast.expr | None, ast.expr | None]:
        """The name, the callee (None for a method of the value) and the value of a call that is an activation."""
        text = ast.unparse(node.func)
        plain = not node.keywords and len(node.args) == 1 and not isinstance(node.args[0], ast.Starred)
        if text in self.names.activations:
            return (_MODULE, node.func, node.args[0]) if plain else (None, None, None)
        known = self.scope.function(node.func)
        name = None if known is None or not node.args else _name_with_arguments(known, node)
        if name is not None:
            return name, node.func, node.args[0]
        if isinstance(node.func, ast.Attribute) and not node.args and not node.keywords and known is None:
            return kinds.activation_method(node.func.attr), None, node.func.value
        return None, None, None

    def _sum(self, node: ast.expr) -> _Site | None:
        """What can be put off, or its sum with something else."""
        addends = self.scope.addends(node)
        if addends is None:
            return self._deferred(node)
        left, right, adds = addends
        candidates = []
        after = self._deferred(right)
        if after is not None:  # it is calculated last in any case
            candidates.append((after, left, (left, after.node)))
        before = self._deferred(left)
        if before is not None and may_precede(before.fresh, right):
            candidates.append((before, right, (before.node, right)))
        candidates.sort(key=lambda candidate: not candidate[0].held)
        for site, other, arguments in candidates:
            if not site.added and site.norm not in ast.unparse(other):
                return site._replace(node=helper(adds, *arguments), added=True)
        return None

    def _deferred(self, node: ast.expr) -> _Site | None:
        """What can be put off: a variable that is, or the call of a normalization."""
        if isinstance(node, ast.Name):
            return self.held.get(node.id)
        if not isinstance(node, ast.Call) or node.keywords or len(node.args) != 1:
            return None
        (x,) = node.args
        text = ast.unparse(node.func)
        local = self.names.local_norms and isinstance(node.func, ast.Name) and text in self.scope.locals
        if isinstance(x, ast.Starred) or not (text in self.names.norms or local):
            return None
        fresh = is_result(x) or text in self.names.sequences or (isinstance(x, ast.Name) and x.id in self.fresh)
        return _Site(helper("defer", node.func, x), text, fresh)


_MODULE = "activation"  # which one, its module says when it runs


def _name_with_arguments(known: Any, node: ast.Call) -> str | None:
    """The activation's name if the further arguments leave it what it is."""
    if any(isinstance(argument, ast.Starred) for argument in node.args) or any(k.arg is None for k in node.keywords):
        return None
    keywords = {keyword.arg: _constant(keyword.value) for keyword in node.keywords if keyword.arg}
    return kinds.activation_call(known, tuple(_constant(a) for a in node.args[1:]), keywords)


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else node
