"""Looks and sweeps, on runs that take no time: who goes on, what is kept, which setting is chosen."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from study_fakes import RECIPES

from levelhead.records import Curve, Run
from levelhead.studies import sweep
from levelhead.studies.claims import Claim, points
from levelhead.studies.frame import decide, plan
from levelhead.studies.jobs import Job
from levelhead.studies.outcome import LOOKS
from levelhead.studies.sweep import Sweep, tune
from levelhead.training import Recipe


class Made:
    """A pool whose runs are what a function of job says."""

    def __init__(self, make):
        self.make, self.asked = make, []

    def run(self, title, jobs):
        self.asked += [(title, job.arm, job.recipe.seed) for job in jobs]
        return [self.make(job) for job in jobs]


def run_of(job, steps, best=0.9, status="finished"):
    """A run that is at its best after so many steps; NaN never gets above 0.1."""
    at = 10_000 if math.isnan(steps) else steps
    scores = [best if step >= at else 0.1 for step in range(0, 101, 10)]
    curves = {"validation_score": Curve(tuple(range(0, 101, 10)), tuple(scores))}
    return Run(job.arm, job.recipe.seed, status, 100, 1.0, "accuracy", job.recipe.to_dict(), {}, curves, scores[-1])


def judged(make, claims, seeds=None):
    def job(arm, seed):
        return Job.of(arm, RECIPES["plain"].replace(seed=seed), Path())

    pool = Made(make)
    by_arm, verdicts, _ = decide("runs", ["a", "b", "c"], job, lambda _: claims, plan(seeds), pool)
    return {arm: len(runs) for arm, runs in by_arm.items()}, verdicts, pool


def claim(one, other):
    return Claim(text=f"{one} is better.", effect="best", measure=points("best", one, other), unit="percentage points")


def test_only_the_arms_of_undecided_claims_go_on():
    # b is always better than a; c is above and below a by turns, and never decides.
    best = {
        "a": lambda seed: 0.5,
        "b": lambda seed: 0.7 + 0.01 * (seed % 3),
        "c": lambda seed: 0.5 + 0.2 * (-1) ** seed,
    }
    counts, verdicts, pool = judged(
        lambda job: run_of(job, 10, best[job.arm](job.recipe.seed)), [claim("b", "a"), claim("c", "a")]
    )
    assert counts == {"a": 40, "b": 5, "c": 40}
    assert [(v.ruling, v.look, v.level, len(v.effects)) for v in verdicts] == [
        ("supported", 1, LOOKS[0][1], 5),
        ("not decided", 4, LOOKS[3][1], 40),
    ]
    assert verdicts[0].p < 0.05
    titles = list(dict.fromkeys(title for title, _, _ in pool.asked))
    assert titles == ["runs", *(f"runs, look {i}: {n} seeds" for i, (n, _) in enumerate(LOOKS[1:], 2))]


def test_a_fixed_number_of_seeds_is_one_look_at_the_whole_level():
    best = {"a": 0.5, "b": 0.7, "c": 0.6}
    counts, verdicts, _ = judged(lambda job: run_of(job, 10, best[job.arm]), [claim("b", "a")], seeds=3)
    assert counts == {"a": 3, "b": 3, "c": 3}
    assert (verdicts[0].look, verdicts[0].level) == (0, 0.05)


def test_a_claim_without_any_effect_is_not_looked_at_again():
    none = Claim(text="It is so.", effect="nothing", measure=lambda samples, seed: math.nan * samples.best("a", seed))
    counts, verdicts, _ = judged(lambda job: run_of(job, 10), [none])
    assert counts == {"a": 5, "b": 5, "c": 5}
    assert verdicts[0].ruling == "not decided"


BASE = Recipe(steps=100, evaluate_every=10)


def tuned(tmp_path, make, rates=(0.1, 0.3, 1.0, 3.0), **changes):
    pool = Made(make)
    return tune([Sweep("x", BASE, rates, ["he"], **changes)], pool, tmp_path)["x"], pool


def test_a_setting_that_loses_a_seed_is_not_chosen(tmp_path):
    # 1.0 is the fastest, and diverges with the last of the seeds; 0.3 comes next.
    steps = {0.1: 80, 0.3: 40, 1.0: 10, 3.0: 90}

    def make(job):
        lost = job.recipe.learning_rate == 1.0 and job.recipe.seed == sweep.SEEDS[-1]
        return run_of(job, steps[job.recipe.learning_rate], status="diverged" if lost else "finished")

    found, pool = tuned(tmp_path, make)
    assert found.best == (0.3, "he")
    assert not found.at_edge
    assert found.recipe.learning_rate == 0.3
    seeds = {rate: sum(f"lr{rate:g}" in arm for _, arm, _ in pool.asked) for rate in steps}
    assert seeds == {0.1: 2, 0.3: 5, 1.0: 5, 3.0: 2}, "the better half goes on to five seeds"


def test_steps_decide_and_not_the_best_score(tmp_path):
    # The slow one is a little better in the end: a study of steps takes the fast one.
    steps, best = {0.1: 60, 0.3: 20, 1.0: 70, 3.0: math.nan}, {0.1: 0.91, 0.3: 0.9, 1.0: 0.9, 3.0: 0.2}
    make = lambda job: run_of(job, steps[job.recipe.learning_rate], best[job.recipe.learning_rate])  # noqa: E731
    found, _ = tuned(tmp_path, make)
    assert found.best == (0.3, "he")
    assert found.target == pytest.approx(0.98 * 0.91)


def test_an_edge_is_widened_until_it_is_none(tmp_path):
    make = lambda job: run_of(job, 100 - 10 * min(9, round(3 + 2 * math.log10(job.recipe.learning_rate))))  # noqa: E731
    found, _ = tuned(tmp_path, make, rates=(0.1, 0.3, 1.0))
    assert max(rate for rate, _ in found.runs) == 10
    assert found.best[0] == 10
    assert found.at_edge, "twice is enough, and it is said"
    assert "At the edge" in " ".join(sweep.told({"x": found}))


def test_the_target_is_that_of_the_sweep_which_it_is_compared_with(tmp_path):
    one, other = Sweep("one", BASE, (0.1, 0.3, 1.0), ["he"]), Sweep("other", BASE, (0.1, 0.3, 1.0), ["he"], like="one")
    best = {"sweep-one": 0.8, "sweep-other": 0.99}
    make = lambda job: run_of(job, 50 if job.recipe.learning_rate == 0.3 else 70, best[job.arm.rsplit("-", 2)[0]])  # noqa: E731
    found = tune([one, other], Made(make), tmp_path)
    assert found["one"].target == found["other"].target == pytest.approx(0.98 * 0.8)


def test_a_run_of_a_sweep_ends_where_a_target_is_known(tmp_path):
    one, other = Sweep("one", BASE, (0.1, 0.3), ["he"]), Sweep("other", BASE, (0.1, 0.3), ["he"], like="one")
    fixed = Sweep("fixed", BASE, (0.1, 0.3), ["he"], target=0.7)
    ends = {}

    def make(job):
        ends[job.arm.split("-")[1], job.recipe.seed] = job.recipe.target
        return run_of(job, 50 if job.recipe.learning_rate == 0.3 else 70, 0.8)

    found = tune([other, one, fixed], Made(make), tmp_path)
    assert list(found) == ["other", "one", "fixed"]
    of = {name: {ends[name, seed] for seed in sweep.SEEDS} for name in found}
    assert of == {"one": {None}, "other": {found["one"].target}, "fixed": {0.7}}
    assert found["other"].recipe.target is None, "a study's own runs go on"


def test_every_arm_has_the_same_grid():
    from levelhead.studies.batch_norm import NORMS, _sweep
    from levelhead.studies.settings import Settings

    sweeps = [_sweep("plain", BASE, 6, norm, {}, Settings()) for norm in NORMS]
    assert len({(tuple(s.learning_rates), tuple(s.initializations)) for s in sweeps}) == 1
    assert replace(sweeps[1].recipe, normalization="none") == sweeps[0].recipe
