"""A training function that takes no time, and data next to nothing, importable by worker processes."""

import functools
import os
import random
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from levelhead.data import Split, load
from levelhead.records import Curve, Run, environment
from levelhead.studies import Settings, run
from levelhead.studies.display import Display
from levelhead.training import Recipe


@dataclass(frozen=True)
class FakeData:
    name: str = "fake"
    task: str = "classification"
    metric: str = "accuracy"
    notes: tuple = ("made up",)
    size: int = 10

    @property
    def train(self):
        return Split(torch.zeros(self.size), torch.arange(self.size) % 10)

    validation = test = train

    def describe(self):
        return {"name": self.name, "task": self.task}


def train(recipe, data, *, arm="", progress=None, probe=True, **options):
    """A saturating curve that depends on recipe and seed alone."""
    rng = random.Random(repr(sorted(recipe.to_dict().items())))
    speed = recipe.learning_rate * (2 if recipe.normalization == "batch" else 1) * rng.uniform(0.8, 1.2)
    steps = tuple(range(0, recipe.steps + 1, recipe.evaluate_every))
    scores = tuple(1 - 0.9 / (1 + speed * step) for step in steps)
    for step in steps:
        progress(step, recipe.steps)
    curves = {"validation_score": Curve(steps, scores)}
    return Run(
        arm,
        recipe.seed,
        "finished",
        recipe.steps,
        0.01,
        "accuracy",
        recipe.to_dict(),
        data.describe(),
        curves,
        scores[-1] - 0.01,
        environment=environment(),
    )


def counts_page_faults(recipe, data, **rest):
    """Fails, and says how many page faults the fifth tensor of 40 MB cost."""
    counts = [0]
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(10_000_000).fill_(1)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    raise RuntimeError(f"{counts[-1]}")


def slow_train(recipe, data, **rest):
    time.sleep(0.02)
    return train(recipe, data, **rest)


def raises_for_sigmoid(recipe, data, **rest):
    if recipe.activation == "sigmoid" and "FAKE_HEALED" not in os.environ:
        raise RuntimeError("the network of the user\nhas a mistake")
    return train(recipe, data, **rest)


def kills_itself_once(recipe, data, **rest):
    """The first worker that comes here dies as if the machine had run out of memory."""
    mark = Path(os.environ["FAKE_MARK"])
    if recipe.seed == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train(recipe, data, **rest)


def kills_itself_always(recipe, data, **rest):
    if recipe.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(recipe, data, **rest)


def never_ends(recipe, data, *, progress, **rest):
    Path(os.environ["FAKE_MARK"] + f".{os.getpid()}").touch()
    while True:
        progress(1, recipe.steps)
        time.sleep(0.01)


def crooked(recipe, data):
    """A network that takes no rows of the data."""
    return torch.nn.Linear(3, 2)


@functools.cache
def digits():
    """The digits, loaded once."""
    return load("digits")


RECIPES = {"plain": Recipe(steps=40, evaluate_every=4), "BN": Recipe(steps=40, evaluate_every=4, normalization="batch")}


def small(out, **changes):
    return Settings(
        out=str(out),
        workers=2,
        seeds=3,
        recipe={"steps": 40, "evaluate_every": 4},
        learning_rates=(0.1, 0.3),
        depths=(1, 2),
        **changes,
    )


if __name__ == "__main__":  # a study that a test kills from outside: python study_fakes.py OUT [TRAIN]
    import sys

    from rich.console import Console

    with Display(Console(stderr=True)) as display:
        run(small(sys.argv[1]), FakeData(), watcher=display, train=globals()[(sys.argv[2:] or ["slow_train"])[0]])
    print("complete")
