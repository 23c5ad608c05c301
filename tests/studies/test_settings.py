"""Settings to TOML and back, and arms from settings."""

import tomllib

import pytest

from levelhead.studies import Settings, SettingsError
from levelhead.studies.arms import build, chosen, shared
from levelhead.studies.batch_norm import ARMS, RECIPE
from levelhead.studies.registry import STUDIES, complete, find


def test_all_of_it_goes_through_toml():
    settings = Settings(
        study="compare",
        data='a folder/data "x".csv',
        target="naïve\n",
        standardize=False,
        seeds=7,
        target_score=0.9,
        workers=3,
        out="out",
        learning_rates=(0.1, 1e-7),
        initializations=("he",),
        depths=(),
        recipe={"steps": 10, "momentum": 0.9, "network": "mlp"},
        arms={"plain": {}, "my arm: é": {"normalization": "layer", "learning_rate_times": 2.5}},
    )
    assert Settings.of(tomllib.loads(settings.to_toml())) == settings
    assert Settings.of(tomllib.loads(Settings().to_toml())) == Settings()


def test_options_change_settings_and_leave_the_rest():
    settings = Settings(seeds=3, recipe={"depth": 4, "steps": 5}).changed(seeds=None, data="wine", recipe={"steps": 9})
    assert (settings.seeds, settings.data, settings.recipe) == (3, "wine", {"depth": 4, "steps": 9})


def test_the_folder_is_named_after_study_and_data():
    assert str(complete(Settings()).folder) == "reports/batch-norm-mnist5k"
    assert str(complete(Settings(study="dropout")).folder) == "reports/dropout-digits"
    assert str(Settings(data="/x/my data.csv").folder) == "reports/batch-norm-my_data"
    assert str(Settings(out="here").folder) == "here"


def test_an_arm_multiplies_the_base_learning_rate_and_keeps_the_rest():
    base = shared({"learning_rate": 0.3}, RECIPE, 1000)
    arms = build(base, chosen({}, ARMS))
    assert {name: recipe.learning_rate for name, recipe in arms.items()} == {
        "plain": 0.3,
        "BN-baseline": 0.3,
        "BN-x5": 1.5,
        "BN-x30": 9.0,
        "plain-sigmoid": 0.3,
        "BN-x5-sigmoid": 1.5,
    }
    assert all(recipe.depth == RECIPE["depth"] for recipe in arms.values())
    own = build(base, chosen({"plain": {}, "mine": {"normalization": "layer"}}, ARMS))
    assert own["mine"].normalization == "layer"


def test_an_arm_that_is_neither_known_nor_defined():
    with pytest.raises(SettingsError, match=r"no arm 'BN' .*\[arms.BN\]"):
        chosen({"BN": {}}, ARMS)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_found_and_asks_a_question(name):
    assert find(name).QUESTION.endswith("?")
    assert callable(find(name).run)


def test_a_study_says_which_data_it_takes_and_how():
    assert complete(Settings(study="input-normalization")).standardize is False
    own = complete(Settings(study="input-normalization", data="wine", standardize=True))
    assert (own.data, own.standardize) == ("wine", True)


def test_a_study_looks_at_more_seeds_a_quick_one_takes_three_unless_it_is_told():
    assert [Settings().seed_count, Settings(quick=True).seed_count, Settings(quick=True, seeds=7).seed_count] == [
        None,
        3,
        7,
    ]
