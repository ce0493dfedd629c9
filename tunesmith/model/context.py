"""How many tokens a model can read at once, and whether every token sees all tokens before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from transformers import PretrainedConfig

NO_LIMIT = 2**31
"""A context length that no text exceeds, for models without a limit."""

POSITIONS = ("max_position_embeddings", "max_seq_len")
"""The names under which families keep their number of positions, also those of a table of ALiBi (MPT)."""

LIMITS_OF_ATTENTION = ("local_attention", "attention_chunk_size", "chunk_size", "index_topk")
"""Keys with a number of tokens that a token sees, in addition to all keys that contain "window"."""
LAYERS = ("attention_types", "attention_layers", "attention_type", "layer_types")
"""Keys with the kinds of attention of the layers."""
FULL_ATTENTION = ("full_attention", "global", "original_full")
"""Kinds of attention with which a token sees all tokens before it."""
NO_WINDOWS = ("max_window_layers",)
"""Keys that contain "window" and say nothing without another one."""


def context_length(config: PretrainedConfig) -> int | None:
    """The number of positions of a model; None if its configuration sets no limit (T5, BLOOM)."""
    text = config.get_text_config()
    positions = next((value for name in POSITIONS if (value := getattr(text, name, None))), None)
    return int(positions) if positions else None


def attention_limits(config: PretrainedConfig) -> dict[str, object]:
    """The entries of a configuration by which some tokens do not see all tokens before them; empty for full attention.

    They are found by their names, also in tables inside of the configuration (MPT's ``attn_config``).
    """
    return dict(_limits(config.get_text_config().to_dict()))


def _limits(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _limits(value)
        elif key in LAYERS:
            if any(kind not in FULL_ATTENTION for kind in _names(value)):
                yield key, value
        # id2label has keys that are numbers.
        elif (key in LIMITS_OF_ATTENTION or "window" in str(key)) and key not in NO_WINDOWS and _is_set(value):
            yield key, value


def _names(value: object) -> Iterator[str]:
    """The texts in lists of lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _names(each)


def _is_set(value: object) -> bool:
    """Whether this is a limit. None, false, 0, -1 and lists of them are not."""
    if isinstance(value, list | tuple):
        return any(_is_set(each) for each in value)
    return value is not None and not (isinstance(value, int | float) and value <= 0)
