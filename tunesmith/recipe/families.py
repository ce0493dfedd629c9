"""The two families of models, causal and encoder-decoder, and the values of a recipe that each of them can use.

The check is made as soon as the architecture is known: for `model.init` when the recipe is read, for `model.path` when
the model's configuration is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tunesmith.recipe.section import Conflict
from tunesmith.recipe.text import AUTO

ENCODER_DECODERS = ("mt5", "t5")
"""Architectures (``model_type`` in transformers) that are encoder-decoders."""

ENCODER_DECODER_FORMATS = ("t5-dolly",)
"""Prompt formats that separate the input of the encoder from the reply."""

# (key, values that an encoder-decoder cannot use, why, and what to use instead)
CAUSAL_ONLY = (
    ("text.targets", ("all",), "would train the input, which the encoder of {architecture} only reads; use assistant"),
    (
        "text.truncation",
        ("left", "window"),
        "truncates one text, and {architecture} has two, input and reply; use right or drop",
    ),
    ("model.layout", ("tree", "threads"), "is a layout of causal models, and {architecture} is not one; use auto"),
    ("objective.kind", ("reward", "ppo"), "is for causal models, and {architecture} is not one; use sft or dpo"),
)


def find_family_conflicts(architecture: str, values: Mapping[str, object]) -> Iterator[Conflict]:
    """Values that models of this architecture cannot use.

    values: dotted key -> value, for the keys that are valid by themselves.
    """
    format = values.get("text.format")
    if architecture not in ENCODER_DECODERS:
        if format in ENCODER_DECODER_FORMATS:
            names = ", ".join(ENCODER_DECODERS)
            message = f"{format!r} is for encoder-decoders ({names}), and {architecture} is a causal model"
            yield Conflict("text.format", f"{message}; use dolly or another format")
        if values.get("text.max_target_length") is not None:
            message = f"this limit is for encoder-decoders; for {architecture}, text.max_length limits the whole thread"
            yield Conflict("text.max_target_length", message, ("text.max_target_length=null",))
        return
    if format not in (None, AUTO, *ENCODER_DECODER_FORMATS):
        message = f"{format!r} is for causal models, and {architecture} is an encoder-decoder"
        yield Conflict("text.format", f"{message}; use {' or '.join(ENCODER_DECODER_FORMATS)}")
    for key, wrong, why in CAUSAL_ONLY:
        if values.get(key) in wrong:
            yield Conflict(key, f"{values[key]!r} {why.format(architecture=architecture)}")
