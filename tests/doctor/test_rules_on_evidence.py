"""Each check on evidence that is written down: beyond its threshold it raises its cause, within it does not."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any

import faulty_programs as programs
import pytest
import torch
from torch import nn

from levelhead.doctor.comparison import Result
from levelhead.doctor.evidence import Seen, Unchanged
from levelhead.doctor.evidence import loop as loops
from levelhead.doctor.evidence.calls import Call
from levelhead.doctor.evidence.data import Columns, Data
from levelhead.doctor.evidence.evaluation import Evaluation
from levelhead.doctor.evidence.history import Batch, History, Layer, Measured, Weights
from levelhead.doctor.evidence.loop import Loop, LossCall, Update
from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.evidence.structure import Output
from levelhead.doctor.evidence.terms import error_of, opposing, penalties
from levelhead.doctor.isolation import clone
from levelhead.doctor.rules import (
    RULES,
    capacity,
    data,
    evaluation,
    loop,
    loss,
    network,
    normalization,
    optimization,
    output,
    preparation,
    weights,
)
from levelhead.doctor.trials import Outcome
from levelhead.moments import Moments


@dataclass
class Known:
    """Evidence of which only what a test says is known."""

    program: Any = None
    model: nn.Module = field(default_factory=programs.mlp)
    train: Data = field(default_factory=Data)
    val: Data | None = None
    loop: Loop = field(default_factory=Loop)
    loss: LossKind = field(default_factory=lambda: LossKind("", "", False))
    output: Output = field(default_factory=lambda: Output("", "", False))
    evaluation: Evaluation = field(default_factory=Evaluation)
    base: Outcome | None = None
    history: History | None = None
    unchanged: Unchanged | None = None
    updates: int = 100
    floor: float = 0.25
    targets: Any = None
    outputs: Any = None
    node: Any = None
    usual_targets: bool = True
    mixing: str | None = None
    late: tuple = ()
    tried: tuple = ()
    optimizer: Any = None
    known: Any = None
    script: Any = None

    @property
    def optimizers(self):
        return [self.optimizer or torch.optim.SGD(self.model.parameters(), lr=0.1)]

    @property
    def after(self):
        return self.model

    @property
    def held(self):
        return {id(p) for each in self.optimizers for group in each.param_groups for p in group["params"]}

    def calls(self, *kinds):
        return [call for call in self.loop.calls if isinstance(call.module, kinds)]

    @property
    def layers(self):
        return self.calls(nn.Linear, nn.Conv2d)

    def gain(self, before, after):
        return (after - before) / (after - self.floor) if after > before else 0.0

    def room(self, score):
        return (1 - score) / (1 - self.floor)

    def noise(self, score):
        return 0.01

    def idle(self, score):
        return score <= self.floor


def columns(mean=0.0, std=1.0, bad=0, spread=1.0):
    stds = torch.tensor([std, std, std * spread], dtype=torch.float64)
    parts = Moments(torch.full((3,), 100.0), torch.full((3,), mean, dtype=torch.float64), 100 * stds**2)
    whole = Moments(torch.tensor(100.0), torch.tensor(mean), torch.tensor(100 * std**2))
    return Columns((3,), parts, whole, mean - std, mean + std, bad)


def update(cleared=0.0, kept=1.0, descent=1.0, move=-0.5, held=1.0):
    return Update(1.0, held, cleared, kept, descent, move)


def trained(score=0.9, losses=(), scores=(), **more):
    program = programs.plain()
    figures = {"losses": list(losses or [1.0] * 40), "scores": list(scores), "rates": [0.1] * 40}
    return Outcome(program=program, score=score, **figures, updates=40, planned=40, **more)


def call(module, x=None, name="0"):
    return Call(name, module, x, module(x).detach() if x is not None else None, None, None)


def watched(first=1.0, last=0.5, ratio=0.01, steps=200, layer=None, channels=None, **more):
    """A history of a loss that goes from one value to another, with twenty measured updates."""
    history = History(steps=steps, training_steps=steps, **more)
    for step in range(steps):
        history.add_loss(step, first + (last - first) * step / steps)
    for i in range(20):
        weights = {"0.weight": Weights(1.0, 1.0, ratio)}
        layers = {"1": layer(i) if layer else Layer("relu", 0.0, 1.0, 0.1), "2": Layer("", 0.0, 1.0)}
        history.add(Measured(i * 10, Batch(8, 0.0, 1.0, -2.0, 2.0), layers, weights, -0.5, channels or {}))
    return history


def rated(*rates, ended=True):
    """A script whose largest learning rate goes through these, ten updates apart."""
    steps = [Measured(10 * i, None, {}, {}, math.nan, rate=rate) for i, rate in enumerate(rates)]
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "initial_lr": 1.0}], lr=0.1)
    return {"optimizer": optimizer, "history": History(measured=steps), "script": Seen(ended=ended)}


def group(decay):
    model = programs.norm_mlp()
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)}


COUNTS = dict.fromkeys(range(4), 100)


def runs(labels):
    """Batches of 20 rows of one class each."""
    found = Data(sizes=[20] * 32, batch_means=[float(n) for n in labels], target_std=1.1, counts=COUNTS)
    return {"train": found, "loss": LossKind("", "classes", False), "history": History()}


def tables(here, there, shift=0.0):
    """Two tables whose second column says the target so many times as loud as chance."""
    torch.manual_seed(0)
    halves = []
    for share, mean in ((here, 0.0), (there, shift)):
        y, noise = torch.randn(2, 600)
        told = (share * y + noise) / math.hypot(share, 1)
        halves.append(Data(600, kept=(torch.stack([noise.roll(1), told + mean], 1), y)))
    return {"train": halves[0], "val": halves[1], "history": History()}


def held_still(moved):
    """A frozen layer in front of a trained one; its weights as they were drawn, or moved by so many deviations."""
    torch.manual_seed(0)
    model = programs.mlp(32)
    first = model[0]
    first.weight.data += moved * first.weight.data.std() * torch.randn_like(first.weight)
    first.requires_grad_(False)
    return {"model": model, "loop": Loop(executed={"0", "2"}), "history": History()}


def norms(rows):
    norm = nn.BatchNorm1d(4)
    found = Loop(calls=[call(norm, torch.randn(rows, 4), "1")], modes={"1": {True}})
    model = programs.norm_mlp()
    return {"model": model, "loop": found, "train": Data(rows=400, sizes=[rows] * 9)}


def frozen(names):
    model = programs.mlp()
    every = {"0", "2"}
    reached = {f"{n}.{kind}" for n in every - set(names) for kind in ("weight", "bias")}
    return {"model": model, "loop": Loop(updates=[update()] * 3, reached=reached, gradients=reached, ran=every)}


def ran(*layers, **more):
    """What three updates of a network showed."""
    program = programs.program(nn.Sequential(*layers))
    twin = clone(program)
    seen = loops.measure(twin, islice(twin.train, 3))
    return {"model": twin.model, "loop": seen, "program": program, **more}


def drawn(gain):
    """Layers whose weights have exactly this root mean square, times the root of their inputs."""
    model = programs.mlp(16)
    for layer in (model[0], model[2]):
        w = layer.weight.data
        w.mul_(gain / (w.square().mean().sqrt() * w.shape[1] ** 0.5))
    calls = [call(model[i], name=str(i)) for i in (0, 2)]
    return {"model": model, "loop": Loop(calls=calls), "program": object()}


def normed(*front, norm=nn.BatchNorm1d, bias=False):
    return (*front, nn.Linear(8, 16, bias=bias), norm(16), nn.ReLU(), nn.Linear(16, 4))


def slow(momentum):
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4, momentum=momentum))
    model[1].num_batches_tracked.fill_(200)
    return {"model": model, "loop": Loop(modes={"1": {True}}), "history": watched()}


def poisoned(value):
    model = programs.norm_mlp()
    next(m for m in model if isinstance(m, nn.BatchNorm1d)).running_var[0] = value
    return {"model": model}


class RootMeanSquareNorm(nn.Module):
    """A normalization that no registry knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))


