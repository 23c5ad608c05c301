"""``levelhead examine``: runs a stranger's file safely; whatever goes wrong in it is one clear line."""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead import references
from levelhead.doctor.findings import Examination, Treated
from levelhead.doctor.program import Program, ProgramError
from levelhead.terminal import closest

if TYPE_CHECKING:
    from rich.console import Console

    from levelhead.doctor.script import Script

#: Frames in these folders are not the user's.
_LIBRARIES = ("site-packages", "dist-packages", "<frozen", "<string>")
_OWN = Path(__file__).parents[1]
_STANDARD = Path(inspect.__file__).parent


def run(
    what: str,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    treat: bool = False,
    budget: float = 30.0,
    console: Console | None = None,
) -> tuple[Examination, Treated | None]:
    """Build the program that ``file.py:build`` or ``module:function`` names, examine it, and treat it if asked to.

    What the program prints goes to standard error, so that standard output holds the result alone.

    Args:
        what: where the program is.
        select: codes, their beginnings, or causes to look for; several in one with commas.
        ignore: the same, to leave out.
        treat: whether to retrain with the remedies.
        budget: seconds for the examination; a treatment gets twice as many.
        console: where progress goes.

    Raises:
        ProgramError: the program cannot be run; the message names the file, the line, the mistake and the repair.
    """
    from levelhead.doctor.examination import examine

    if budget <= 0:
        raise ProgramError(f"the budget must be above 0 seconds, got {budget:g}")
    with contextlib.redirect_stdout(sys.stderr), _progress(console) as tell:
        tell(f"building {what}")
        program = build(what)
        with _placed(what):
            tell("examining")
            examination = examine(program, budget, select=_split(select), ignore=_split(ignore), progress=tell)
            if not treat or examination.healthy:
                return examination, None
            tell("treating")
            return examination, examination.treat(budget=2 * budget)


def is_script(what: str) -> bool:
    """Whether this names a file that is to be run, and not one with a function that builds a program."""
    path = Path(what)
    if path.suffix != ".py" or not path.is_file():
        return False
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return True
    if not any(isinstance(node, ast.FunctionDef) and node.name == "build" for node in body):
        return True
    # A script may have a build() of its own, which it calls itself, where a program is built for whoever asks.
    code = (node for node in body if not (isinstance(node, ast.If) and "__name__" in ast.dump(node.test)))
    names = (call.func for node in code for call in ast.walk(node) if isinstance(call, ast.Call))
    return any(isinstance(name, ast.Name) and name.id == "build" for name in names)


def run_script(
    script: Script,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    budget: float | None = None,
    steps: int | None = None,
    treat: bool = False,
    patch: Path | None = None,
    console: Console | None = None,
) -> tuple[Examination, Treated | None]:
    """Examine a script by running it again, with one change at a time.

    Args:
        script: what to run.
        select: codes, their beginnings, or causes to look for.
        ignore: the same, to leave out.
        budget: seconds, about.
        steps: updates of a run at most.
        treat: whether to run the change that won most, and the script as it is, with three other seeds each.
        patch: where to write the change, where it can be made in the source.
        console: where progress goes.

    Raises:
        ProgramError: the script cannot be run, or trains nothing.
    """
    from levelhead.doctor.rules import chosen
    from levelhead.doctor.script.examined import STEPS, examine_script
    from levelhead.records import write_text

    if budget is not None and budget <= 0:
        raise ProgramError(f"the budget must be above 0 seconds, got {budget:g}")
    budget = budget or 120.0
    wanted = chosen(_split(select), _split(ignore))
    with _progress(console) as tell:
        found = examine_script(script, budget=budget, steps=steps or STEPS, wanted=wanted, progress=tell)
        treated = None
        if treat and not found.healthy:
            tell("treating")
            treated = found.treat(budget=2 * budget)
    if patch is not None:
        changes = [f.patch for f in found.findings if f.patch.startswith("--- ")]
        if not changes:
            raise ProgramError("no finding has a patch that can be made in the source; --patch wrote nothing")
        write_text(patch, changes[0] + "\n")
    return found, treated


