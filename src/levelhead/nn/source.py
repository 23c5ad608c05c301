"""The source of a function as a syntax tree, and a tree as a function again."""

from __future__ import annotations
import __future__

import ast
import copy
import inspect
import types
from functools import lru_cache


class Unreadable(Exception):
    """The source of a method cannot be had, or uses what is not understood here."""


def read(function: types.FunctionType) -> ast.FunctionDef:
    """The syntax tree of a method, once it is certain that it is the source of just this function.

    Raises:
        Unreadable: there is no source, it is of something else, or the method is decorated, a generator, asynchronous,
            or looks at its own local variables.
    """
    old = function.__code__
    flags = old.co_flags & __future__.annotations.compiler_flag
    try:
        lines, _ = inspect.findsource(function)
        trees, codes = _parse("".join(lines), old.co_filename, flags)
    except (OSError, TypeError, SyntaxError) as error:
        raise Unreadable("its source cannot be read") from error
    key = (function.__name__, old.co_firstlineno)
    if key not in trees or not any(_alike(code, old) for code in codes.get(key, [])):
        raise Unreadable("its source is not what runs")
    tree = copy.deepcopy(trees[key])
    if tree.decorator_list:
        raise Unreadable("it is decorated")
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in {"locals", "vars", "eval", "exec"}:
            raise Unreadable(f"it calls {name}()")
        if name.startswith("__") and not name.endswith("__"):
            raise Unreadable(f"it uses the private name {name}")
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
            raise Unreadable("it is a generator")
    return tree


@lru_cache(maxsize=64)
def _parse(
    source: str, filename: str, flags: int
) -> tuple[dict[tuple[str, int], ast.FunctionDef], dict[tuple[str, int], list[types.CodeType]]]:
    """The functions of a file, as trees and as codes, by name and line."""
    tree = ast.parse(source, filename)
    trees = {(n.name, n.lineno): n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    codes: dict[tuple[str, int], list[types.CodeType]] = {}
    left = [compile(source, filename, "exec", flags, dont_inherit=True)]
    while left:
        code = left.pop()
        codes.setdefault((code.co_name, code.co_firstlineno), []).append(code)
        left.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return trees, codes


def compiled(tree: ast.FunctionDef, function: types.FunctionType, extra: str) -> types.CodeType:
    """The code of a method, with the file, the lines and the free variables of the original, and one more of these."""
    old = function.__code__
    variables = [*old.co_freevars, extra]  # as parameters of a function around it, so that they are free in it
    around = ast.parse(f"def around({', '.join(variables)}): pass").body[0]
    assert isinstance(around, ast.FunctionDef)
    around.body = [tree]
    module = ast.Module([ast.copy_location(around, tree)], [])
    flags = old.co_flags & __future__.annotations.compiler_flag
    outer = compile(module, old.co_filename, "exec", flags, dont_inherit=True).co_consts[0]
    (code,) = (c for c in outer.co_consts if isinstance(c, types.CodeType) and c.co_name == tree.name)
    return code.replace(co_qualname=old.co_qualname)


def _alike(a: types.CodeType, b: types.CodeType) -> bool:
    """Whether two codes do the same, wherever they stand."""
    if (a.co_code, a.co_names, a.co_varnames, a.co_freevars, a.co_cellvars) != (
        b.co_code,
        b.co_names,
        b.co_varnames,
        b.co_freevars,
        b.co_cellvars,
    ):
        return False
    return len(a.co_consts) == len(b.co_consts) and all(
        _alike(x, y) if isinstance(x, types.CodeType) and isinstance(y, types.CodeType) else repr(x) == repr(y)
        for x, y in zip(a.co_consts, b.co_consts, strict=True)
    )
