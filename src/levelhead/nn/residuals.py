"""Finding ``norm(residual + dropout(x))`` in the source of a method, and having it calculated in one step.

As in ``rewriting``, only the calls are exchanged, for those of ``fusion``, which look at the modules when they run:

    return self.norm(x + self.dropout(self.linear(y)))
        return normalized(self.norm, "add", x, drop(self.dropout, self.linear(y)))

    x = x + self.dropout(self.attend(x))        x = (ahead := Ahead(self.norm, "add", x, drop(...))).total
    y = self.linear(self.norm(x))               y = self.linear(ahead.normalized(self.norm, x))

A sum with a dropout is always one step; a norm goes with it that is in the same expression, or in the next statement,
which then gets the result that was calculated ahead. A norm has no state and no chance in it, so nobody can tell. A
dropout may stand in a statement before the sum, if it has no other use, or at the end of a method that is called there,
as in ``nn.TransformerEncoderLayer``; such a method gets a twin that leaves the dropout to its caller.
"""

from __future__ import annotations

import ast
import copy
import types
from typing import Any, NamedTuple, TypeGuard

from levelhead.nn.scope import HELPERS, SCOPES, Scope, assigned, count, helper, is_result, may_precede

_AHEAD = "levelhead_ahead"
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)
_CONDITIONAL = (ast.IfExp, ast.BoolOp, ast.NamedExpr)


class Droppers(NamedTuple):
    """Which callees of a class's methods are what, as they are written: ``self.dropout``, ``self._feed_forward``."""

    dropouts: frozenset[str]
    norms: frozenset[str]  # layer and RMS norms
    methods: frozenset[str]  # those that end in a dropout, by name


def ends_in_dropout(tree: ast.FunctionDef, dropouts: frozenset[str]) -> bool:
    """Whether all that a method returns is the result of a dropout, in its last statement."""
    returns = [n for n in ast.walk(tree) if isinstance(n, ast.Return)]
    last = tree.body[-1]
    if (
        len(returns) != 1
        or returns[0] is not last
        or any(isinstance(n, SCOPES) for n in ast.walk(tree) if n is not tree)
    ):
        return False
    return isinstance(last, ast.Return) and last.value is not None and _of_dropout(last.value, dropouts) is not None


def put_off_last(tree: ast.FunctionDef) -> None:
    """Exchanges the dropout that a method ends in, which ``ends_in_dropout`` has found."""
    last = tree.body[-1]
    assert isinstance(last, ast.Return)
    assert isinstance(last.value, ast.Call)
    last.value = helper("drop", last.value.func, *last.value.args)


def rewrite(tree: ast.FunctionDef, function: types.FunctionType, names: Droppers) -> list[str]:
    """Exchanges the patterns of one method in place; returns what was found: ``self.dropout + add + self.norm``."""
    rewriter = _Rewriter(Scope(tree, function), names)
    rewriter.body(tree.body, looped=False)
    return rewriter.found


class _Sum(NamedTuple):
    """The arguments that make a sum with a dropout: how it is added, left, right; and the dropout as it is written."""

    arguments: tuple[ast.expr, ast.expr, ast.expr]
    dropout: str