def own_norm(decay):
    model = RootMeanSquareNorm()
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)}


def under_dropout(*front):
    found = ran(*normed(*front), train=Data(rows=400, kept=programs.clusters(400, 0)))
    return found | {"base": replace(trained(), program=programs.program(nn.Sequential(*normed(*front))))}


def few_weights(rows, *widths):
    x, y = programs.clusters(rows, 0)
    return ran(*programs.mlp(*widths), train=Data(rows=rows, kept=(x, y)), base=trained())


class Attention(nn.Module):
    """Four positions of two values; the softmax goes over a dimension of scores [rows, queries, positions]."""

    def __init__(self, dim, transposed=False):
        super().__init__()
        self.dim, self.transposed = dim, transposed
        self.q, self.k, self.out = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(8, 4)

    def forward(self, x):
        x = x.reshape(-1, 4, 2)
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        weights = scores.mT.softmax(self.dim).mT if self.transposed else scores.softmax(self.dim)
        return self.out((weights @ x).flatten(1))


def test_the_penalty_of_a_loss_is_the_term_without_targets_on_a_part_of_the_parameters():
    encoder, decoder, x = nn.Linear(3, 2), nn.Linear(2, 3), torch.randn(5, 3)
    z = encoder(x)
    compared, penalty = nn.functional.mse_loss(decoder(z), x), z.exp().sum()
    by_hand = (decoder(z) - x).square().mean()
    assert penalties(compared.grad_fn) == []
    assert penalties((compared + penalty).grad_fn) == [penalty.grad_fn]
    assert penalties((penalty - by_hand).grad_fn) == [penalty.grad_fn]
    assert penalties((compared + nn.functional.mse_loss(z, z.detach())).grad_fn) == []  # two tasks


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lambda a, b: ((a - b) ** 2).mean(), True),
        (lambda a, b: 3 * (d := a - b).mul(d).sum(1).mean() / 2, True),
        (lambda a, b: (a - b).abs().sum(), False),
        (lambda a, b: (a - b).abs().mean() + a.exp().sum(), None),
        (lambda a, b: (a * (a - b)).mean(), None),
    ],
)
def test_an_error_that_is_computed_by_hand(error, expected):
    answers, seen = nn.Linear(3, 4)(torch.randn(32, 3)), {}

    class Kept(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func in (torch.Tensor.sub, torch.Tensor.__sub__):
                seen[result.grad_fn] = args
            return result

    with Kept():
        loss = error(answers, torch.randn(32, 4))
    found = error_of(loss.grad_fn, seen)
    assert (None if found is None else found[1]) is expected
    assert len(seen) == 1


def test_a_term_that_pulls_against_the_comparison_is_told():
    torch.manual_seed(0)
    answers, y = nn.Linear(3, 4)(torch.randn(32, 3)), torch.randint(0, 4, (32,))
    shares = nn.functional.one_hot(y, 4).float()
    compared, own = nn.functional.cross_entropy(answers, y), (shares * answers.log_softmax(1)).sum(1).mean()
    assert opposing(compared + 9 * own, answers) == [0]
    assert opposing(own + compared, answers) == [1]
    assert opposing(compared - 9 * own, answers) == []  # with its minus
    assert opposing(compared + 1e-3 * answers.square().sum(), answers) == []
    assert opposing(compared, answers) == []


X, Y = programs.clusters(400, 0)
LABELLED = {"loss": LossKind("softmax", "classes", False), "val": Data(kept=(X, Y))}
NUMBERS = {"outputs": torch.zeros(5, 3), "targets": torch.zeros(5, 3), "loss": LossKind("squared", "quantity", False)}
SCORES = {"outputs": torch.zeros(4, 3), "loss": LossKind("softmax", "classes", False)}
FALLING = [1.0] * 20 + [0.1] * 20
#: The check, its cause, and evidence within and beyond its threshold.
TABLE: list[tuple[Callable, str, dict, dict]] = [
    (data.non_finite, "non-finite-data", {"train": Data(inputs=columns())}, {"train": Data(inputs=columns(bad=1))}),
    (data.input_scale, "inputs-not-normalized", {"train": Data(inputs=columns(std=data.LARGE))},
     {"train": Data(inputs=columns(std=1.1 * data.LARGE))}),
    (data.input_scale, "inputs-not-normalized", {"train": Data(inputs=columns(std=1.1 * data.SMALL))},
     {"train": Data(inputs=columns(std=0.9 * data.SMALL))}),
    (data.input_scale, "inputs-not-normalized", {"train": Data(inputs=columns(spread=data.APART))},
     {"train": Data(inputs=columns(spread=1.1 * data.APART))}),
    (data.invalid_labels, "labels-invalid", {"train": Data(counts={0: 99}), "loss": LossKind("", "classes", False)},
     {"train": Data(counts={0: 99}), "loss": LossKind("", "classes", False), "val": Data(counts={0: 9, 1: 9})}),
    (data.invalid_labels, "labels-invalid", {"train": Data(counts={0: 9, 3: 9}), "outputs": torch.zeros(5, 4),
                                             "loss": LossKind("softmax", "classes", False)},
     {"train": Data(counts={0: 9, 4: 9}), "outputs": torch.zeros(5, 4), "loss": LossKind("softmax", "classes", False)}),
    (data.beyond_shares, "labels-invalid", {"targets": torch.ones(2), "loss": LossKind("logits", "quantity", False)},
     {"targets": torch.tensor([0.0, 255.0]), "loss": LossKind("logits", "quantity", False)}),
    (data.unshuffled, "no-shuffle",
     {"train": Data(sizes=[20] * 8, batch_means=[0.0, 0.1] * 4, target_std=0.5, fixed_order=True)},
     {"train": Data(sizes=[20] * 8, batch_means=[0.0] * 4 + [1.0] * 4, target_std=0.5, fixed_order=True)}),
    (data.in_runs, "no-shuffle", runs([0, 2, 1, 3] * 8), runs([0] * 8 + [1] * 8 + [2] * 8 + [3] * 8)),
    (data.in_runs, "no-shuffle", runs([0, 1] * 16), None),  # the real and the made ones of a critic
    (data.in_runs, "no-shuffle", runs([i / 31 for i in range(32)]), None),  # actions of a policy that changes
    (loop.accumulating, "gradients-accumulate", {"loop": Loop(updates=[update()] * 3)},
     {"loop": Loop(updates=[update(cleared=0.5, kept=0.001)] * 3)}),
    (loop.never_cleared, "gradients-accumulate", {"history": History(uncleared=loop.UNCLEARED - 1)},
     {"history": History(uncleared=loop.UNCLEARED)}),
    (loop.ascending, "gradient-ascent", {"loop": Loop(updates=[update()] * 3)},
     {"loop": Loop(updates=[update(move=0.9)] * 3)}),
    (loop.wiped, "parameters-not-trained", {"loop": Loop(updates=[update()] * 3, gradients={"0.weight"})},
     {"loop": Loop(updates=[update(held=0.0)] * 3, gradients={"0.weight"})}),
    (loop.detached, "loss-detached", frozen([]), frozen(["0"])),
    (loop.all_zero, "loss-detached", frozen([]),
     {"loop": Loop(updates=[update()] * 3, reached={"0.weight"}, ran={"0", "2"})}),
    (loop.decay_on_norm, "decay-on-norm-or-bias", group(0.0), group(0.1)),
    (loop.mode_left, "eval-mode-in-training", {"model": programs.norm_mlp(), "base": trained(eval_since=39)},
     {"model": programs.norm_mlp(), "base": trained(eval_since=40 - loop.LEFT_BEHIND)}),
    (network.rows_mixed, "rows-mixed", {"program": object()}, {"program": object(), "mixing": "1"}),
    (network.softmax_dimension, "softmax-dimension", ran(Attention(-1)), ran(Attention(1))),  # over the queries
    (network.softmax_dimension, "softmax-dimension", None, ran(Attention(-1, transposed=True))),
    (network.softmax_dimension, "softmax-dimension", ran(Attention(1, transposed=True)), ran(Attention(0))),
    (loop.no_gradient, "loss-detached", {"history": watched(), "loop": Loop(reached={"0.weight"})},
     {"history": watched()}),
    (data.strangers, "labels-corrupted", {"history": watched(last=0.8), "train": Data(kept=(X, Y))},
     {"history": watched(last=0.8), "train": Data(kept=(X, Y.roll(17)))}),
    (data.strangers, "labels-corrupted", {"history": watched(last=0.5), "train": Data(kept=(X, Y.roll(17)))}, None),
    (data.by_heart, "labels-corrupted", {"history": watched(last=0.5), "train": Data(kept=(X, Y))},
     {"history": watched(last=0.5), "train": Data(kept=(X, Y.roll(17)))}),
    (data.by_heart, "labels-corrupted", {"history": watched(last=0.8), "train": Data(kept=(X, Y.roll(17)))}, None),
    (preparation.leaking, "train-val-mismatch", tables(3.0, 1.0), tables(3.0, 0.3)),
    (preparation.leaking, "train-val-mismatch", tables(3.0, 0.3, shift=2.0), None),  # other values say other things
    (preparation.leaking, "train-val-mismatch", tables(0.3, 0.0), None),
    (loop.random_and_frozen, "parameters-not-trained", held_still(1.0), held_still(0.0)),
    (network.flat, "saturating-activation", {"history": watched(layer=lambda i: Layer("tanh", 0.0, 1.0, flat=0.4))},
     {"history": watched(layer=lambda i: Layer("tanh", 0.0, 1.0, flat=network.HALF))}),
    (network.dead_at_last, "dead-units", {"history": watched(layer=lambda i: Layer("relu", 0.0, 1.0, idle=0.4))},
     {"history": watched(layer=lambda i: Layer("relu", 0.0, 1.0, idle=network.DEAD))}),
    (normalization.small_batch, "batch-too-small", norms(normalization.FEW) | {"program": object()},
     norms(normalization.FEW - 1) | {"program": object()}),
    (normalization.small_batches_seen, "batch-too-small", {"history": watched(channels={"1": normalization.FEW})},
     {"history": watched(channels={"1": normalization.FEW - 1})}),
    (normalization.narrow_statistics, "narrow-statistics", {"model": programs.norm_mlp()},
     {"model": programs.norm_mlp().bfloat16()}),
    (loss.broadcast, "loss-broadcast", {"outputs": torch.zeros(4, 1), "targets": torch.zeros(4)},
     {"outputs": torch.zeros(4, 1), "targets": torch.zeros(4), "loss": LossKind("", "quantity", True)}),
    (loss.broadcast_in_script, "loss-broadcast", {"script": Seen()}, {"script": Seen("[4, 1] and [4]")}),
    (loop.given_to_none, "parameters-not-trained", {"script": Seen()}, {"script": Seen(untrained=("0.weight",))}),
    (evaluation.dropping_functions, "train-mode-in-eval", {"script": Seen()}, {"script": Seen(dropping=1)}),
    (loss.lost_while_finite, "non-finite-loss", {"base": trained(losses=[1.0, math.inf])},
     {"base": trained(losses=[1.0, math.nan], finite_when_lost=True)}),
    (loss.lost_while_finite, "non-finite-loss", {"base": trained(losses=[1.0])},
     {"base": trained(losses=[math.inf]),
      "loop": Loop(losses=[LossCall(torch.zeros(2), torch.zeros(2), math.inf, True, None)])}),
    (loss.not_minimal_at_target, "loss-mismatch", {},
     {"loss": LossKind("", "quantity", False, not_minimal_at_target=True)}),
    (optimization.lost_loss, "learning-rate-too-high", {"history": watched(last=0.9 * optimization.JUMP)},
     {"history": watched(last=1.1 * optimization.JUMP)}),
    (optimization.shaken, "learning-rate-too-high", {"history": watched(last=1.1, ratio=optimization.SHAKEN)},
     {"history": watched(last=1.1, ratio=1.1 * optimization.SHAKEN)}),
    (optimization.still, "learning-rate-too-low", {"history": watched(last=0.99, ratio=1e-4)},
     {"history": watched(last=0.99, ratio=1e-5)}),
    (optimization.scheduled_away, "learning-rate-too-low", rated(1.0, 1.0, 0.1, 0.02, 0.0, 0.0),
     rated(1.0, 1.0, 0.1, 0.01, 0.0, 0.0)),
    (optimization.scheduled_away, "learning-rate-too-low", rated(*[0.04] * 6, ended=False), rated(*[0.04] * 6)),
    (optimization.hardly_falls, "does-not-learn", {"history": watched(last=0.85)}, {"history": watched(last=0.95)}),
    (optimization.learns_nothing, "does-not-learn", {"base": trained(0.3)}, {"base": trained(0.25)}),
    (optimization.overfitting, "overfitting",
     {"base": trained(0.9, FALLING, [(5, 0.6), (10, 0.9), (20, 0.9), (30, 0.9)])},
     {"base": trained(0.6, FALLING, [(5, 0.6), (10, 0.9), (20, 0.8), (30, 0.7)])}),
    (data.target_scale, "targets-not-normalized", NUMBERS | {"train": Data(targets=columns(std=data.LARGE))},
     NUMBERS | {"train": Data(targets=columns(std=1.1 * data.LARGE))}),
    (data.corrupted_labels, "labels-corrupted", LABELLED | {"train": Data(400, kept=(X, Y), counts=COUNTS, sizes=[20])},
     LABELLED | {"train": Data(400, kept=(X, Y.roll(17)), counts=COUNTS, sizes=[20])}),
    (preparation.disjoint_labels, "train-val-mismatch",
     {"train": Data(counts={0: 9, 1: 9}), "val": Data(counts={1: 9, 2: 9})},
     {"train": Data(counts={0: 9, 1: 9}), "val": Data(counts={2: 9, 3: 9})}),
    (evaluation.training_evaluation, "train-mode-in-eval",
     {"model": programs.norm_mlp(), "history": History(training_evaluations=2, eval_evaluations=1)},
     {"model": programs.norm_mlp(), "history": History(training_evaluations=2)}),
    (output.repeated, "output-mismatch", SCORES, SCORES | {"output": Output("softmax", "3", True, (0.0, 1.0))}),
    (weights.still_same_units, "constant-init", {"history": History(steps=10, same_units={"0.weight"})},
     {"history": History(steps=11, same_units={"0.weight"})}),
    (weights.weights_too_large, "init-too-large", drawn(0.99 * weights.FAR * weights.KEEPS),
     drawn(1.01 * weights.FAR * weights.KEEPS)),
    (weights.weights_too_small, "init-too-small", drawn(1.01 * weights.SMALL), drawn(0.99 * weights.SMALL)),
    (network.linear_stack, "missing-nonlinearity", ran(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)),
     ran(nn.Linear(8, 16), nn.Linear(16, 4))),
    (network.linear_stack, "missing-nonlinearity", ran(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)),
     ran(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))),
    (network.sigmoid_stack, "saturating-activation",
     ran(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)) | {"history": History()},
     ran(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8)) | {"history": History()}),
    (network.unnormalized, "missing-normalization", ran(*programs.mlp(*[16] * (network.DEEP - 2))),
     ran(*programs.mlp(*[16] * (network.DEEP - 1)))),
    (network.strong_dropout, "dropout-too-strong",
     {"program": object(), "loop": Loop(calls=[call(nn.Dropout(network.STRONG - 0.01))])},
     {"program": object(), "loop": Loop(calls=[call(nn.Dropout(network.STRONG))])}),
    (normalization.poisoned, "poisoned-running-statistics", poisoned(1e30), poisoned(math.inf)),
    (normalization.bias_before, "bias-before-norm", ran(*normed()), ran(*normed(bias=True))),
    (normalization.bias_before, "bias-before-norm", None, ran(*normed(norm=nn.LayerNorm, bias=True))),
    (normalization.slow_statistics, "stale-running-statistics", slow(0.012), slow(0.011)),  # 0.988**200 is 0.09
    (normalization.statistics_under_dropout, "dropout-before-batch-norm", under_dropout(),
     under_dropout(nn.Linear(8, 8), nn.Dropout(0.5))),
    (optimization.penalty, "penalty-too-strong", group(0.0) | {"base": trained()}, group(0.1) | {"base": trained()}),
    (optimization.too_short, "too-few-updates", {"base": replace(trained(), updates=39)}, {"base": trained()}),
    (capacity.too_small, "model-too-small", few_weights(24, 4), few_weights(25, 4)),  # 56 weights; 2 n + 8
    (capacity.too_small, "model-too-small", few_weights(24, 8, 64), few_weights(24, 2, 64)),
    (loop.decay_on_norm, "decay-on-norm-or-bias", own_norm(0.0), own_norm(0.1)),
    (loss.mismatch, "loss-mismatch", SCORES, SCORES | {"loss": LossKind("absolute", "classes", False)}),
    (loop.ascending, "gradient-ascent", NUMBERS,
     {"loss": LossKind("squared", "quantity", False, rewards_errors=True)}),
    (optimization.rate_too_high, "learning-rate-too-high", None, {"base": trained(losses=[1.0, math.nan])}),
    (optimization.rate_too_low, "learning-rate-too-low", {"base": trained(losses=[1.0, math.nan])},
     {"base": trained()}),
]  # fmt: skip


