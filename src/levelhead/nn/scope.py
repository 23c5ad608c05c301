"""What can be told of the variables and the statements of one method: who reads what, and what a name stands for."""

from __future__ import annotations

import ast
import types
from typing import Any

import torch

_ESCAPES = (ast.Return, ast.Raise, ast.Break, ast.Continue, ast.Assert, ast.Yield, ast.YieldFrom, ast.Await)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.GeneratorExp)
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp

#: The free variable under which a rewritten method finds ``fusion``.
HELPERS = "levelhead_fusion"


class Scope:
    """The variables of one method, before anything in it is exchanged."""

    def __init__(self, tree: ast.FunctionDef, function: types.FunctionType) -> None:
        self.globals = function.__globals__
        self.locals = {*function.__code__.co_varnames, *function.__code__.co_cellvars, *function.__code__.co_freevars}
        inner = [n for n in ast.walk(tree) if isinstance(n, (*SCOPES, _Comprehension)) and n is not tree]
        shared = {name for scope in inner for name in _names_from_outside(scope)}
        shared.update(v for n in ast.walk(tree) if isinstance(n, ast.Global | ast.Nonlocal) for v in n.names)
        #: The variables that no inner function sees.
        self.own = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - shared
        self._loads = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        #: Whether an exception or a pattern may leave a statement half done.
        self.guarded = any(isinstance(n, ast.Try | ast.Match) for n in ast.walk(tree))

    def dead_after(self, name: str, statement: ast.stmt, looped: bool) -> bool:
        """Whether nobody reads ``name`` after the statement."""
        uses = [n for n in self._loads if n.id == name]
        if looped:  # a reader above may come after, in the next round
            return len(uses) == 1
        return all(n.lineno <= (statement.end_lineno or 0) for n in uses)

    def fresh(self, statements: list[ast.stmt], i: int, looped: bool) -> set[str]:
        """The variables of statement i that hold the result of a module, and that it alone reads, once."""
        statement = statements[i]
        return {
            name
            for name in self.own
            if count(statement, name) - (assigned(statement) == name) == 1
            and (assigned(statement) == name or self.dead_after(name, statement, looped))
            and _was_result(name, statements[:i])
        }

    def function(self, node: ast.expr) -> Any:
        """What a name of the module's scope stands for, as ``F.relu``; None for anything else."""
        if isinstance(node, ast.Attribute):
            owner = self.function(node.value)
            return getattr(owner, node.attr, None) if isinstance(owner, types.ModuleType) else None
        known = isinstance(node, ast.Name) and node.id not in self.locals
        found = self.globals.get(node.id) if known and isinstance(node, ast.Name) else None
        return found if isinstance(found, types.ModuleType) or callable(found) else None

    def addends(self, node: ast.AST) -> tuple[ast.expr, ast.expr, str] | None:
        """The two sides of a sum and the helper that adds as it does; None for anything else."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return node.left, node.right, "add"
        if isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
            return (node.args[0], node.args[1], "torch_add") if self.function(node.func) is torch.add else None
        return None


def _names_from_outside(scope: ast.AST) -> set[str]:
    """The names that an inner function may share with the method; a comprehension's own variables are not."""
    names = {n.id for n in ast.walk(scope) if isinstance(n, ast.Name)}
    if isinstance(scope, ast.GeneratorExp | _Comprehension):
        first, *_ = scope.generators
        bound = {n.id for each in scope.generators for n in ast.walk(each.target) if isinstance(n, ast.Name)}
        names -= bound - {n.id for n in ast.walk(first.iter) if isinstance(n, ast.Name)}
    return names


def helper(name: str, *arguments: ast.expr) -> ast.Call:
    """The call of a function of ``fusion``."""
    function = ast.Attribute(ast.Name(HELPERS, ast.Load()), name, ast.Load())
    call = ast.Call(function, list(arguments), [])
    for node in (call, function, function.value):
        ast.copy_location(node, arguments[-1])
    return call


def assigned(statement: ast.stmt) -> str | None:
    """The one local variable that a statement assigns to."""
    if isinstance(statement, ast.Assign):
        target = statement.targets[0] if len(statement.targets) == 1 else None
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        target = statement.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def mentions(node: ast.AST, name: str) -> bool:
    """Whether a variable occurs in something."""
    return count(node, name) > 0


def count(node: ast.AST, name: str) -> int:
    """How often a variable occurs in something."""
    return sum(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))


def escapes(statement: ast.stmt) -> bool:
    """Whether what follows a statement may not be reached."""
    return any(isinstance(n, _ESCAPES) for n in ast.walk(statement))


def is_result(node: ast.expr) -> bool:
    """Whether an expression is the result of one of the modules: nobody else has it, and it is no view."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("self.")


def _was_result(name: str, before: list[ast.stmt]) -> bool:
    """Whether the last statement that mentions a variable gave it the result of a module."""
    for statement in reversed(before):
        if mentions(statement, name):
            simple = isinstance(statement, ast.Assign) and assigned(statement) == name
            return simple and is_result(statement.value)  # type: ignore[attr-defined]
    return False


def may_precede(fresh: bool, other: ast.expr) -> bool:
    """Whether an expression may be calculated before what stands before it, whose input is ``fresh`` or not."""
    if any(isinstance(n, ast.NamedExpr) for n in ast.walk(other)):
        return False
    return fresh or isinstance(other, ast.Name | ast.Attribute)