class _Rewriter(ast.NodeTransformer):
    def __init__(self, scope: Scope, names: Droppers) -> None:
        self.scope, self.names = scope, names
        self.found: list[str] = []
        self.fresh: set[str] = set()  # local variables that hold the result of a module, which nobody else has
        self.held: dict[str, str] = {}  # local variables whose dropout is put off, and which one it is
        self.aheads = 0

    def body(self, statements: list[ast.stmt], looped: bool) -> None:
        """Rewrites a list of statements, and those within them."""
        for i, statement in enumerate(statements):
            self.fresh = self.scope.fresh(statements, i, looped)
            following = statements[i + 1] if i + 1 < len(statements) else None
            if following is not None and not self.scope.guarded:
                self._put_off(statement, following, looped)
                self._calculate_ahead(statement, following)
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
            self.held = {name: which for name, which in self.held.items() if name == assigned(statement)}

    def _put_off(self, statement: ast.stmt, following: ast.stmt, looped: bool) -> None:
        """``h = dropout(x)`` where the next statement adds h to something and nobody else reads it."""
        name = assigned(statement)
        if name is None or name not in self.scope.own or not isinstance(statement, ast.Assign):
            return
        dropout = self._dropout(statement.value)
        if dropout is None or not isinstance(following, ast.Assign | ast.Return) or following.value is None:
            return
        rebound = assigned(following) == name or isinstance(following, ast.Return)
        if count(following.value, name) != 1 or not (rebound or self.scope.dead_after(name, following, looped)):
            return
        if isinstance(statement.value, ast.Call) and self._is_fresh(statement.value):
            self.held[name] = dropout
            if any(self._sum(n) is not None and _is_addend(self.scope, n, name) for n in ast.walk(following.value)):
                statement.value = self._exchanged(statement.value)
            else:
                del self.held[name]

    def _calculate_ahead(self, statement: ast.stmt, following: ast.stmt) -> None:
        """``s = residual + dropout(x)`` where the next statement takes the norm of s."""
        name = assigned(statement)
        if name is None or name not in self.scope.own or not isinstance(statement, ast.Assign):
            return
        found = self._sum(statement.value)
        if found is None or not isinstance(following, _SIMPLE) or following.value is None:
            return
        calls = [n for n in ast.walk(following.value) if self._is_norm(n) and _is_name(n.args[0], name)]
        if len(calls) != 1 or any(isinstance(n, _CONDITIONAL) for n in ast.walk(following)):
            return
        (norm,) = calls
        operands = [side for n in ast.walk(following.value) if (sides := self.scope.addends(n)) for side in sides[:2]]
        others = count(following, name) - 1 - (assigned(following) == name)
        if others != sum(_is_name(side, name) for side in operands):
            return
        self.aheads += 1
        ahead = f"{_AHEAD}_{self.aheads}"
        label = ast.unparse(norm.func)
        call = helper("Ahead", copy.deepcopy(norm.func), *found.arguments)
        held = ast.NamedExpr(ast.Name(ahead, ast.Store()), call)
        statement.value = ast.copy_location(ast.Attribute(held, "total", ast.Load()), call)
        norm.args.insert(0, norm.func)
        norm.func = ast.copy_location(ast.Attribute(ast.Name(ahead, ast.Load()), "normalized", ast.Load()), norm)
        self.found.append(f"{found.dropout} + add + {label}")

    def visit(self, node: ast.AST) -> Any:
        """A norm of a sum with a dropout, or such a sum; else what is within."""
        if self._is_norm(node):
            found = self._sum(node.args[0])
            if found is not None:
                self.found.append(f"{found.dropout} + add + {ast.unparse(node.func)}")
                return self._within(helper("normalized", node.func, *found.arguments))
        found = self._sum(node)
        if found is not None:
            self.found.append(f"{found.dropout} + add")
            return self._within(helper("total", *found.arguments))
        if isinstance(node, ast.Call) and _is_helper(node.func):
            return self._within(node)
        return self.generic_visit(node)

    def _within(self, call: ast.Call) -> ast.Call:
        """The arguments of a helper, which knows what to do with a variable that is held."""
        call.args = [a if isinstance(a, ast.Name) and a.id in self.held else self.visit(a) for a in call.args]
        return call

    def _sum(self, node: ast.AST) -> _Sum | None:
        """A sum of which one side is a dropout that may be put off until the other is there."""
        addends = self.scope.addends(node)
        if addends is None:
            return None
        left, right, adds = addends
        how = ast.copy_location(ast.Constant(adds), node)
        after, before = self._dropout(right), self._dropout(left)
        if after is not None and not self._holds(left):  # it is calculated last in any case
            return _Sum((how, left, self._exchanged(right)), after)
        if before is not None and (self._holds(left) or may_precede(self._is_fresh(left), right)):
            return _Sum((how, self._exchanged(left), right), before)
        return None

    def _holds(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self.held

    def _dropout(self, node: ast.expr) -> str | None:
        """The dropout, as it is written, whose result an expression is."""
        if isinstance(node, ast.Name):
            return self.held.get(node.id)
        found = _of_dropout(node, self.names.dropouts)
        return found or (ast.unparse(node.func) if isinstance(node, ast.Call) and self._is_method(node.func) else None)

    def _is_method(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and _is_name(node.value, "self") and node.attr in self.names.methods

    def _is_fresh(self, node: ast.expr) -> bool:
        """Whether nobody else holds what the dropout is of; what a method takes it of is not looked up."""
        if not isinstance(node, ast.Call) or self._is_method(node.func):
            return False
        (x,) = node.args
        return is_result(x) or (isinstance(x, ast.Name) and x.id in self.fresh)

    def _exchanged(self, node: ast.expr) -> ast.expr:
        """The call of a dropout, put off; a variable that holds such a thing stays."""
        if not isinstance(node, ast.Call):
            return node
        if self._is_method(node.func):
            assert isinstance(node.func, ast.Attribute)
            twin = helper("dropping", node.func.value, ast.copy_location(ast.Constant(node.func.attr), node))
            return ast.copy_location(ast.Call(twin, node.args, node.keywords), node)
        return helper("drop", node.func, *node.args)

    def _is_norm(self, node: ast.AST) -> TypeGuard[ast.Call]:
        if not isinstance(node, ast.Call) or len(node.args) != 1 or node.keywords:
            return False
        return not isinstance(node.args[0], ast.Starred) and ast.unparse(node.func) in self.names.norms


def _of_dropout(node: ast.expr, dropouts: frozenset[str]) -> str | None:
    if not isinstance(node, ast.Call) or node.keywords or len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
        return None
    text = ast.unparse(node.func)
    return text if text in dropouts else None


def _is_helper(node: ast.expr) -> bool:
    """Whether a callee is one of the three that take a sum apart."""
    if not isinstance(node, ast.Attribute) or not _is_name(node.value, HELPERS):
        return False
    return node.attr in {"total", "normalized", "Ahead"}


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_addend(scope: Scope, node: ast.AST, name: str) -> bool:
    addends = scope.addends(node)
    return addends is not None and any(_is_name(side, name) for side in addends[:2])
