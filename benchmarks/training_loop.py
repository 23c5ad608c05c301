"""Our training loop against a bare PyTorch loop, by the step, evaluations included on both sides.

Both index rows in memory, run the same network from the same weights over the same batches, and evaluate at the same
steps on the same rows; the test rows where the validation score is the best so far, which ours puts off to the last of
these. Repeats are interleaved, so that a busy machine slows both; the ratio is the median of the ratios of neighbours.
``bare`` uses the optimizer's default form, ``bare, fused`` the one that we use.

    python benchmarks/training_loop.py [--steps 600] [--repeats 7] [--only convnet]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from levelhead.data import Dataset, load
from levelhead.training import Recipe, build, train
from levelhead.training.batches import Batches
from levelhead.training.loop import _TRAIN_ROWS

EVERY = 50


def bare(recipe: Recipe, data: Dataset, fused: bool) -> tuple[float, float]:
    """Seconds of a loop as a person would write it, and its final validation accuracy."""
    model = build(recipe, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, fused=fused or None)
    loss_function = nn.CrossEntropyLoss()
    inputs, targets = data.train.inputs, data.train.targets
    sample = torch.linspace(0, len(inputs) - 1, _TRAIN_ROWS).long()
    sampled = inputs[sample], targets[sample]
    validation = data.validation.inputs, data.validation.targets
    numbers = torch.arange(len(inputs))
    order = [rows for rows, _ in Batches(numbers, numbers, recipe.batch_size, recipe.seed).between(0, recipe.steps)]
    start = time.perf_counter()

    def measure(x: torch.Tensor, y: torch.Tensor) -> float:
        right = loss = 0.0
        with torch.no_grad():
            for a, b in zip(x.split(256), y.split(256), strict=True):
                out = model(a)
                loss += loss_function(out, b).item() * len(a)
                right += (out.argmax(1) == b).sum().item()
        return right / len(x)

    def evaluate(best: float) -> float:
        model.eval()
        measure(*sampled)
        score = measure(*validation)
        if score > best:
            measure(data.test.inputs, data.test.targets)
        model.train()
        return score

    score = best = evaluate(-1.0)
    for step, rows in enumerate(order, 1):
        optimizer.zero_grad()
        loss = loss_function(model(inputs[rows]), targets[rows])
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            score = evaluate(best)
            best = max(best, score)
    return time.perf_counter() - start, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="run those whose name contains this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load("mnist5k")
    recipes = {
        "mlp 3x100": Recipe(learning_rate=0.2, steps=arguments.steps, evaluate_every=EVERY),
        "mlp 3x100, batch norm": Recipe(
            learning_rate=0.2, normalization="batch", steps=arguments.steps, evaluate_every=EVERY
        ),
        "convnet 3 blocks, BN": Recipe(
            network="convnet",
            width=8,
            normalization="batch",
            learning_rate=0.2,
            steps=max(arguments.steps // 4, 2 * EVERY),
            evaluate_every=EVERY,
        ),
    }
    print(f"torch {torch.__version__}, 1 thread, batches of 60, evaluated every {EVERY} steps; medians, µs a step")
    print(f"{'':24}{'bare':>9}{'bare, fused':>13}{'ours':>9}{'no probes':>11}{'ours/bare':>11}{'ours/bare, fused':>18}")
    for name, recipe in ((name, recipe) for name, recipe in recipes.items() if arguments.only in name):
        times: dict[str, list[float]] = {"bare": [], "fused": [], "ours": [], "silent": []}
        for _ in range(arguments.repeats):
            seconds, score = bare(recipe, data, fused=False)
            times["bare"].append(seconds)
            times["fused"].append(bare(recipe, data, fused=True)[0])
            run = train(recipe, data, probe=True, accelerator="cpu")
            times["ours"].append(run.seconds)
            times["silent"].append(train(recipe, data, probe=False, accelerator="cpu").seconds)
            # The same batches from the same weights; what rounding grows to is a few rows in a thousand.
            ours = run.score.values[-1]
            if abs(score - ours) > 0.05:
                raise SystemExit(f"{name}: the loops do not agree: validation accuracy {score:.3f} and {ours:.3f}")
        micro = {key: statistics.median(values) / recipe.steps * 1e6 for key, values in times.items()}
        ratio, fused = (
            statistics.median(a / b for a, b in zip(times["ours"], times[key], strict=True))
            for key in ("bare", "fused")
        )
        print(
            f"{name:24}{micro['bare']:9.0f}{micro['fused']:13.0f}{micro['ours']:9.0f}{micro['silent']:11.0f}"
            f"{ratio:11.2f}{fused:18.2f}"
        )


if __name__ == "__main__":
    main()
