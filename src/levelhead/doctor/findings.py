"""What the doctor hands back: plain data, to and from JSON, readable when printed. No torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from levelhead.records import Chart, build, read_json, write_json

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """One root cause, with what speaks for it.

    Args:
        code: ``LH101`` and so on.
        cause: its name.
        where: a name of ``model.named_modules()``, or ``data``, ``loss``, ``optimizer`` or ``loop``.
        severity: ``critical``: training is broken; ``warning``: it costs measurably; ``info``: style.
        summary: what was found here, in a sentence with its figures.
        evidence: the figures by name; numbers, strings, or lists of them.
        threshold: from when on it is a finding, and the source of that.
        symptoms: what follows from this cause and is therefore no finding of its own.
        remedy: what to do, in words.
        patch: what to do, as code.
        meaning: what is wrong in general, in a sentence.
    """

    code: str
    cause: str
    where: str
    severity: Severity
    summary: str
    evidence: dict[str, Any]
    threshold: str
    symptoms: tuple[str, ...] = ()
    remedy: str = ""
    patch: str = ""
    meaning: str = ""

    @property
    def page(self) -> str:
        """The page of the documentation that explains the rule."""
        return f"docs/doctor/rules.md#{self.code.lower()}"

    def __str__(self) -> str:
        lines = [f"{self.code} {self.cause}  [{self.severity}]  at {self.where}", *_wrapped(self.summary)]
        lines += [f"  {name}: {shown(value)}" for name, value in self.evidence.items()]
        lines += [line for symptom in self.symptoms for line in _wrapped(f"explains: {symptom}")]
        lines += _wrapped(f"Remedy: {self.remedy}")
        lines += [f"    {line}" for line in self.patch.splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of an examination: its name, how long it took, and why it was left out or cut short, if it was."""

    name: str
    seconds: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One intervention: the program, changed on a copy, and trained as long as the program itself.

    Args:
        change: what was changed, in words; ``as it is`` for the program itself.
        cause: the suspected cause that the change would remove; empty for the program itself.
        score: validation score at the end; higher is better.
        train_loss: mean loss over the last tenth of the updates.
        updates: how many updates were done.
        gain: the part of the way from a constant answer to this score that the change won.
        seconds: wall-clock time.
        note: how it ended, where not as planned (``diverged``, or the error).
    """

    change: str
    cause: str
    score: float
    train_loss: float
    updates: int
    gain: float
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Examination:
    """What an examination found, most probable cause first.

    Args:
        findings: the causes in order.
        stages: what was done, with its time.
        trials: the interventions, the program as it is first.
        charts: plots of the evidence (``levelhead.records.Chart``).
        measured: what the probes measured, by probe.
        notes: what could not be judged, and why.
        environment: versions, machine and command.
        seconds: wall-clock time of it all.
        metric: what the scores are.
        undecided: why nothing can be said, where that is so.
        watched: what was looked at, of a watch.
        program: what was examined; not written to JSON.
    """

    findings: tuple[Finding, ...]
    stages: tuple[Stage, ...] = ()
    trials: tuple[Trial, ...] = ()
    charts: tuple[Chart, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    metric: str = ""
    undecided: str = ""
    watched: str = ""
    program: Any = field(default=None, repr=False, compare=False)
    _remedies: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    _treat: Callable[..., Treated] | None = field(default=None, repr=False, compare=False)

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that costs, where enough was tried; findings of severity ``info`` do not count."""
        return not self.undecided and all(finding.severity == "info" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        if self.undecided:
            return f"undecided: {self.undecided}"
        if self.healthy:
            style = f" ({len(self.findings)} remarks on style)" if self.findings else ""
            said = f"no fault seen in {self.watched}" if self.watched else "healthy: nothing found that costs"
            return f"{said}{style}"
        first = self.findings[0]
        others = sum(finding.severity != "info" for finding in self.findings) - 1
        more = f", and {others} more" if others else ""
        return f"{first.severity}: {first.cause} at {first.where}{more}"

    def treat(self, budget: float = 60.0, seeds: int = 3) -> Treated:
        """Retrain copies with the remedies of the findings, and keep what is better beyond the noise.

        Args:
            budget: seconds of wall-clock time.
            seeds: how many orders of batches (and noise) each version is trained with.

        Raises:
            ValueError: the examination was read from a file, so there is no program to treat.
        """
        if self.program is None or self._treat is None:
            raise ValueError("this examination has no program to treat (it was read from a file); examine it anew")
        return self._treat(self, budget=budget, seeds=seeds)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON; without the program."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("program", "_remedies", "_treat")}
        for name in ("findings", "stages", "trials", "charts"):
            kept[name] = [asdict(item) for item in kept[name]]
        return {"verdict": self.verdict, "healthy": self.healthy, **kept}

    def save(self, path: Path | str) -> None:
        """Write the examination as one JSON file, whole or not at all."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is not an examination; the message names the file and what is wrong with it.
        """
        try:
            return cls.from_dict(read_json(Path(path)))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} does not hold an examination ({error}); examine the program anew") from error

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """The examination of which ``to_dict`` made plain data."""
        raw = {name: value for name, value in raw.items() if name not in ("verdict", "healthy")}
        made: Self = build(cls, raw)
        return made

    def __str__(self) -> str:
        parts = [self.verdict.capitalize(), *map(str, self.findings)]
        if self.trials:
            score = f"; score: {self.metric}" if self.metric else ""
            head = f"Tried on copies ({self.trials[0].updates} updates each{score}):"
            width = max(len(trial.change) for trial in self.trials)
            rows = [f"  {t.change:{width}s}  score {t.score:8.3f}  {t.note}".rstrip() for t in self.trials]
            parts.append("\n".join([head, *rows]))
        parts += ["\n".join(_wrapped(f"Note: {note}", "")) for note in self.notes]
        return "\n\n".join([*parts, f"Examined in {self.seconds:.1f} s."])


