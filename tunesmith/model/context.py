"""How many tokens a model can read at once."""

from __future__ import annotations

from transformers import PretrainedConfig

NO_LIMIT = 2**31
"""A context length that no text exceeds, for models without a limit."""


def context_length(config: PretrainedConfig) -> int | None:
    """The number of positions of a model; None if its configuration sets no limit (T5, ALiBi)."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions) if positions else None