def build(what: str) -> Program:
    """The program that ``file.py:build`` or ``module:function`` names.

    Raises:
        ProgramError: it cannot be found, or it raises.
    """
    source, _, name = what.rpartition(":")
    if not source or (len(source) == 1 and name[:1] in "\\/"):  # no colon, or only a drive's
        source, name = what, "build"
    module = _module(source)
    value = getattr(module, name, None)
    if value is None:
        raise ProgramError(f"{source} has no function {name!r}{_instead(module, name)}")
    if not callable(value) or hasattr(value, "model"):
        return Program.of(value)
    arguments = _arguments(value, what)

    def made() -> Any:
        try:
            result = value(*arguments)
        except (KeyboardInterrupt, ProgramError):
            raise
        except (Exception, SystemExit) as error:
            raise ProgramError(
                f"{_place(error, source)}: {name}() raised {_said(error)}; run it by hand first"
            ) from error
        if result is None:
            raise ProgramError(
                f"{what} returned None; it must return levelhead.Program(model, loss, optimizer, train=...)"
            )
        return result

    return Program.of(made)


def _module(source: str) -> types.ModuleType:
    path = Path(source)
    if path.suffix == ".py" and not path.is_file():
        raise ProgramError(f"{source}: there is no such file")
    if path.suffix != ".py" and path.exists():
        raise ProgramError(f"{source} is no Python file; give file.py:build or module:function")
    try:
        return references.load(source)
    except KeyboardInterrupt:
        raise
    except SyntaxError as error:
        raise ProgramError(f"{Path(error.filename or source).name}, line {error.lineno}: {error.msg}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and source.split(".", maxsplit=1)[0] == error.name:
            raise ProgramError(f"there is no module {source!r}; give file.py:build or module:function") from error
        raise ProgramError(f"{_place(error, source)}: there is no module {error.name!r}; install it first") from error
    except (Exception, SystemExit) as error:
        raise ProgramError(f"{_place(error, source)}: importing it raised {_said(error)}") from error


def _arguments(function: Callable[..., Any], what: str) -> tuple[Any, ...]:
    """Nothing, or a seed for a function that wants one."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed == ["seed"]:
        return (0,)
    if inspect.isclass(function):
        raise ProgramError(
            f"{what} is a class; give a function that builds the whole program: def build(): model = "
            f"{function.__name__}(...); return levelhead.Program(model, loss, optimizer, train=loader, epochs=10)"
        )
    if needed:
        raise ProgramError(f"{what} needs arguments ({', '.join(needed)}); give a function that builds without any")
    return ()


def _instead(module: types.ModuleType, name: str) -> str:
    """What the user may have meant."""
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    defined = f"; it defines {', '.join(own[:6])}" if own else "; define one that returns levelhead.Program(...)"
    return closest(name, own) or defined


@contextlib.contextmanager
def _placed(what: str) -> Iterator[None]:
    """Errors of the examined program name the line of the user's file."""
    try:
        yield
    except SystemExit as error:  # in a loader, say: a step's and an evaluation's are caught where they are called
        raise ProgramError(f"{_place(error, what)}: the program called sys.exit({error.code!r})") from error
    except ProgramError as error:
        cause = error.__cause__
        while cause is not None and not _user_frames(cause):
            cause = cause.__cause__
        if cause is None:
            raise
        raise ProgramError(f"{_place(cause, what)}: {error}") from cause


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [frame for frame in traceback.extract_tb(error.__traceback__) if _users(frame.filename)]


def _users(file: str) -> bool:
    if any(part in file for part in _LIBRARIES):
        return False
    return not any(Path(file).is_relative_to(folder) for folder in (_OWN, _STANDARD))


def _place(error: BaseException, source: str) -> str:
    """The last line of the user's code that the error passed through."""
    frames = _user_frames(error)
    if not frames:
        return source
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _split(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(part.strip() for name in names for part in name.split(",") if part.strip())


@contextlib.contextmanager
def _progress(console: Console | None) -> Iterator[Callable[[str], None]]:
    """A line that changes on a terminal, else a line a stage."""
    if console is None:
        yield lambda _: None
    elif console.is_terminal:
        with console.status("") as status:
            yield status.update
    else:
        yield lambda words: console.print(words, style="dim", highlight=False, markup=False)
