"""The composition root: `train_recipe` is the whole road from a recipe to an exported model."""

from tunesmith.build.training import Trained, train_recipe

__all__ = ["Trained", "train_recipe"]
