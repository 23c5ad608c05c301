"""The sentence of a study: it begins with its verdict, and says no more than the runs do."""

import math

import pytest
from test_outcome import make_run

from levelhead.records import Answer
from levelhead.studies import outcome, words

INF = math.inf


def answer(plain, other, chance=0.1, best=0.9):
    """Two arms that take so many steps to the target, of 1,000, evaluated every 10."""
    rows = []
    for arm, taken in (("plain", plain), ("BN", other)):
        runs = [make_run(arm, seed, (0.1, best)) for seed in range(len(taken))]
        row = outcome.row(arm, {}, runs, 0.5, outcome.speedup(plain, taken, 1000, 10))
        reached = sum(map(math.isfinite, taken))
        rows.append(words.replace(row, steps=outcome.median(taken), reached=reached))
    return Answer("s", "q?", "", 0.5, "", "accuracy", 1000, "plain", tuple(rows), (), (), (), {}, chance, chance + 0.01)


def sentence(*args, **rest):
    return words.with_sentence(answer(*args, **rest), "digits").sentence


TAKEN = [400.0, 410.0, 500.0, 390.0, 450.0]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("missed", [0, 1, 2])
def test_identical_arms_are_no_difference_shown(seeds, missed):
    taken = [INF] * min(missed, seeds) + TAKEN[missed:seeds]
    said = sentence(taken, taken)
    assert said.startswith("No difference shown")
    assert not any(word in said for word in ("fewer", "not reach", " 1 times", "0 to"))


def test_a_difference_is_named_first():
    half = [steps / 2 for steps in TAKEN]
    assert sentence(TAKEN, half).startswith("Faster: on digits, the other arm, BN, reaches 50.0 % in 2 times fewer")
    assert sentence(half, TAKEN).startswith("Slower: on digits, the other arm, BN, needs 2 times as many steps")


def test_some_missed_seeds_are_counted_beside_the_baselines():
    said = sentence([*TAKEN[:3], INF, INF], [INF, INF, INF, 400.0, 410.0])
    assert said == (
        "No difference shown: on digits, the other arm, BN, is judged by its steps to 50.0 % in 1,000: 2 of 5 seeds "
        "reach it, and 3 of 5 of plain; the ratio is not known."
    )
    assert "at most 0.5 times as fast as plain" in sentence(TAKEN, [INF] * 5)


def test_where_no_arm_learned_no_speedup_is_told():
    assert sentence(TAKEN, TAKEN, chance=0.99, best=0.99) == (
        "No arm learned: the best accuracy of any is 99.0 %, and the most frequent class alone gives 99.0 %, on digits."
    )
