"""Finding, in the source of a method, what can be one call, and having it calculated in one.

The method stays as it was written: conditions, loops, ``self.training``, arguments and side effects. Only the calls of
two patterns, ``activation(norm(x) + residual)`` and ``norm(residual + dropout(x))``, are exchanged for those of
``fusion``, which look at the modules when they run:

    out = self.bn2(self.conv2(out))             out = defer(self.bn2, self.conv2(out))
    if self.shortcut is not None:               if self.shortcut is not None:
        x = self.shortcut(x)                        x = self.shortcut(x)
    out += x                                    out = add_in_place(out, x)
    out = F.relu(out)                           out = activate("relu", F.relu, out)

    return self.norm(x + self.dropout(y))       return normalized(self.norm, add(x, drop(self.dropout, y)))

    if self.bn is not None:                     if self.bn is not None:
        x = self.bn(x)                              x = defer(self.bn, x)
    if self.act is not None:                    if self.act is not None:
        x = self.act(x)                             x = activate(None, self.act, x)
    return x                                    return finish(x)

    x = x + self.dropout(self.attend(x))        x = (ahead := Ahead(self.norm, add(x, drop(...)))).total
    y = self.linear(self.norm(x))               y = self.linear(ahead.normalized(self.norm, x))

A norm or a dropout is put off only where nothing can tell: its value has one use, and nothing in between returns or may
change what it is calculated from. A norm is put off for an activation, a dropout for a sum, which a norm may go with
that stands in the same expression or in the next statement; it has no state and no chance in it. A dropout may also
stand at the end of a method that is called in its place; such a method gets a twin that leaves it to its caller.
"""

from __future__ import annotations

import ast
import copy
import re
import types
from functools import cache
from typing import Any, NamedTuple, TypeGuard

import torch
from torch.nn import functional as F

from levelhead import kinds
from levelhead.nn import fusion, source

#: The free variable under which a rewritten method finds ``fusion``.
HELPERS = "levelhead_fusion"

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.GeneratorExp)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)
_ESCAPES = (ast.Return, ast.Raise, ast.Break, ast.Continue, ast.Assert, ast.Yield, ast.YieldFrom, ast.Await)
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)
_CONDITIONAL = (ast.IfExp, ast.BoolOp, ast.NamedExpr)
_NORMS = ("norm", "row", "chain")
_DROPOUTS = ("dropout", "method")


class Names(NamedTuple):
    """What a class's methods call, as it is written, and which of its lists hold norms.

    Args:
        roles: ("self.bn1", "norm") and so on: a "norm", a "row" norm, a "chain" of modules that ends in a norm of what
            it has made, a "dropout", an "activation", "nothing" (an identity), a "maker" whose result nobody else
            holds, another "part" of the module, or a "method" that ends in a dropout.
        lists: the attributes in which a local variable may find a norm, as in ``for norm in self.norms``.
    """

    roles: frozenset[tuple[str, str]]
    lists: frozenset[str]

    def words(self) -> set[str]:
        """The attributes of which a method must name one for anything to be found in it."""
        callees = " ".join(callee for callee, role in self.roles if role in (*_NORMS, *_DROPOUTS))
        return ({*re.findall(r"\w+", callees), *self.lists, "dropout"}) - {"self"}


