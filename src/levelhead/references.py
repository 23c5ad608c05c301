"""``module:function`` and ``file.py:function``: what a user hands over by name."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def load(source: str) -> ModuleType:
    """The module of that name, looked for in the current folder first; or a ``.py`` file, run as one.

    As ``python file.py`` does, a file's folder is put on the path. What reading and importing raise is passed on.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # a console script does not have it
    if not source.endswith(".py"):
        return importlib.import_module(source)
    path = Path(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)
    sys.modules.setdefault(path.stem, module)  # classes of a module that is not there cannot be copied
    spec.loader.exec_module(module)
    return module


def source(module: str) -> str:
    """A module, or a file, with a checksum of its source; what it imports is not looked into."""
    file = Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")  # as ``load`` looks for it
    try:
        if module == "__main__":
            file = Path(sys.modules[module].__file__ or "")
        spec = None if file.is_file() else importlib.util.find_spec(module)
        path = Path(spec.origin) if spec and spec.origin else file
        return f"{module} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    except (OSError, ImportError, ValueError, AttributeError):  # that it is not there is told when it is called
        return module


def described(function: Any) -> str:
    """A function in words, with a checksum of its source: one whose code changed is another."""
    if isinstance(function, functools.partial):
        return f"{described(function.func)} with {function.args} {function.keywords}"
    if not hasattr(function, "__qualname__"):  # an object with __call__
        return f"{function!r} of {source(type(function).__module__)}"
    return f"{function.__qualname__} of {source(function.__module__)}"
