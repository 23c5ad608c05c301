"""How often a study's intervals err, cover and decide: by number of seeds and kind of runs, and over all looks.

Run: python benchmarks/intervals.py [STUDIES]        (2,000 simulated studies a line by default; about a minute)

``error``: of studies of two equal arms, those with a verdict of a difference; ``cover``: of studies of a true ratio of
1.5, those whose interval holds it; ``power``: of these, those with a verdict. Beside it, ``budget``: the error of
Student's t where a run that missed the target counts as having met it at the budget.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from levelhead.lessons import LEVEL
from levelhead.studies.outcome import LOOKS, Effects, Estimate, of_steps

Array = NDArray[np.float64]
#: Logarithms of steps, two arms of so many seeds; the second is faster by RATIO where there is an effect.
Draw = Callable[[np.random.Generator, int], Array]
RATIO, BUDGET, EVERY = 1.5, 1000.0, 25.0


def normal(random: np.random.Generator, n: int) -> Array:
    return random.normal(5.5, 0.3, (2, n))


def skewed(random: np.random.Generator, n: int) -> Array:
    return 5.2 + random.exponential(0.3, (2, n))


def shared(random: np.random.Generator, n: int) -> Array:
    """Nine tenths of the luck are the seed's."""
    return 5.5 + random.normal(0, 0.3, n) + random.normal(0, 0.1, (2, n))


def censored(random: np.random.Generator, n: int) -> Array:
    """A third of the runs miss the budget."""
    return random.normal(math.log(BUDGET) - 0.13, 0.3, (2, n))


def ties(random: np.random.Generator, n: int) -> Array:
    """Three evaluations to the target, one more or one less."""
    return random.normal(math.log(75), 0.2, (2, n))


def study(draw: Draw, random: np.random.Generator, n: int, ratio: float) -> tuple[Array, Array]:
    """Steps of two arms: seen at evaluations alone, infinite beyond the budget."""
    slow, fast = np.exp(draw(random, n))
    steps = [np.ceil(taken / EVERY) * EVERY for taken in (slow, fast / ratio)]
    return tuple(np.where(taken > BUDGET, np.inf, taken) for taken in steps)  # type: ignore[return-value]


def line(draw: Draw, n: int, studies: int) -> tuple[float, float, float, float]:
    random = np.random.default_rng(n)
    error = budget = cover = power = 0
    for _ in range(studies):
        slow, fast = study(draw, random, n, 1.0)
        error += known(slow, fast).p(1.0) <= LEVEL
        budget += Effects((np.minimum(slow, BUDGET) / np.minimum(fast, BUDGET)).tolist(), ratio=True).p(1.0) <= LEVEL
        found = known(*study(draw, random, n, RATIO))
        cover += found.p(RATIO) > LEVEL  # the interval is what the test does not refuse
        power += found.p(1.0) <= LEVEL
    return error / studies, budget / studies, cover / studies, power / studies


def known(slow: Array, fast: Array) -> Estimate:
    return of_steps(slow.tolist(), fast.tolist(), BUDGET, EVERY)


def looked(draw: Draw, studies: int, ratio: float) -> tuple[float, float]:
    """The share of studies that end with a difference at any look, and the seeds that they take."""
    random = np.random.default_rng(0)
    found, seeds = 0, 0
    for _ in range(studies):
        slow, fast = study(draw, random, LOOKS[-1][0], ratio)
        for n, level in LOOKS:
            if known(slow[:n], fast[:n]).p(1.0) <= level:
                found += 1
                break
        seeds += n
    return found / studies, seeds / studies


def total_of_looks(studies: int) -> float:
    """The same for normal effects without a grid, vectorized: what the levels of the looks were chosen by."""
    from scipy.stats import t

    effects = np.random.default_rng(0).normal(size=(studies, LOOKS[-1][0]))
    hit = np.zeros(studies, dtype=bool)
    for n, level in LOOKS:
        part = effects[:, :n]
        hit |= np.abs(part.mean(1)) * math.sqrt(n) / part.std(1, ddof=1) > t.ppf(1 - level / 2, n - 1)
    return float(hit.mean())


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{'runs':10}{'seeds':>6}{'error':>9}{'budget':>9}{'cover':>9}{'power':>9}")
    kinds = (normal, skewed, shared, censored, ties)
    for draw in kinds:
        for n in (3, 5, 10, 20):
            print(f"{draw.__name__:10}{n:6}" + "".join(f"{100 * share:7.1f} %" for share in line(draw, n, studies)))
    print(f"\nLooks at {', '.join(f'{n} seeds ({100 * level:g} %)' for n, level in LOOKS)}:")
    print(f"normal effects, 200,000 studies: {100 * total_of_looks(200_000):.2f} % false in all")
    for draw in kinds:
        (error, _), (power, seeds) = looked(draw, studies, 1.0), looked(draw, studies, RATIO)
        print(f"{draw.__name__:10} error {100 * error:4.1f} %, power {100 * power:5.1f} % with {seeds:4.1f} seeds")


if __name__ == "__main__":
    main()
