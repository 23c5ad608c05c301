"""Functions of libraries put in place of others, for a script that is watched or run with a change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def wrap(owner: Any, name: str, by: Callable[..., Any]) -> Callable[[], None]:
    """Have ``by(original, *args, **kwargs)`` called in place of an attribute; what comes back undoes it."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return by(original, *args, **kwargs)

    setattr(owner, name, wrapped)
    return functools.partial(setattr, owner, name, original)
