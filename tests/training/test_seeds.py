"""Several seeds trained as one network: the same runs as one by one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from training_samples import classes, images, numbers, small

from levelhead.training import RecipeError, build, train, train_seeds
from levelhead.training.recipe import CHOICES
from levelhead.training.stacked import Stacked, stackable


def plain(run):
    """A run without what differs from one time to the next."""
    return dataclasses.replace(run, seconds=0, environment={})


def fours(seed=0):
    """Data of which all sizes are multiples of 4, so that the matrices of each seed begin at 16 bytes."""
    return dataclasses.replace(classes((8,), seed), classes=("a", "b", "c", "d"))


def both(recipe, data, seeds=(0, 1, 2), **options):
    recipes = [recipe.replace(seed=seed) for seed in seeds]
    many = train_seeds(recipes, data, accelerator="cpu", **options)
    one = [train(*pair, accelerator="cpu", **options) for pair in zip(recipes, data, strict=True)]
    return [plain(run) for run in many], [plain(run) for run in one]


#: One of each thing that a stackable recipe can ask for.
RECIPES = {
    "plain": {},
    "no hidden layer": {"depth": 0},
    **{norm: {"normalization": norm} for norm in CHOICES["normalization"] if norm not in ("none", "instance")},
    "after": {"normalization": "batch", "placement": "after"},
    **{name: {"activation": name} for name in CHOICES["activation"]},
    **{name: {"initialization": name} for name in ("he", "calibrated")},
    **{name: {"optimizer": name, "learning_rate": 0.01} for name in CHOICES["optimizer"]},
    "momentum and decay": {"momentum": 0.9, "weight_decay": 1e-2, "learning_rate": 0.05},
    **{p: {"penalty": p, "penalty_strength": 0.01} for p in CHOICES["penalty"] if p not in ("none", "spectral")},
    "dropout": {"dropout": 0.5, "normalization": "batch"},
    **{loss: {"loss": loss} for loss in CHOICES["loss"]},
    "smoothing": {"label_smoothing": 0.2},
    "augmentation": {"augmentation": ("noise", "mixup")},
    "one row a batch": {"batch_size": 1},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_seed_has_the_same_bits_whichever_others_are_trained_with_it(name):
    recipe = small(**{"steps": 20, "width": 12, **RECIPES[name]})
    assert stackable(recipe)
    many, one = both(recipe, [fours()] * 3)
    assert many == one
    assert len({run.score for run in one}) > 1, "the seeds differ"


@pytest.mark.parametrize("name", RECIPES)
def test_it_computes_what_the_networks_do(name):
    """The stacked network against the modules of ``build``, in training and eval mode, with gradients."""
    recipe, data = small(**{"width": 12, **RECIPES[name]}), classes()
    networks = [build(recipe.replace(seed=seed), data) for seed in range(3)]
    generators = [torch.Generator() for _ in networks]
    stacked = Stacked(recipe, [build(recipe.replace(seed=seed), data) for seed in range(3)], generators)
    if recipe.dropout:
        pytest.skip("its noise is another")
    x = torch.randn(3, 11, 6, generator=torch.Generator().manual_seed(1))
    for mode in (True, False):
        stacked.train(mode)
        out = stacked(x)
        wanted = [network.train(mode)(rows) for network, rows in zip(networks, x, strict=True)]
        for ours, theirs in zip(out, wanted, strict=True):
            torch.testing.assert_close(ours.T, theirs, rtol=1e-4, atol=1e-5)
    out.square().sum().backward()
    for seed, theirs in enumerate(wanted):
        theirs.square().sum().backward()
        ours = {n: float(norm[seed]) for n, norm in stacked.gradient_norms().items()}
        layers = {n: m for n, m in networks[seed].named_modules() if isinstance(m, torch.nn.Linear)}
        assert ours == pytest.approx(
            {n.removesuffix(".layer"): float(m.weight.grad.norm()) for n, m in layers.items()}, rel=1e-4
        )
        for name, tensor in stacked.current(seed).state_dict().items():
            torch.testing.assert_close(tensor, networks[seed].state_dict()[name], rtol=1e-5, atol=1e-6)


def test_numbers_and_data_of_each_seed_are_as_one_by_one():
    recipe = small(steps=40, loss="huber")
    many, one = both(recipe, [numbers()] * 3)
    assert many == one
    many, one = both(small(steps=40, normalization="batch"), [fours(seed) for seed in range(3)])
    assert many == one
    assert len({run.curves["validation_loss"].values[0] for run in one}) == 3


@pytest.mark.parametrize("changes", [{}, {"normalization": "batch", "activation": "tanh"}])
def test_of_odd_sizes_the_runs_are_the_same_to_rounding(changes):
    many, one = both(small(steps=40, width=7, batch_size=13, **changes), [classes()] * 3)
    for ours, theirs in zip(many, one, strict=True):
        for name, curve in theirs.curves.items():
            assert ours.curves[name].values == pytest.approx(curve.values, rel=1e-5, abs=1e-6), name


def test_each_run_ends_for_itself():
    many, one = both(small(learning_rate=100.0, loss="mse", steps=100, evaluate_every=10), [numbers()] * 4, range(4))
    assert many == one
    assert {run.status for run in one} == {"diverged"}
    assert len({run.steps for run in one}) > 1
    many, one = both(small(steps=200, target=0.8), [fours()] * 4, range(4))
    assert many == one
    assert len({run.steps for run in one}) > 1
    many, one = both(small(steps=400, patience=2, learning_rate=1.0), [fours()] * 4, range(4))
    assert many == one
    assert len({run.steps for run in one}) > 1


def observe(model, recipe, data, step):
    """Noise, weights and buffers, and a change to the copy."""
    model.train()
    found = {"noise": float(torch.rand(())), "output": float(model(data.train.inputs[:5]).detach().sum())}
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    return found | {"seed": recipe.seed, "weights": [1.0] * recipe.seed}


def test_an_observer_sees_each_network_and_leaves_no_trace():
    recipe = small(normalization="batch", dropout=0.2, steps=40)
    many, one = both(recipe, [fours()] * 3, observe=observe)
    assert many == one
    assert [run.curves["seed"].values[0] for run in many] == [0, 1, 2]
    untouched, _ = both(recipe, [fours()] * 3)
    assert [run.score for run in untouched] == [run.score for run in many]


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "convnet", "width": 4},
        {"max_norm": 1.0},
        {"penalty": "spectral", "penalty_strength": 0.01},
        {"penalty": "l1", "penalty_strength": 0.01, "penalty_form": "decoupled"},
    ],
)
def test_others_are_trained_one_after_the_other(changes):
    recipe = small(steps=20, **changes)
    assert not stackable(recipe)
    many, one = both(recipe, [images()] * 2, (0, 1))
    assert many == one


def test_recipes_that_differ_in_more_than_the_seed_are_refused():
    with pytest.raises(ValueError, match="nothing but their seeds"):
        train_seeds([small(), small(width=4)], [classes()] * 2)
    with pytest.raises(RecipeError, match="batch_size = 151"):
        train_seeds([small(batch_size=151, seed=seed) for seed in (0, 1)], [classes()] * 2)
