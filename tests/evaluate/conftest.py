"""Small random models, as for generation."""

from tests.generate.conftest import random_model

__all__ = ["random_model"]