def callees(tree: ast.FunctionDef) -> set[str]:
    """What a method calls, as it would be written if its first parameter were called ``self``."""
    first = _first(tree)
    return {_text(node.func, first) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def _first(tree: ast.FunctionDef) -> str:
    arguments = [*tree.args.posonlyargs, *tree.args.args]
    return arguments[0].arg if arguments else "self"


def _text(node: ast.AST, first: str) -> str:
    text = ast.unparse(node)
    return f"self{text[len(first) :]}" if text.startswith(f"{first}.") else text


def ends_in(tree: ast.FunctionDef, dropouts: set[str]) -> bool:
    """Whether all that a method returns is the result of a dropout, in its last statement."""
    last = tree.body[-1]
    inner = [n for n in ast.walk(tree) if isinstance(n, (*_SCOPES, ast.Return)) and n is not tree]
    if inner != [last] or not isinstance(last, ast.Return) or not _is_plain(last.value):
        return False
    return _text(last.value.func, _first(tree)) in dropouts


@cache
def rewrite(function: types.FunctionType, names: Names) -> tuple[types.FunctionType, list[str]] | None:
    """The method with every pattern exchanged, and what was found, as ``self.bn2 + add + relu``; None if nothing was.

    Raises:
        Unreadable: as ``source.read``.
    """
    tree, found = _rewritten(function, names)
    return (source.exchanged(function, tree, HELPERS, fusion), found) if found else None


@cache
def rewrite_last(function: types.FunctionType, names: Names) -> types.FunctionType:
    """The method, which ``ends_in`` a dropout, with every pattern exchanged and that dropout left to the caller."""
    tree, _ = _rewritten(function, names)
    last = tree.body[-1]
    assert isinstance(last, ast.Return)
    assert isinstance(last.value, ast.Call)
    last.value = _helper("drop", last.value.func, *last.value.args)
    return source.exchanged(function, tree, HELPERS, fusion)


def _rewritten(function: types.FunctionType, names: Names) -> tuple[ast.FunctionDef, list[str]]:
    _, _, tree = source.read(function)
    rewriter = _Rewriter(tree, source.undecorated(function), names)
    rewriter.body(tree.body)
    return tree, rewriter.found


class _Open(NamedTuple):
    """An expression whose value may be put off until it is known what goes with it."""

    node: ast.expr  # in its new form
    label: str
    callee: str  # the norm, which nobody may call in the meantime
    fresh: bool  # whether nobody else holds what it is calculated from
    added: bool = False
    held: bool = False  # in a local variable, by an earlier statement


class _Closed(NamedTuple):
    """An expression that makes use of what was put off."""

    node: ast.expr
    label: str
    held: bool


class _Rewriter(ast.NodeTransformer):
    """Exchanges the patterns of one method in place; ``found`` says which."""

    def __init__(self, tree: ast.FunctionDef, function: types.FunctionType, names: Names) -> None:
        self.roles, self.lists, self.first = dict(names.roles), names.lists, _first(tree)
        self.scope = _Scope(tree, function)
        self.found: list[str] = []
        self.held: dict[tuple[str, str], _Open] = {}  # what is put off, by local variable and kind
        self.at: tuple[list[ast.stmt], int, bool] = ([], 0, False)  # the statement at hand
        self.aheads = 0

    # Statements: a value is put off in one and used in a later one of the same body.

    def body(self, statements: list[ast.stmt], looped: bool = False) -> None:
        """Rewrites a list of statements, and those within them."""
        for i, statement in enumerate(statements):
            if not self.scope.guarded and not self._chain(statements, i, looped, "norm"):
                self._chain(statements, i, looped, "dropout") or self._optional(statements, i, looped)
            inner = isinstance(statement, ast.For | ast.While)
            for field, value in ast.iter_fields(statement):
                self.at = (statements, i, looped)
                if field in {"body", "orelse", "finalbody"} and isinstance(statement, ast.stmt):
                    if not isinstance(statement, _SCOPES):
                        self.body(value, looped or inner)
                elif field == "handlers":
                    for handler in value:
                        self.body(handler.body, looped)
                elif isinstance(value, ast.expr):
                    setattr(statement, field, self.visit(value))

    def _chain(self, statements: list[ast.stmt], i: int, looped: bool, kind: str) -> bool:
        """Puts off the value of statement i through those that add to it, if one behind them makes use of that."""
        first, self.at = statements[i], (statements, i, looped)
        name = _assigned(first)
        if name is None or name not in self.scope.own or not isinstance(first, ast.Assign | ast.AnnAssign):
            return False
        site = None if first.value is None else self._open(first.value, kind)
        if site is None:
            return False
        links = {i: (name, site)}
        for j in range(i + 1, len(statements)):
            statement, self.at = statements[j], (statements, j, looped)
            if not _count(statement, name):
                escapes = any(isinstance(n, _ESCAPES) for n in ast.walk(statement))
                if not site.fresh or escapes or not self._is_apart(statement, site.callee):
                    break
                continue
            if not (self._is_only_use(statement, name, looped) and self._is_calm(statement, name, site)):
                break
            self.held = {(name, kind): site._replace(node=ast.Name(name, ast.Load()), held=True)}
            target, grown = self._grown(statement, kind)
            if grown is not None and grown.held and target in self.scope.own:
                name, site = target, grown
                links[j] = (name, site)
                continue
            value: Any = getattr(statement, "value", None)
            if any(closed.held for n in ast.walk(value) if (closed := self._closed(n)) is not None):
                statement.value = self.visit(value)  # type: ignore[attr-defined]
                self._write(statements, links)
                return True
            break
        self.held = {}
        if not site.added:
            return False
        place = max(links)  # the sum is one pass with the norm or the dropout in any case
        self._write(statements, links)
        ahead = kind == "dropout" and place + 1 < len(statements)
        if not (ahead and self._calculated_ahead(statements, place, name, site)):
            statements[place].value = _helper("finish", site.node)  # type: ignore[attr-defined]
            self.found.append(site.label)
        return True

    def _optional(self, statements: list[ast.stmt], i: int, looped: bool) -> bool:
        """Puts off a norm whose activation is the next statement, each maybe in an ``if`` whose test calls nothing."""
        if i + 2 >= len(statements):
            return False
        first, second, third = _within(statements[i]), _within(statements[i + 1]), statements[i + 2]
        name, self.at = _assigned(first), (statements, i, looped)
        if name is None or name != _assigned(second) or name not in self.scope.own:
            return False
        if not (
            isinstance(first, ast.Assign) and isinstance(second, ast.Assign) and isinstance(second.value, ast.Call)
        ):
            return False
        if _count(statements[i + 1], name) != 2 or isinstance(third, ast.AugAssign):
            return False
        if not (self._is_only_use(third, name, looped) and self._is_calm(third, name)):
            return False
        site, (activation, function, value) = self._open(first.value, "norm"), self._activation(second.value)
        if site is None or site.added or activation is None or value is None or not _is_name(value, name):
            return False
        self.found.append(f"{site.label} + {self._named(activation, second.value)}")
        first.value, second.value = site.node, _activated(activation, function, value, second.value)
        third.value = _Finished(name).visit(third.value)  # type: ignore[attr-defined]
        return True

    def _write(self, statements: list[ast.stmt], links: dict[int, tuple[str, _Open]]) -> None:
        self.held = {}
        for place, (name, site) in links.items():
            if isinstance(statements[place], ast.AugAssign):
                new = ast.Assign([ast.Name(name, ast.Store())], site.node)
                statements[place] = ast.fix_missing_locations(ast.copy_location(new, statements[place]))
            else:
                statements[place].value = site.node  # type: ignore[attr-defined]

    def _grown(self, statement: ast.stmt, kind: str) -> tuple[str, _Open | None]:
        """What a statement makes of a value that is held, where it only adds to it, and for which variable."""
        name = _assigned(statement) or ""
        if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add):
            left = ast.copy_location(ast.Name(name, ast.Load()), statement)
            return name, self._sum(left, statement.value, "add_in_place", kind)
        return name, self._open(statement.value, kind) if isinstance(statement, ast.Assign) else None

    def _is_only_use(self, statement: ast.stmt, name: str, looped: bool) -> bool:
        if not isinstance(statement, _SIMPLE) or statement.value is None:
            return False
        if isinstance(statement, ast.AugAssign) and _count(statement.target, name):
            return isinstance(statement.target, ast.Name) and not _count(statement.value, name)
        rebound = isinstance(statement, ast.Assign | ast.AnnAssign) and _assigned(statement) == name
        over = rebound or isinstance(statement, ast.Return) or self.scope.dead_after(name, statement, looped)
        return over and _count(statement.value, name) == 1

    def _calculated_ahead(self, statements: list[ast.stmt], place: int, name: str, site: _Open) -> bool:
        """A sum of which the next statement takes the norm, and that is used elsewhere, too."""
        statement, following = statements[place], statements[place + 1]
        if not isinstance(statement, ast.Assign) or not isinstance(following, _SIMPLE) or following.value is None:
            return False
        nodes = list(ast.walk(following.value))
        norms = [n for n in nodes if self._is_row_norm(n) and _is_name(n.args[0], name)]
        if len(norms) != 1 or any(isinstance(n, _CONDITIONAL) for n in ast.walk(following)):
            return False
        (norm,) = norms
        operands = [side for n in nodes if (sides := self.scope.addends(n)) for side in sides[:2]]
        others = _count(following, name) - 1 - (_assigned(following) == name)
        if others != sum(_is_name(side, name) for side in operands):
            return False
        self.aheads += 1
        ahead = f"levelhead_ahead_{self.aheads}"
        self.found.append(f"{site.label} + {_text(norm.func, self.first)}")
        call = _helper("Ahead", copy.deepcopy(norm.func), site.node)
        held = ast.NamedExpr(ast.Name(ahead, ast.Store()), call)
        statement.value = ast.fix_missing_locations(ast.copy_location(ast.Attribute(held, "total", ast.Load()), call))
        norm.args.insert(0, norm.func)
        method = ast.Attribute(ast.Name(ahead, ast.Load()), "normalized", ast.Load())
        norm.func = ast.fix_missing_locations(ast.copy_location(method, norm))
        return True

    # Expressions.

    def visit(self, node: ast.AST) -> Any:
        """What makes use of something that can be put off, in its new form; else what is within."""
        closed = self._closed(node)
        if closed is None:
            return self.generic_visit(node)
        self.found.append(closed.label)
        return self.generic_visit(closed.node)

    def _closed(self, node: ast.AST) -> _Closed | None:
        """An activation of a norm, a norm of a sum with a dropout, or such a sum."""
        if isinstance(node, ast.Call):
            name, function, value = self._activation(node)
            site = None if value is None else self._open(value, "norm")
            if site is not None and name is not None:
                label = f"{site.label} + {self._named(name, node)}"
                return _Closed(_activated(name, function, site.node, node), label, site.held)
        if self._is_row_norm(node):
            site = self._open(node.args[0], "dropout")
            if site is not None and site.added:
                label = f"{site.label} + {_text(node.func, self.first)}"
                return _Closed(_helper("normalized", node.func, site.node), label, site.held)
        sites = [] if isinstance(node, ast.Name) else [self._open(node, kind) for kind in ("norm", "dropout")]
        site = next((each for each in sites if each is not None and each.added), None)
        return None if site is None else _Closed(_helper("finish", site.node), site.label, site.held)

    def _open(self, node: ast.AST, kind: str) -> _Open | None:
        """What can be put off: a variable that is, the call of a norm or a dropout, or a sum with one."""
        if isinstance(node, ast.Name):
            return self.held.get((node.id, kind))
        sides = self.scope.addends(node)
        if sides is not None:
            return self._sum(*sides, kind)
        if not isinstance(node, ast.Call):
            return None
        text = _text(node.func, self.first)
        role = self.roles.get(text, "")
        if kind == "dropout" and role == "method":
            assert isinstance(node.func, ast.Attribute)
            twin = _helper("dropping", node.func.value, ast.copy_location(ast.Constant(node.func.attr), node))
            call = ast.copy_location(ast.Call(twin, node.args, node.keywords), node)
            return _Open(call, text, "", fresh=False)  # what a method takes it of is not looked up
        if kind == "dropout" and node.args and self.scope.function(node.func) is F.dropout:
            call = _helper("drop", node.func, *node.args)
            call.keywords = node.keywords
            return _Open(call, "dropout", "", self._is_fresh(node.args[0]))
        if not _is_plain(node):
            return None
        (x,) = node.args
        if kind == "dropout":
            return _Open(_helper("drop", node.func, x), text, "", self._is_fresh(x)) if role == "dropout" else None
        if role == "nothing":
            site = self._open(x, kind)
            return None if site is None else site._replace(node=_helper("through", node.func, site.node))
        local = self.lists and isinstance(node.func, ast.Name) and text in self.scope.locals
        if role not in _NORMS and not local:
            return None
        return _Open(_helper("defer", node.func, x), text, text, role == "chain" or self._is_fresh(x))

    def _sum(self, left: ast.expr, right: ast.expr, adds: str, kind: str) -> _Open | None:
        """What can be put off, and something else added to it."""
        after, before = self._open(right, kind), self._open(left, kind)
        found = []
        if after is not None:  # it is calculated last in any case
            found.append((after, left, (left, after.node)))
        if before is not None and (before.held or self._may_precede(before, right)):
            found.append((before, right, (before.node, right)))
        for site, other, arguments in sorted(found, key=lambda each: not each[0].held):
            if not site.added and not self._calls(other, site.callee):
                fresh = site.fresh and self._is_fresh(other)
                return site._replace(
                    node=_helper(adds, *arguments), label=f"{site.label} + add", fresh=fresh, added=True
                )
        return None

    def _activation(self, node: ast.Call) -> tuple[str | None, ast.expr | None, ast.expr | None]:
        """The name, the callee (None for a method of the value) and the value of a call that is an activation."""
        if self.roles.get(_text(node.func, self.first)) == "activation":
            return (_MODULE, node.func, node.args[0]) if _is_plain(node) else (None, None, None)
        known = self.scope.function(node.func)
        name = None if known is None or not node.args else _name_with_arguments(known, node)
        if name is not None:
            return name, node.func, node.args[0]
        if isinstance(node.func, ast.Attribute) and not node.args and not node.keywords and known is None:
            return kinds.activation_method(node.func.attr), None, node.func.value
        return None, None, None

    def _named(self, name: str, call: ast.Call) -> str:
        """An activation's name, of a module as it is written."""
        return _text(call.func, self.first) if name == _MODULE else name

    def _is_row_norm(self, node: ast.AST) -> TypeGuard[ast.Call]:
        return _is_plain(node) and self.roles.get(_text(node.func, self.first)) == "row"

    def _is_fresh(self, node: ast.expr) -> bool:
        """Whether nobody else holds a value: the result of a maker, here or in a variable that is read here alone."""
        statements, i, looped = self.at
        if self._is_result(node):
            return True
        if not isinstance(node, ast.Name) or node.id not in self.scope.own or not statements:
            return False
        name, statement = node.id, statements[i]
        rebound = _assigned(statement) == name
        if _count(statement, name) - rebound != 1 or not (rebound or self.scope.dead_after(name, statement, looped)):
            return False
        last = next((s for s in reversed(statements[:i]) if _count(s, name)), None)
        return isinstance(last, ast.Assign) and _assigned(last) == name and self._is_result(last.value)

    def _is_result(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self.roles.get(_text(node.func, self.first)) == "maker"

    def _is_apart(self, node: ast.AST, callee: str) -> bool:
        """Whether code neither calls a norm nor can reach into it: of the module, it uses other parts alone."""
        for each in ast.walk(node):
            if isinstance(each, ast.Call):
                text = _text(each.func, self.first)
                if re.fullmatch(r"self\.\w+", text) and self.roles.get(text, "method") == "method":
                    return False
                given = (*each.args, *(keyword.value for keyword in each.keywords))
                if text not in {"hasattr", "isinstance"} and any(_is_name(value, self.first) for value in given):
                    return False
            if isinstance(each, ast.Attribute) and each.attr in self.lists:
                return False
        return not self._calls(node, callee)

    def _is_calm(self, statement: Any, name: str, site: _Open | None = None) -> bool:
        """Whether nothing that matters can happen in a statement before ``name`` is made use of."""
        before = [
            n for n in ast.walk(statement.value) if isinstance(n, ast.Call | ast.NamedExpr) and not _count(n, name)
        ]
        return not before or (site is not None and site.fresh and all(self._is_apart(n, site.callee) for n in before))

    def _may_precede(self, site: _Open, other: ast.expr) -> bool:
        """Whether an expression may be calculated before what is put off."""
        if any(isinstance(n, ast.NamedExpr) for n in ast.walk(other)):
            return False
        return isinstance(other, ast.Name | ast.Attribute) or (site.fresh and self._is_apart(other, site.callee))

    def _calls(self, node: ast.AST, callee: str) -> bool:
        return bool(callee) and re.search(rf"(?<!\w){re.escape(callee)}(?!\w)", _text(node, self.first)) is not None


class _Scope:
    """The variables of one method, before anything in it is exchanged."""

    def __init__(self, tree: ast.FunctionDef, function: types.FunctionType) -> None:
        self.globals = function.__globals__
        self.locals = {*function.__code__.co_varnames, *function.__code__.co_cellvars, *function.__code__.co_freevars}
        nodes = list(ast.walk(tree))
        inner = [n for n in nodes if isinstance(n, (*_SCOPES, *_COMPREHENSIONS)) and n is not tree]
        shared = {name for scope in inner for name in _names_from_outside(scope)}
        shared.update(v for n in nodes if isinstance(n, ast.Global | ast.Nonlocal) for v in n.names)
        #: The variables that no inner function sees.
        self.own = {n.id for n in nodes if isinstance(n, ast.Name)} - shared
        self._loads = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        #: Whether an exception or a pattern may leave a statement half done.
        self.guarded = any(isinstance(n, ast.Try | ast.Match) for n in nodes)

    def dead_after(self, name: str, statement: ast.stmt, looped: bool) -> bool:
        """Whether nobody reads ``name`` after the statement."""
        uses = [n for n in self._loads if n.id == name]
        if looped:  # a reader above may come after, in the next round
            return len(uses) == 1
        end = (statement.end_lineno or 0, statement.end_col_offset or 0)  # more may stand on its line
        return all((n.lineno, n.col_offset) < end for n in uses)

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


def _names_from_outside(scope: Any) -> set[str]:
    """The names that an inner function may share with the method; a comprehension's own variables are not."""
    names = {n.id for n in ast.walk(scope) if isinstance(n, ast.Name)}
    if isinstance(scope, (ast.GeneratorExp, *_COMPREHENSIONS)):
        first, *_ = scope.generators
        bound = {n.id for each in scope.generators for n in ast.walk(each.target) if isinstance(n, ast.Name)}
        names -= bound - {n.id for n in ast.walk(first.iter) if isinstance(n, ast.Name)}
    return names


def _helper(name: str, *arguments: ast.expr) -> ast.Call:
    """The call of a function of ``fusion``."""
    function = ast.Attribute(ast.Name(HELPERS, ast.Load()), name, ast.Load())
    call = ast.copy_location(ast.Call(function, list(arguments), []), arguments[-1])
    return ast.fix_missing_locations(call)


def _activated(name: str, function: ast.expr | None, value: ast.expr, call: ast.Call) -> ast.Call:
    """The call of an activation, with a value that may be put off."""
    if function is None:
        assert isinstance(call.func, ast.Attribute)
        return _helper("call_method", ast.Constant(name), ast.Constant(call.func.attr), value)
    new = _helper("activate", ast.Constant(None if name == _MODULE else name), function, value, *call.args[1:])
    new.keywords = call.keywords
    return new


def _within(statement: ast.stmt) -> ast.stmt:
    """What an ``if`` without ``else`` holds, if that is one statement and its test calls nothing; else it itself."""
    if not isinstance(statement, ast.If) or statement.orelse or len(statement.body) != 1:
        return statement
    calls = any(isinstance(n, ast.Call | ast.NamedExpr | ast.Await) for n in ast.walk(statement.test))
    return statement if calls else statement.body[0]


class _Finished(ast.NodeTransformer):
    """Has a variable calculated where it is read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A variable."""
        return _helper("finish", node) if node.id == self.name else node


def _assigned(statement: ast.stmt) -> str | None:
    """The one local variable that a statement assigns to."""
    if isinstance(statement, ast.Assign):
        target = statement.targets[0] if len(statement.targets) == 1 else None
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        target = statement.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _count(node: ast.AST, name: str) -> int:
    """How often a variable occurs in something."""
    return sum(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))


def _is_plain(node: Any) -> TypeGuard[ast.Call]:
    """Whether it is a call of one argument."""
    if not isinstance(node, ast.Call) or node.keywords or len(node.args) != 1:
        return False
    return not isinstance(node.args[0], ast.Starred)


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


_MODULE = "activation"  # which one, its module says when it runs


def _name_with_arguments(known: Any, node: ast.Call) -> str | None:
    """The activation's name if the further arguments leave it what it is."""
    if any(isinstance(argument, ast.Starred) for argument in node.args) or any(k.arg is None for k in node.keywords):
        return None
    keywords = {keyword.arg: _constant(keyword.value) for keyword in node.keywords if keyword.arg}
    return kinds.activation_call(known, tuple(_constant(a) for a in node.args[1:]), keywords)


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else node
