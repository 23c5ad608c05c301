"""Trainings a CPU-second: several seeds as one network against one run after the other, here or by another checkout.

The arms of the default study and of the studies of claims, with their views and observers, one thread, five seeds; the
steps are divided by ``--share``, and with them the evaluations. ``--beside`` names the ``src`` folder of an older
checkout, whose ``train()`` then stands in the place of ours; both run in processes of their own, one after the other.

    python benchmarks/many_seeds.py [--beside ../old/src] [--only batch-norm] [--share 5] [--seeds 5]
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch

SEEDS = 5


def jobs(only: str, share: int) -> list[tuple[str, str, dict, object, object, bool]]:
    """(study, data, recipe, view, observe, probe) of every arm."""
    from levelhead.studies import LECTURES, find
    from levelhead.studies.batch_norm import ARMS, RECIPE
    from levelhead.studies.frame import EVALUATIONS

    found = []
    for fields in ARMS.values():
        own = {name: value for name, value in fields.items() if name != "learning_rate_times"}
        recipe = {**RECIPE, "learning_rate": 0.1, "evaluate_every": RECIPE["steps"] // 40, **own}
        found.append(("batch-norm", "mnist5k", recipe, None, None, True))
    for name in LECTURES:
        if name != "batch-norm":
            study = find(name)
            for arm in study.arms.values():
                recipe = {**study.recipe, **arm.fields}
                recipe.setdefault("evaluate_every", max(1, recipe["steps"] // EVALUATIONS))
                view, observe = arm.view or study.view, arm.observe or study.observe
                found.append((name, study.DATA, recipe, view, observe, False))
    for _, _, recipe, *_ in found:
        recipe["steps"] = max(recipe["steps"] // share, recipe["evaluate_every"])
    return [job for job in found if only in f"{job[0]} "]


def measure() -> None:
    """In a process of its own: the CPU-seconds of each job, as a pickle."""
    torch.set_num_threads(1)
    if Path(other := os.environ.get("ONE_BY_ONE", "here")).is_dir():  # before what an editable install redirects to
        sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
        sys.path.insert(0, other)
    given, seeds = pickle.loads(sys.stdin.buffer.read())
    from levelhead import training
    from levelhead.allocator import tune_allocator
    from levelhead.data import load
    from levelhead.training import Recipe

    tune_allocator()
    loaded: dict[str, object] = {}
    out = []
    for job in given:
        name, recipe, view, observe, probe = pickle.loads(job)
        data = loaded.setdefault(name, load(name))
        recipes = [Recipe.from_dict({**recipe, "seed": seed}) for seed in range(seeds)]
        options = {"probe": probe, "observe": observe, "accelerator": "cpu"}
        if not out:  # what is imported and built once is not counted
            training.train(recipes[0].replace(steps=2), data, accelerator="cpu")
        seen = [view(data, seed) if view else data for seed in range(seeds)]
        start = time.process_time()
        if hasattr(training, "train_seeds") and "ONE_BY_ONE" not in os.environ:
            training.train_seeds(recipes, seen, **options)
        else:
            for one, its in zip(recipes, seen, strict=True):
                training.train(one, its, **options)
        out.append(time.process_time() - start)
    sys.stdout.buffer.write(pickle.dumps(out))


def child(given: list, seeds: int, source: str | None, one_by_one: bool) -> list[float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"ONE_BY_ONE": source or "here"} if one_by_one else {})}
    packed = [pickle.dumps(job[1:]) for job in given]
    done = subprocess.run(
        [sys.executable, __file__, "--measure"], input=pickle.dumps((packed, seeds)), env=environment,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return pickle.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", help="src of another checkout, whose train() is measured")
    parser.add_argument("--only", default="", help="studies whose name contains this")
    parser.add_argument("--share", type=int, default=5, help="divide the steps by this")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure()
        return
    by_study = defaultdict(list)
    for job in jobs(arguments.only, arguments.share):
        by_study[job[0]].append(job)
    print(f"torch {torch.__version__}, 1 thread, {arguments.seeds} seeds; CPU-seconds a training of the study's steps")
    print(f"{'':28}{'arms':>5}{'one by one':>12}{'together':>10}{'ratio':>8}", flush=True)
    sums = [0.0, 0.0]
    for name, given in by_study.items():
        one = sum(child(given, arguments.seeds, arguments.beside, True))
        many = sum(child(given, arguments.seeds, None, False))
        sums[0] += one
        sums[1] += many
        each = len(given) * arguments.seeds / arguments.share
        print(f"{name:28}{len(given):5}{one / each:12.2f}{many / each:10.2f}{one / many:8.2f}", flush=True)
    print(f"{'all':28}{'':27}{sums[0] / sums[1]:8.2f}")


if __name__ == "__main__":
    main()
