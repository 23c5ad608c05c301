"""The source of a method as a syntax tree, and another body of it as a function that shows its source, too."""

from __future__ import annotations
import __future__

import ast
import copy
import dis
import inspect
import linecache
import types
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple


class Unreadable(Exception):
    """The source of a method cannot be had, or uses what is not understood here."""


class Source(NamedTuple):
    """A method as it is written: the function that its decorators hold, its lines as they stand, and their tree."""

    function: types.FunctionType
    text: str
    tree: ast.FunctionDef


def read(function: types.FunctionType) -> Source:
    """The source of a method, once it is certain that it is the source of just this function.

    Raises:
        Unreadable: there is no source, it is of something else, or the method is a generator, asynchronous, or looks at
            its own local variables.
    """
    inner: types.FunctionType = undecorated(function)
    code = inner.__code__
    try:
        lines, _ = inspect.findsource(code)
        text = "".join(inspect.getblock(lines[code.co_firstlineno - 1 :]))
        tree = _parsed(text, code.co_firstlineno)
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise Unreadable("its source cannot be read") from error
    if not isinstance(tree, ast.FunctionDef) or not _alike(_code(tree, code), code):
        raise Unreadable(f"its source is not what runs, which is {code.co_qualname} of line {code.co_firstlineno}")
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in {"locals", "vars", "eval", "exec"}:
            raise Unreadable(f"it calls {name}()")
        if name.startswith("__") and not name.endswith("__"):
            raise Unreadable(f"it uses the private name {name}")
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
            raise Unreadable("it is a generator")
    return Source(inner, text, tree)


def _placed(text: str, line: int) -> str:
    """A file that is a text from that line on; one that is indented needs something to stand in."""
    return "\n" * (line - 2) + "if True:\n" + text if text[:1].isspace() else "\n" * (line - 1) + text


def _parsed(text: str, line: int) -> ast.stmt:
    """The one statement of a text that begins at a line of its file."""
    (statement,) = ast.parse(_placed(text, line)).body
    return statement.body[0] if isinstance(statement, ast.If) else statement


def undecorated(function: Any) -> Any:
    """What the decorators of a function hold, as ``functools.wraps`` says."""
    inner = inspect.unwrap(function)
    return inner if isinstance(inner, types.FunctionType) else function


def exchanged(function: types.FunctionType, tree: ast.FunctionDef, extra: str, value: Any) -> types.FunctionType:
    """A function with another body, like the original in all else, its decorators included.

    Its source, for ``inspect`` and debuggers, is the original's in a file of its own, line by line, with the new
    expressions in it: it is made from just that.

    Args:
        function: the original.
        tree: the tree of ``read``, changed, statement by statement.
        extra: the name of one more free variable.
        value: what that stands for.

    Raises:
        Unreadable: a decorator does not hold the function as it is, or the new text cannot be had.
    """
    inner, text, _ = read(function)
    old = inner.__code__
    text = _written(text, old.co_firstlineno, tree)
    cells = dict(zip(old.co_freevars, inner.__closure__ or (), strict=True))
    cells[extra] = types.CellType(value)
    name = f"<{old.co_qualname} as levelhead.convert made it ({zlib.crc32(text.encode()):08x}), {old.co_filename}>"
    try:
        code = _code(_parsed(text, old.co_firstlineno), old, name, extra)
    except (SyntaxError, ValueError) as error:
        raise Unreadable("its new source cannot be written") from error
    shown = _placed(text, old.co_firstlineno)
    linecache.cache[name] = (len(shown), None, shown.splitlines(True), name)
    result = _like(inner, code, tuple(cells[v] for v in code.co_freevars))
    return _decorated(function, inner, result)


def _decorated(outer: Any, inner: types.FunctionType, new: types.FunctionType) -> types.FunctionType:
    """What decorators have made of ``inner``, with a new function in its place."""
    if outer is inner:
        return new
    held: Any = outer.__wrapped__
    result = _decorated(held, inner, new)
    cells: Any = getattr(outer, "__closure__", None) or ()
    if type(outer) is not types.FunctionType or not any(cell.cell_contents is held for cell in cells):
        name = outer.__code__.co_qualname if isinstance(outer, types.FunctionType) else type(outer).__name__
        raise Unreadable(f"its decorator {name} does not hold it as it is")
    closure = tuple(types.CellType(result) if cell.cell_contents is held else cell for cell in cells)
    wrapper = _like(outer, outer.__code__, closure)
    wrapper.__wrapped__ = result  # type: ignore[attr-defined]
    return wrapper


