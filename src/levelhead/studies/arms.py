"""Arms from settings: the fields of each on top of those that all share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from levelhead.studies.settings import SettingsError
from levelhead.terminal import closest

if TYPE_CHECKING:
    from levelhead.training import Recipe


def chosen(given: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The arms that were asked for, those that the study knows filled in; all it knows where none was.

    Raises:
        SettingsError: an arm is neither known nor defined.
    """
    for name, fields in given.items():
        if not fields and name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none of its own"
            raise SettingsError(
                f"the study has no arm {name!r}{closest(name, known)}; {has}; a new one is defined by [arms.{name}] "
                "in a TOML file"
            )
    return {name: {**known.get(name, {}), **fields} for name, fields in (given or known).items()}


def shared(settings: Mapping[str, Any], defaults: Mapping[str, Any], rows: int, evaluations: int = 40) -> Recipe:
    """The recipe that every arm begins with, as often evaluated where the settings do not say when.

    A batch that nobody asked for has no more than the training rows.

    Raises:
        RecipeError: a field does not exist, or its value cannot be.
    """
    from levelhead.training import Recipe

    fields = {**defaults, **settings}
    if "evaluate_every" not in settings and isinstance(fields.get("steps"), int):
        fields["evaluate_every"] = max(1, fields["steps"] // evaluations)
    if "batch_size" not in settings:
        fields["batch_size"] = min(fields.get("batch_size", Recipe.batch_size), rows)
    return Recipe.from_dict(fields)


def build(base: Recipe, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Recipe]:
    """A recipe an arm; ``learning_rate_times`` multiplies the arm's learning rate.

    Raises:
        ValueError: a field does not exist, or its value cannot be; the message names the arm.
    """
    recipes = {}
    for name, fields in arms.items():
        changes = dict(fields)
        times = changes.pop("learning_rate_times", 1)
        try:
            recipe = base.replace(**changes)
            recipes[name] = recipe.replace(learning_rate=round(recipe.learning_rate * times, 12))
        except (ValueError, TypeError) as error:
            raise SettingsError(f"arm {name!r}: {error}") from error
    return recipes
