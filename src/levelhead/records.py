"""Plain data that a run leaves behind, to and from JSON.

Nothing here needs torch, so that a report can be rebuilt anywhere from the files alone. JSON has no NaN and
no infinity: a value that is not finite is written as the string ``"nan"``, ``"inf"`` or ``"-inf"``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

Status = Literal["finished", "diverged", "failed"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over training.

    Args:
        steps: the number of updates done when each value was taken; ascending, 0 is before the first.
        values: the quantity, one a step; may hold NaN or infinity.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"a curve needs a value a step, got {len(self.steps)} steps, {len(self.values)} values")
        if any(a >= b for a, b in pairwise(self.steps)):
            raise ValueError(f"the steps of a curve must be in ascending order, got {str(self.steps)[:80]}")

    def best(self) -> float:
        """The largest value that is not NaN; NaN where there is none."""
        return max((value for value in self.values if not math.isnan(value)), default=math.nan)

    def first_step_at(self, target: float) -> int | None:
        """The first step whose value is at least ``target``; None where none is."""
        return next((s for s, v in zip(self.steps, self.values, strict=True) if v >= target), None)


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: what was asked, what came out, and where.

    Args:
        arm: the name of the setting that the run is one sample of.
        seed: the seed of weights, batches and noise.
        status: ``diverged`` where the loss stopped being finite, ``failed`` where the program raised.
        steps: the number of updates done.
        seconds: wall-clock time of training, evaluation included.
        metric: what the ``score`` curves hold: ``accuracy``, ``balanced accuracy`` or ``r2``; higher is better.
        recipe: the settings, as ``Recipe.to_dict`` gives them.
        data: name, source, sizes and preparation of the data.
        curves: by name: ``train_loss``, ``validation_loss``, ``validation_score``; ``unit_input_p15``, ``_p50``,
            ``_p85`` (percentiles of one hidden unit's input); ``gradient_norm/<layer>``.
        test_score: the score on the test split at the step with the best validation score.
        message: why the run ended early, in words; empty where it did not.
        environment: versions, machine and command, as ``records.environment`` gives them.
        asked: what the run was asked for beside its recipe: a view of the data, an observer.
        arrays: what an observer measured along something else than training (a response, a surface), by name.
    """

    arm: str
    seed: int
    status: Status
    steps: int
    seconds: float
    metric: str
    recipe: dict[str, Any]
    data: dict[str, Any]
    curves: dict[str, Curve]
    test_score: float = math.nan
    message: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def score(self) -> Curve:
        """The validation score over training."""
        return self.curves["validation_score"]

    def save(self, path: Path) -> None:
        """Write the run as one JSON file, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is not a run; the message names the file and what is wrong with it.
        """
        raw = read_json(path)
        try:
            run: Self = build(cls, raw)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a run ({error}); delete it to run it again") from error
        return run


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; infinity stands for "not reached in the steps that were given"."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart; ``low`` and ``high`` are its 95 % band, empty where there is none."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot that a study asks for beside those that are drawn from the runs (a sweep, an effect by depth).

    ``ticks`` names the places 0, 1, ... of the x axis where they are no numbers; with ``band`` the lines are curves
    with an area around them, else points with bars.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False
    log_y: bool = False
    note: str = ""
    ticks: tuple[str, ...] = ()
    band: bool = False


def environment() -> dict[str, Any]:
    """Versions, machine and command: what a reader needs to repeat a figure."""
    packages = ("levelhead", "torch", "numpy", "lightning-fabric", "mlxtend", "scikit-learn")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
        },
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def build(kind: Any, raw: Any, what: str = "the whole") -> Any:
    """A value of a type from its JSON form: dataclasses, tuples, and floats that were written as text.

    Raises:
        TypeError, ValueError: ``raw``, or in it ``what``, is not of that form.
    """
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any:
        return raw
    if origin is UnionType:
        return None if raw is None else build(of[0], raw, what)
    if origin is Literal:
        if raw not in of:
            raise ValueError(f"{what} is {raw!r}, not one of {', '.join(of)}")
        return raw
    made = {tuple: list}.get(origin, dict if is_dataclass(kind) else origin or kind)
    if kind is not float and type(raw) is not made:
        raise TypeError(f"{what} is {str(raw)[:80]!r}, not of the type {made.__name__}")
    if origin is tuple:
        done = all(type(value) is of[0] for value in raw)  # a look is quicker than a call for each of many numbers
        return tuple(raw if done else (build(of[0], value, what) for value in raw))
    if origin is dict:
        return {name: build(of[1], value, f"{what} {name!r}") for name, value in raw.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: build(hints.get(name, Any), value, name) for name, value in raw.items()})
    return float(raw) if kind is float else raw


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict JSON, whole or not at all."""
    write_text(path, to_json(value))


def to_json(value: Mapping[str, Any]) -> str:
    """Strict JSON."""
    return json.dumps(_finite(value), allow_nan=False, indent=1)


def as_toml(value: Any) -> str:
    """A text, a number or a list in TOML: JSON's form, but for the escapes that TOML lacks."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside ``path`` and rename into place, so that a killed writer or a full disk leaves no half file.

    Raises:
        OSError: it cannot be written; its ``filename`` is ``path``, which the system's own error of a full disk lacks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files can be read by their owner only, and a record is there to be shared.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: the file is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def _finite(value: Any) -> Any:
    """Replace every float that JSON cannot hold by its name; ``float`` reads the name back."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
