"""Sentences and tables on results: they begin with the verdict, say no more than the runs do, agree to the digit."""

import math
import re
from dataclasses import replace

import pytest

from levelhead import lessons
from levelhead.lessons import Answer, Verdict
from levelhead.records import Interval
from levelhead.studies import outcome
from levelhead.studies.claims import faster
from levelhead.studies.samples import Samples
from levelhead.training import Recipe

INF, NAN = math.inf, math.nan
TAKEN = [400.0, 410.0, 500.0, 390.0, 450.0]


def run(arm, seed, steps, best):
    from levelhead.records import Curve, Run

    curve = Curve((0, int(steps)), (0.1, best)) if math.isfinite(steps) else Curve((0, 1000), (0.1, 0.2))
    recipe = Recipe(steps=1000, evaluate_every=10).to_dict()
    return Run(arm, seed, "finished", 1000, 1.0, "accuracy", recipe, {}, {"validation_score": curve}, best)


def answer(plain, *others, chance=0.1, best=0.9):
    """Arms that take so many steps to the target, of 1,000, evaluated every 10."""
    arms = dict(zip(("plain", "BN", "BN-x5", "BN-x30"), (plain, *others), strict=False))
    runs = {arm: [run(arm, seed, steps, best) for seed, steps in enumerate(taken)] for arm, taken in arms.items()}
    samples = Samples.of([each for some in runs.values() for each in some])
    words = ("Faster", "Slower")
    verdicts = [
        faster("plain", arm, 0.5, text=f"{arm} against plain.", effect="steps to 50.0 %", words=words).judge(
            samples.only(["plain", arm], samples.seeds)
        )
        for arm in list(arms)[1:]
    ]
    own = [None, *verdicts]
    rows = [outcome.row(a, {}, runs[a], runs["plain"], 0.5, v) for a, v in zip(arms, own, strict=True)]
    return Answer(
        "s", "q?", "", tuple(verdicts), tuple(rows), (), (), {}, {}, {"name": "digits"}, (), (), {},
        target=0.5, steps=1000, baseline="plain", chance=chance, luck=chance + 0.01,
    )  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("missed", [0, 1, 2])
def test_identical_arms_never_differ(seeds, missed):
    taken = [INF] * min(missed, seeds) + TAKEN[missed:seeds]
    said = answer(taken, taken).sentence
    assert said.startswith(("No difference beyond a factor of 1.1: ", "Not decided"))
    assert not any(word in said for word in ("aster: ", "lower: ", "not reach"))


def test_identical_arms_of_five_seeds_are_no_difference():
    said = answer(TAKEN, TAKEN).sentence
    # By hand, from the grid of 10 steps alone: exp(±2.776 · 0.00966 / √5) = 0.988, 1.01.
    assert said == (
        "No difference beyond a factor of 1.1: BN against plain. Steps to 50.0 %: 1 times [0.988, 1.01] (5 seeds at "
        "5 %, r = 1.00 between the pairs)."
    )


def test_a_difference_is_named_first():
    half = [steps / 2 for steps in TAKEN]
    assert answer(TAKEN, half).sentence.startswith("Faster: BN against plain. Steps to 50.0 %: 2 times [")
    assert answer(half, TAKEN).sentence.startswith("Slower: BN against plain. Steps to 50.0 %: 0.5 times [")


def test_some_missed_seeds_are_a_bound_and_their_shares_are_compared():
    made = answer([*TAKEN[:3], INF, INF], [INF, INF, INF, 400.0, 410.0])
    assert made.sentence.startswith("Not decided: BN against plain. Steps to 50.0 %: no figure (5 seeds at 5 %")
    assert lessons.cells(made)[1][1][2] == ("2 of 5", "")
    never = answer(TAKEN, [INF] * 5)
    assert "Slower: BN against plain. Steps to 50.0 %: at most 0.45 times" in never.sentence
    assert lessons.cells(never)[1][1][2] == ("0 of 5", "(p 0.00794)")


def test_where_no_arm_learned_no_speedup_is_told():
    assert answer(TAKEN, TAKEN, chance=0.99, best=0.99).sentence == (
        "No arm learned: the best accuracy of any is 99.0 %, and the most frequent class alone gives 99.0 %."
    )


