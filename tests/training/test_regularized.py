"""What a recipe says of penalties, losses and augmentation reaches the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_samples import classes, images, numbers, small

from levelhead.training import Recipe, RecipeError, build, train
from levelhead.training.batches import Batches, augmentation
from levelhead.training.objectives import cross_entropy, loss_function
from levelhead.training.optimizers import optimizer, regularize


def fit(recipe, data, **options):
    return train(recipe, data, accelerator="cpu", probe=False, **options)


def ends(recipe, data, folder):
    fit(recipe, data, folder=folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("form", ["loss", "decoupled"])
@pytest.mark.parametrize(
    ("penalty", "by_hand"),
    [
        ("l1", lambda w: 0.01 * w.abs().sum()),
        ("l2", lambda w: 0.005 * w.square().sum()),
        ("elastic_net", lambda w: 0.0025 * w.abs().sum() + 0.00375 * w.square().sum()),
    ],
)
def test_the_penalty_is_that_of_a_bare_loop(penalty, by_hand, form, tmp_path):
    recipe = small(penalty=penalty, penalty_strength=0.01, penalty_l1_share=0.25, penalty_form=form, steps=20)
    data = classes()
    ours = ends(recipe, data, tmp_path)
    model = build(recipe, data)
    sgd = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate)
    weights = [p for p in model.parameters() if p.ndim > 1]
    for x, y in Batches(data.train.inputs, data.train.targets, recipe.batch_size, recipe.seed).between(0, 20):
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        if form == "loss":
            loss = loss + sum(by_hand(w) for w in weights)
        loss.backward()
        l1, l2 = {"l1": (0.01, 0), "l2": (0, 0.01), "elastic_net": (0.0025, 0.0075)}[penalty]
        if form == "decoupled" and penalty == "l2":
            for w in weights:
                w.data *= 1 - recipe.learning_rate * l2
        sgd.step()
        if form == "decoupled" and penalty != "l2":
            for w in weights:
                size = (w.data.abs() - recipe.learning_rate * l1).clamp(min=0)
                w.data = w.data.sign() * size / (1 + recipe.learning_rate * l2)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-6)
    if form == "decoupled" and penalty == "l1":
        assert sum(int((ours[name] == 0).sum()) for name in ours if "weight" in name) > 5


@pytest.mark.parametrize("penalty", ["group_lasso", "orthogonal", "spectral"])
@pytest.mark.parametrize("form", ["loss", "decoupled"])
def test_every_penalty_lowers_itself(penalty, form):
    recipe = small(penalty=penalty, penalty_strength=0.05, penalty_form=form, learning_rate=0.05)
    model = build(recipe, classes())
    sgd = optimizer(recipe, model)
    term = regularize(recipe, model, sgd)
    value = regularize(recipe.replace(penalty_form="loss"), model, optimizer(recipe, model))
    before = float(value().detach())
    for _ in range(5):
        sgd.zero_grad()
        if form == "loss":
            term().backward()
        else:
            assert term is None
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
        sgd.step()
    assert float(value().detach()) < before


def test_max_norm_bounds_every_unit(tmp_path):
    plain, bound = (
        ends(small(max_norm=most, learning_rate=0.5), classes(), tmp_path / str(most)) for most in (None, 0.8)
    )
    norms = [max(float(w.norm(dim=1).max()) for n, w in end.items() if "weight" in n) for end in (plain, bound)]
    assert norms[0] > 0.9
    assert norms[1] <= 0.8 * (1 + 1e-6)


def test_hinge_and_divergence_are_those_of_numpy():
    random = np.random.default_rng(0)
    f, y = random.normal(size=(50, 4)) * 2, random.integers(0, 4, 50)
    own = f[np.arange(50), y][:, None]
    margins = np.maximum(0, f - own + 1)
    margins[np.arange(50), y] = 0
    data = classes()
    outputs, targets = torch.tensor(f), torch.tensor(y)
    hinge = loss_function(Recipe(loss="hinge"), data)
    assert float(hinge(outputs, targets)) == pytest.approx(margins.sum(1).mean())
    q = 0.7 * np.eye(4)[y] + 0.3 / 4
    log_p = f - np.log(np.exp(f).sum(1, keepdims=True))
    kl = loss_function(Recipe(loss="kl", label_smoothing=0.3), data)
    assert float(kl(outputs, targets)) == pytest.approx((q * (np.log(q) - log_p)).sum(1).mean())
    assert float(kl(torch.tensor(np.log(q)), targets)) == pytest.approx(0, abs=1e-12)
    hard = loss_function(Recipe(loss="kl"), data)
    torch.testing.assert_close(hard(outputs, targets), nn.functional.cross_entropy(outputs, targets))


@pytest.mark.parametrize("loss", ["cross_entropy", "kl", "hinge"])
def test_mixed_targets_mix_the_losses(loss):
    outputs, a, b = torch.randn(20, 3), torch.randint(3, (20,)), torch.randint(3, (20,))
    one_hot = [nn.functional.one_hot(t, 3).float() for t in (a, b)]
    function = loss_function(Recipe(loss=loss), classes())
    mixed = function(outputs, 0.3 * one_hot[0] + 0.7 * one_hot[1])
    wanted = 0.3 * function(outputs, a) + 0.7 * function(outputs, b)
    if loss == "kl":  # less the entropy of the mixture
        wanted = wanted - (a != b).float().mean() * -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    torch.testing.assert_close(mixed, wanted.float())
    assert cross_entropy(outputs.bfloat16(), one_hot[0]).dtype == torch.bfloat16


@pytest.mark.parametrize("loss", ["kl", "hinge"])
def test_losses_of_classes_are_refused_for_numbers(loss):
    with pytest.raises(RecipeError, match=f"loss '{loss}' needs classes, and numbers is regression"):
        fit(small(loss=loss), numbers())


def test_augmented_runs_learn_and_are_a_function_of_the_seed(tmp_path):
    pytest.importorskip("kornia")
    recipe = small(augmentation=["crop", "noise", "mixup", "cutmix"], augmentation_strength=0.3, steps=40)
    first, again = (ends(recipe, images(), tmp_path / n) for n in "12")
    other = ends(recipe.replace(augmentation=[]), images(), tmp_path / "3")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    run = fit(small(augmentation=["noise", "mixup"], learning_rate=0.05, steps=200), numbers())
    assert run.score.best() > 0.9


def test_augmentation_changes_a_batch_by_its_step_alone():
    recipe, data = small(augmentation=["noise", "mixup"]), classes()
    augment, later = augmentation(recipe, data), augmentation(recipe, data)
    batch = data.train.inputs[:20], data.train.targets[:20]
    augment(*batch, 0)
    (a, b), (c, d) = augment(*batch, 5), later(*batch, 5)
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    torch.testing.assert_close(b.sum(1), torch.ones(20))
    assert not torch.equal(augment(*batch, 6)[0], a)
    assert augmentation(recipe.replace(augmentation_strength=0), data) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augmentation": ["flip"]}, "'flip' is for images"),
        ({"augmentation": ["cutmix"]}, "'cutmix' needs images or signals, and classes has rows; use 'mixup'"),
        (
            {"initialization": "calibrated", "dropout": 0.0},
            "'calibrated': the output of layer 'hidden1.layer' does not",
        ),
    ],
)
def test_what_does_not_go_with_the_data_is_refused(changes, words):
    data = classes()
    if "initialization" in changes:
        data.train.inputs.zero_()
    with pytest.raises(RecipeError, match=words):
        fit(small(**changes), data)