#: Of scripts: what the unchanged run shows, without and with a reason to try a change.
UNCHANGED = [
    (data.unlike_standardized, {"inputs": ((0.2, 1.2), None)}, {"inputs": ((0.6, 1.0), None)}),
    (data.units_of_targets, {"losses": ["cross_entropy"]}, {"losses": ["l1_loss"]}),
    (preparation.evaluated_apart, {"inputs": ((0.0, 1.0), None)}, {"inputs": ((0.0, 1.0), (0.0, 2.0))}),
    (loop.worsening, {"base": Result(losses=[1.0])}, {"base": Result(losses=[-1.0])}),
    (loop.worsening, {"opposing": False}, {"opposing": True}),
    (loop.sampled, {}, {"sampled": True}),
    (loop.updated_in_eval_mode, {"history": History(steps=1)}, {"history": History(eval_steps=1)}),
    (evaluation.evaluated_in_training_mode, {"history": History()}, {"history": History(training_evaluations=1)}),
    (normalization.statistics_of_evaluations, {"model": programs.norm_mlp(), "places": {"batch-too-small": "1"}},
     {"model": programs.norm_mlp()}),
    (output.squashed_again, {}, {"twice": True}),
    (network.drops, {"model": nn.Dropout(0.0)}, {"model": nn.Dropout(0.5)}),
    (optimization.penalized, group(0.0), group(0.1)),
    (optimization.penalized, {"penalized": True}, {"penalized": True, "spread": 0.01}),
    (optimization.lower_rates, {"alternating": True}, {"alternating": True, "base": Result(1.0)}),
    (optimization.higher_rates, {"base": Result()}, {"base": Result(1.0)}),
    (weights.drawn_badly, {"layers": [("0", 1.0), ("1", 1e-9)]}, {"layers": [("0", 1e-9), ("1", 1.0)]}),
    (weights.drawn_badly, {"dead": "1", "script": Seen(untrained=("0.weight",))}, {"dead": "1"}),
    (loss.compared_otherwise, {"losses": ["l1_loss"]}, {"losses": ["l1_loss"], "places": {"loss-mismatch": "loss"}}),
]  # fmt: skip