def test_the_table_ends_with_chance():
    made = answer(TAKEN, TAKEN)
    assert lessons.table(made).splitlines()[-1].split() == ["by", "chance", *"–––", "10.0", "%", "–"]
    assert lessons.markdown(made).splitlines()[-1] == "| by chance | – | – | – | 10.0 % | – |"


def test_of_several_arms_those_that_hold_together_are_told():
    noisy = [300.0, 420.0, 390.0, 260.0, 330.0]
    said = answer(TAKEN, [steps / 2 for steps in TAKEN], noisy, TAKEN).sentence
    assert "Of 3 arms against plain, judged together (Holm's correction): faster: BN;" in said


def verdict(p, ruling="supported"):
    return Verdict("It is so.", "here", "gain", "", (1.0,), Interval(1, 0.5, 1.5), "above", 0.0, ruling, p=p)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (Interval(1240.0, 1100.0, 1500.0), ("1,240", "[1,100, 1,500]")),
        (Interval(622.5, 600.0, 700.0), ("623", "[600, 700]")),
        (Interval(680.0, 520.0, INF), ("680", "[520, not reached]")),
        (Interval(INF, 520.0, INF), ("not in 4,000", "[520, not reached]")),
        (Interval(INF, INF, INF), ("not in 4,000", "")),
        (Interval(NAN, NAN, NAN), ("–", "")),
    ],
)
def test_steps_in_words(interval, said):
    assert lessons._taken(interval, 4000) == said


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (2.64, 1.9, 3.42, "2.64 times [1.9, 3.42]"),
        (14.2, 9.96, 1234.0, "14.2 times [9.96, 1,234]"),
        (3.0, 2.0, INF, "3 times [2, no bound]"),
        (INF, 6.2, INF, "at least 6.2 times"),  # only the baseline missed the target
        (0.0, 0.0, 0.31, "at most 0.31 times"),  # only this arm did
        (0.0, 0.0, INF, "no figure"),
        (0.5, 0.0, INF, "no figure"),
        (INF, 0.0, INF, "no figure"),
        (NAN, 0.0, INF, "no figure"),
    ],
)
def test_effects_in_words(value, low, high, said):
    got = lessons.figure(replace(verdict(0.1), interval=Interval(value, low, high), unit="times"))
    assert got == said


def test_scores_in_words():
    assert [lessons.score(0.9387, metric) for metric in ("accuracy", "balanced accuracy", "r2")] == [
        "93.9 %",
        "93.9 %",
        "0.939",
    ]
    assert lessons.score(NAN, "accuracy") == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (12.0, "12"), (-73.72, "-73.7"), (4e-15, "0"), (0.00023, "2.3e-04"), (NAN, "–")],
)
def test_numbers(value, text):
    assert lessons.number(value) == text


def test_corrections_for_many_claims():
    # Benjamini & Hochberg 1995, as in R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") = 0.03 0.06 0.06 0.02, "BH" =
    # 0.02 0.04 0.04 0.02.
    got = lessons.corrected([verdict(p) for p in (0.01, 0.04, 0.03, NAN, 0.005)])
    assert [holm for holm, _ in got] == pytest.approx([0.03, 0.06, 0.06, NAN, 0.02], nan_ok=True)
    assert [bh for _, bh in got] == pytest.approx([0.02, 0.04, 0.04, NAN, 0.02], nan_ok=True)
    assert lessons.multiplicity([verdict(0.01)]) == ""
    said = lessons.multiplicity([verdict(p) for p in (0.01, 0.04, 0.03, 0.005)])
    assert said.startswith("4 claims, each judged at 5 %: were none of the effects there, 0.2 false verdicts")
    assert "Of 4 that are supported or contradicted, 2 remain by Holm's" in said


def test_the_tables_of_text_markdown_and_sentence_agree_to_the_digit():
    made = answer(TAKEN, [steps / 2.27 for steps in TAKEN])
    figure = lessons.figure(made.verdicts[0])
    assert re.fullmatch(r"2\.\d\d times \[2\.\d+, 2\.\d+\]", figure)
    assert figure in made.sentence
    assert figure in lessons.markdown(made)
    assert figure in str(made)
    assert figure in made._repr_html_()
    line = next(line for line in str(made).splitlines() if line.startswith("BN "))
    assert len(line) <= 80


def test_an_answer_comes_back(tmp_path):
    made = answer(TAKEN, [INF] * 5)
    made.save(tmp_path / "answer.json")
    assert repr(Answer.load(tmp_path / "answer.json")) == repr(made)
