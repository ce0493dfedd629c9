"""The composition root: ``train_recipe`` is the whole road from a recipe to an export_directory model."""

from tunesmith.compose.train import train_recipe

__all__ = ["train_recipe"]
