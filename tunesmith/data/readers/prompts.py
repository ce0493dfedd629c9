"""Prompts without replies: a reader for methods that sample the replies, and the key of a prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.readers.ranked import check_prompt
from tunesmith.data.readers.reader import (
    REFUSED_WITHOUT_PREFERENCE,
    Filtered,
    Reader,
    ReadResult,
    ReadTree,
    Settings,
    field_names,
    find_value,
)
from tunesmith.data.readers.tools import TOOLS, add_tools
from tunesmith.data.readers.turns import PLAIN_ROLES, TURN_KEYS, TurnFormat, parse_turns
from tunesmith.data.sources.files import read_errors
from tunesmith.data.sources.source import rows
from tunesmith.draws import KEY_BYTES
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree

# Fields that may hold the prompt; the first that exists counts. All but `prompt` as in the trainer of Tulu 2.5.
PROMPT_FIELDS = ("prompt", "instruction", "history_messages", "messages", "conversation", "chosen")


def prompts(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """Fields: prompt, a text or a list of messages with role and content.

    Replies at the end of the list are removed. The first of these fields that exists is read: prompt, instruction,
    history_messages, messages, conversation, chosen.
    """
    columns = settings.columns
    for name in PROMPT_FIELDS:
        column = columns[name]
        _, value = find_value(row, column)
        if value is None:
            continue
        if isinstance(value, str) and name in ("prompt", "instruction"):
            turns = [Message("user", value)]
        else:
            turns = _parse_prompt(settings, value, column)
        check_prompt(turns, f"field {column!r}")
        _check_other_prompts(settings, row, name, turns)
        return ReadTree(Tree.path(add_tools(settings, row, turns)))
    read = ", ".join(columns[name] for name in PROMPT_FIELDS)
    advice = f"the row has {field_names(row)}; one of {read} is read; name the right one under fields.prompt"
    raise DataError("there is no prompt", advice=advice)


def _parse_prompt(settings: Settings, value: Any, column: str) -> list[Message]:
    """The messages of a list without the replies at its end. Raises DataError."""
    columns = settings.columns
    turns = parse_turns(value, column, TurnFormat((columns["role"],), (columns["content"],), PLAIN_ROLES))
    while turns and turns[-1].role == "assistant":
        turns.pop()
    return turns


def _check_other_prompts(settings: Settings, row: Mapping[str, Any], taken: str, turns: Sequence[Message]) -> None:
    """Raises DataError if another field holds messages before a reply that the prompt does not have.

    taken: the field that is read.
    turns: the messages of the prompt.
    """
    columns, known = settings.columns, {message.text.strip() for message in turns}
    for name in PROMPT_FIELDS:
        _, value = find_value(row, columns[name])
        if name in (taken, "chosen") or not isinstance(value, list):
            continue
        others = _parse_prompt(settings, value, columns[name])
        if any(message.text.strip() not in known for message in others):
            what = f"field {columns[name]!r} has messages that the prompt in {columns[taken]!r} does not have"
            advice = (
                f"name the field that is meant under fields.prompt, or leave the other out: ignore: [{columns[name]}]"
            )
            raise DataError(what, advice=advice)


def prompt_key(messages: Sequence[Message]) -> bytes:
    """Digest (16 bytes) of the messages of user and assistant before a reply, with their texts stripped."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for message in messages:
        if message.role != "system":
            data = message.text.strip().encode()
            digest.update(b"%s %d:" % (message.role.encode(), len(data)))
            digest.update(data)
            for text in message.extra_texts():
                digest.update(b"%d:" % len(text.encode()) + text.encode())
    return digest.digest()


def prompt_keys(paths: Sequence[str]) -> frozenset[bytes]:
    """The keys of all prompts in some files or hub datasets; a file .txt has one prompt a line.

    Raises MissingInputError or DataError, since a list that is read in part would not exclude all its prompts.
    """
    return frozenset(prompt_key(prompt) for path in paths for prompt in _read_prompts(path))


def _read_prompts(path: str) -> Iterator[Sequence[Message]]:
    if path.endswith(".txt"):
        yield from ([Message("user", line)] for line in _text_lines(Path(path).expanduser()) if line.strip())
        return
    settings = Settings({name: name for name in PROMPTS["prompts"].columns}, {})
    for row in rows(path):
        try:
            result = prompts(settings, row.value)
        except DataError as error:
            raise DataError(error.what, where=row.place, advice=error.advice) from None
        assert not isinstance(result, Filtered), "an empty prompt is an error"
        yield result.tree.messages


def _text_lines(path: Path) -> Sequence[str]:
    with read_errors(path):
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8", where=path, advice="save it as UTF-8") from error


PROMPTS: dict[str, Reader] = {
    "prompts": Reader(
        prompts,
        (*PROMPT_FIELDS, "role", "content", TOOLS),
        {},
        inner=dict.fromkeys(PROMPT_FIELDS, TURN_KEYS),
        keys=("role", "content"),
        refused=REFUSED_WITHOUT_PREFERENCE,
    )
}