@pytest.mark.parametrize(("check", "within", "beyond"), UNCHANGED)
def test_a_change_of_a_script_is_tried_for_a_reason(check, within, beyond):
    shown = {each.name for each in fields(Unchanged)}

    def raised(given):
        run = Unchanged(validated=True, **{name: value for name, value in given.items() if name in shown})
        return check(
            Known(**{"script": Seen(), **{n: v for n, v in given.items() if n not in shown}, "unchanged": run})
        )

    assert raised(within) == []
    suspicion, *_ = raised(beyond)
    assert callable(pickle.loads(pickle.dumps(suspicion)).remedies[0].outside)


@pytest.mark.parametrize(("check", "cause", "within", "beyond"), TABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_a_check_at_its_threshold(check, cause, within, beyond):
    assert check in RULES[cause].checks
    if within is not None:
        assert check(Known(**within)) == []
    if beyond is not None:
        assert [s.cause for s in check(Known(**beyond))] == [cause]


def test_units_that_a_learning_network_can_spare_are_a_remark():
    for last, severity in ((0.6, "info"), (0.8, "warning")):
        (found,) = network.dead_at_last(
            Known(history=watched(last=last, layer=lambda i: Layer("relu", 0.0, 1.0, idle=0.9)))
        )
        assert found.severity == severity


def test_every_rule_is_here():
    assert {cause for _, cause, _, beyond in TABLE if beyond is not None} == set(RULES)


def test_what_is_not_known_raises_nothing():
    """Every check on evidence that is empty, as before a training, and as of a watch before its first step."""
    model = nn.Identity()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    for empty in (Known(model=model, optimizer=optimizer), Known(model=model, optimizer=optimizer, history=History())):
        assert [s.cause for rule in RULES.values() for check in rule.checks for s in check(empty)] == []
