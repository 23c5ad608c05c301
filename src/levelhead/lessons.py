"""What a study of claims leaves behind: plain data to and from JSON, without torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from levelhead.records import Chart, Interval, chart_from, read_json, write_json

Ruling = Literal["supported", "not supported", "no difference", "not decided"]
Side = Literal["above", "below", "within"]

#: The signs that stand beside the words, so that nothing hangs on colour.
SIGNS: dict[Ruling, str] = {"supported": "✓", "not supported": "✗", "no difference": "=", "not decided": "?"}
#: The largest effect that is no difference worth the name, by unit, written before any run; 0 for other units.
DELTAS = {"percentage points": 0.5, "per cent": 0.5, "times": 1.1}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim, the effect that was measured, and what the effect's interval says of the claim.

    Args:
        claim: the claim, in a sentence.
        source: where it is made.
        effect: what was measured, in words.
        unit: of the effect: ``times``, ``decades``, ...; empty where it has none.
        effects: one a seed; NaN where a run has none.
        interval: the mean over seeds (of a ratio the geometric one) with its 95 % interval.
        side: the claim is supported where the interval lies ``above`` the threshold, ``below`` it, or ``within``
            plus and minus the threshold.
        threshold: in the effect's unit; fixed before the runs.
        ruling: ``not supported`` where the whole interval lies beyond the threshold on the other side; else
            ``no difference`` where it lies within what its unit counts as none (``DELTAS``); else ``not decided``.
        remark: why nothing is decided, or what was chosen after looking; empty where there is nothing to say.
    """

    claim: str
    source: str
    effect: str
    unit: str
    effects: tuple[float, ...]
    interval: Interval
    side: Side
    threshold: float
    ruling: Ruling
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A surface over two directions: ``z[i][j]`` at ``y[i]`` and ``x[j]``."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    z: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Contours:
    """Surfaces side by side, each as lines of equal height."""

    title: str
    x_label: str
    y_label: str
    panels: tuple[Panel, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a study of claims found out.

    Args:
        study: its name.
        question: what was asked, in a sentence.
        setting: what was trained on what, and why so, in a few sentences.
        verdicts: one a claim.
        charts: the study's plots, and ``contours``, its surfaces.
        arms: what each arm changes, by its name.
        recipe: the settings that all arms share.
        data: name, source, sizes and preparation of the data.
        seeds: how many seeds each arm was run with.
        quick: fewer seeds and steps than the full study.
        runs: the run files, relative to the lesson's folder.
        notes: what a reader must know to judge the figures, a sentence each.
        environment: versions, machine and command, as ``records.environment`` gives them.
    """

    study: str
    question: str
    setting: str
    verdicts: tuple[Verdict, ...]
    charts: tuple[Chart, ...]
    contours: tuple[Contours, ...]
    arms: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    seeds: int
    quick: bool
    runs: tuple[str, ...]
    notes: tuple[str, ...]
    environment: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the lesson as one JSON file, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is not a lesson; the message names the file and what is wrong with it.
        """
        raw = read_json(path)
        try:
            return cls(
                **{
                    **raw,
                    "verdicts": tuple(_verdict(verdict) for verdict in raw["verdicts"]),
                    "charts": tuple(chart_from(chart) for chart in raw["charts"]),
                    "contours": tuple(_contours(contours) for contours in raw["contours"]),
                    "runs": tuple(raw["runs"]),
                    "notes": tuple(raw["notes"]),
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a study of claims ({error}); run the study again") from error


def _verdict(raw: dict[str, Any]) -> Verdict:
    interval = Interval(**{name: float(value) for name, value in raw["interval"].items()})
    effects = tuple(map(float, raw["effects"]))
    return Verdict(**{**raw, "interval": interval, "effects": effects, "threshold": float(raw["threshold"])})


def _contours(raw: dict[str, Any]) -> Contours:
    panels = tuple(
        Panel(
            panel["name"],
            tuple(map(float, panel["x"])),
            tuple(map(float, panel["y"])),
            tuple(tuple(map(float, row)) for row in panel["z"]),
        )
        for panel in raw["panels"]
    )
    return Contours(**{**raw, "panels": panels})


def nothing(unit: str, *, ratio: bool) -> tuple[float, float]:
    """The effects of a unit that are no difference worth the name."""
    if ratio:
        return 1 / DELTAS.get(unit, 1.0), DELTAS.get(unit, 1.0)
    return -DELTAS.get(unit, 0.0), DELTAS.get(unit, 0.0)


def number(value: float) -> str:
    """A number to three digits, thousands apart, and without an exponent down to a thousandth."""
    if not math.isfinite(value):
        return "–"
    if abs(value) < 1e-9:  # rounding of differences
        return "0"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"


def figure(verdict: Verdict) -> str:
    """The effect and its interval in words."""
    interval = verdict.interval
    unit = f" {verdict.unit}" if verdict.unit else ""
    if math.isinf(interval.value) and interval.low > 0:
        return f"at least {number(interval.low)}{unit}"
    if verdict.unit == "times" and interval.value == 0 and math.isfinite(interval.high):
        return f"at most {number(interval.high)}{unit}"
    if not math.isfinite(interval.value):
        return "no figure"
    if math.isnan(interval.low) or math.isnan(interval.high):
        return f"{number(interval.value)}{unit}"
    if math.isinf(interval.high):
        return f"{number(interval.value)}{unit} [{number(interval.low)}, no bound]"
    return f"{number(interval.value)}{unit} [{number(interval.low)}, {number(interval.high)}]"


def rule(verdict: Verdict) -> str:
    """What would support the claim."""
    threshold = number(verdict.threshold)
    if verdict.side == "within":
        return f"supported within ±{threshold}"
    delta = DELTAS.get(verdict.unit, 0.0)
    none = f", no difference within {'a factor of ' if verdict.unit == 'times' else '±'}{delta:g}" if delta else ""
    return f"supported {verdict.side} {threshold}{none}"
