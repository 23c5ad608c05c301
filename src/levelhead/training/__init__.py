"""Recipes, networks and the training loop."""

from levelhead.training.loop import train, train_seeds
from levelhead.training.networks import build
from levelhead.training.recipe import Recipe, RecipeError

__all__ = ["Recipe", "RecipeError", "build", "train", "train_seeds"]