@dataclass(frozen=True, slots=True)
class Scores:
    """Final validation scores, one a seed."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over seeds; minus infinity counts as a score, NaN as minus infinity."""
        ordered = sorted(-math.inf if math.isnan(value) else value for value in self.values)
        middle = len(ordered) // 2
        if not ordered:
            return math.nan
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

    @property
    def low(self) -> float:
        """The lowest seed."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest seed."""
        return max(self.values)

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f} .. {self.high:.3f}]"


@dataclass(frozen=True)
class Treated:
    """What a treatment came to.

    Args:
        program: the mended program, trained; the program as it was (untrained copy) where nothing was accepted.
        accepted: whether the mended program is better beyond the noise over seeds.
        before: final scores of the program as it is, one a seed.
        after: final scores of the best version found.
        remedies: what was changed, in words, in order; ``tuning``: what no finding asked for, and helped besides.
        patch: the changes as text, to be copied.
        trials: every version that was tried.
        seconds: wall-clock time.
        note: why nothing was accepted, or what the user should know.
    """

    program: Any = field(repr=False, compare=False)
    accepted: bool
    before: Scores
    after: Scores
    remedies: tuple[str, ...] = ()
    patch: str = ""
    trials: tuple[Trial, ...] = ()
    seconds: float = 0.0
    note: str = ""
    tuning: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON; without the program."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "program"}
        return kept | {
            "before": list(self.before.values),
            "after": list(self.after.values),
            "trials": [asdict(trial) for trial in self.trials],
        }

    def __str__(self) -> str:
        verdict = "mended" if self.accepted else "not mended"
        lines = [f"{verdict}: score {self.before} as it is, {self.after} with the remedy, over seeds (median, range)"]
        lines += [f"  {remedy}" for remedy in self.remedies]
        lines += [f"  tuned besides: {step}" for step in self.tuning]
        lines += ["", *(f"    {line}" for line in self.patch.splitlines())] if self.patch else []
        lines += ["", self.note] if self.note else []
        return "\n".join(lines)


def shown(value: Any) -> str:
    """A figure of the evidence as text: four digits at most."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(item)}" for name, item in value.items())
    return str(value)


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent)
