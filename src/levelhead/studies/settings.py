"""All that a study is made from, as one TOML file holds it."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from levelhead.records import as_toml
from levelhead.studies.workers import check_engine
from levelhead.terminal import closest

_KINDS = {"whole number": int, "number": (int, float), "text": str, "true or false": bool, "table": dict, "list": list}


#: Seeds of a quick study where none are given.
_QUICK_SEEDS = 3


class SettingsError(ValueError):
    """Settings that cannot be; the message names the key, the value and the repair."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A study's settings: what its TOML file holds, and what the options of ``levelhead study`` change.

    Args:
        study: its name; ``levelhead study --list`` tells them.
        data: what ``levelhead.data.load`` takes; None is the study's own.
        target: the column to predict, of a table.
        standardize: inputs are standardized from the training data; None is as the study says.
        seeds: how many seeds each arm is run with; None looks at 5, 10, 20 and 40, or takes 3 where ``quick``.
        quick: a study of claims takes fewer seeds and steps.
        target_score: the validation score that steps are counted to; None takes 98 % of the baseline's best.
        workers: processes; None is one a core, or a CPU of the cluster.
        engine: ``local``, or ``ray`` for a Ray cluster; see ``studies.Pool``.
        address: of the Ray cluster.
        accelerator: ``cpu``, ``cuda``, ``auto``, ...
        out: the folder of the runs and the report; None is ``reports/<study>-<data>``.
        learning_rates: those of the sweep; empty takes the study's.
        initializations: those of the sweep; empty takes the study's.
        depths: those of the chart by depth; None takes the study's, an empty list leaves it out.
        reading: how the data are read, as ``levelhead.data.Reading`` has it.
        recipe: fields of every arm's recipe; what it fixes (a learning rate, say) is not swept.
        arms: fields by arm's name, on top of ``recipe``; a name that the study knows may stay empty, and
            ``learning_rate_times`` multiplies the learning rate. Empty takes the study's own arms.
    """

    study: str = "batch-norm"
    data: str | None = None
    target: str | None = None
    standardize: bool | None = None
    seeds: int | None = None
    quick: bool = False
    target_score: float | None = None
    workers: int | None = None
    engine: str = "local"
    address: str | None = None
    accelerator: str = "cpu"
    out: str | None = None
    learning_rates: tuple[float, ...] = ()
    initializations: tuple[str, ...] = ()
    depths: tuple[int, ...] | None = None
    reading: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("workers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"{name} must be at least {least}, got {value}")
        try:
            check_engine(self.engine, self.address)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        for value in self.learning_rates:
            if not value > 0:
                raise SettingsError(f"learning_rates must be above 0, got {value}")

    @property
    def place(self) -> dict[str, Any]:
        """Where the runs are made: arguments of ``Pool``."""
        return {name: getattr(self, name) for name in ("workers", "engine", "address")}

    @property
    def folder(self) -> Path:
        """Where the runs and the report are kept."""
        data = "" if self.data is None else "-" + re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(self.data).stem)
        return Path(self.out or f"reports/{self.study}{data}")

    @property
    def seed_count(self) -> int | None:
        """How many seeds each arm is run with; None looks until the claims are decided."""
        return _QUICK_SEEDS if self.seeds is None and self.quick else self.seeds

    def refuse(self, names: Sequence[str], why: str) -> None:
        """Raise SettingsError where one of these is set; its name stands in the message for ``{}``."""
        for name in names:
            if getattr(self, name) not in (None, (), {}):
                raise SettingsError(why.format(name))

    @classmethod
    def given(cls, what: str | None) -> Self:
        """The settings of a file, where ``what`` ends in ``.toml``; else the defaults of the study of that name.

        Raises:
            SettingsError: as ``read``.
        """
        if what is None:
            return cls()
        return cls.read(Path(what)) if what.endswith(".toml") else cls(study=what)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises:
            SettingsError: it is not TOML, or holds a key or a value that cannot be; the message begins with its path.
        """
        try:
            return cls.of(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise SettingsError(f"{path}: there is no such file") from error
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not valid TOML: {error}") from error
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from error

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Settings from a table of plain values.

        Raises:
            SettingsError: an unknown key (the message suggests the closest), or a value of the wrong kind.
        """
        checked = {name: _check(name, value) for name, value in values.items()}
        return cls(**checked)

    def changed(self, **changes: Any) -> Self:
        """The same settings with those that are not None changed; ``reading`` and ``recipe`` field by field."""
        given = {name: value for name, value in changes.items() if value is not None}
        for table in {"reading", "recipe"} & given.keys():
            given[table] = {**getattr(self, table), **given[table]}
        return dataclasses.replace(self, **given)

    def to_toml(self) -> str:
        """The settings as TOML; what is None or empty by default is left out."""
        lines, tables = [], []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in ("reading", "recipe"):
                tables += ["", f"[{item.name}]", *_lines(value)] if value else []
            elif item.name == "arms":
                for arm, fields in value.items():
                    tables += ["", f"[arms.{_key(arm)}]", *_lines(fields)]
            elif value is not None and not (value == () and item.default == ()):
                lines.append(f"{item.name} = {as_toml(value)}")
        return "\n".join([*lines, *tables]) + "\n"


def _lines(fields: Mapping[str, Any]) -> list[str]:
    return [f"{_key(name)} = {as_toml(value)}" for name, value in fields.items()]


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)


def _check(name: str, value: Any) -> Any:
    names = [item.name for item in dataclasses.fields(Settings)]
    if name not in names:
        raise SettingsError(f"a study has no setting {name!r}{closest(name, names)}; it has {', '.join(names)}")
    if name in ("learning_rates", "initializations", "depths"):
        kind = {"learning_rates": "number", "initializations": "text", "depths": "whole number"}[name]
        return tuple(_kind(name, item, kind) for item in _kind(name, value, "list"))
    if name == "arms" and isinstance(value, list):
        value = {_kind(name, item, "text"): {} for item in value}
    if name == "arms":
        for arm in value:
            if not arm.isprintable():
                raise SettingsError(f"the name {arm!r} of an arm holds characters that cannot be printed; rename it")
        return {arm: _kind(f"arms.{arm}", fields, "table") for arm, fields in _kind(name, value, "table").items()}
    kinds = {
        "standardize": "true or false",
        "quick": "true or false",
        "seeds": "whole number",
        "workers": "whole number",
        "target_score": "number",
        "reading": "table",
        "recipe": "table",
    }
    return _kind(name, value, kinds.get(name, "text"))


def _kind(name: str, value: Any, kind: str) -> Any:
    expected = _KINDS[kind]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):  # type: ignore[arg-type]
        raise SettingsError(f"{name} must be a {kind}, got {value!r}")
    return value
