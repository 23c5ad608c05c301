"""Random search over the doctor's remedies: what ``benchmarks/doctor.py --random`` compares the doctor with.

It knows the remedies and nothing of the program. Each trial applies one to three of them to a copy, drawn at random,
and trains it; the best validation score is kept when the time is over.
"""

from __future__ import annotations

import random
import time

import torch.nn.functional as F
from torch import nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence.examined import Examined, gather
from levelhead.doctor.program import Program
from levelhead.doctor.trials import Outcome, train
from levelhead.moments import Moments


def _relu(module: nn.Module) -> nn.Module:
    return nn.ReLU()


def _identity(module: nn.Module) -> nn.Module:
    return nn.Identity()


def pool(facts: Examined) -> list[remedies.Remedy]:
    """Every remedy that can be built for this program, whether or not anything speaks for it."""
    program, model = facts.program, facts.program.model
    rates = [float(group["lr"]) for group in program.optimizer.param_groups]
    layers = [call.name for call in facts.layers]
    norms = [name for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    drops = [name for name, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    squashing = [name for name, m in model.named_modules() if isinstance(m, nn.Sigmoid | nn.Tanh)]
    found = [remedies.learning_rate(factor, rates) for factor in (0.001, 0.01, 0.1, 10, 100, 1000)]
    found += [remedies.epochs(4 * program.epochs), remedies.epochs(max(1, program.epochs // 4))]
    found += [remedies.all_parameters(), remedies.standard_loop(), remedies.standard_evaluation()]
    found += [remedies.set_in_optimizer("weight_decay", value, f"weight decay {value:g}") for value in (0.0, 0.01)]
    found += [remedies.batches(32, "batches of 32"), remedies.aligned_loss()]
    losses = {"squared error": F.mse_loss, "cross-entropy": remedies.cross_entropy}
    losses |= {"binary cross-entropy": F.binary_cross_entropy, "of logits": F.binary_cross_entropy_with_logits}
    found += [remedies.other_loss(loss, name, name) for name, loss in losses.items()]
    if facts.output.module:
        where = [facts.output.where]
        found.append(remedies.replace(where, _identity, "no activation at the output", ""))
        found.append(remedies.replace(where, lambda _: nn.Sigmoid(), "sigmoid at the output", ""))
        found.append(remedies.replace(where, lambda _: nn.Softmax(1), "softmax at the output", ""))
    if facts.train.kept is not None:
        x, y = facts.train.kept
        if x.is_floating_point():
            found += [remedies.standardize_inputs(Moments.of(x, dim)) for dim in (0, None)]
        if y.is_floating_point():
            found.append(remedies.standardize_targets(Moments.of(y, 0)))
        if layers:
            found.append(remedies.calibrate(layers, x[:256]))
    if layers:
        found.append(remedies.reset([n for n in layers if hasattr(model.get_submodule(n), "reset_parameters")]))
        found.append(remedies.followed_by(layers[:-1], remedies.norm_for, "batch normalization", ""))
        found.append(remedies.followed_by(layers[:-1], _relu, "ReLU between", ""))
    if squashing:
        found.append(remedies.replace(squashing, _relu, "ReLU in place of sigmoid or tanh", ""))
    if norms:
        found += [
            remedies.momentum(norms),
            remedies.replace(norms, remedies.without_batch_statistics, "group norm", ""),
        ]
    if drops:
        found += [remedies.dropout(drops, rate) for rate in (0.0, 0.1)]
    return found


def search(program: Program, seconds: float, seed: int = 0) -> Outcome:
    """The best of the random trials that fit into the time; the first is the program as it is."""
    start = time.perf_counter()
    facts = gather(program)
    every = pool(facts)
    draw = random.Random(seed)
    best = train(program, seed=seed, seconds=seconds)
    while time.perf_counter() - start < seconds:
        chosen = draw.sample(every, draw.choice((1, 1, 2, 3)))
        left = seconds - (time.perf_counter() - start)
        other = train(program, remedies.several(chosen), seed=seed, seconds=left)
        if other.error is None and other.score > best.score:
            best = other
    return best
