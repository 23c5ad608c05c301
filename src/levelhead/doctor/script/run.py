"""Runs a stranger's script as ``python train.py --lr 0.1`` would: arguments, ``__main__``, paths, exit status."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from levelhead.doctor.program import ProgramError

_ran: list[types.ModuleType] = []


@dataclass(frozen=True)
class Script:
    """A script and what is given to it.

    Args:
        what: the file, or with ``module`` the name of a module, as after ``python -m``.
        arguments: what the script finds in ``sys.argv[1:]``.
        module: whether ``what`` is a module.
    """

    what: str
    arguments: tuple[str, ...] = ()
    module: bool = False

    def found(self) -> tuple[Path, types.ModuleType]:
        """The file, and the module ``__main__`` that it will run in.

        Raises:
            ProgramError: there is no such script, or it cannot be read as Python.
        """
        main = types.ModuleType("__main__")
        if self.module:
            path, spec = _module(self.what)
            main.__spec__ = spec
            main.__package__ = spec.parent
        else:
            path = Path(self.what)
            if path.is_dir() and (path / "__main__.py").is_file():
                path /= "__main__.py"
            if not path.is_file():
                raise ProgramError(f"{self.what}: there is no such file{_colon(self.what)}")
        path = path.absolute()
        main.__file__ = str(path)
        main.__dict__["__builtins__"] = builtins
        return path, main

    def run(self) -> int:
        """Run it in this process; what it raises is printed as Python prints it.

        Returns:
            The exit status that Python would end with.

        Raises:
            ProgramError: there is no such script, or it cannot be read as Python.
            KeyboardInterrupt: it was stopped; the traceback has been printed.
        """
        path, main = self.found()
        try:
            code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            raise ProgramError(f"{path.name}{f', line {line}' if line else ''}: {error.args[0]}") from error
        first = str(Path.cwd()) if self.module else str(path.resolve().parent)
        with _as_main(main, [str(path) if self.module else self.what, *self.arguments], first):
            return _status(lambda: exec(code, main.__dict__), str(path))


def _colon(what: str) -> str:
    source, _, name = what.rpartition(":")
    return f"; {name}() in {source} builds no levelhead.Program here" if Path(source).is_file() else ""


def _module(name: str) -> tuple[Path, ModuleSpec]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name += ".__main__"
            spec = find_spec(name)
    except (ImportError, ValueError) as error:
        raise ProgramError(f"-m {name}: {error}") from error
    finally:
        sys.path.pop(0)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ProgramError(f"-m {name}: there is no such module that Python could run")
    return Path(spec.origin), spec


@contextmanager
def _as_main(main: types.ModuleType, argv: Sequence[str], first: str) -> Iterator[None]:
    """``main`` in the place of ``__main__``: what is pickled, or started by ``spawn``, looks for it there."""
    kept = sys.modules["__main__"], sys.argv, list(sys.path)
    sys.modules["__main__"], sys.argv = main, list(argv)
    sys.path[0:1] = [first] if sys.path and sys.path[0] in ("", str(Path(kept[1][0]).parent)) else [first, sys.path[0]]
    try:
        yield
    finally:
        _ran.append(main)  # Python keeps a script's objects until what it left to run at exit has run
        sys.modules["__main__"], sys.argv, sys.path[:] = kept


def _status(run: Callable[[], None], path: str) -> int:
    try:
        run()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return int(error.code or 0)
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        error.__traceback__ = _from(error.__traceback__, path)
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            raise
        return 1
    return 0


def _from(tb: types.TracebackType | None, path: str) -> types.TracebackType | None:
    """The traceback from the script's own first frame on: those before are ours."""
    at = tb
    while at is not None and at.tb_frame.f_code.co_filename != path:
        at = at.tb_next
    return at or tb