def _like(function: types.FunctionType, code: types.CodeType, closure: tuple[Any, ...]) -> types.FunctionType:
    new = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    new.__kwdefaults__, new.__doc__ = function.__kwdefaults__, function.__doc__
    new.__annotations__, new.__module__ = function.__annotations__, function.__module__
    new.__qualname__ = function.__qualname__
    new.__dict__.update(function.__dict__)
    return new


def _code(tree: ast.stmt, old: types.CodeType, filename: str | None = None, *extra: str) -> types.CodeType:
    """The code of a method without its decorators, with the free variables of the original, and more of these."""
    variables = [*old.co_freevars, *extra]  # as parameters of a function around it, so that they are free in it
    around = ast.parse(f"def around({', '.join(variables)}): pass").body[0]
    plain = copy.copy(tree)
    assert isinstance(around, ast.FunctionDef)
    assert isinstance(plain, ast.FunctionDef)
    plain.decorator_list, around.body = [], [plain]
    module = ast.Module([ast.copy_location(around, tree)], [])
    flags = old.co_flags & __future__.annotations.compiler_flag
    outer = compile(module, filename or old.co_filename, "exec", flags, dont_inherit=True).co_consts[0]
    (code,) = (c for c in outer.co_consts if isinstance(c, types.CodeType) and c.co_name == plain.name)
    return code.replace(co_qualname=old.co_qualname, co_firstlineno=old.co_firstlineno)


def _written(text: str, start: int, tree: ast.FunctionDef) -> str:
    """The text of a method with what differs in another tree of it exchanged, every line in its place."""
    lines = [line.encode() for line in text.splitlines(True)]
    for old, new in reversed(list(_differences(_parsed(text, start), tree))):
        first, last = old.lineno - start, (old.end_lineno or old.lineno) - start
        before, after = lines[first][: old.col_offset], lines[last][old.end_col_offset :]
        lines[first : last + 1] = [before + ast.unparse(new).encode() + after, *[b"\n"] * (last - first)]
    return b"".join(lines).decode()


def _differences(old: Any, new: Any) -> Iterator[tuple[Any, ast.AST]]:
    """The expressions and simple statements of two trees of the same statements that differ."""
    if isinstance(old, ast.expr) or (isinstance(old, ast.stmt) and not hasattr(old, "body")):
        if ast.unparse(old) != ast.unparse(new):
            yield old, new
        return
    for a, b in zip(ast.iter_child_nodes(old), ast.iter_child_nodes(new), strict=True):
        yield from _differences(a, b)


def _alike(a: types.CodeType, b: types.CodeType) -> bool:
    """Whether two codes do the same, wherever they stand."""
    names = ("co_names", "co_varnames", "co_freevars", "co_cellvars")
    if any(getattr(a, name) != getattr(b, name) for name in names) or len(a.co_consts) != len(b.co_consts):
        return False
    if a.co_code != b.co_code and _steps(a) != _steps(b):
        return False
    return all(
        _alike(x, y) if isinstance(x, types.CodeType) and isinstance(y, types.CodeType) else repr(x) == repr(y)
        for x, y in zip(a.co_consts, b.co_consts, strict=True)
    )


def _steps(code: types.CodeType) -> list[tuple[str, Any]]:
    """What a code does, but for how a method is looked up, which depends on what its file imports."""
    return [
        (i.opname.replace("METHOD", "ATTR"), None if i.opcode in _JUMPS else str(i.argval).partition(" at 0x")[0])
        for i in dis.get_instructions(code)
        if i.opname not in {"PUSH_NULL", "CACHE", "EXTENDED_ARG"}
    ]


_JUMPS = {*dis.hasjrel, *dis.hasjabs}
