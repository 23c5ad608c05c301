"""What a study finds out, as plain data to and from JSON without torch, and every sentence and table on it."""

from __future__ import annotations

import html
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Self

from levelhead.records import Chart, Interval, build, read_json, write_json

Ruling = Literal["supported", "contradicted", "no difference", "not decided"]
Side = Literal["above", "below", "within"]

#: The signs that stand beside the words, so that nothing hangs on colour.
SIGNS: dict[Ruling, str] = {"supported": "✓", "contradicted": "✗", "no difference": "=", "not decided": "?"}
#: What a claim is judged at where its seeds are fixed, and what its looks come to together.
LEVEL = 0.05
_PERCENT = f"{100 * LEVEL:g} %"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim, the effect that was measured, and what the effect's interval says of the claim.

    Args:
        claim: the claim, in a sentence.
        source: where it is made; empty of a study's own comparison.
        effect: what was measured, in words.
        unit: of the effect: ``times``, ``decades``, ...; empty where it has none.
        effects: one a seed; NaN where a run has none.
        interval: the mean over seeds (of a ratio the geometric one) with its interval at ``level``.
        side: the claim is supported where the interval lies ``above`` the threshold, ``below`` it, or ``within``
            plus and minus the threshold.
        threshold: in the effect's unit; fixed before the runs, as is ``delta``, the largest effect that is no
            difference worth the name (of a ratio a factor).
        ruling: ``contradicted`` where the whole interval lies beyond the threshold on the other side; else ``no
            difference`` where it lies within ``delta``; else ``not decided``.
        p: of an effect at the threshold, two-sided; of a look, times what its level is short of 5 %.
        level: what the interval may miss: 5 %, or a look's share of it.
        look: which look decided, from 1 on; 0 where the number of seeds was fixed.
        would: how many seeds would decide, if further ones are like these; 0 where it is not known.
        correlation: over seeds, between the two figures that are compared; NaN where it is not known.
        words: for ``supported`` and ``contradicted``, to begin a sentence with.
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
    delta: float = 0.0
    p: float = math.nan
    level: float = LEVEL
    look: int = 0
    would: int = 0
    correlation: float = math.nan
    words: tuple[str, ...] = ("Supported", "Contradicted")
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One arm of a study, summed up over its seeds.

    Args:
        arm: its name.
        settings: what its recipe changes against the baseline's, by field.
        runs: how many seeds were run; ``diverged`` and ``failed`` of them ended so.
        reached: how many seeds reached the target.
        differs: p of Fisher's exact test that another share of the baseline's seeds reached it; NaN of the baseline.
        steps: median steps to the target over all seeds, infinite where a seed did not reach it.
        best: median over seeds of the best validation score.
        test: median over seeds of the test score at the step of the best validation score.
        verdict: on its steps against the baseline's; None of the baseline.
    """

    arm: str
    settings: dict[str, Any]
    runs: int
    diverged: int
    failed: int
    reached: int
    differs: float
    steps: Interval
    best: Interval
    test: Interval
    verdict: Verdict | None = None

    @property
    def speedup(self) -> Interval:
        """How many times fewer steps than the baseline, paired by seed."""
        return self.verdict.interval if self.verdict else Interval(1.0, 1.0, 1.0)


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
class Answer:
    """What a study found out; printed, it is its table.

    Args:
        study: its name.
        question: what was asked, in a sentence.
        setting: what was trained on what, and why so, in a few sentences.
        verdicts: one a claim, or an arm that is compared with the baseline.
        rows: one an arm; none where the study only judges claims.
        charts: the study's plots, and ``contours``, its surfaces.
        arms: what each arm changes, by its name.
        recipe: the settings that all arms share.
        data: name, source, sizes and preparation of the data.
        runs: the run files, relative to the answer's folder.
        notes: what a reader must know to judge the figures, a sentence each.
        environment: versions, machine and command, as ``records.environment`` gives them.
        quick: fewer seeds and steps than the full study.
        target: the validation score that the steps are counted to, and ``target_from``, where it comes from.
        metric: ``accuracy``, ``balanced accuracy`` or ``r2``.
        steps: the number of updates that every run was given.
        baseline: the arm that the others are compared with.
        chance: the validation score of always the most frequent class, or of the mean.
        luck: up to here a score is no better than chance.
    """

    study: str
    question: str
    setting: str
    verdicts: tuple[Verdict, ...]
    rows: tuple[Row, ...]
    charts: tuple[Chart, ...]
    contours: tuple[Contours, ...]
    arms: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    runs: tuple[str, ...]
    notes: tuple[str, ...]
    environment: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    target: float = math.nan
    target_from: str = ""
    metric: str = "accuracy"
    steps: int = 0
    baseline: str = ""
    chance: float = math.nan
    luck: float = math.nan

    @property
    def sentence(self) -> str:
        """The answer in a sentence or a few; each begins with its verdict."""
        return nobody(self) or (_arms(self) if self.rows else count(self.verdicts))

    @property
    def claims(self) -> tuple[Verdict, ...]:
        """The verdicts on claims that someone made."""
        return tuple(verdict for verdict in self.verdicts if verdict.source)

    def save(self, path: Path) -> None:
        """Write the answer as one JSON file, whole or not at all."""
        write_json(path, {"sentence": self.sentence, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: the file is not an answer; the message names the file and what is wrong with it.
        """
        raw = read_json(path)
        raw.pop("sentence", None)
        try:
            answer: Self = build(cls, raw)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a study's answer ({error}); run the study again") from error
        return answer

    def __str__(self) -> str:
        parts = [self.question, *([table(self)] if self.rows else []), *map(_printed, self.claims), self.sentence]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """The same in a notebook."""
        heads, rows = cells(self)
        lines = [(heads, "th"), *((map(_whole, row), "td") for row in rows)] if rows else []
        drawn = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) for line, tag in lines]
        table = f"<table>{''.join(f'<tr>{line}</tr>' for line in drawn)}</table>" if rows else ""
        said = [self.question, *map(_printed, self.claims), self.sentence]
        return table + "".join(f"<p>{html.escape(text)}</p>" for text in said)


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


