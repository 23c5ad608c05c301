"""Recipes: round trips, and what they refuse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from levelhead.training import Recipe, RecipeError

OTHER = Recipe(
    network="my_nets.small:build",
    width=7,
    depth=0,
    normalization="rms",
    placement="after",
    groups=1,
    activation="gelu_tanh",
    initialization="he",
    optimizer="rmsprop",
    learning_rate=1e-5,
    momentum=0.9,
    weight_decay=1e-20,
    penalty="elastic_net",
    penalty_strength=1e-3,
    penalty_l1_share=0.25,
    penalty_form="decoupled",
    max_norm=3.0,
    batch_size=32,
    dropout=0.5,
    augmentation=("noise", "mixup"),
    augmentation_strength=0.5,
    loss="cross_entropy",
    label_smoothing=0.1,
    steps=10,
    evaluate_every=5,
    target=0.875,
    patience=3,
    checkpoint_every=7,
    seed=2**63 - 1,
)


def test_the_other_recipe_differs_in_every_field():
    assert [f.name for f in dataclasses.fields(Recipe) if getattr(OTHER, f.name) == getattr(Recipe(), f.name)] == []


@pytest.mark.parametrize("recipe", [Recipe(), OTHER], ids=["defaults", "no defaults"])
def test_round_trips(recipe, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.from_toml(path) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.replace() == recipe


def test_a_whole_number_becomes_a_float_where_a_float_is_meant():
    recipe = Recipe(learning_rate=1)
    assert recipe == Recipe(learning_rate=1.0)
    assert isinstance(recipe.learning_rate, float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adan"}, ["optimizer = 'adan'", "did you mean 'adam'", "'rmsprop'"]),
        ({"normalization": "Batch"}, ["normalization = 'Batch'", "did you mean 'batch'"]),
        ({"network": "mpl"}, ["network = 'mpl'", "did you mean 'mlp'", "module:function"]),
        ({"network": "a b:c"}, ["network = 'a b:c'"]),
        ({"activation": 3}, ["activation = 3"]),
        ({"learning_rat": 0.1}, ["no 'learning_rat'", "did you mean 'learning_rate'"]),
        ({"learning_rate": 0}, ["learning_rate", "above 0", "got 0"]),
        ({"learning_rate": float("nan")}, ["learning_rate", "got nan"]),
        ({"learning_rate": float("inf")}, ["learning_rate", "got inf"]),
        ({"learning_rate": "0.1"}, ["learning_rate", "a number", "got '0.1'"]),
        ({"learning_rate": None}, ["learning_rate", "got None"]),
        ({"steps": 10.0}, ["steps", "whole number", "got 10.0"]),
        ({"steps": True}, ["steps", "whole number", "got True"]),
        ({"steps": 0}, ["steps", "at least 1", "got 0"]),
        ({"depth": -1}, ["depth", "at least 0", "got -1"]),
        ({"dropout": 1.0}, ["dropout", "below 1", "got 1.0"]),
        ({"target": float("nan")}, ["target", "finite", "got nan"]),
        ({"patience": 0}, ["patience", "at least 1"]),
        ({"seed": 2**63}, ["seed", "2**63 - 1"]),
        ({"optimizer": "adam", "momentum": 0.9}, ["momentum = 0.9", "'adam'", "leave momentum out"]),
        ({"loss": "l1", "label_smoothing": 0.1}, ["label_smoothing = 0.1", "'l1'"]),
        ({"penalty": "l3"}, ["penalty = 'l3'", "did you mean 'l", "'elastic_net'"]),
        ({"penalty": "l1", "penalty_strength": -1}, ["penalty_strength", "at least 0", "got -1"]),
        ({"penalty_strength": 0.1}, ["penalty_strength = 0.1", "penalty = 'l2'"]),
        ({"max_norm": 0}, ["max_norm", "above 0", "got 0"]),
        ({"augmentation": "crop"}, ["augmentation", "a list of names", "'crop'"]),
        ({"augmentation": ["crops"]}, ["augmentation = 'crops'", "did you mean 'crop'"]),
        ({"augmentation": ["crop", "noise", "crop"]}, ["'crop' twice"]),
        ({"normalization": "group", "width": 10, "groups": 4}, ["groups = 4", "width = 10"]),
        ({"normalization": "instance"}, ["'instance'", "'convnet'"]),
        ({"normalization": "batch", "batch_size": 1}, ["batch_size = 1", "use 2 or more"]),
    ],
)
def test_what_cannot_be_is_refused_with_name_value_and_repair(changes, words):
    with pytest.raises(RecipeError) as error:
        Recipe().replace(**changes)
    assert [word for word in words if word not in str(error.value)] == []


def test_any_name_of_a_file_comes_back_from_toml(tmp_path):
    recipe = Recipe(network="nets \U0001f642\x7f/mö.py:net")
    (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.from_toml(tmp_path / "r.toml") == recipe


def test_numbers_of_numpy_are_numbers():
    recipe = Recipe(steps=np.int64(5), learning_rate=np.float32(0.5), seed=np.uint8(3))
    assert recipe == Recipe(steps=5, learning_rate=0.5, seed=3)
    assert {type(recipe.steps), type(recipe.seed)} == {int}
    assert "learning_rate = 0.5" in recipe.to_toml()


@pytest.mark.parametrize("text", ["width = ", "widht = 3", "width = 'x'"])
def test_an_error_in_a_file_begins_with_its_path(text, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"^.*mine\.toml: "):
        Recipe.from_toml(path)
