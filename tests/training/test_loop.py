"""The loop: what a run records, how it ends, and that it does what a bare PyTorch loop does."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import r2_score, recall_score
from torch import nn
from training_samples import STATEFUL, classes, images, numbers, small

from levelhead.data import Split, load
from levelhead.records import Run
from levelhead.training import Recipe, RecipeError, build, train
from levelhead.training.batches import Batches
from levelhead.training.objectives import evaluate, loss_function, row_losses
from levelhead.training.optimizers import optimizer
from levelhead.training.probes import gradient_norms, percentiles, unit_input


def fit(recipe, data, **options):
    return train(recipe, data, accelerator="cpu", **options)


def test_a_run_records_what_it_was_and_what_came_out(tmp_path):
    recipe = small(normalization="batch", steps=50)
    run = fit(recipe, classes(), arm="BN")
    assert (run.arm, run.status, run.steps, run.metric, run.message) == ("BN", "finished", 50, "accuracy", "")
    assert run.recipe == recipe.to_dict()
    assert run.data["name"] == "classes"
    scores = ("train_loss", "train_score", "validation_loss", "validation_score")
    inputs = ("unit_input_p15", "unit_input_p50", "unit_input_p85")
    gradients = tuple(f"gradient_norm/{name}" for name in ("hidden1", "hidden2", "output"))
    assert sorted(run.curves) == sorted(scores + inputs + gradients)
    assert {run.curves[name].steps for name in scores + inputs} == {(0, 20, 40, 50)}
    assert {run.curves[name].steps for name in gradients} == {(20, 40, 50)}
    assert run.score.values[-1] > 0.7 > run.score.values[0]
    assert run.test_score > 0.7
    assert run.environment["training"] == {"device": "cpu", "precision": "32-true", "processes": 1, "threads": 1}
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_the_loop_is_the_bare_loop(tmp_path):
    recipe, data = small(normalization="batch", depth=1), classes()
    model = build(recipe, data)
    sgd = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate)
    batches = Batches(data.train.inputs, data.train.targets, recipe.batch_size, recipe.seed)
    for inputs, targets in batches.between(0, recipe.steps):
        sgd.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        sgd.step()
    fit(recipe, data, folder=tmp_path)
    ours = load_file(tmp_path / "model.safetensors")
    for name, tensor in model.state_dict().items():
        # The fused form of SGD rounds once where the plain one rounds twice; 60 steps let that grow a little.
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)


def test_one_recipe_gives_the_same_run_and_leaves_the_callers_random_state_alone(tmp_path):
    recipe = small(dropout=0.5)
    before = torch.get_rng_state()
    first = fit(recipe, classes(), folder=tmp_path / "1")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    second = fit(recipe, classes(), folder=tmp_path / "2", probe=False)
    other = fit(recipe.replace(seed=1), classes(), folder=tmp_path / "3")
    assert first.score == second.score
    assert first.score != other.score
    weights = [load_file(tmp_path / n / "model.safetensors") for n in "123"]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


@pytest.mark.parametrize("loss", ["auto", "mse", "l1", "huber"])
def test_regression_is_scored_by_r2(loss):
    run = fit(small(loss=loss, steps=200, learning_rate=0.05), numbers())
    assert run.metric == "r2"
    assert run.score.values[-1] > 0.9
    assert run.test_score > 0.9


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_r2_is_right_at_any_mean(mean):
    """Sums of float32 squares give 0.98 at 1e4 (``findings/torchmetrics-r2-offset.sh``)."""
    targets, off = torch.randn(2, 20_000, 1)
    targets += mean
    outputs = targets + off / 2
    losses = row_losses(small(loss="mse"), numbers())
    ((_, score),) = evaluate(lambda x: x.transpose(1, 2), outputs[None], targets[None], losses, metric="r2")
    assert score == pytest.approx(r2_score(targets.double(), outputs.double()), abs=1e-6)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_a_classifier_may_learn_zeros_and_ones(loss):
    assert fit(small(loss=loss, steps=200, optimizer="adam", learning_rate=0.01), classes()).score.best() > 0.8


def test_every_optimizer_and_network_learns():
    for changes in STATEFUL.values():
        run = fit(small(**{**changes, "steps": 150}), images())
        assert run.score.best() > 0.6, changes


@pytest.mark.parametrize("setting", [{"loss": "cross_entropy"}, {"label_smoothing": 0.1}])
def test_a_loss_of_classes_is_refused_for_numbers(setting):
    with pytest.raises(RecipeError, match=r"needs classes, and numbers is regression"):
        fit(small(**setting), numbers())


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(RecipeError, match="batch_size = 151 is more than the 150 training rows; use 150"):
        fit(small(batch_size=151), classes())


def test_a_diverged_run_ends_cleanly_at_the_first_loss_that_is_not_finite(tmp_path):
    recipe = small(learning_rate=1e6, loss="mse", steps=500, evaluate_every=100)
    run = fit(recipe, numbers(), folder=tmp_path)
    assert run.status == "diverged"
    assert 0 < run.steps < 50
    assert run.message in {f"the loss was {value} at step {run.steps + 1}" for value in ("inf", "nan")}
    assert run.score.steps == (0,)
    run.save(tmp_path / "run.json")
    # One step fewer, and every loss is finite.
    assert fit(recipe.replace(steps=run.steps), numbers()).status == "finished"
    # A finished run is not done again.
    again = fit(recipe, numbers(), folder=tmp_path)
    assert dataclasses.replace(again, environment={}) == dataclasses.replace(run, environment={})


def test_target_ends_a_run_at_the_first_evaluation_that_reaches_it():
    data = classes()
    whole = fit(small(steps=200), data)
    target = 0.8
    run = fit(small(steps=200, target=target), data)
    assert run.steps == whole.score.first_step_at(target) < 200
    assert run.message.startswith("reached the target 0.8 with 0.")
    assert run.status == "finished"


def test_patience_ends_a_run_that_does_not_get_better():
    run = fit(small(steps=10_000, patience=3, learning_rate=1e-12), classes())
    assert run.steps == 60  # the first score is the best; three more evaluations
    assert run.message == "no better validation score in 3 evaluations, at step 60"


def test_the_test_score_is_that_of_the_best_validation_score(tmp_path):
    data, recipe = classes(), small(steps=80, learning_rate=3.0)
    run = fit(recipe, data)
    best = run.score.steps[run.score.values.index(run.score.best())]
    assert best < 80  # else this shows nothing
    fit(recipe.replace(steps=best), data, folder=tmp_path)
    model = build(recipe, data)
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    model.eval()
    with torch.no_grad():
        right = (model(data.test.inputs).argmax(1) == data.test.targets).double().mean()
    assert run.test_score == pytest.approx(float(right))


def test_progress_goes_up_to_the_last_step():
    seen = []
    fit(small(steps=130, evaluate_every=100), classes(), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(50, 130), (100, 130), (130, 130)]


def test_pytorchs_default_device_has_no_influence():
    recipe = small(augmentation=["noise", "mixup"], normalization="batch", dropout=0.2, steps=20)
    data, rows = classes(), load("wine").train.inputs
    wanted = fit(recipe, data)
    with torch.device("meta"):  # what is made there holds no values
        assert fit(recipe, data).curves == wanted.curves
        assert torch.equal(load("wine").train.inputs, rows)


def test_several_devices_need_torchrun():
    with pytest.raises(ValueError, match="torchrun --nproc-per-node"):
        fit(small(), classes(), devices=2)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_learn(precision):
    run = fit(small(steps=150, normalization="layer"), classes(), precision=precision)
    assert run.score.best() > 0.8
    assert run.environment["training"]["precision"] == precision


def test_batches_take_every_row_equally_often_in_an_order_of_the_seed():
    rows = torch.arange(10)
    seen = [batch.tolist() for batch, _ in Batches(rows, rows, 4, seed=0).between(0, 5)]
    assert {len(batch) for batch in seen} == {4}
    flat = [row for batch in seen for row in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:] != sorted(flat[10:])
    late = [batch.tolist() for batch, _ in Batches(rows, rows, 4, seed=0).between(3, 5)]
    assert late == seen[3:]
    other = [batch.tolist() for batch, _ in Batches(rows, rows, 4, seed=1).between(0, 5)]
    assert other != seen
    parts = [[b.tolist() for b, _ in Batches(rows, rows, 4, 0, rank, 2).between(0, 5)] for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in seen]


def test_skewed_classes_are_scored_by_the_mean_over_classes():
    data = classes()
    rare = torch.where(torch.arange(150) % 5 == 0, data.train.targets, 0)
    assert float((rare == 0).float().mean()) > 0.8
    skewed = replace(data, train=Split(data.train.inputs, rare))
    assert (data.metric, skewed.metric, numbers().metric) == ("accuracy", "balanced accuracy", "r2")
    run = fit(small(steps=40), skewed)
    assert run.metric == "balanced accuracy"
    assert run.data["grain"] == pytest.approx(1 / (3 * int(data.validation.targets.bincount().min())))
    assert "metric" not in data.describe(), "what was stored of other data stays as it is"
    model, (x, y) = build(Recipe(), data), (data.train.inputs, rare)
    for wanted in (y, y.clamp(max=1)):  # with a class that no row has, too
        predict = lambda x: model(x[0]).T[None]  # noqa: E731
        ((_, got),) = evaluate(predict, x[None], wanted[None], row_losses(Recipe(), data), metric=skewed.metric)
        seen = model(x).argmax(1)
        recalls = recall_score(wanted, seen, labels=wanted.unique(), average="macro")
        assert got == pytest.approx(recalls)


def test_loss_and_score_are_those_of_numpy():
    random = np.random.default_rng(0)
    for data in (classes(), numbers()):
        # Longer than two blocks of an evaluation, and not a multiple of one.
        x = torch.tensor(random.normal(size=(700, *data.input_shape)), dtype=torch.float32)
        y = torch.tensor(random.integers(0, 3, 700) if data.outputs == 3 else random.normal(size=(700, 2)).astype("f4"))
        model = build(Recipe(), data)
        ((loss, score),) = evaluate(lambda x, of=model: of(x[0]).T[None], x[None], y[None], row_losses(Recipe(), data))
        out = model(x).detach().double().numpy()
        if data.outputs == 3:
            wanted_loss = float(np.mean(np.log(np.exp(out).sum(1)) - out[np.arange(700), y]))
            wanted_score = float(np.mean(out.argmax(1) == y.numpy()))
        else:
            truth = y.double().numpy()
            wanted_loss = float(np.mean((out - truth) ** 2))
            share = ((out - truth) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
            wanted_score = float(np.mean(1 - share))
        assert loss == pytest.approx(wanted_loss, rel=1e-5)  # the blocks' losses are float32
        assert score == pytest.approx(wanted_score, rel=1e-5)


def test_label_smoothing_spreads_its_share_of_the_target_over_all_classes():
    outputs, targets = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    smooth = 0.7 * nn.functional.one_hot(targets, 3) + 0.3 / 3
    wanted = -(smooth * outputs.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_function(Recipe(label_smoothing=0.3), classes())(outputs, targets), wanted)


@pytest.mark.parametrize("changes", [{"normalization": "batch"}, {"network": "convnet", "normalization": "layer"}])
def test_weight_decay_is_on_the_weights_alone(changes):
    model = build(small(**changes), images())
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    sgd = optimizer(small(weight_decay=0.5, learning_rate=0.1), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    sgd.step()
    for name, parameter in model.named_parameters():
        decayed = name.endswith("layer.weight") or name == "output.weight"
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if decayed else 1))


def test_the_units_input_is_measured_as_the_learning_network_sees_it_and_leaves_no_trace():
    data = classes()
    rows = data.validation.inputs * 5 + 3
    for normalization in ("none", "batch"):
        model = build(Recipe(normalization=normalization, depth=2, dropout=0.5), data).eval()
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        found = percentiles(unit_input(model, rows)[None])
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert not any(module.training for module in model.modules())
        x = rows
        for hidden in (model.hidden1, model.hidden2):
            x = hidden.layer(x.relu() if hidden is model.hidden2 else x)
            if normalization == "batch":
                x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
        wanted = np.percentile(x[:, 0].detach().double().numpy(), [15, 50, 85])
        assert list(found) == ["unit_input_p15", "unit_input_p50", "unit_input_p85"]
        assert [value for (value,) in found.values()] == pytest.approx(list(wanted), rel=1e-4, abs=1e-5)


def test_gradient_norms_are_those_of_autograd():
    data, recipe = classes(), small()
    model = build(recipe, data)
    assert gradient_norms(model) == {}
    loss = nn.functional.cross_entropy(model(data.train.inputs), data.train.targets)
    names = {"hidden1": model.hidden1.layer, "hidden2": model.hidden2.layer, "output": model.output}
    wanted = torch.autograd.grad(loss, [layer.weight for layer in names.values()], retain_graph=True)
    loss.backward()
    found = {name: float(norm) for name, norm in gradient_norms(model).items()}
    assert found == pytest.approx({n: math.sqrt(float((g**2).sum())) for n, g in zip(names, wanted, strict=True)})


def test_the_curves_survive_json():
    run = fit(small(learning_rate=1e30, steps=20, loss="mse"), numbers())
    assert json.dumps(run.recipe)
    assert run.status == "diverged"
