"""Columns and message keys that change what a record means: they are read, or the record is refused.

A reader takes the columns that it knows. Most other columns say something about a record (its category, its number).
Those that are listed here are a part of the conversation, or say how it is to be used; a record that has them and is
trained on without them would teach something else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from tunesmith.errors import DataError

Meaning = Literal["system", "history", "passage", "tools", "media", "reasoning", "preference", "weight", "mask"]

NAMES: Mapping[Meaning, tuple[str, ...]] = {
    "system": ("system", "system_prompt", "system_message", "system_instruction", "sys_prompt"),
    "history": ("history", "chat_history", "conversation_history", "dialog_history", "dialogue_history"),
    "passage": ("context", "input", "documents", "document", "passage", "background"),
    "tools": (
        *("tools", "functions", "available_tools", "tool_calls", "function_call", "tool_call_id"),
        *("tool_definitions", "function_definitions", "tool_schemas", "chat_template_kwargs"),
    ),
    "media": ("image", "images", "audio", "audios", "video", "videos"),
    "reasoning": (
        *("reasoning", "reasoning_content", "thinking", "thought", "thoughts", "think"),
        *("chain_of_thought", "cot", "complex_cot"),
    ),
    "preference": ("label", "kto_tag", "rejected", "rejected_response", "chosen", "chosen_response", "margin"),
    "weight": (
        *("train", "trainable", "loss", "loss_mask", "weight", "sample_weight", "loss_weight", "train_on_turn"),
        *("completion_mask", "assistant_mask", "assistant_masks"),
    ),
    "mask": ("mask", "no_loss"),
}
"""The names of columns and keys, in lower case and with ``_`` between words, by what they hold."""

MEANINGS: Mapping[str, Meaning] = {name: meaning for meaning, names in NAMES.items() for name in names}

EXPLANATIONS: Mapping[Meaning, tuple[str, str]] = {
    "system": ("what the system says", "a reader of conversations reads it"),
    "history": (
        "earlier turns",
        "the readers alpaca, prompt-completion and preference-text read history; the others read one list of all turns",
    ),
    "passage": ("a passage that the instruction refers to", "name the column under fields"),
    "tools": ("calls or descriptions of tools", "the readers of lists of messages read tools and tool_calls"),
    "media": ("images, sound or video", "only text is trained on, so the record is not whole without them"),
    "reasoning": ("the reasoning before the reply", "write it into the reply, or use a reader of messages"),
    "preference": (
        "which replies are preferred",
        "the readers preference, preference-text and preference-sharegpt read chosen and rejected",
    ),
    "weight": ("what is trained on", "the readers messages and sharegpt read it as a key of a message"),
    "mask": (
        "a mask",
        "some data name by it what is trained on, others what is left out; write it as train, with true or false",
    ),
}
"""For every meaning what such a column holds, and what can be done."""

WORD_BREAK = re.compile(r"[\s-]+|(?<=[a-z0-9])(?=[A-Z])")
NOTHING = ("", "[]", "{}", "null")  # texts that hold nothing


def holds_something(value: Any) -> bool:
    """Whether a value is more than null, blank text, or a list or object of nothing but these."""
    if isinstance(value, str):
        return value.strip() not in NOTHING
    if isinstance(value, dict):
        return any(map(holds_something, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_something, value))
    return value is not None


def find_meaning(name: str, value: Any, refused: Collection[Meaning]) -> Meaning | None:
    """What a column or key means for the record, if it may not be left out.

    name: of the column or key.
    value: of it; it holds something.
    refused: the meanings that the reader refuses.
    """
    meaning = MEANINGS.get(WORD_BREAK.sub("_", name.strip()).lower())
    if meaning not in refused or (meaning == "weight" and type(value) in (bool, int, float) and value == 1):
        return None  # a weight of 1 says what happens anyway
    return meaning


def check_meanings(unread: Iterable[tuple[str, str, Any]], refused: Collection[Meaning], reader: str) -> None:
    """Refuse a record in which something was not read that changes its meaning.

    unread: (full name, last name, value) of what was not read and holds something.
    refused: the meanings that the reader refuses.
    reader: its name, for the message.
    Raises DataError.
    """
    for name, last, value in unread:
        meaning = find_meaning(last, value, refused)
        if meaning is not None:
            holds, advice = EXPLANATIONS[meaning]
            what = f"{name!r} holds {holds}, and the reader {reader} does not read it"
            advice = f"{advice}; ignore: [{quoted(name)}] in the data source leaves it out on purpose"
            raise DataError(what, advice=advice)


def quoted(name: str) -> str:
    """A name as an item of a list in YAML."""
    return name if re.fullmatch(r"\w+", name) else f'"{name}"'
