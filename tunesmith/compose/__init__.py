"""The composition root: ``train_recipe`` is the whole road from a recipe to an exported model."""

from tunesmith.compose.train import train_recipe

__all__ = ["train_recipe"]