def chance_of(p: float) -> str:
    """A p, which is told to a thousandth and never as 0."""
    return "< 0.001" if p < 0.001 else number(p)


def score(value: float, metric: str) -> str:
    """A score in its metric's unit: accuracy in per cent with one decimal, others with three."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f} %" if in_percent(metric) else f"{value:.3f}"


def in_percent(metric: str) -> bool:
    """Whether scores are told in per cent."""
    return metric.endswith("accuracy")


def named(text: str, metric: str) -> str:
    """A text on scores, with the measure that ran where it says ``{metric}``."""
    return text.replace("{metric}", metric)


def figure(verdict: Verdict) -> str:
    """The effect and its interval in words; everything that is printed of an effect comes from here."""
    return " ".join(part for part in estimate(verdict) if part)


def estimate(verdict: Verdict) -> tuple[str, str]:
    """The effect with its unit, and its interval; a bound where only a bound is known."""
    value, low, high = verdict.interval.value, verdict.interval.low, verdict.interval.high
    unit = f" {verdict.unit}" if verdict.unit else ""
    if math.isinf(value) and low > 0:
        return f"at least {number(low)}{unit}", ""
    if verdict.unit == "times" and value == 0 and math.isfinite(high):
        return f"at most {number(high)}{unit}", ""
    unknown = verdict.unit == "times" and (value == 0 or (low == 0 and math.isinf(high)))
    if not math.isfinite(value) or unknown:
        return "no figure", ""
    if math.isnan(low) or math.isnan(high):
        return f"{number(value)}{unit}", ""
    return f"{number(value)}{unit}", f"[{number(low)}, {'no bound' if math.isinf(high) else number(high)}]"


def rule(verdict: Verdict) -> str:
    """What would support the claim, and what is no difference."""
    threshold = number(verdict.threshold)
    if verdict.side == "within":
        return f"supported within ±{threshold}"
    none = f", no difference within {_delta(verdict)}" if verdict.delta else ""
    return f"supported {verdict.side} {threshold}{none}"


def _delta(verdict: Verdict) -> str:
    return f"{'a factor of ' if verdict.unit == 'times' else '±'}{verdict.delta:g}"


def ruled(verdict: Verdict) -> str:
    """The ruling, with what it means for further runs."""
    if verdict.ruling == "no difference":
        return f"no difference beyond {_delta(verdict)}"
    if verdict.ruling == "not decided" and verdict.would:
        return f"not decided (about {verdict.would:,} seeds would decide)"
    return verdict.ruling


def seen(verdict: Verdict) -> str:
    """How many seeds were looked at, which look it was and at which level, and how well the seeds pair the arms."""
    look = f", look {verdict.look}" if verdict.look else ""
    paired = "" if math.isnan(verdict.correlation) else f", r = {verdict.correlation:.2f} between the pairs"
    n = len(verdict.effects)
    return f"{n} seed{'s' if n != 1 else ''}{look} at {100 * verdict.level:g} %{paired}"


def opening(verdict: Verdict) -> str:
    """The ruling, to begin a sentence with."""
    match verdict.ruling:
        case "supported":
            return verdict.words[0]
        case "contradicted":
            return verdict.words[1]
        case _:
            said = ruled(verdict)
            return said[0].upper() + said[1:]


def sentence(verdict: Verdict) -> str:
    """The one sentence on a verdict."""
    effect = verdict.effect[0].upper() + verdict.effect[1:]
    remark = f" {verdict.remark}" if verdict.remark else ""
    return f"{opening(verdict)}: {verdict.claim} {effect}: {figure(verdict)} ({seen(verdict)}).{remark}"


def count(verdicts: Sequence[Verdict]) -> str:
    """How many claims came to which ruling."""
    found = Counter(verdict.ruling for verdict in verdicts)
    claims = "1 claim" if len(verdicts) == 1 else f"{len(verdicts)} claims"
    return f"{claims}: " + ", ".join(f"{found[ruling]} {ruling}" for ruling in SIGNS) + "."


def corrected(verdicts: Sequence[Verdict]) -> list[tuple[float, float]]:
    """Each verdict's p for all of them together: by Holm, and by Benjamini and Hochberg; NaN where it has none.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure"; Benjamini & Hochberg 1995,
    "Controlling the false discovery rate".
    """
    ordered = sorted((v.p, i) for i, v in enumerate(verdicts) if not math.isnan(v.p))
    n, found = len(ordered), [(math.nan, math.nan)] * len(verdicts)
    holm = accumulate((min(1.0, p * (n - rank)) for rank, (p, _) in enumerate(ordered)), max)
    bh = list(accumulate((min(1.0, ordered[rank - 1][0] * n / rank) for rank in range(n, 0, -1)), min))
    for (_, i), each in zip(ordered, zip(holm, reversed(bh), strict=True), strict=True):
        found[i] = each
    return found


def multiplicity(verdicts: Sequence[Verdict]) -> str:
    """What so many claims imply, in a line; nothing of a single one."""
    if len(verdicts) < 2:
        return ""
    differences = [v.ruling in ("supported", "contradicted") for v in verdicts]
    kept = [
        sum(d and p < LEVEL for d, p in zip(differences, ps, strict=True))
        for ps in zip(*corrected(verdicts), strict=True)
    ]
    holm, bh = kept or (0, 0)
    return (
        f"{len(verdicts)} claims, each judged at {_PERCENT}: were none of the effects there, "
        f"{LEVEL * len(verdicts):.1f} false verdicts would be expected. Of {sum(differences)} that are supported or "
        f"contradicted, {holm} remain{'s' if holm == 1 else ''} by Holm's correction, with which the chance of even "
        f"one false one is {_PERCENT}, and {bh} by Benjamini and Hochberg's, of which {_PERCENT} may be false."
    )


def nobody(answer: Answer) -> str:
    """That no arm learned, where none did; else nothing."""
    bests = [row.best.value for row in answer.rows if math.isfinite(row.best.value)]
    if math.isnan(answer.luck) or any(best > answer.luck for best in bests):
        return ""
    best = score(max(bests, default=math.nan), answer.metric)
    return f"No arm learned: the best {answer.metric} of any is {best}, and {by_chance(answer)}."


def by_chance(answer: Answer) -> str:
    """What a model has that ignores its inputs."""
    what = "the mean alone" if answer.metric == "r2" else "the most frequent class alone"
    return f"{what} gives {score(answer.chance, answer.metric)}"


def _arms(answer: Answer) -> str:
    """The first comparison, which was named before the runs; of several, which hold for all of them together."""
    compared = [row for row in answer.rows if row.verdict]
    verdicts = [row.verdict for row in compared if row.verdict]
    if not verdicts:
        best = answer.rows[0].best
        return (
            f"On {answer.data.get('name', 'the data')}, {answer.baseline} comes to {score(best.value, answer.metric)}."
        )
    said = sentence(verdicts[0])
    if len(verdicts) == 1:
        return said
    found: dict[str, list[str]] = {}
    for row, verdict, (holm, _) in zip(compared, verdicts, corrected(verdicts), strict=True):
        difference = verdict.ruling in ("supported", "contradicted")
        kept = opening(verdict).lower() if holm < LEVEL or not difference else "not decided"
        found.setdefault(kept.partition(" (")[0], []).append(row.arm)
    listed = "; ".join(f"{ruling}: {', '.join(names)}" for ruling, names in found.items())
    return f"{said} Of {len(verdicts)} arms against {answer.baseline}, judged together (Holm's correction): {listed}."


def cells(answer: Answer) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """The table of arms: its heading, and in each cell a figure and what stands beside it; below, chance."""
    target = score(answer.target, answer.metric)
    speedup, best = f"speed-up over {answer.baseline}", f"best {answer.metric}"
    heads = ["arm", f"steps to {target}", "reached", speedup, best, "test"]
    rows = []
    for row in answer.rows:
        lost = [f"{n} {what}" for n, what in ((row.diverged, "diverged"), (row.failed, "failed")) if n]
        differs = [f"p {chance_of(row.differs)}"] if row.differs < LEVEL else []
        beside = f"({', '.join(differs + lost)})" if differs + lost else ""
        rows.append(
            [
                (row.arm, ""),
                _taken(row.steps, answer.steps),
                (f"{row.reached} of {row.runs}", beside),
                estimate(row.verdict) if row.verdict else ("1 times", ""),
                _scored(row.best, answer.metric),
                _scored(row.test, answer.metric),
            ]
        )
    if not math.isnan(answer.chance):
        by_luck = (score(answer.chance, answer.metric), "")
        rows.append([("by chance", ""), *[("–", "")] * 3, by_luck, ("–", "")])
    return heads, rows


def _taken(steps: Interval, budget: int) -> tuple[str, str]:
    """Median steps with their interval, what was not reached as such."""
    if math.isnan(steps.value):
        return "–", ""

    def said(value: float) -> str:
        return "not reached" if math.isinf(value) else f"{math.floor(value + 0.5):,}"

    if math.isinf(steps.value):
        return f"not in {budget:,}", "" if math.isinf(steps.low) else f"[{said(steps.low)}, not reached]"
    return said(steps.value), f"[{said(steps.low)}, {said(steps.high)}]"


def _scored(found: Interval, metric: str) -> tuple[str, str]:
    low, high = (score(end, metric).removesuffix(" %") for end in (found.low, found.high))
    return score(found.value, metric), f"[{low}, {high}]" if math.isfinite(found.value) else ""


def table(answer: Answer) -> str:
    """The table of arms as text, one line an arm in 80 columns: shares and scores without what stands beside them."""
    heads, rows = cells(answer)
    heads[0], heads[3], heads[4] = "", "speed-up", "best"
    lines = [heads] + [[_whole(cell) if i in (0, 1, 3) else cell[0] for i, cell in enumerate(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def markdown(answer: Answer) -> str:
    """The table of arms in Markdown."""
    heads, rows = cells(answer)
    return _markdown(heads, [[_whole(cell) for cell in row] for row in rows])


def markdown_of_claims(answers: Sequence[Answer]) -> str:
    """The verdicts as a table of Markdown, with the count and what their number implies above it."""
    verdicts = [verdict for answer in answers for verdict in answer.claims]
    studies = [answer.study for answer in answers for _ in answer.claims]
    rows = [
        [
            f"{verdict.claim} ({verdict.source})",
            f"`{study}`",
            f"{verdict.effect}: {figure(verdict)}; {rule(verdict)}",
            f"**{ruled(verdict)}**",
            seen(verdict),
            *map(chance_of, (verdict.p, *ps)),
        ]
        for study, verdict, ps in zip(studies, verdicts, corrected(verdicts), strict=True)
    ]
    drawn = _markdown(["claim", "study", "effect", "verdict", "seen", "p", "Holm", "BH"], rows)
    return f"{count(verdicts)} {multiplicity(verdicts)}".rstrip() + f"\n\n{drawn}"


def _whole(cell: tuple[str, str]) -> str:
    """A figure and what stands beside it."""
    return " ".join(cell).strip()


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _printed(verdict: Verdict) -> str:
    """A verdict on a claim, for a terminal."""
    said = f"{SIGNS[verdict.ruling]} {sentence(verdict)}"
    return textwrap.fill(said, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
